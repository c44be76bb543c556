"""Options of the service."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Literal

from pydantic import Field

from gdm_repr.command import Command, UserPath
from gdm_repr.config import SHIPPED, Device
from gdm_repr.edit.options import Places

MOST_STEPS = 1000
LEAST_KEY = 16  # characters


class ServeConfig(Command):
    """Answer people, by a page, and programs, over HTTP: encode, decode, edit, look for neighbours.

    The page is at http://127.0.0.1:8000. Requests are joined into batches; /docs lists them.

    Example:
      gdm-repr serve
      gdm-repr serve --checkpoint digits=runs/digits --checkpoint scenes
      gdm-repr serve --checkpoint runs/digits --latents runs/digits/latents --reports runs/digits/analysis
      gdm-repr serve --host 0.0.0.0 --api-key-file key.txt
    """  # noqa: E501

    checkpoint: Places = Field(
        (SHIPPED,), min_length=1, description="[NAME=]MODEL; can be given several times."
    )
    latents: Places = Field(
        (), description="[NAME=]STORE of one of these models; can be given several times."
    )
    reports: UserPath | None = Field(
        None, description="Folder of analyses, as analyse all writes it, shown beside."
    )
    device: Device = Field("auto", description="auto takes CUDA where there is one.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Of the network.")
    host: str = Field("127.0.0.1", description="Address to bind; others than loopback need a key.")
    port: int = Field(8000, ge=0, le=65535, description="Port; 0 takes a free one.")
    api_key_file: UserPath | None = Field(
        None, description="File of a key that every request must bring."
    )
    root_path: str = Field("", description="Path below which a proxy serves this, as /gdm.")
    batch_size: int = Field(64, ge=1, le=4096, description="Images of a batch, and of a request.")
    wait_ms: float = Field(
        4, ge=0, le=1000, description="Milliseconds in which an idle device waits for more images."
    )
    queue_seconds: float = Field(
        30, gt=0, le=3600, description="Of work that may wait; more is refused (429)."
    )
    most_seconds: float = Field(
        60, gt=0, le=3600, description="That one request may take; longer ones are refused."
    )
    most_steps: int = Field(MOST_STEPS, ge=1, le=100_000, description="That a request may ask for.")
    most_megabytes: float = Field(32, gt=0, le=4096, description="Of a request's body.")
    most_pixels: int = Field(
        20_000_000, ge=1, le=10**10, description="Of an image file, before it is scaled."
    )

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach it."""
        return _is_loopback(self.host)

    def models(self) -> dict[str, str]:
        """Return the models' places by name.

        Raises:
            ValueError: for a name that can't be used, or two of one name.
        """
        return _by_name("--checkpoint", self.checkpoint)

    def stores(self) -> dict[str, str]:
        """Return the stores' folders by name.

        Raises:
            ValueError: for a name that can't be used, or two of one name.
        """
        return _by_name("--latents", self.latents)

    def check(self) -> None:
        """Refuse to be open to others without a key.

        Raises:
            ValueError: for an address beyond loopback without a key, or a file that holds none.
        """
        self.key()
        if self.api_key_file is None and not self.is_private:
            raise ValueError(
                f"--host {self.host!r}: others can reach it; name a file with a key, as "
                "--api-key-file key.txt, or leave the host out"
            )

    def key(self) -> str | None:
        """Return the key, None where there is none.

        Raises:
            ValueError: if its file can't be read or holds no key.
        """
        if self.api_key_file is None:
            return None
        place = f"--api-key-file {str(self.api_key_file)!r}"
        try:
            key = self.api_key_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeError) as error:
            raise ValueError(f"{place}: can't be read ({error})") from None
        if len(key) < LEAST_KEY or not key.isprintable() or " " in key:
            raise ValueError(
                f"{place}: must hold one word of {LEAST_KEY} letters and digits or more, as made "
                "by: openssl rand -hex 32"
            )
        return key


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _by_name(flag: str, given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in given:
        name, place = named(each, flag)
        if name in found:
            raise ValueError(
                f"{flag} {each!r}: another is called {name!r}; name one, as other={place}"
            )
        found[name] = place
    return found


def named(given: str, flag: str = "--checkpoint") -> tuple[str, str]:
    """Split ``NAME=PLACE``; without a name it is that of the file, its folder, or in MLflow.

    >>> named("a=runs/digits"), named("runs/digits/model.safetensors"), named("scenes")
    (('a', 'runs/digits'), ('digits', 'runs/digits/model.safetensors'), ('scenes', 'scenes'))
    >>> named("runs/digits/latents", "--latents"), named("models:/digits@champion")
    (('digits', 'runs/digits/latents'), ('digits', 'models:/digits@champion'))

    Raises:
        ValueError: for a name of other than letters, digits, dots, dashes and underscores.
    """
    name, mark, place = given.partition("=")
    if not mark:
        path = PurePath(re.sub(r"^models:/([^@/]+).*", r"\1", given))
        inside = bool(path.suffix) or path.name == "latents"
        name, place = (path.parent if inside else path).name or path.stem, given
    if not place or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise ValueError(
            f"{flag} {given!r}: give NAME=PLACE, with a name of letters, digits, . - and _"
        )
    return name, place
