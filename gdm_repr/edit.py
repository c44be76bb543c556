"""Edit images through their latents: ``python -m gdm_repr.edit mix`` and its siblings (Sec. 4.5).

Each edit draws one labelled sheet, an animation where there is something to follow, and writes a
JSON beside them, from which ``again`` makes the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdm_repr.command import run
from gdm_repr.edit_options import AgainConfig, EditConfig
from gdm_repr.edit_sheets import KINDS, Sheet
from gdm_repr.run_facts import EARLY_CHANGE, git_state, versions
from gdm_repr.streams import sturdy_streams

if TYPE_CHECKING:
    from torch import Tensor

    from gdm_repr.edit_source import Editor, Originals
    from gdm_repr.edits import Effect

USAGE = """usage: gdm-repr edit KIND [options]
       gdm-repr edit KIND --help

Edit images through their latents.

kinds:
  mix          replace bands by those of other images
  vary         keep some bands and draw the rest
  set          set or shift single elements
  interpolate  go from one image's band to another's
  again        make pictures again from the JSON beside them

example:
  python -m gdm_repr.edit mix --checkpoint runs/digits --data digits --items 0,1 --references 5 --out mixed
"""  # noqa: E501
EARLY_LIMIT = 1e-3  # above it a group generated before the edited one was changed, too
_GROUPS = 8  # groups whose change is printed; the JSON has all


def make(name: str, config: EditConfig, recipe: Mapping[str, Any] | None = None) -> int:
    """Make an edit's pictures and the JSON beside them.

    Args:
        name: a key of :data:`gdm_repr.edit_sheets.KINDS`.
        config: its options.
        recipe: the JSON of pictures that these have to equal.

    Raises:
        ValueError: for options, a checkpoint or items that can't be used, or pictures that are
            there already or do not come out the same.
    """
    from gdm_repr import tracking
    from gdm_repr.edit_source import Editor
    from gdm_repr.edits import decode_edits, effects

    paths = [config.out / f"{name}.{suffix}" for suffix in ("json", "png", "gif")]
    there = [str(path) for path in paths if path.exists()]
    if there and not config.overwrite:
        raise ValueError(f"--out: {there[0]!r} is there; choose another folder or add --overwrite")
    editor = Editor(config)
    sheet = KINDS[name].sheet(editor, config)
    inputs = [sheet.originals, *sheet.others]
    facts = _facts(name, config, editor, inputs)
    if recipe:
        _require(recipe, facts)
    edits = [edit for row in sheet.rows for edit in row.edits]
    data = decode_edits(editor.generation, sheet.originals.states, edits, config.batch_size)
    if not bool(data.isfinite().all()):
        raise ValueError("the edited images are not finite; use more --steps or smaller --values")
    measured = list(effects(editor.model.grouping, sheet.originals.data, edits, data))
    with tracking.start(
        f"edit-{name}",
        facts["options"],
        config.out,
        enabled=config.track,
        tags={"fingerprint.checkpoint": facts["checkpoint"]},
    ) as tracked:
        sources = {each.facts["source"]: each.facts["fingerprint"] for each in inputs}
        for source, digest in sources.items():
            tracked.inputs(Path(source).name, digest, source)
        config.out.mkdir(parents=True, exist_ok=True)
        record, *pictures = paths[: 3 if sheet.moving else 2]
        draw(sheet, editor.model.basis.inverse(data).cpu(), config.tile, pictures)
        facts["pictures"] = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in pictures
        }
        facts["effects"] = [_plain(effect) for effect in measured]
        text = json.dumps(facts, indent=2, allow_nan=False, ensure_ascii=False)
        # a name that is no UTF-8 becomes JSON's own escape of it
        record.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        errors = [float(e) for each in inputs if each.error is not None for e in each.error]
        if errors:
            rmse = math.sqrt(sum(e * e for e in errors) / len(errors))
            tracked.metrics({tracking.ROUND_TRIP_RMSE: rmse})
        early = [effect.early for effect in measured if effect.kept]
        if early:
            tracked.metrics({EARLY_CHANGE: max(early)})
        for path in (record, *pictures):
            tracked.artifact(path)
    _report(inputs, measured, editor.model.grouping.names)
    print("\n".join(map(str, (record, *pictures))))
    if recipe and facts["pictures"] != recipe["pictures"]:
        was, now = recipe["made_by"], facts["made_by"]
        other = [
            f"{key} {was.get(key)!r}, now {now[key]!r}" for key in now if was.get(key) != now[key]
        ]
        raise ValueError(
            f"the pictures differ from the recipe's ({'; '.join(other) or 'nothing else does'})"
        )
    return 0


def draw(sheet: Sheet, x: Tensor, tile: int, paths: Sequence[Path]) -> None:
    """Draw a sheet as a PNG and, where there is a second path, its edits as a GIF.

    Args:
        sheet: rows and labels.
        x: the decoded edits of all rows in turn, (E, C, H, W).
        tile: size of small images in the picture, in pixels.
        paths: one or two.
    """
    import torch

    from gdm_repr.pictures import label_sheet

    parts = torch.split(x, [len(row.edits) for row in sheet.rows])
    rows = [
        torch.cat([row.left, part, row.right]).numpy()
        for row, part in zip(sheet.rows, parts, strict=True)
    ]
    picture = label_sheet(rows, [row.label for row in sheet.rows], sheet.columns, tile=tile)
    picture.save(paths[0])
    for path in paths[1:]:
        still = len(sheet.rows[0].left)
        moving = range(still, still + len(sheet.rows[0].edits))
        picture.save_animation(path, still=still, moving=moving)


def _facts(
    name: str, config: EditConfig, editor: Editor, inputs: Sequence[Originals]
) -> dict[str, Any]:
    """Return what makes the same bytes again, and how exact the reconstructions are."""
    import torch

    return {
        "command": name,
        "options": config.model_dump(mode="json", exclude={"config", "dry_run"}),
        "checkpoint": editor.model.checkpoint.fingerprint,
        "inputs": [dict(each.facts) for each in inputs],
        "made_by": {
            **versions(),
            **git_state(),
            "device": editor.model.device.type,
            "threads": torch.get_num_threads(),
        },
        "reconstruction": [
            {
                "rms_error": None if each.error is None else each.error.tolist(),
                "converged": each.converged.tolist(),
            }
            for each in inputs
        ],
    }


def _require(recipe: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Refuse a recipe whose checkpoint or images are not what they were."""
    for key in ("checkpoint", "inputs"):
        if json.loads(json.dumps(facts[key])) != recipe[key]:  # tuples are lists in JSON
            raise ValueError(
                f"--recipe: the {key} changed since its pictures were made, so that others would "
                "come out; bring the old ones back, or make a new edit"
            )


def _plain(effect: Effect) -> dict[str, Any]:
    """Return an effect for the record; JSON has no NaN."""
    return {**asdict(effect), "early": None if math.isnan(effect.early) else effect.early}


def _report(inputs: Sequence[Originals], measured: Sequence[Effect], names: Sequence[str]) -> None:
    """Say how exact the unedited reconstruction is, and what the edits changed."""
    errors = [float(e) for each in inputs if each.error is not None for e in each.error]
    failed = sum(int((~each.converged).sum()) for each in inputs)
    if errors:
        print(f"unedited reconstruction: RMS error at most {max(errors):.1e}, {len(errors)} images")
    else:
        print("unedited reconstruction: error not known; the store was encoded without it")
    if failed:
        print(
            f"warning: the exact inverse did not converge for {failed} images; use more --steps",
            file=sys.stderr,
        )
    elif all(each.facts["plan"]["inverse"] for each in inputs):
        print("every fixed point of the exact inverse converged")
    for effect in measured:
        moved = ", ".join(
            f"{name} {rms:.2g}" for name, rms in zip(names[:_GROUPS], effect.rms, strict=False)
        )
        print(f"{effect.name}: {effect.n} edits; RMS change of groups: {moved}")
        if effect.kept:
            print(f"  {effect.kept} groups generated before: changed by at most {effect.early:.1e}")
        if effect.early > EARLY_LIMIT:
            print(
                f"warning: {effect.name} changes groups generated before it by more than "
                f"{EARLY_LIMIT}; only strict models rule that out",
                file=sys.stderr,
            )


def again(config: AgainConfig) -> int:
    """Make the pictures of a recipe again.

    Raises:
        ValueError: if it is no recipe, or its pictures do not come out the same.
    """
    try:
        recipe = json.loads(config.recipe.read_text(encoding="utf-8"))
        name, options = recipe["command"], dict(recipe["options"])
        kind = KINDS[name]
        recipe["checkpoint"], recipe["inputs"], recipe["pictures"], recipe["made_by"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"--recipe {str(config.recipe)!r}: not the JSON of an edit ({error!r}); give one that "
            "lies beside its pictures"
        ) from error
    here = config.model_dump(include={"out", "overwrite", "track"})
    make(name, kind.options(**{**options, **here}), recipe)
    print("the same bytes")
    return 0


@sturdy_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr edit``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name, rest = (arguments or [""])[0], arguments[1:]
    if name in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if name == "again":
        return run(AgainConfig, "edit again", rest, again)
    if name not in KINDS:
        known = ", ".join([*KINDS, "again"])
        print(f"gdm-repr edit: error: no kind {name!r}; choose from {known}", file=sys.stderr)
        return 2
    return run(KINDS[name].options, f"edit {name}", rest, lambda config: make(name, config))


if __name__ == "__main__":
    sys.exit(main())
