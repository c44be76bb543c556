"""Other models of the same images, to compare with: their latents, or codes of any model.

An option ``--baseline`` holds ``NAME=PATH`` or a path alone. The path is one of

- a latent store, of a model of the same basis: it has an element for each of ours;
- ``.npz`` with ``codes``, shape (n, D), and ``ids``, n ids of the store's items;
- ``.npy``, shape (n, D), and beside it ``.txt`` with the n ids, one a line.

Codes have no bands: only their length D says what to compare them with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gdm_repr.analysis.columns.names import LATENTS, OTHER, PCA, RAW
from gdm_repr.boundary.npy_file import map_npy, read_npz
from gdm_repr.files import read_text, user_path
from gdm_repr.latents.store import LatentStore, open_store

if TYPE_CHECKING:
    from gdm_repr.analysis.subject import Subject

CODES = (".npz", ".npy")
_TAKEN = (LATENTS, RAW, PCA)


@dataclass(frozen=True, eq=False)
class Baseline:
    """Another model's view of the images.

    Attributes:
        name: of the model.
        store: its latents, or None where it has codes.
        codes: shape (n, D), or None where it has latents.
        place: row of each id in the codes.
    """

    name: str
    store: LatentStore | None
    codes: NDArray[np.float32] | None
    place: dict[str, int]

    @property
    def length(self) -> int | None:
        """D of codes; None of latents, whose length is a band's."""
        return None if self.codes is None else self.codes.shape[1]

    def latents(self, subject: Subject, rows: Sequence[int]) -> tuple[LatentStore, list[int]]:
        """Return its store, and there the images of rows of the subject's, where it has them."""
        assert self.store is not None
        place = {int(index): row for row, index in enumerate(self.store.index)}
        wanted = subject.store.index[list(rows)].tolist()
        return self.store, [place[index] for index in wanted if index in place]

    def take(self, subject: Subject, rows: Sequence[int]) -> NDArray[np.float32]:
        """Return the codes (n, D) of rows of the subject's store."""
        assert self.codes is not None
        ids = subject.store.ids
        return self.codes[[self.place[ids[row]] for row in rows]]


def open_baselines(specs: Sequence[str], subject: Subject) -> list[Baseline]:
    """Open what ``--baseline`` names.

    Raises:
        ValueError: for names given twice or taken, files that hold no codes, and latents of other
            images or of another basis.
    """
    found: dict[str, Baseline] = {}
    for name, path in named_paths(specs):
        if name in found or name in _TAKEN:
            raise ValueError(
                f"--baseline: {name!r} would name two sources; write NAME=PATH with another name"
            )
        if path.suffix in CODES:
            place, codes = read_codes(path)
            found[name] = Baseline(name, None, codes, place)
        else:
            found[name] = Baseline(name, other_store(path, subject), None, {})
    return list(found.values())


def other_store(path: Path, subject: Subject) -> LatentStore:
    """Open the latents of the same images by another model.

    Raises:
        ValueError: if they are of other images, or of another basis.
    """
    store = open_store(path)
    for key in ("basis", "data"):
        own, other = (s.manifest.fingerprint.get(key) for s in (subject.store, store))
        if own != other:
            raise ValueError(
                f"--baseline {str(path)!r}: its {key} is another than that of --latents; encode "
                "the same data with a model of the same basis"
            )
    return store


def shared_rows(baselines: Sequence[Baseline], subject: Subject, rows: Sequence[int]) -> list[int]:
    """Return the rows that all baselines have.

    Latents may lack images that could not be encoded; codes must have all.

    Raises:
        ValueError: if codes lack an image.
    """
    kept = list(rows)
    ids = subject.store.ids if any(b.store is None for b in baselines) else []
    for baseline in baselines:
        if baseline.store is not None:
            index, theirs = subject.store.index, set(baseline.store.index.tolist())
            kept = [row for row in kept if int(index[row]) in theirs]
        elif missing := [ids[row] for row in rows if ids[row] not in baseline.place]:
            raise ValueError(
                f"--baseline {baseline.name!r}: has no code of {len(missing)} of {len(rows)} "
                f"images, such as {missing[0]!r}; give codes of all images of --latents, with the "
                "ids that the store has"
            )
    return kept


def named_paths(specs: Sequence[str]) -> list[tuple[str, Path]]:
    """Return the name and the path of everything that ``--baseline`` names.

    Raises:
        ValueError: for one that is no ``NAME=PATH``.
    """
    return [_split(spec) for spec in specs]


def read_codes(path: Path) -> tuple[dict[str, int], NDArray[np.float32]]:
    """Read codes and the row of each id.

    Args:
        path: ``.npz``, or ``.npy`` with ids in ``.txt`` beside.

    Returns:
        Rows by id, and codes (n, D).

    Raises:
        ValueError: if the file is missing or damaged, has no ids, another number of ids than of
            rows, an id twice, or values that are no finite numbers.
    """
    path = user_path(path)
    try:
        codes, ids = _load(path)
    except (OSError, KeyError, ValueError) as error:
        wanted = (
            "an array 'codes' (n, D) and n 'ids'"
            if path.suffix == ".npz"
            else f"an array (n, D), and {path.with_suffix('.txt').name} beside it an id a line"
        )
        why = str(error).splitlines()[0]
        raise ValueError(f"--baseline {str(path)!r}: must hold {wanted} ({why})") from None
    if codes.ndim != 2 or not codes.size or codes.dtype.kind not in "fiu":
        raise ValueError(
            f"--baseline {str(path)!r}: codes of shape {codes.shape} and type {codes.dtype} must "
            "be numbers (n, D)"
        )
    place = {name: row for row, name in enumerate(ids)}
    if len(ids) != len(codes) or len(place) < len(ids):
        raise ValueError(
            f"--baseline {str(path)!r}: {len(codes)} codes and {len(place)} different ids; give "
            "each code an id of its own"
        )
    table = codes.astype(np.float32)
    if not np.isfinite(table).all():
        raise ValueError(f"--baseline {str(path)!r}: holds codes that are not finite; mend them")
    return place, table


def _load(path: Path) -> tuple[NDArray[Any], list[str]]:
    """Return codes and ids as the file has them; never unpickles."""
    if path.suffix == ".npz":
        arrays, _ = read_npz(path, ("codes", "ids"))
        return arrays["codes"], [str(name) for name in np.atleast_1d(arrays["ids"]).tolist()]
    ids = read_text(path.with_suffix(".txt"), "ids", most=1 << 29)
    return map_npy(path), ids.splitlines()


def _split(spec: str) -> tuple[str, Path]:
    """Read ``NAME=PATH``; a path alone, even one with ``=`` in it, has no name of its own."""
    name, equals, path = spec.partition("=")
    if not equals or user_path(spec).exists():
        return OTHER, user_path(spec)
    if not name or not path:
        raise ValueError(f"--baseline {spec!r}: must be NAME=PATH, as k1=runs/k1/latents")
    return name, user_path(path)
