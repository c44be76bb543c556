"""The service asks no other host, works with the network off, and below a path behind a proxy."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urljoin

import pytest
import requests

from gdm_repr.client import Client
from tests.e2e.server import Server

# Python says whom it asks, before it does: names that are looked up, and addresses.
WATCH = """
import sys
def watch(event, given):
    if event in ("socket.bind", "socket.connect", "socket.sendto"):
        given = given[1:]
    elif event not in ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        return
    print("ASKED", given[0][0] if isinstance(given[0], tuple) else given[0], flush=True)
sys.addaudithook(watch)
"""
PAGES = ("/", "/docs", "/openapi.json", "/metrics", "/v1/models", "/v1/stores", "/v2")


def test_it_asks_no_other_host(serve: Callable[..., Server]) -> None:
    server = serve(before=WATCH)
    use(server.url)
    asked = re.findall(r"^ASKED (.*)", server.log.read_text(), re.MULTILINE)
    assert asked, "the watch sees how it binds"
    assert not {each for each in asked if each not in ("127.0.0.1", "localhost", "::1", "None")}


def test_it_works_with_the_network_off() -> None:
    alone = [shutil.which("unshare") or "false", "--map-root-user", "--net"]
    if not shutil.which("ip") or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("needs the commands unshare and ip, and leave to use them")
    inside = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    again = [sys.executable, "-m", "pytest", "-q", f"{__file__}::test_it_asks_no_other_host"]
    done = subprocess.run([*alone, *inside, *again], capture_output=True, text=True)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr


def use(url: str) -> None:
    """Ask for a bit of everything."""
    service = Client(url)
    x = service.sample(2, steps=3)
    z = service.encode(x.clip(-1, 1), steps=3)
    assert service.decode(z, steps=3).shape == service.reconstruct(x, steps=3).shape == x.shape
    for path in PAGES:
        assert requests.get(f"{url}{path}", timeout=60).ok, path


@contextmanager
def proxy(target: str, below: str, keep: bool) -> Iterator[str]:
    """Serve a target below a path, which is kept in what is passed on or taken off it."""

    class Pass(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith(f"{below}/"):
                self.send_error(404)
                return
            path = self.path if keep else self.path.removeprefix(below)
            length = int(self.headers.get("Content-Length", 0))
            headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
            found = requests.request(
                self.command, target + path, data=self.rfile.read(length), headers=headers,
                allow_redirects=False, timeout=60,
            )  # fmt: skip
            self.send_response(found.status_code)
            for name in ("Content-Type", "Location"):
                if name in found.headers:
                    self.send_header(name, found.headers[name])
            self.send_header("Content-Length", str(len(found.content)))
            self.end_headers()
            self.wfile.write(found.content)

        do_POST = do_GET

        def log_message(self, *given: object) -> None:
            pass

    front = ThreadingHTTPServer(("127.0.0.1", 0), Pass)
    threading.Thread(target=front.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{front.server_port}{below}"
    front.shutdown()
    front.server_close()


@pytest.mark.parametrize("keep", [False, True], ids=["path taken off", "path kept"])
def test_it_serves_below_a_path_behind_a_proxy(serve: Callable[..., Server], keep: bool) -> None:
    server = serve("--root-path", "/deep/gdm")
    with proxy(server.url, "/deep/gdm", keep) as url:
        use(url)
        for path in ("/", "/docs"):
            page = requests.get(f"{url}{path}", timeout=60).text
            named = re.findall(r"""(?:src|href|url)(?:=|: )["']([^"'#]+)["']""", page)
            links = {urljoin(f"{url}{path}", each) for each in named if each[:5] != "data:"}
            assert len(links) > 2 and all(link.startswith(f"{url}/") for link in links), links
            assert all(requests.get(link, timeout=60).ok for link in links), links
        assert requests.get(f"{url}/openapi.json", timeout=60).json()["servers"] == [
            {"url": "/deep/gdm"}
        ]
