"""The sheets of the edits: which latents stand in which row and column.

An edit is a function from an :class:`gdm_repr.edit.source.Editor` and its options to a sheet, and
one row of :data:`KINDS`. Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from gdm_repr.boundary.text import listed
from gdm_repr.edit.options import (
    DirectionConfig,
    EditConfig,
    InterpolateConfig,
    MixConfig,
    SetConfig,
    VaryConfig,
)

if TYPE_CHECKING:
    from torch import Tensor

    from gdm_repr.edit.contrast import Contrast
    from gdm_repr.edit.direction import Direction
    from gdm_repr.edit.operations import Edit
    from gdm_repr.edit.source import Editor, Originals
    from gdm_repr.latents.store import LatentStore
    from gdm_repr.masks import Mask

_LABEL = 24  # characters of an id that a label shows
_LINES = 6  # of a column's label


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
        directions: that were learned for it.
        learned_from: what they were learned from, for the record: a source and its fingerprint.
    """

    originals: Originals
    others: list[Originals]
    columns: list[str]
    rows: list[Row]
    moving: bool = False
    directions: Sequence[Direction] = ()
    learned_from: Mapping[str, str] = field(default_factory=dict)


def check_parts(editor: Editor, config: EditConfig) -> None:
    """Refuse bands, elements and items that are not there, before anything is encoded.

    Raises:
        ValueError: naming the first.
    """
    from gdm_repr.masks import NOTHING, band_mask, element_mask

    grouping, channels = editor.model.grouping, editor.model.shape[0]
    for band in (*getattr(config, "bands", ()), *getattr(config, "fixed", ())):
        band_mask(band, grouping, channels)
    for element in getattr(config, "elements", ()):
        element_mask(element, channels, grouping.d)
    if isinstance(config, SetConfig) and config.together:
        seen = band_mask(NOTHING, grouping, channels)
        for element in config.elements:
            mask = element_mask(element, channels, grouping.d)
            if (mask & seen).any():
                raise ValueError(
                    f"--elements {element!r}: is among those before it; --together sets each once"
                )
            seen |= mask
    if isinstance(config, DirectionConfig):
        from gdm_repr.edit.direction import own_mask

        for band in config.bands:
            own_mask(band, grouping, channels)
        _contrast(editor, config)
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
    texts = [f"{value:+.3g}" if config.shift else f"{value:.3g}" for value in config.values]
    if config.together:
        return _set_together(originals, config, masks, texts)
    rows = []
    for i, name in enumerate(originals.ids):
        for element, mask in zip(config.elements, masks, strict=True):
            made = []
            for value in config.values:
                z = edits.set_element(originals.z[i : i + 1], mask, value, shift=config.shift)
                made.append(edits.Edit(f"element {element}", i, z[0], mask))
            left = _side(originals.x[i : i + 1])
            rows.append(Row(f"{_short(name)}\nelement {element}", left, made, left[:0]))
    return Sheet(originals, [], ["original", *texts], rows, moving=len(texts) > 1)


def _set_together(
    originals: Originals, config: SetConfig, masks: Sequence[Mask], texts: Sequence[str]
) -> Sheet:
    """Set all elements of an image at once, in one picture."""
    from gdm_repr.edit import operations as edits

    changed, rows = masks[0], []
    for mask in masks[1:]:
        changed = changed | mask
    for i, name in enumerate(originals.ids):
        z = originals.z[i : i + 1]
        for mask, value in zip(masks, config.values, strict=True):
            z = edits.set_element(z, mask, value, shift=config.shift)
        left = _side(originals.x[i : i + 1])
        made = [edits.Edit(f"elements {listed(config.elements)}", i, z[0], changed)]
        rows.append(Row(_short(name), left, made, left[:0]))
    sign = " " if config.shift else " = "
    pairs = [f"{element}{sign}{text}" for element, text in zip(config.elements, texts, strict=True)]
    if len(pairs) > _LINES:
        pairs = [*pairs[: _LINES - 1], f".. ({len(pairs)} in all)"]
    return Sheet(originals, [], ["original", "\n".join(pairs)], rows)


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


def direction(editor: Editor, config: DirectionConfig) -> Sheet:
    """Move along what tells two kinds of images apart."""
    from gdm_repr.edit import operations as edits
    from gdm_repr.edit.direction import learn_from_store, move
    from gdm_repr.masks import band_mask

    grouping, channels = editor.model.grouping, editor.model.shape[0]
    bands = config.bands or grouping.names
    masks = [band_mask(band, grouping, channels) for band in bands]
    store, contrast = _contrast(editor, config)
    found = [learn_from_store(store, contrast, grouping, band, seed=config.seed) for band in bands]
    originals = editor.originals(config.items, "--items")
    rows = []
    for i, name in enumerate(originals.ids):
        for each, mask in zip(found, masks, strict=True):
            z = move(originals.z[i : i + 1], each, config.amounts)[0]
            made = [edits.Edit(each.band, i, one, mask) for one in z]
            left = _side(originals.x[i : i + 1])
            label = f"{_short(name)}\nband {each.band}\nto {each.positive}"
            rows.append(Row(label, left, made, left[:0]))
    columns = [f"{amount:+.3g}" if amount else "0" for amount in config.amounts]
    return Sheet(
        originals,
        [],
        ["original", *columns],
        rows,
        moving=len(columns) > 1,
        directions=found,
        learned_from={
            "source": str(config.learn_from or config.latents),
            "fingerprint": contrast.fingerprint(store),
        },
    )


def _contrast(editor: Editor, config: DirectionConfig) -> tuple[LatentStore, Contrast]:
    """Return the store that a direction is learned from, and the two kinds of its images."""
    from gdm_repr.edit.contrast import label_contrast, picked_contrast
    from gdm_repr.latents.ids import read_ids

    store = editor.labelled_store(config.learn_from)
    if config.label is not None and config.value is not None:
        return store, label_contrast(store, config.label, config.value, config.against)
    first, others = config.positive_ids, config.negative_ids
    assert first is not None
    return store, picked_contrast(
        store,
        read_ids(first, "--positive-ids"),
        None if others is None else read_ids(others, "--negative-ids"),
        positive=f"the images of {first.name}",
        negative="the others" if others is None else f"those of {others.name}",
    )


class Kind(NamedTuple):
    """One row of the table: options, and what makes a sheet of them."""

    options: type[EditConfig]
    sheet: Callable[[Editor, Any], Sheet]


KINDS: dict[str, Kind] = {
    "mix": Kind(MixConfig, mix),
    "vary": Kind(VaryConfig, vary),
    "set": Kind(SetConfig, set_elements),
    "interpolate": Kind(InterpolateConfig, interpolate),
    "direction": Kind(DirectionConfig, direction),
}


def _side(*images: Tensor) -> Tensor:
    import torch

    return torch.cat([x.cpu() for x in images])


def _short(name: str) -> str:
    return name if len(name) <= _LABEL else ".." + name[2 - _LABEL :]
