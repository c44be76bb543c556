"""What disentanglement scores are computed from: latents, factors and settings.

z is (n, d): n images, d latents (the *code length*). A *factor* is a known property of an image: a
label, or what a simulator drew. Some scores need classes, so each factor is also given as codes
0..K-1: a discrete factor's values, or equal-width bins of a continuous one. Labels may be missing:
an image without a factor is left out where that factor is looked at, and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdm_repr.analysis.factors.labels import Kind, known_cells
from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.boundary.arguments import integers
from gdm_repr.boundary.isolation import isolated
from gdm_repr.latents.store import LatentStore

Ints = NDArray[np.int64]

MISSING = -1
FEWEST = 30  # images without a factor's most frequent value: half-samples need some as well
_MOST_CLASSES = 50  # whole numbers of more values than that are taken for an amount


@dataclass(frozen=True)
class Settings:
    """Settings of the scores; the defaults are those that published figures use.

    They are the configuration of Locatello et al. (2019), "Challenging common assumptions";
    `quantile` is of their code, `penalty` and `forest` of Eastwood and Williams (2018).

    Attributes:
        bins: equal-width bins of a latent over its range.
        train: images to fit on, at most; also the most that scores without a test set use.
        test: images to test on, at most. With fewer images: the same proportion.
        batch: images of a vote of FactorVAE, or pairs of a difference of BetaVAE.
        votes: votes or differences to fit on, each from a batch.
        test_votes: the same to test on.
        prune: FactorVAE ignores latents of a smaller standard deviation.
        quantile: of deviations that IRS takes for their largest, in [0, 1].
        penalty: of the lasso in linear DCI, for variables of variance 1.
        trees: rounds of boosting in DCI.
        forest: trees of DCI's random forest.
    """

    bins: int = 20
    train: int = 10_000
    test: int = 5_000
    batch: int = 64
    votes: int = 10_000
    test_votes: int = 5_000
    prune: float = 0.05
    quantile: float = 0.99
    penalty: float = 0.02
    trees: int = 100
    forest: int = 10

    def __post_init__(self) -> None:
        """Refuse settings out of their range."""
        least = {"bins": 2, "batch": 2, "train": 1, "test": 1, "votes": 2, "test_votes": 1}
        for name, low in {**least, "trees": 1, "forest": 1}.items():
            if (value := getattr(self, name)) < low:
                raise ValueError(f"settings: {name}={value} must be at least {low}")
        if not 0 <= self.quantile <= 1:
            raise ValueError(f"settings: quantile={self.quantile} must lie in [0, 1]")
        if self.prune < 0 or self.penalty <= 0:
            raise ValueError(
                f"settings: prune={self.prune} must be 0 or more, penalty={self.penalty} above 0"
            )


@dataclass(frozen=True, eq=False)
class Factors:
    """Known properties of n images.

    Attributes:
        names: the f factors.
        kinds: what each is.
        codes: classes 0..K-1, MISSING where there is none, shape (n, f).
        values: numbers, NaN where missing, shape (n, f); of a circular factor the angle in
            radians, of a discrete one its code.
    """

    names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    codes: Ints
    values: Floats

    def __len__(self) -> int:
        """Return n."""
        return len(self.codes)

    def take(self, rows: NDArray[np.int64]) -> Factors:
        """Return the factors of some images, in the order of `rows`."""
        return Factors(self.names, self.kinds, self.codes[rows], self.values[rows])

    def known(self, factor: int) -> NDArray[np.bool_]:
        """Return which images have a factor, (n,)."""
        present: NDArray[np.bool_] = self.codes[:, factor] != MISSING
        return present


@isolated
def read_factors(
    columns: Mapping[str, Any] | NDArray[Any],
    *,
    discrete: Collection[str] = (),
    continuous: Collection[str] = (),
    circular: Mapping[str, float] | None = None,
    missing: Sequence[Any] = (),
    bins: int = 20,
) -> Factors:
    """Read factors from columns of numbers or texts.

    Unless it is said, texts and whole numbers of up to 50 values are discrete, other numbers
    continuous.

    Args:
        columns: one value an image by the factor's name, or an array (n, f).
        discrete: factors that are classes.
        continuous: factors that are amounts.
        circular: periods of factors whose range closes on itself, such as 360 for degrees.
        missing: values that mean that there is none, such as -1; None and NaN always do.
        bins: equal-width bins for the codes of factors that are not discrete.

    Raises:
        ValueError: for columns of different lengths, names that are not there, texts that should
            be amounts, and factors of which hardly any image has a second value.

    >>> factors = read_factors({"shape": ["ball", "cube", None] * 30, "size": np.arange(90) / 7})
    >>> factors.kinds, factors.codes[:3, 0].tolist()
    (('discrete', 'continuous'), [0, 1, -1])
    """
    if not isinstance(columns, Mapping):
        array = np.asarray(columns)
        if array.ndim != 2:
            raise ValueError(f"factors: shape {array.shape} must be (images, factors)")
        columns = {f"factor_{j}": array[:, j] for j in range(array.shape[1])}
    circular = dict(circular or {})
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"factors: lengths {lengths} must be equal, and at least one factor given")
    said: dict[str, Kind] = {}
    for kind, names in (
        ("discrete", discrete), ("continuous", continuous), ("circular", circular)
    ):  # fmt: skip
        for name in names:
            if name not in columns or name in said:
                raise ValueError(
                    f"{kind}: {name!r} must be one of {[*columns]}, and said to be one kind only"
                )
            said[name] = kind  # type: ignore[assignment]
    kinds, codes, values = [], [], []
    for name, column in columns.items():
        kind, code, value = _read(
            name, column, said.get(name), circular.get(name, 1.0), missing, bins
        )
        counts = np.bincount(code[code != MISSING], minlength=1)
        if (others := int(counts.sum() - counts.max())) < FEWEST:
            raise ValueError(
                f"factors: {name!r} has another value than its most frequent one in {others} "
                f"images; give at least {FEWEST}, or leave the factor out"
            )
        kinds.append(kind)
        codes.append(code)
        values.append(value)
    return Factors(tuple(columns), tuple(kinds), np.stack(codes, 1), np.stack(values, 1))


def _read(
    name: str,
    column: Sequence[Any],
    kind: Kind | None,
    period: float,
    missing: Sequence[Any],
    bins: int,
) -> tuple[Kind, Ints, Floats]:
    """Return a factor's kind, codes (n,) and values (n,)."""
    rows, known = known_cells(column, missing)
    text = known.dtype.kind == "U"
    if text and kind in ("continuous", "circular"):
        raise ValueError(f"{kind}: {name!r} holds texts; leave it out, since texts are discrete")
    if kind is None:
        whole = text or bool((known == np.round(known)).all())
        few = text or len(np.unique(known)) <= _MOST_CLASSES
        kind = "discrete" if whole and few else "continuous"
    codes = np.full(len(column), MISSING, np.int64)
    values = np.full(len(column), math.nan)
    if kind == "discrete":
        codes[rows] = np.unique(known, return_inverse=True)[1]
        values[rows] = codes[rows]
        return kind, codes, values
    if kind == "circular":
        if not period > 0:
            raise ValueError(f"circular: the period {period} of {name!r} must be above 0")
        known = known % period * (2 * math.pi / period)
    values[rows] = known
    if len(known):
        codes[rows] = histogram_codes(values[rows][:, None], bins)[:, 0]
    return kind, codes, values


@isolated
def histogram_codes(z: Floats, bins: int) -> Ints:
    """Return which of `bins` equal-width bins over its range each value of a column is in.

    Args:
        z: samples, shape (n, d).
        bins: how many.

    Returns:
        Codes 0..bins-1, shape (n, d).
    """
    codes = np.empty(z.shape, np.int64)
    for column, out in zip(z.T, codes.T, strict=True):
        inner = np.histogram_bin_edges(column, bins)[1:-1]
        out[:] = np.searchsorted(inner, column, side="right")
    return codes


def split_rows(n: int, settings: Settings, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Return random rows to fit on and to test on, in the proportion of the settings."""
    order = rng.permutation(n)
    train = math.ceil(n * settings.train / (settings.train + settings.test))
    return order[:train], order[train:]


@isolated
def latent_columns(
    store: LatentStore,
    *,
    bands: Sequence[str | int | tuple[int, int]] | None = None,
    elements: Collection[int] | None = None,
    rows: Sequence[int] | None = None,
) -> Floats:
    """Read latents of a store as columns, every channel of an element its own.

    Args:
        store: the latents.
        bands: those to read, by name, position or (start, stop). None: all.
        elements: basis indices to read, in place of bands.
        rows: those to read. None: all.

    Returns:
        Shape (n, columns), bands in the order given, within a band channel by channel.

    Raises:
        ValueError: for bands and elements both, or any that the store does not have.
    """
    if bands is not None and elements is not None:
        raise ValueError("bands, elements: both given; choose by one of them")
    chosen = range(len(store.manifest.bands)) if bands is None else bands
    wanted = None if elements is None else set(integers(elements, "elements"))
    parts = []
    for which in chosen:
        indices = store.elements(which)
        keep = np.ones(len(indices), bool)
        if wanted is not None:
            keep = np.isin(indices, list(wanted))
            wanted -= set(indices.tolist())
        if keep.any():
            values = store.band(which, rows)[:, :, keep]
            parts.append(values.reshape(len(values), math.prod(values.shape[1:])))
    if wanted or not parts:
        raise ValueError(
            f"elements: {sorted(wanted or ())} are not in the store; give one or more of its own"
        )
    return np.concatenate(parts, axis=1).astype(np.float64)
