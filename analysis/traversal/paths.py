"""What a traversal does to an image: how much, how steadily, where, and at which frequencies.

A path is x(v) = decode(z(v)) at V places v_1 < .. < v_V along a direction (Fig. 6), from one anchor
a with x_0 = decode(z_a). phi are features and T is E||phi(x) - phi(x')|| of two random images, so
that 1 means "as far as another image". dphi_i = phi(x(v_{i+1})) - phi(x(v_i)), and
chord = phi(x(v_V)) - phi(x(v_1)).

    effect        sum_i ||dphi_i|| / (v_V - v_1) / T: length of the path per unit of v. A length
                  adds up along the path and tends to the mean of ||dphi/dv|| as steps shrink;
                  squared distances per unit would tend to 0.
    straightness  ||chord|| / sum_i ||dphi_i||: 1 on a straight line, 0 where the path comes back.
    alike         mean cosine between the anchor's chord and other anchors': 1 where the direction
                  does the same to every image, 0 where the images have nothing in common.
    monotonicity  Spearman correlation of v with phi(x(v)) . D, D the sum of the *other* anchors'
                  chords: 1 where the image moves steadily the way that others do, 0 on average
                  where there is no such way.
    drift         mean_i ||phi(x(v_i)) - phi(x_0)|| / T: 0 is the same image, 1 another one.
    shares        of sum_i ||x_bar(v_{i+1}) - x_bar(v_i)||^2, what falls in each data group.
    own           of the same, what falls on the coefficients of the direction itself.
    moved         sqrt(mean_i ||x_bar_g(v_i) - x_bar_0g||^2 / (2 |g| s_g^2)), of each data group g
                  with std s_g: drift of the band's data; 1 is as far as another image's.
    early         largest change of a coefficient in a group made before the first one touched.
    map           sum_i |x(v_{i+1}) - x(v_i)| / (v_V - v_1) of each pixel (RMS over channels):
                  |dx/dv|, x in [-1, 1].
    row, column   centroid of the map, in shares of height and width from the top left.
    area          (sum map)^2 / (pixels sum map^2): the share of the image that the change fills.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.analysis.traversal.directions import Direction, Path
from gdm_repr.basis import Basis
from gdm_repr.boundary.isolation import isolated
from gdm_repr.coordinates import Flow
from gdm_repr.grouping import Grouping, group_std, rms_by_group
from gdm_repr.masks import untouched_groups

Features = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) in [-1, 1] to features (B, F)."""

FEATURE_MEASURES = ("effect", "straightness", "monotonicity", "alike", "drift")
IMAGE_MEASURES = ("own", "early", "row", "column", "area")
MAP_SIDE = 32  # larger maps are averaged down to it
_STILL = 1e-6  # a path shorter than this, in units of T, has no direction


@dataclass(frozen=True, eq=False)
class Ruler:
    """By what paths are measured.

    Attributes:
        flow: of the model; its groups and stds are those of the data.
        basis: turns coefficients to pixels.
        features: phi, by name.
        scale: T of each.
        values: v_1 < .. < v_V.
    """

    flow: Flow
    basis: Basis
    features: Mapping[str, Features]
    scale: Mapping[str, float]
    values: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Measures:
    """What one direction does to n anchors; see the module's docstring.

    Attributes:
        numbers: of :data:`IMAGE_MEASURES`, and ``effect/pixels`` of every feature, each (n,).
        shares: of each data group by number, (n, k).
        moved: of each data group, (n, k).
        map: mean over anchors, at most (MAP_SIDE, MAP_SIDE).
    """

    numbers: dict[str, Floats]
    shares: Floats
    moved: Floats
    map: Floats

    @classmethod
    def join(cls, parts: Sequence[Measures]) -> Measures:
        """Put the measures of several sets of anchors together."""
        return cls(
            {name: np.concatenate([p.numbers[name] for p in parts]) for name in parts[0].numbers},
            np.concatenate([part.shares for part in parts]),
            np.concatenate([part.moved for part in parts]),
            np.average([p.map for p in parts], axis=0, weights=[len(p.shares) for p in parts]),
        )


@isolated
def typical_distance(features: Features, images: Iterable[Tensor]) -> float:
    """Return T, the mean of ||phi(x) - phi(x')|| over all pairs of different images.

    Args:
        features: phi.
        images: (B, C, H, W) in [-1, 1], in parts, two images at least; their features are held.

    Raises:
        ValueError: if the images are all alike to phi, so that T is 0.
    """
    phi = torch.cat([features(part).cpu() for part in images]).double()
    T = float(torch.nn.functional.pdist(phi).mean())
    if not T > 0:
        raise ValueError("features: are the same for all images; choose others")
    return T


@isolated
@torch.no_grad()
def measure_paths(ruler: Ruler, direction: Direction, paths: Iterable[Path]) -> Measures:
    """Measure the paths of n anchors along one direction; n V features are held meanwhile."""
    found: list[dict[str, Tensor]] = []
    maps: list[Tensor] = []
    phi: dict[str, list[Tensor]] = {name: [] for name in ruler.features}
    start: dict[str, list[Tensor]] = {name: [] for name in ruler.features}
    for data, origin in paths:
        x = ruler.basis.inverse(data.flatten(0, 1))
        x_0 = ruler.basis.inverse(origin)
        for name, features in ruler.features.items():
            phi[name].append(_as_paths(features(x).cpu(), data.shape[1]))
            start[name].append(features(x_0).cpu())
        rate, where = _where(_as_paths(x, data.shape[1]), ruler.values)
        maps.append(rate)
        found.append({**_spectrum(ruler, direction, data, origin), **where})
    image = {key: torch.cat([part[key] for part in found]).cpu().numpy() for key in found[0]}
    numbers = {name: image[name] for name in IMAGE_MEASURES}
    for name in ruler.features:
        there, here = torch.cat(phi[name]).double(), torch.cat(start[name]).double()
        measured = _in_features(there, here, ruler.values, ruler.scale[name])
        numbers |= {f"{kind}/{name}": values for kind, values in measured.items()}
    mean = torch.cat(maps).mean(0).cpu().numpy().astype(float)
    return Measures(numbers, image["shares"], image["moved"], mean)


def _in_features(
    phi: Tensor, start: Tensor, values: Sequence[float], T: float
) -> dict[str, Floats]:
    """Return the measures of :data:`FEATURE_MEASURES` of phi (n, V, F) and phi(x_0) (n, F)."""
    n = len(phi)
    length = phi.diff(dim=1).norm(dim=2).sum(1)
    still = length <= _STILL * T
    chord = torch.where(still[:, None], 0.0, phi[:, -1] - phi[:, 0])
    others = chord.sum(0) - chord
    projection = torch.einsum("nvf,nf->nv", phi, others).numpy()
    ranks = stats.rankdata(np.where(still[:, None], 0.0, projection), axis=1)
    ranks -= ranks.mean(1, keepdims=True)
    steady = ranks @ (np.arange(len(values)) - (len(values) - 1) / 2)
    full = np.sum(np.square(np.arange(len(values)) - (len(values) - 1) / 2))
    spread = np.sqrt(full * np.square(ranks).sum(1))
    safe = length.clamp_min(_STILL * T)
    return {
        "effect": (length / (values[-1] - values[0]) / T).numpy(),
        "straightness": (chord.norm(dim=1) / safe).numpy(),
        "monotonicity": np.divide(steady, spread, out=np.zeros(n), where=spread > 0)
        if n > 1
        else np.full(n, np.nan),
        "alike": _alike(chord),
        "drift": ((phi - start[:, None]).norm(dim=2).mean(1) / T).numpy(),
    }


def _alike(chord: Tensor) -> Floats:
    """Return jackknife pseudo-values of the mean cosine U of all pairs of chords (n, F).

    Their mean is U, and their spread is U's own (Arvesen 1969): every pair has two anchors, so that
    the spread of each anchor's mean cosine would be too small by half.
    """
    n = len(chord)
    if n < 3:
        return np.full(n, np.nan)
    unit = torch.nn.functional.normalize(chord, dim=1)
    cosines = unit @ unit.T
    c = ((cosines.sum(1) - cosines.diagonal()) / (n - 1)).numpy()
    U = c.mean()
    pseudo: Floats = n * U - (n - 1) * (n * U - 2 * c) / (n - 2)
    return pseudo


def _where(x: Tensor, values: Sequence[float]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the maps of paths (B, V, C, H, W), pooled, and their centroids and areas."""
    rate = x.double().diff(dim=1).square().mean(2).sqrt().sum(1) / (values[-1] - values[0])
    height, width = rate.shape[1:]
    total = rate.sum((1, 2)).clamp_min(1e-30)
    rows = (torch.arange(height, device=x.device) + 0.5) / height
    columns = (torch.arange(width, device=x.device) + 0.5) / width
    where = {
        "row": (rate.sum(2) @ rows.double()) / total,
        "column": (rate.sum(1) @ columns.double()) / total,
        "area": total.square() / (rate.square().sum((1, 2)).clamp_min(1e-60) * height * width),
    }
    side = (min(height, MAP_SIDE), min(width, MAP_SIDE))
    return torch.nn.functional.adaptive_avg_pool2d(rate, side), where


def _spectrum(
    ruler: Ruler, direction: Direction, data: Tensor, origin: Tensor
) -> dict[str, Tensor]:
    """Return shares, own, moved and early of paths (B, V, C, d) and their anchors' data."""
    grouping = ruler.flow.grouping
    index = torch.from_numpy(grouping.index).to(data.device).expand(data.shape[2:])
    change = data.double().diff(dim=1)
    square = change.square().sum(1)
    total = square.sum((1, 2)).clamp_min(1e-30)
    shares = torch.zeros(len(data), grouping.k, dtype=square.dtype, device=data.device)
    shares.index_add_(1, index.flatten(), square.flatten(1))
    away = data.double() - origin[:, None].double()
    rms = _as_paths(rms_by_group(away.flatten(0, 1), grouping), data.shape[1])
    std = torch.tensor(group_std(grouping, ruler.flow.std), device=data.device)
    before = grouping.order[: untouched_groups(grouping, direction.support)]
    early = away[:, :, _members(grouping, before, index)].flatten(1).abs()
    return {
        "shares": shares / total[:, None],
        "own": direction.along(change).square().sum((1, 2, 3)) / total,
        "moved": rms.square().mean(1).sqrt() / (std * 2**0.5),
        "early": early.amax(1) if early.shape[1] else torch.zeros_like(total),
    }


def _as_paths(values: Tensor, V: int) -> Tensor:
    """Cut (B*V, ..) into (B, V, ..)."""
    return values.reshape(-1, V, *values.shape[1:])


def _members(grouping: Grouping, groups: Sequence[int], index: Tensor) -> Tensor:
    return torch.isin(index, torch.tensor(list(groups), dtype=index.dtype, device=index.device))
