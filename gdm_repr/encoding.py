"""What encoding a batch gives: latents, their errors, their bands, and a table of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gdm_repr.boundary.arguments import integer
from gdm_repr.boundary.text import listed
from gdm_repr.grouping import Grouping

if TYPE_CHECKING:
    import pandas

ERRORS = ("latent_error", "round_trip_error")


@dataclass(frozen=True, eq=False, repr=False)
class Encoding:
    """Latents of a batch of B images and how exact they are.

    Attributes:
        z: latents (B, C, d) in the basis's order, float32.
        evaluations: calls of u for the encoding itself.
        converged: False for examples whose exact inverse failed, bool (B,).
        latent_error: estimated RMS error of each image's z by the solver, (B,), when asked for.
        latent_error_by_group: the same by group, (B, k).
        round_trip_error: RMS of decode(z) - x over pixels, (B,), when asked for.
        round_trip_error_by_group: the same over each group's elements, (B, k).
        reconstruction: decode(z), (B, C, H, W), when the round trip was asked for.
        grouping: the groups that the bands are; None for latents of an unknown model.
    """

    z: Tensor
    evaluations: int
    converged: Tensor
    latent_error: Tensor | None = None
    latent_error_by_group: Tensor | None = None
    round_trip_error: Tensor | None = None
    round_trip_error_by_group: Tensor | None = None
    reconstruction: Tensor | None = None
    grouping: Grouping | None = None

    def __len__(self) -> int:
        """Return the number of images B."""
        return len(self.z)

    def __repr__(self) -> str:
        """Say how many latents there are, in which bands, and the RMS of their errors."""
        parts = [f"{len(self)} images", f"z {tuple(self.z.shape)}"]
        if self.grouping is not None:
            parts.append(f"bands {listed(self.grouping.names)}")
        for name in ERRORS:
            error: Tensor | None = getattr(self, name)
            if error is not None and len(error):
                parts.append(f"{name} {float(error.double().square().mean().sqrt()):.2g}")
        if failed := int((~self.converged).sum()):
            parts.append(f"{failed} not converged")
        return f"Encoding({'; '.join(parts)})"

    def _repr_html_(self) -> str | None:
        """Show the reconstructions in a notebook, where there are some."""
        if self.reconstruction is None:
            return None
        from gdm_repr.pictures import as_html

        return as_html(self.reconstruction.cpu().numpy(), repr(self))

    def band(self, which: str | int) -> Tensor:
        """Return the latents of one band.

        Args:
            which: the band's name, as in ``"0_29"``, or its group's number.

        Returns:
            (B, C, width), elements in the basis's order; (B, 1, width) where the grouping separates
            channels: as :meth:`gdm_repr.latents.LatentStore.band` does.

        Raises:
            ValueError: if there is no such band; it lists those there are.
        """
        grouping = self._known()
        if isinstance(which, str):
            group = grouping.names.index(which) if which in grouping.names else -1
        else:
            group = integer(which, "band", "must be a name or a group's number")
        if not 0 <= group < grouping.k:
            raise ValueError(
                f"band={which!r}: there is none; the bands are {listed(grouping.names)}, "
                f"numbered 0 .. {grouping.k - 1}"
            )
        members = torch.from_numpy(grouping.mask(group).ravel()).to(self.z.device)
        z = self.z.reshape(len(self), 1, -1) if grouping.per_channel else self.z
        return z[:, :, members]

    def to_pandas(self) -> pandas.DataFrame:
        """Return a table, one row an image, with the names that a store's columns have.

        A band is one column; a cell holds its C * width numbers, channel after channel. Errors by
        group are columns of k numbers. So ``pandas.read_parquet("latents/shards")`` has the same.

        Raises:
            ValueError: if pandas is not installed, or the grouping is not known.
        """
        try:
            import pandas
        except ImportError:
            raise ValueError("pandas is not installed: pip install pandas") from None
        from gdm_repr.latents.format import bands_of

        columns = {}
        for name in (each for error in ERRORS for each in (error, f"{error}_by_group")):
            values: Tensor | None = getattr(self, name)
            if values is not None:  # by group, of a single one, they are numbers as in a store
                values = values.squeeze(1) if values.ndim > 1 else values
                columns[name] = list(values.cpu().numpy())
        for group, band in enumerate(bands_of(self._known())):
            columns[band.column] = list(self.band(group).detach().flatten(1).cpu().numpy())
        return pandas.DataFrame(columns)

    def _known(self) -> Grouping:
        if self.grouping is None:
            raise ValueError("grouping=None: the bands of these latents are not known; give one")
        return self.grouping
