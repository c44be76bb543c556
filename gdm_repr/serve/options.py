"""Options of the service."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import Field

from gdm_repr.command import Command, UserPath
from gdm_repr.config import SHIPPED, Device
from gdm_repr.edit.options import Places

MOST_STEPS = 1000
LEAST_KEY = 16  # characters


class ServeConfig(Command):
    """Answer programs over HTTP: encode, decode, reconstruct, sample.

    Requests are joined into batches. The page /docs says what can be asked.

    Example:
      gdm-repr serve
      gdm-repr serve --checkpoint digits=runs/digits --checkpoint scenes
      gdm-repr serve --host 0.0.0.0 --api-key-file key.txt
    """

    checkpoint: Places = Field(
        (SHIPPED,), min_length=1, description="[NAME=]MODEL; can be given several times."
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

    def check(self) -> None:
        """Refuse to be open to others without a key.

        Raises:
            ValueError: for an address beyond loopback without a key, or a file that holds none.
        """
        self.key()
        if self.api_key_file is None and not _is_loopback(self.host):
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
