"""Moves elements of encoded images, and reads known factors off what is decoded.

Readings are kept in the journal, a line each direction; the reader is fitted again where some are
missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gdm_repr.analysis.columns.names import RAW
from gdm_repr.analysis.element_factors.moves import move_shares, places, read_paths
from gdm_repr.analysis.element_factors.options import FEWEST, ElementFactorsConfig
from gdm_repr.analysis.element_factors.shares import Shares
from gdm_repr.analysis.factors.labels import Factor
from gdm_repr.analysis.factors.reader import PATCHES, Reader, fit_patches, fit_reader
from gdm_repr.analysis.features.extractors import build_extractor
from gdm_repr.analysis.intervals.bootstrap import r_squared
from gdm_repr.analysis.intervals.estimate import Estimate, Floats, rounded
from gdm_repr.analysis.journal import Journal
from gdm_repr.analysis.subject import Subject
from gdm_repr.analysis.traversal import directions as moves
from gdm_repr.analysis.traversal.directions import Direction
from gdm_repr.boundary.isolation import isolated
from gdm_repr.progress import progress

Quality = dict[str, dict[str, tuple[float, float, float]]]
"""R^2 with its interval, of images ``left out`` and of ``decoded`` anchors, by factor."""


@dataclass(frozen=True, eq=False)
class Readings:
    """Of readable factors, (n, V, T) to six digits, and which share of images is strange."""

    readings: Floats
    strange: float


class MovedAnchors:
    """Anchors that are moved along directions, and a reader of factors off what they become.

    Attributes:
        fitted: images that the reader was fitted to.
        r2: how well each factor is read off images not fitted to.
        decoded: how well off the anchors, as the model decodes them.
        readable: factors that are read well enough.
    """

    @isolated
    def __init__(
        self,
        config: ElementFactorsConfig,
        subject: Subject,
        journal: Journal,
        rows: Sequence[int],
        factors: Sequence[Factor],
    ) -> None:
        """Choose anchors and images to fit to, and find out which factors can be read.

        Raises:
            ValueError: if there are too few images, or they are not at hand.
        """
        at, other = split_rows(config, len(rows))
        self._config, self._subject, self._journal = config, subject, journal
        own = [_only(factor, other) for factor in factors]
        self._factors = [factor for factor in own if len(factor.rows) >= FEWEST]
        self._other = [rows[i] for i in other]
        self._z = subject.z([rows[i] for i in at])
        self.fitted = len(other)
        digest = hashlib.sha256()
        for factor in self._factors:
            digest.update(factor.name.encode() + factor.rows.tobytes() + factor.targets.tobytes())
        self._key = digest.hexdigest()[:16]
        kept = {factor.name for factor in self._factors}
        own = [_only(factor, at) for factor in factors if factor.name in kept]
        found = self._journal.once(f"reader {self._key}", Quality, self._quality, own)
        self.r2 = {name: Estimate(*each) for name, each in found["left out"].items()}
        self.decoded = {name: Estimate(*each) for name, each in found["decoded"].items()}
        self.readable = [
            f for f in factors if f.name in kept and self.r2[f.name].value >= config.readable
        ]

    @isolated
    def shares(self, asked: Mapping[str, Sequence[Direction]]) -> dict[str, Shares]:
        """Measure directions, by source; those of raw coefficients are moved without the model."""
        found = {}
        total = sum(len(each) for each in asked.values())
        with progress(total, desc="element_factors", unit="direction") as bar:
            for source, directions in asked.items():
                readings, strange = [], []
                for direction in directions:
                    key = f"{source} {direction.name} {self._key}"
                    read = self._journal.once(key, Readings, self._read, source, direction)
                    readings.append(read.readings)
                    strange.append(read.strange)
                    bar.update(1)
                found[source] = move_shares(
                    readings,
                    [direction.name for direction in directions],
                    [factor.name for factor in self.readable],
                    [factor.targets.var(0) for factor in self.readable],
                    strange=strange,
                    resamples=self._config.resamples,
                    seed=self._config.seed,
                )
        return found

    def _read(self, source: str, direction: Direction) -> Readings:
        subject, size = self._subject, self._config.batch_size
        values = places(self._config.places)[0].tolist()
        states, origin = self._generated
        paths = (
            moves.move_coefficients(subject.model.flow, origin, direction, values)
            if source == RAW
            else moves.traverse(
                subject.generation, self._z, states, direction, values, batch_size=size
            )
        )
        names = {factor.name for factor in self.readable}
        widths = [factor.targets.shape[1] for factor in self._factors]
        kept = np.repeat([factor.name in names for factor in self._factors], widths)
        found, strange = read_paths(paths, subject.model.basis.inverse, self._reader)
        return Readings(rounded(found[..., kept], 6), strange)

    def _quality(self, at: Sequence[Factor]) -> Quality:
        read = self._reader(self._subject.model.basis.inverse(self._generated[1]).cpu()).values
        ends = np.cumsum([0, *(factor.targets.shape[1] for factor in at)])
        decoded = {}
        for factor, start, stop in zip(at, ends[:-1], ends[1:], strict=True):
            own = read[factor.rows, start:stop]
            score = r_squared(own, factor.targets, seed=self._config.seed)
            decoded[factor.name] = astuple(score)
        pairs = zip(self._factors, self._reader.r2, strict=True)
        return {"left out": {f.name: astuple(each) for f, each in pairs}, "decoded": decoded}

    @cached_property
    def _reader(self) -> Reader:
        """Fit the reader, if it is needed."""
        config, device = self._config, self._subject.model.device
        x = self._subject.images(self._other)
        describe = (
            fit_patches(x, device=device, seed=config.seed)
            if config.reader == PATCHES
            else build_extractor(config.reader, device=device)
        )
        return fit_reader(describe, x, self._factors, seed=config.seed)

    @cached_property
    def _generated(self) -> tuple[list[Tensor], Tensor]:
        """Return states and decoded data of the anchors."""
        return self._subject.generation.generate(self._z, self._config.batch_size)


def split_rows(
    config: ElementFactorsConfig, total: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose, of so many rows, those that are traversed and those that the reader is fitted to.

    Raises:
        ValueError: if too few are left to fit to.
    """
    mixed = np.random.default_rng([config.seed, 8]).permutation(total)
    other = np.sort(mixed[config.anchors : config.anchors + config.fit])
    if len(other) < FEWEST:
        raise ValueError(
            f"--anchors {config.anchors}: leaves {len(other)} of {total} images to fit the "
            f"reader to, which needs {FEWEST}; give fewer anchors, or more --images"
        )
    return np.sort(mixed[: config.anchors]), other


def _only(factor: Factor, at: NDArray[np.int64]) -> Factor:
    """Return a factor of some of its images, at ascending positions."""
    own = np.isin(factor.rows, at)
    return replace(factor, rows=np.searchsorted(at, factor.rows[own]), targets=factor.targets[own])
