"""Which images training never sees: a share of them, chosen by what is in them.

An image is held out where a hash of its pixels, read as a number in [0, 1), is below the share. So
it stays on its side under another name, in another folder, and among more images; copies of one
image are on one side, and so are all tiles of it. A larger share holds out the same images and
others. No ``--seed`` changes it, so that models of several seeds are compared on the same images.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from gdm_repr.data.images import Pixels

Part = Literal["all", "held-out", "seen"]
HELD_OUT: Part = "held-out"
SALT = b"gdm-repr hold-out"  # of the one split; another would change every one


def place(pixels: Pixels) -> float:
    """Return where an image's pixels (H, W, C), as they are stored, lie in [0, 1).

    >>> import numpy as np
    >>> round(place(np.zeros((2, 2, 1), np.uint8)), 4)
    0.2461
    """
    head = f"{pixels.dtype.newbyteorder('<').str}{pixels.shape}".encode()
    digest = hashlib.blake2b(head, digest_size=8, key=SALT)
    digest.update(pixels.astype(pixels.dtype.newbyteorder("<"), order="C").tobytes())
    return int.from_bytes(digest.digest()) / 2**64
