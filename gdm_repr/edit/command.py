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

from gdm_repr.boundary.streams import sturdy_streams
from gdm_repr.boundary.text import printable
from gdm_repr.command import build, run
from gdm_repr.edit.options import AgainConfig, EditConfig
from gdm_repr.edit.sheets import KINDS, Sheet, check_parts
from gdm_repr.files import only_writer, parse_json, read_text, write_text
from gdm_repr.identity import Mark, marked
from gdm_repr.recipe import Difference, find_difference
from gdm_repr.tracking.facts import git_state, versions
from gdm_repr.tracking.keys import EARLY_CHANGE

if TYPE_CHECKING:
    from torch import Tensor

    from gdm_repr.edit.operations import Effect
    from gdm_repr.edit.source import Editor, Originals

USAGE = """usage: gdm-repr edit KIND [options]
       gdm-repr edit KIND --help

Edit images through their latents.

kinds:
  mix          replace bands by those of other images
  vary         keep some bands and draw the rest
  set          set or shift single elements
  interpolate  go from one image's band to another's
  direction    move along what tells two kinds of images apart
  again        make pictures again from the JSON beside them

example:
  python -m gdm_repr.edit mix --checkpoint runs/digits --data digits --items 0,1 --references 5 --out mixed
"""  # noqa: E501
EARLY_LIMIT = 1e-3  # above it a group generated before the edited one was changed, too
_GROUPS = 8  # groups whose change is printed; the JSON has all


def open_work(name: str, config: EditConfig) -> Editor:
    """Open the model and what is edited, and see that the bands, elements and items are there.

    Raises:
        ValueError: for options, a checkpoint or items that can't be used.
    """
    from gdm_repr.data.sources.registry import refuse_inside
    from gdm_repr.edit.source import Editor

    for data in (config.data, getattr(config, "reference_data", None)):
        refuse_inside(config.out, data)
    editor = Editor(config)
    check_parts(editor, config)
    return editor


def make(name: str, config: EditConfig, recipe: Mapping[str, Any] | None = None) -> int:
    """Make an edit's pictures and the JSON beside them.

    Args:
        name: a key of :data:`gdm_repr.edit.sheets.KINDS`.
        config: its options.
        recipe: the JSON of pictures that these have to equal.

    Raises:
        ValueError: for options, a checkpoint or items that can't be used, or pictures that are
            there already, of another edit, or do not come out the same.
    """
    with only_writer(config.out):
        return _make(name, config, recipe)


def _make(name: str, config: EditConfig, recipe: Mapping[str, Any] | None) -> int:
    """Make the pictures as the only writer of their folder."""
    from gdm_repr import tracking
    from gdm_repr.edit.operations import decode_edits, effects
    from gdm_repr.tracking.keys import ROUND_TRIP_RMSE

    editor = open_work(name, config)
    paths = [config.out / f"{name}.{suffix}" for suffix in ("json", "png", "gif")]
    sheet = KINDS[name].sheet(editor, config)
    inputs = [sheet.originals, *sheet.others]
    facts = _facts(name, config, editor, sheet)
    if recipe:
        _require(recipe, facts)
    record, *pictures = paths[: 3 if sheet.moving else 2]
    if not config.overwrite and (made := _find_made(paths, facts)):
        print(f"{record} is finished already: {name}; add --overwrite to make it again")
        _require_pictures(recipe, made)
        return 0
    edits = [edit for row in sheet.rows for edit in row.edits]
    data = decode_edits(editor.generation, sheet.originals.states, edits, config.batch_size)
    if not bool(data.isfinite().all()):
        numbers = "--amounts" if sheet.directions else "--values"
        raise ValueError(f"the edited images are not finite; use more --steps or smaller {numbers}")
    measured = list(effects(editor.model.grouping, sheet.originals.data, edits, data))
    with tracking.start(
        f"edit-{name}",
        facts["options"],
        config.out,
        enabled=config.track,
        tags={"fingerprint.checkpoint": facts["checkpoint"]},
    ) as tracked:
        made_of: list[Mapping[str, Any]] = [sheet.learned_from] if sheet.learned_from else []
        made_of += [each.facts for each in inputs]
        sources = {each["source"]: each["fingerprint"] for each in made_of}
        for source, digest in sources.items():
            tracked.inputs(Path(source).name, digest, source)
        config.out.mkdir(parents=True, exist_ok=True)
        for path in paths:  # of an edit that was finished
            path.unlink(missing_ok=True)
        _write(record, {**facts, "pictures": {}})  # an unfinished edit knows itself, too
        draw(sheet, editor.model.basis.inverse(data).cpu(), config.tile, pictures)
        facts["pictures"] = {path.name: _digest(path) for path in pictures}
        facts["effects"] = [_plain(effect) for effect in measured]
        _write(record, facts)
        errors = [float(e) for each in inputs if each.error is not None for e in each.error]
        if errors:
            rmse = math.sqrt(sum(e * e for e in errors) / len(errors))
            tracked.metrics({ROUND_TRIP_RMSE: rmse})
        early = [effect.early for effect in measured if effect.kept]
        if early:
            tracked.metrics({EARLY_CHANGE: max(early)})
        for path in (record, *pictures):
            tracked.artifact(path)
    for direction in sheet.directions:
        print(printable("\n".join(direction.sentences()), lines=True))
    _report(inputs, measured, editor.model.grouping.names)
    print("\n".join(map(str, (record, *pictures))))
    _require_pictures(recipe, facts)
    return 0


def _require_pictures(recipe: Mapping[str, Any] | None, facts: Mapping[str, Any]) -> None:
    """Refuse pictures that are not those of the recipe, where there is one."""
    if recipe and facts["pictures"] != recipe["pictures"]:
        was, now = recipe["made_by"], facts["made_by"]
        other = [
            f"{key} {was.get(key)!r}, now {now[key]!r}" for key in now if was.get(key) != now[key]
        ]
        raise ValueError(
            f"the pictures differ from the recipe's ({'; '.join(other) or 'nothing else does'})"
        )


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


def _facts(name: str, config: EditConfig, editor: Editor, sheet: Sheet) -> dict[str, Any]:
    """Return what makes the same bytes again, and how exact the reconstructions are."""
    import torch

    inputs = [sheet.originals, *sheet.others]
    learned = {
        "learned_from": dict(sheet.learned_from),
        "directions": [direction.facts() for direction in sheet.directions],
    }
    return {
        "command": name,
        "options": config.resolved("overwrite"),
        "checkpoint": editor.model.checkpoint.fingerprint,
        "inputs": [dict(each.facts) for each in inputs],
        **(learned if sheet.directions else {}),
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


def _write(record: Path, facts: Mapping[str, Any]) -> None:
    text = json.dumps(facts, indent=2, allow_nan=False, ensure_ascii=False)
    write_text(record, text + "\n")


def _read(path: Path, option: str) -> dict[str, Any]:
    """Read the record of an edit.

    Raises:
        ValueError: if it is none.
    """
    try:
        facts = parse_json(read_text(path, option), option)
        for key in ("command", "options", "checkpoint", "inputs", "pictures", "made_by"):
            facts[key]
        _identity(facts)
        return dict(facts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{option} {str(path)!r}: not the JSON of an edit ({error!r}); give one that lies "
            "beside its pictures"
        ) from error


def _identity(
    facts: Mapping[str, Any], *, options: bool = True
) -> tuple[dict[str, Any], dict[str, str | None]]:
    """Return the settings of an edit by content, and what the user calls those that are digests."""
    settings = {"checkpoint": facts["checkpoint"]}
    names = {"checkpoint": facts["options"].get("checkpoint")}
    for kind, each in zip(("images", "references"), facts["inputs"], strict=False):
        settings |= {kind: each["fingerprint"], f"{kind} chosen": each["ids"]}
        settings |= {f"plan of {kind}": each["plan"]}
        names[kind] = each["source"]
    if learned := facts.get("learned_from"):
        settings["images learned from"] = learned["fingerprint"]
        names["images learned from"] = learned["source"]
    if options:
        model = KINDS[facts["command"]].options
        known = {*marked(model, Mark.FREE, Mark.CONTENT, Mark.PLAN)}
        known |= {  # an earlier version's record has not these
            key
            for key in marked(model, Mark.LATER)
            if facts["options"].get(key) in (None, model.model_fields[key].default)
        }
        settings |= {key: v for key, v in facts["options"].items() if key not in known}
    return settings, names


def _difference(
    earlier: Mapping[str, Any], facts: Mapping[str, Any], *, options: bool = True
) -> Difference | None:
    was, names_was = _identity(earlier, options=options)
    now, names_now = _identity(facts, options=options)
    return find_difference(was, now, names_was, names_now)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _find_made(paths: Sequence[Path], facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the record of the same edit if its pictures are there as it has them.

    Args:
        paths: of the record and of all pictures that an edit of this kind can have.
        facts: of the edit that is asked for.

    Raises:
        ValueError: if others are there.
    """
    record, out = paths[0], paths[0].parent
    there = [str(path) for path in paths if path.exists()]
    if not there:
        return None
    if not record.exists():
        raise ValueError(f"--out: {there[0]!r} is there; choose another folder or add --overwrite")
    earlier = _read(record, "--out")
    if difference := _difference(earlier, facts):
        raise ValueError(
            f"--out {str(out)!r}: holds pictures of another edit ({difference}); choose another "
            "folder or add --overwrite"
        )
    digests = {path.name: _digest(path) for path in paths[1:] if path.exists()}
    return earlier if digests and digests == earlier["pictures"] else None


def _require(recipe: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Refuse a recipe whose checkpoint or images are not what they were."""
    if difference := _difference(recipe, facts, options=False):
        key = "checkpoint" if difference.name == "checkpoint" else "inputs"
        raise ValueError(
            f"--recipe: the {key} changed since its pictures were made ({difference}), so that "
            "others would come out; bring the old ones back, or make a new edit"
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


def read_recipe(config: AgainConfig) -> tuple[str, EditConfig, dict[str, Any]]:
    """Read a recipe: the kind, its options with the new folder, and the recipe itself.

    Raises:
        ValueError: if it is no recipe.
    """
    recipe = _read(config.recipe, "--recipe")
    name, where = recipe["command"], f"--recipe {str(config.recipe)!r}: "
    if not recipe["pictures"]:
        raise ValueError(f"{where}of an edit that was never finished; make that first")
    here = config.model_dump(include={"out", "overwrite", "track"})
    return name, build(KINDS[name].options, {**recipe["options"], **here}, where), recipe


def again(config: AgainConfig) -> int:
    """Make the pictures of a recipe again.

    Raises:
        ValueError: if it is no recipe, or its pictures do not come out the same.
    """
    make(*read_recipe(config))
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
        return run(
            AgainConfig,
            "edit again",
            rest,
            again,
            opened=lambda config: open_work(*read_recipe(config)[:2]),
        )
    if name not in KINDS:
        known = ", ".join([*KINDS, "again"])
        print(f"gdm-repr edit: error: no kind {name!r}; choose from {known}", file=sys.stderr)
        return 2
    return run(
        KINDS[name].options,
        f"edit {name}",
        rest,
        lambda config: make(name, config),
        opened=lambda config: open_work(name, config),
    )
