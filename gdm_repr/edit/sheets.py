"""The sheets of the edits: which latents stand in which row and column.

An edit is a function from an :class:`gdm_repr.edit.source.Editor` and its options to a sheet, and
one row of :data:`KINDS`. Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from gdm_repr.edit.options import EditConfig, InterpolateConfig, MixConfig, SetConfig, VaryConfig

if TYPE_CHECKING:
    from torch import Tensor

    from gdm_repr.edit.operations import Edit
    from gdm_repr.edit.source import Editor, Originals

_LABEL = 24  # characters of an id that a label shows


class Row(NamedTuple):
    """One row of the sheet: images (n, C, H, W) at either side of the edits."""

    label: str
    left: Tensor
    edits: list[Edit]
    right: Tensor


@dataclass(frozen=True, eq=False)
class Sheet:
    """What is to be decoded and drawn.

    Attributes:
        originals: what the edits are of.
        others: further inputs, such as references.
        columns: labels.
        rows: all of one length.
        moving: whether the edits of a row follow each other.
    """

    originals: Originals
    others: list[Originals]
    columns: list[str]
    rows: list[Row]
    moving: bool = False


def check_parts(editor: Editor, config: EditConfig) -> None:
    """Refuse bands, elements and items that are not there, before anything is encoded.

    Raises:
        ValueError: naming the first.
    """
    from gdm_repr.masks import band_mask, element_mask

    grouping, channels = editor.model.grouping, editor.model.shape[0]
    for band in (*getattr(config, "bands", ()), *getattr(config, "fixed", ())):
        band_mask(band, grouping, channels)
    for element in getattr(config, "elements", ()):
        element_mask(element, channels, grouping.d)
    editor.find(config.items, "--items")
    if isinstance(config, MixConfig):
        editor.find(config.references, "--references", config.reference_data)


def mix(editor: Editor, config: MixConfig) -> Sheet:
    """Replace bands by the references' (Fig. 7)."""
    from gdm_repr.edit import operations as edits
    from gdm_repr.masks import band_mask

    n = len(config.items)
    grouping, channels = editor.model.grouping, editor.model.shape[0]
    bands = config.bands or grouping.names
    masks = [band_mask(band, grouping, channels) for band in bands]
    originals = editor.originals(config.items, "--items")
    references = editor.originals(config.references, "--references", config.reference_data)
    rows = []
    for i in range(n):
        j = min(i, len(references.z) - 1)
        made = []
        for band, mask in zip(bands, masks, strict=True):
            z = edits.mix(originals.z[i : i + 1], references.z[j : j + 1], mask)
            made.append(edits.Edit(band, i, z[0], mask))
        label = f"{_short(originals.ids[i])}\nfrom {_short(references.ids[j])}"
        left = _side(originals.x[i : i + 1], references.x[j : j + 1])
        rows.append(Row(label, left, made, left[:0]))
    return Sheet(
        originals,
        [references],
        ["original", "reference", *(f"band {band}" for band in bands)],
        rows,
    )


def vary(editor: Editor, config: VaryConfig) -> Sheet:
    """Keep bands and draw the rest, the same noise for every item and row (Fig. 9)."""
    from gdm_repr.edit import operations as edits
    from gdm_repr.masks import NOTHING, band_mask

    grouping, channels = editor.model.grouping, editor.model.shape[0]
    first = [grouping.names[group] for group in grouping.order]
    nested = ["+".join(first[:r]) or NOTHING for r in range(grouping.k)]
    fixed_sets = config.fixed or nested
    masks = [~band_mask(fixed, grouping, channels) for fixed in fixed_sets]
    originals = editor.originals(config.items, "--items")
    noise = editor.model.noise(config.n, seed=config.seed)
    rows = []
    for i, name in enumerate(originals.ids):
        for fixed, mask in zip(fixed_sets, masks, strict=True):
            z = edits.vary(originals.z[i : i + 1], mask, noise)[0]
            made = [edits.Edit(f"all but {fixed}", i, one, mask) for one in z]
            left = _side(originals.x[i : i + 1])
            rows.append(Row(f"{_short(name)}\nfixed {fixed}", left, made, left[:0]))
    return Sheet(originals, [], ["original", *(f"draw {j}" for j in range(config.n))], rows)


def set_elements(editor: Editor, config: SetConfig) -> Sheet:
    """Set or shift single elements (Fig. 8)."""
    from gdm_repr.edit import operations as edits
    from gdm_repr.masks import element_mask

    channels, d = editor.model.shape[0], editor.model.grouping.d
    masks = [element_mask(element, channels, d) for element in config.elements]
    originals = editor.originals(config.items, "--items")
    rows = []
    for i, name in enumerate(originals.ids):
        for element, mask in zip(config.elements, masks, strict=True):
            made = []
            for value in config.values:
                z = edits.set_element(originals.z[i : i + 1], mask, value, shift=config.shift)
                made.append(edits.Edit(f"element {element}", i, z[0], mask))
            left = _side(originals.x[i : i + 1])
            rows.append(Row(f"{_short(name)}\nelement {element}", left, made, left[:0]))
    columns = [f"{value:+.3g}" if config.shift else f"{value:.3g}" for value in config.values]
    return Sheet(originals, [], ["original", *columns], rows, moving=len(columns) > 1)


def interpolate(editor: Editor, config: InterpolateConfig) -> Sheet:
    """Go from one image's band to another's (Fig. 3)."""
    from gdm_repr.edit import operations as edits
    from gdm_repr.masks import band_mask

    grouping, channels = editor.model.grouping, editor.model.shape[0]
    bands = config.bands or grouping.names
    masks = [band_mask(band, grouping, channels) for band in bands]
    originals = editor.originals(config.items, "--items")
    t = [j / (config.n - 1) for j in range(config.n)]
    rows = []
    for band, mask in zip(bands, masks, strict=True):
        z = edits.interpolate(originals.z[:1], originals.z[1:], mask, t, config.path)[0]
        made = [edits.Edit(band, 0, one, mask) for one in z]
        rows.append(Row(f"band {band}", _side(originals.x[:1]), made, _side(originals.x[1:])))
    columns = [_short(originals.ids[0]), *(f"t = {place:.2f}" for place in t)]
    return Sheet(originals, [], [*columns, _short(originals.ids[1])], rows, moving=True)


class Kind(NamedTuple):
    """One row of the table: options, and what makes a sheet of them."""

    options: type[EditConfig]
    sheet: Callable[[Editor, Any], Sheet]


KINDS: dict[str, Kind] = {
    "mix": Kind(MixConfig, mix),
    "vary": Kind(VaryConfig, vary),
    "set": Kind(SetConfig, set_elements),
    "interpolate": Kind(InterpolateConfig, interpolate),
}


def _side(*images: Tensor) -> Tensor:
    import torch

    return torch.cat([x.cpu() for x in images])


def _short(name: str) -> str:
    return name if len(name) <= _LABEL else ".." + name[2 - _LABEL :]
