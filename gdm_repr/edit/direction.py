"""Directions learned from labels: what tells two kinds of images apart in a band, as one vector.

Ridge regression of the kind, 1 for positive and 0 for negative, on a band's latents z gives weights
w, and the direction is

    v = w / |w|,    zero outside the band, pointing to the positive kind.

Images lie along it at v . z, with the std s over the images that it was learned from, so that

    z + a s v

moves an image by the amount a in units of how far images lie apart. A direction can always be
fitted. Whether it says anything is told by images that it was not fitted to: the balanced accuracy
is the mean of both kinds' shares that are told rightly, each image by a fit to the other folds. Its
interval joins the two shares' Wilson intervals. Chance is the same of permuted labels, all of which
one ridge regression fits at once; that is why it is ridge, and not logistic, regression.

What else moves: what an image's other labels explain of where it lies along the direction.

    contrast = label_contrast(store, "digit", "3")
    direction = learn_from_store(store, contrast, model.grouping, "0_5")
    x = model.decode(move(z, direction, [-3, 0, 3]).flatten(0, 1))
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from gdm_repr.analysis.factors.labels import read_factor, store_periods
from gdm_repr.analysis.factors.probes import PROBES, fold_of, out_of_fold, ridge_weights
from gdm_repr.analysis.intervals.bootstrap import r_squared
from gdm_repr.analysis.intervals.estimate import Estimate, Floats, agreeing, number, p_value
from gdm_repr.boundary.arguments import count
from gdm_repr.boundary.arguments import seed as checked_seed
from gdm_repr.boundary.isolation import isolated
from gdm_repr.edit.contrast import Bools, Contrast, Ints, require_enough
from gdm_repr.grouping import Grouping
from gdm_repr.latents.store import LatentStore
from gdm_repr.masks import Mask, band_mask

PERMUTATIONS = 99
FOLDS = 5
_MOST_IMAGES, _LEAST_IMAGES, _MOST_NUMBERS = 4000, 1000, 4_000_000
_HARDLY = 0.01  # of the variance; what explains less is not worth a sentence
_SHOWN = 3  # other labels told in sentences


@dataclass(frozen=True)
class Moved:
    """How much another label has to do with where images lie along a direction.

    Attributes:
        label: its name.
        value: share of the variance along the direction that the label explains, as R^2 of images
            not fitted to: 1 at best, about 0 or below where it explains nothing.
        low: lower end of its 95 % interval, which is of the images.
        high: upper end.
        expected: what the label explains of the kind itself, on the same scale: so much the two
            have in common in these images, whatever the direction.
        n: images that have the label.
    """

    label: str
    value: float
    low: float
    high: float
    expected: float
    n: int

    @property
    def clear(self) -> bool:
        """Whether it is more than nothing, and more than a hundredth."""
        return self.low > 0 and self.value > _HARDLY


@dataclass(frozen=True, eq=False)
class Direction:
    """What tells two kinds of images apart in a band.

    Attributes:
        band: as it was named.
        positive: the kind that the direction points to, as in ``digit = 3``.
        negative: the other one, as in ``digit is not 3``.
        vector: v, (C, d), float32, of norm 1, zero outside the band.
        spread: std over the images of v . z; an amount of 1 is a step of this.
        n: images of either kind, the positive first.
        accuracy: balanced accuracy of images not fitted to, and its 95 % interval.
        chance: the same of permuted labels: the mean, and what one in 20 of them exceeds.
        moves: what it tells apart besides, the most first.
    """

    band: str
    positive: str
    negative: str
    vector: Tensor = field(repr=False)
    spread: float
    n: tuple[int, int]
    accuracy: tuple[float, float, float]
    chance: tuple[float, float]
    moves: tuple[Moved, ...] = ()

    @property
    def better_than_chance(self) -> bool:
        """Whether the accuracy is more than labels drawn at random reach in 19 of 20 draws."""
        return self.accuracy[0] > self.chance[1]

    def sentences(self) -> list[str]:
        """Say how far it can be believed, and what else it tells apart; the verdict first."""
        accuracy, (mean, top) = Estimate(*self.accuracy), map(number, self.chance)
        apart = f"band {self.band} tells {self.positive} from {self.negative}"
        measured = f"balanced accuracy {accuracy} on images not learned from."
        told = [
            f"{apart[0].upper()}{apart[1:]}: {measured}"
            if self.better_than_chance
            else f"Not better than chance: {apart} with {measured}",
            f"Permuted labels give {mean} on average, and seldom more than {top}.",
            f"It was learned from {self.n[0]} images of the first kind and {self.n[1]} of the "
            "second.",
        ]
        clear = [moved for moved in self.moves if moved.clear]
        for moved in clear[:_SHOWN]:
            share = Estimate(moved.value, moved.low, moved.high).percent()
            told.append(
                f"It tells images apart by {moved.label}, too, which explains {share} of where "
                "they lie along it."
            )
            if moved.expected > _HARDLY:
                common = number(100 * moved.expected, 2)
                told.append(
                    f"In these images {moved.label} explains {common} % of {self.positive} itself."
                )
        if len(clear) > _SHOWN:
            told.append(f"It tells images apart by {len(clear) - _SHOWN} further labels, too.")
        if self.moves and not clear:
            told.append(f"Of {len(self.moves)} other labels it tells images apart by none.")
        return told

    def facts(self) -> dict[str, object]:
        """Return all of it as plain values; the vector as little-endian float32 in base64."""
        vector = self.vector.numpy().astype("<f4").tobytes()
        return {
            "band": self.band,
            "positive": self.positive,
            "negative": self.negative,
            "n": list(self.n),
            "accuracy": asdict(Estimate(*self.accuracy)),
            "chance": {"mean": self.chance[0], "exceeded by one in 20": self.chance[1]},
            "better_than_chance": self.better_than_chance,
            "moves": [asdict(moved) for moved in self.moves],
            "spread": self.spread,
            "shape": list(self.vector.shape),
            "vector": base64.b64encode(vector).decode(),
        }


@isolated
def learn_from_store(
    store: LatentStore, contrast: Contrast, grouping: Grouping, band: str, *, seed: int = 0
) -> Direction:
    """Learn a direction as :func:`learn_direction` does, reading no more of a store than it needs.

    Args:
        store: latents; all of its labels but the contrast's are looked at as what else moves.
        contrast: two kinds of its images.
        grouping: of the model that made the store.
        band: as :func:`gdm_repr.masks.band_mask` reads it.
        seed: of the sample of images, the folds and the permuted labels.

    Raises:
        ValueError: for an unknown or empty band.
    """
    mask = own_mask(band, grouping, store.manifest.shape[0])
    some = _sampled(contrast.is_positive, _most_images(mask), checked_seed(seed))
    rows = contrast.rows[some]
    return learn_direction(
        torch.from_numpy(_band_latents(store, rows, mask)),
        contrast.is_positive[some],
        grouping,
        band,
        positive=contrast.positive,
        negative=contrast.negative,
        others={
            name: store.labels(name)[rows].tolist()
            for name in store.manifest.labels
            if name != contrast.label
        },
        periods=store_periods(store),
        seed=seed,
    )


@isolated
def learn_direction(
    z: Tensor,
    positive_mask: ArrayLike,
    grouping: Grouping,
    band: str,
    *,
    positive: str,
    negative: str,
    others: Mapping[str, Sequence[object]] = MappingProxyType({}),
    periods: Mapping[str, float] = MappingProxyType({}),
    folds: int = FOLDS,
    seed: int = 0,
) -> Direction:
    """Learn what tells images of one kind from those of another in a band.

    At most 4,000 images are used, as many of either kind as can be, and fewer of large bands: with
    1,000 numbers it takes a few seconds. Where the rarer kind was preferred, the spread and what
    else moves are of such a sample. Labels are permuted 99 times.

    Args:
        z: latents of N images, (N, C, d).
        positive_mask: which images are of the positive kind, bool (N,).
        grouping: the groups.
        band: as :func:`gdm_repr.masks.band_mask` reads it.
        positive: what that kind is called, as in ``digit = 3``.
        negative: what the other is called.
        others: other labels by name, of N values; None and NaN are missing. What can be no factor,
            such as names of single images or one value only, is left out.
        periods: of those that come round, as hues do.
        folds: in which images are left out in turn.
        seed: of the sample, the folds and the permuted labels.

    Raises:
        ValueError: for latents, a mask or labels that do not fit each other, an unknown or empty
            band, fewer than 8 images of a kind, or latents that are all the same.
    """
    folds, seed = count(folds, "folds", 2), checked_seed(seed)
    if z.ndim != 3 or z.shape[2] != grouping.d:
        raise ValueError(f"z: shape {tuple(z.shape)} is not (N, C, {grouping.d}); give latents")
    mask = own_mask(band, grouping, z.shape[1])
    is_positive = np.asarray(positive_mask)
    if is_positive.dtype != np.bool_ or is_positive.shape != (len(z),):
        raise ValueError(
            f"positive_mask: {is_positive.dtype} of shape {is_positive.shape} is no mask of the "
            f"{len(z)} images; give a bool for each"
        )
    require_enough(is_positive, positive, negative)
    for name, column in others.items():
        if len(column) != len(z):
            raise ValueError(f"others {name!r}: {len(column)} values for {len(z)} images")
    rows = _sampled(is_positive, _most_images(mask), seed)
    x = z[torch.from_numpy(rows)][:, torch.from_numpy(mask)].detach().cpu().double().numpy()
    if not np.isfinite(x).all():
        raise ValueError("z: holds values that are not finite; encode those images again")
    kinds = is_positive[rows]
    fold = fold_of(len(rows), folds, seed)
    margins, accuracies = _held_out(x, kinds, fold, seed)
    vector, spread = _fit(x, kinds, band)
    v = torch.zeros(mask.shape)
    v[torch.from_numpy(mask)] = torch.from_numpy(vector).float()
    null = accuracies[1:]
    found = agreeing(
        _with_interval(margins > 0, kinds),
        p_value(accuracies[0], null),
        PERMUTATIONS,
        float(null.mean()),
    )
    return Direction(
        band,
        positive,
        negative,
        v,
        spread,
        (int(kinds.sum()), int((~kinds).sum())),
        (found.value, float(found.low), float(found.high)),
        (float(null.mean()), float(np.quantile(null, 0.95, method="higher"))),
        _moves(margins, kinds, rows, others, periods, fold, seed),
    )


@isolated
def move(z: Tensor, direction: Direction, amounts: Sequence[float]) -> Tensor:
    """Move latents along a direction: z (B, C, d) by A amounts in spreads, to (B, A, C, d)."""
    step = direction.spread * direction.vector.to(z.device, z.dtype)
    by = torch.tensor(list(amounts), dtype=z.dtype, device=z.device)
    return z[:, None] + by[:, None, None] * step


def _held_out(x: Floats, kinds: Bools, fold: Ints, seed: int) -> tuple[Floats, Floats]:
    """Return how far each image is on the positive side by the other folds' fit, (n,).

    And the balanced accuracy of the labels, then of permuted ones, (1 + PERMUTATIONS,).
    """
    orders = [
        np.random.default_rng([seed, 1, draw]).permutation(len(x)) for draw in range(PERMUTATIONS)
    ]
    labels = np.stack([kinds, *(kinds[order] for order in orders)], axis=1)
    y = labels.astype(np.float64)
    folds = int(fold.max()) + 1
    margin = out_of_fold(PROBES["linear"], [x] * folds, y, fold, classes=False)
    for each in range(folds):  # both kinds count the same, so that the side is of their mean
        margin[fold == each] -= y[fold != each].mean(0)
    found = margin > 0
    shares = [(found & labels).sum(0) / kinds.sum(), (~found & ~labels).sum(0) / (~kinds).sum()]
    return margin[:, 0], np.mean(shares, axis=0)


def _fit(x: Floats, kinds: Bools, band: str) -> tuple[Floats, float]:
    """Return the unit vector in the band's numbers that all images give, and the spread on it."""
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler().fit(x)
    weights = ridge_weights(scale.transform(x), kinds[:, None].astype(np.float64))[:, 0]
    weights /= scale.scale_
    norm = float(np.linalg.norm(weights))
    if norm == 0:
        raise ValueError(
            f"band {band!r}: its latents are the same in all images, so that no direction tells "
            "any apart; choose another band"
        )
    vector = weights / norm
    return vector, float((x @ vector).std())


def _with_interval(found: Bools, kinds: Bools) -> Estimate:
    """Return balanced accuracy; two shares' intervals join by their squares (Newcombe)."""
    from scipy.stats import binomtest

    value, below, above = 0.0, 0.0, 0.0
    for kind in (True, False):
        right = found[kinds == kind] == kind
        share = float(right.mean())
        ends = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
        value += share / 2
        below, above = below + (share - ends.low) ** 2 / 4, above + (ends.high - share) ** 2 / 4
    return Estimate(value, float(value - below**0.5), float(value + above**0.5))


def _moves(
    margins: Floats,
    kinds: Bools,
    rows: Ints,
    others: Mapping[str, Sequence[object]],
    periods: Mapping[str, float],
    fold: Ints,
    seed: int,
) -> tuple[Moved, ...]:
    """Return what other labels explain of the held-out places, and of the kinds."""
    folds, found = int(fold.max()) + 1, []
    for name, column in others.items():
        values = [column[row] for row in rows]
        try:
            factor = read_factor(name, values, period=periods.get(name))
        except ValueError:
            continue
        y = np.stack([margins, kinds], axis=1)[factor.rows]
        if np.ptp(y[:, 1]) == 0:  # of one kind, all of those that have it
            continue
        own = fold[factor.rows]
        read = out_of_fold(PROBES["linear"], [factor.targets] * folds, y, own, classes=False)
        share = r_squared(read[:, :1], y[:, :1], seed=seed)
        common = 1 - ((read - y)[:, 1] ** 2).sum() / ((y - y.mean(0))[:, 1] ** 2).sum()
        found.append(
            Moved(name, share.value, share.low, share.high, max(0.0, float(common)), len(y))
        )
    return tuple(sorted(found, key=lambda moved: -moved.value))


def own_mask(band: str, grouping: Grouping, channels: int) -> Mask:
    """Return a band's mask (C, d).

    Raises:
        ValueError: if there is no such band, or it has no numbers.
    """
    mask = band_mask(band, grouping, channels)
    if not mask.any():
        raise ValueError(f"band {band!r}: has no numbers to learn from; choose another")
    return mask


def _most_images(mask: Mask) -> int:
    """Return how many images are used, so that no band takes long."""
    return max(_LEAST_IMAGES, min(_MOST_IMAGES, _MOST_NUMBERS // int(mask.sum())))


def _sampled(is_positive: Bools, most: int, seed: int) -> Ints:
    """Return places of at most so many images, as many of either kind as can be, ascending."""
    if len(is_positive) <= most:
        return np.arange(len(is_positive))
    ones, others = np.flatnonzero(is_positive), np.flatnonzero(~is_positive)
    n = min(len(ones), max(most // 2, most - len(others)))
    rng = np.random.default_rng([seed, 2])
    parts = [rng.choice(ones, n, replace=False), rng.choice(others, most - n, replace=False)]
    return np.sort(np.concatenate(parts))


def _band_latents(store: LatentStore, rows: Ints, mask: Mask) -> NDArray[np.float32]:
    """Read latents (n, C, d) of some rows, zero in the store's bands that a mask does not touch."""
    channels, d = mask.shape
    z = np.zeros((len(rows), channels, d), np.float32)
    width = 1 if store.manifest.per_channel else channels  # else elements run over C * d
    apart, wanted = z.reshape(len(rows), width, -1), mask.reshape(width, -1)
    for place in range(len(store.manifest.bands)):
        elements = store.elements(place)
        if wanted[:, elements].any():
            apart[:, :, elements] = store.band(place, rows)
    return z
