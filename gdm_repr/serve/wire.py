"""What goes over the wire: images and latents in; latents, pictures and errors out."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from gdm_repr.boundary.image_batch import check_range, image_batch, latent_batch
from gdm_repr.boundary.npy_file import read_npy
from gdm_repr.data.dataset import ImageDataset
from gdm_repr.data.images import BadImage, Preprocess
from gdm_repr.data.labels import Labels
from gdm_repr.data.sources.files import EncodedSource
from gdm_repr.encoding import ERRORS, Encoding
from gdm_repr.pictures import as_png

if TYPE_CHECKING:
    from gdm_repr.grouping import Shape

JSON = "application/json"
NPY = "application/x-npy"
ARROW = "application/vnd.apache.arrow.stream"
PNG = "image/png"
GIF = "image/gif"
FRAME_MS = 80  # of a film
FILM_SIDE = 256  # pixels that a film's frames have at least

# Formats whose headers say how much memory they take. Parts of TIFF files and of icons may be
# larger than their headers say: who trusts one reads it by a command.
_TAKEN = re.compile(
    rb"\x89PNG|\xff\xd8\xff|GIF8|BM|P[1-6]\s|RIFF....WEBP|....ftypavi"
    rb"|\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    re.DOTALL,
)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class UploadSource(EncodedSource):
    """Encoded images as they came; an image's id is its content's hash, which seeds its noise."""

    def __init__(self, files: Sequence[bytes]) -> None:
        """Keep the bytes."""
        self.name, self.files = "request", files
        self.labels: Labels = {}
        self.ids = [hashlib.sha256(data).hexdigest() for data in files]

    def _open(self, index: int, preprocess: Preprocess) -> BinaryIO:
        data = self.files[index]
        tiff = preprocess.channels is None and data[:4] in _TIFF  # no other holds such channels
        if not _TAKEN.match(data) and not tiff:
            raise BadImage(
                "not an image that Pillow can read, of the formats that are taken here (PNG, JPEG, "
                "WebP, AVIF, GIF, BMP, PPM, JPEG 2000); send others as an array"
            )
        return io.BytesIO(data)

    def content(self) -> Iterator[bytes]:
        """Yield the bytes."""
        yield from self.files


def images_of_files(files: Sequence[bytes], preprocess: Preprocess) -> Tensor:
    """Return encoded images as x (B, C, H, W), made as training made its own.

    Args:
        files: content of each.
        preprocess: of the model, at its size.

    Raises:
        ValueError: if one can't be used; it names the first, and the reason.
    """
    places = {data: place for place, data in enumerate(dict.fromkeys(files))}
    source = UploadSource(list(places))  # where one comes twice, it is read once
    try:
        dataset = ImageDataset(source, preprocess, {}, 0)
    except ValueError:  # none can be used
        try:
            source.pixels(0, preprocess)
        except BadImage as error:
            raise ValueError(f"images[0]: {error}") from None
        raise
    batch = dataset.batch(range(len(dataset)))
    for bad in batch.rejected:
        raise ValueError(f"images[{files.index(source.files[bad.index])}]: {bad.reason}")
    return batch.x[[places[data] for data in files]]


def images_of_json(images: object, shape: Shape, preprocess: Preprocess) -> Tensor:
    """Return images of a JSON list: texts are files in base64, and lists are x of one image.

    Raises:
        ValueError: if they are no list of one or the other, or can't be used.
    """
    if not isinstance(images, list) or not images:
        raise ValueError('images: must be a list of one at least, as {"images": ["iVBORw0..."]}')
    if all(isinstance(each, str) for each in images):
        return images_of_files([_decoded(each, i) for i, each in enumerate(images)], preprocess)
    return images_of_array(floats(images, "images"), shape)


def images_of_array(array: object, shape: Shape) -> Tensor:
    """Return x (B, C, H, W), float32, of floats in [-1, 1].

    Raises:
        ValueError: for another shape, no floats, or values that are not finite or far outside.
    """
    x = image_batch(array, shape, "images").to(torch.float32)
    check_range(x, "images", hint=False)
    return x


def latents_of_json(z: object, shape: tuple[int, int]) -> Tensor:
    """Return latents (B, C, d), float32, of nested lists.

    Raises:
        ValueError: for another shape, or values that are not finite.
    """
    return latents_of_array(floats(z, "z"), shape)


def latents_of_array(array: object, shape: tuple[int, int]) -> Tensor:
    """Return latents (B, C, d), float32, of an array.

    Raises:
        ValueError: for another shape, or values that are not finite.
    """
    return latent_batch(array, shape).to(torch.float32)


def array_of(data: bytes, name: str) -> Any:  # noqa: ANN401
    """Return the array of a ``.npy`` file's bytes.

    Raises:
        ValueError: if they hold none.
    """
    try:
        return read_npy(data)
    except ValueError as error:
        raise ValueError(f"{name}: no .npy array ({error})") from None


def as_npy(values: Tensor) -> bytes:
    """Return the bytes of a ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, values.cpu().numpy(), allow_pickle=False)
    return buffer.getvalue()


def as_arrow(encoding: Encoding, metadata: dict[str, str]) -> bytes:
    """Return an Arrow IPC stream: one row an image, with the columns that a store has."""
    import pyarrow as pa

    table = pa.Table.from_pandas(encoding.to_pandas(), preserve_index=False)
    table = table.replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    found: bytes = sink.getvalue().to_pybytes()
    return found


def as_pngs(x: Tensor) -> list[bytes]:
    """Return each image (C, H, W) as a PNG file."""
    return [as_png(each) for each in x.cpu().numpy()]


def as_gif(x: Tensor) -> bytes:
    """Return images (B, C, H, W) as a film, enlarged by a whole number."""
    from PIL import Image

    frames = [Image.open(io.BytesIO(data)).convert("RGB") for data in as_pngs(x)]
    width, height = frames[0].size
    times = max(1, -(-FILM_SIDE // max(width, height)))
    size = (times * width, times * height)
    large = [frame.resize(size, Image.Resampling.NEAREST) for frame in frames]
    buffer = io.BytesIO()
    large[0].save(buffer, "GIF", save_all=True, append_images=large[1:], duration=FRAME_MS, loop=0)
    return buffer.getvalue()


def errors_of(encoding: Encoding) -> dict[str, list[Any]]:
    """Return the errors that were measured: one number an image, and one a band of it."""
    names = [each for error in ERRORS for each in (error, f"{error}_by_group")]
    found = {name: getattr(encoding, name) for name in names}
    return {name: value.tolist() for name, value in found.items() if value is not None}


def accepted(header: str | None, offered: Sequence[str]) -> str | None:
    """Return the media type that a client likes most of those offered; None if it likes none.

    >>> accepted("image/png;q=0.5, application/*", ["application/json", "image/png"])
    'application/json'
    >>> accepted("text/html", ["application/json"])
    """
    if not header:
        return offered[0]
    liked: list[tuple[float, str]] = []
    for part in header.split(","):
        kind, *more = (each.strip().lower() for each in part.split(";"))
        weight = next((each[2:] for each in more if each.startswith("q=")), "1")
        try:
            liked.append((float(weight), kind))
        except ValueError:
            continue
    best: tuple[float, str] | None = None
    for kind in offered:
        forms = (kind, f"{kind.partition('/')[0]}/*", "*/*")
        for form in forms:  # the most exact form counts
            weights = [weight for weight, given in liked if given == form]
            if weights:
                if max(weights) > (best[0] if best else 0.0):
                    best = (max(weights), kind)
                break
    return best[1] if best else None


def _decoded(text: str, index: int) -> bytes:
    try:
        return base64.b64decode(
            text.rpartition(",")[2] if text[:5] == "data:" else text, validate=True
        )
    except (binascii.Error, ValueError):
        raise ValueError(f"images[{index}]: is no base64 of an image file") from None


def floats(values: object, name: str) -> Any:  # noqa: ANN401
    """Return nested lists of numbers as an array of float32.

    Raises:
        ValueError: if they are none, or of unequal length.
    """
    try:
        return np.asarray(values, np.float32)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name}: must be numbers in lists of equal length") from None
