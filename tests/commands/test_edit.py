"""Edits: laws of the latents, then the command: pictures, measurements, the same bytes again."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from gdm_repr import GDM, encode
from gdm_repr.command import parse
from gdm_repr.coordinates import Flow
from gdm_repr.edit import command as edit
from gdm_repr.edit.operations import (
    PATHS,
    Edit,
    decode_edits,
    effects,
    interpolate,
    mix,
    set_element,
    vary,
)
from gdm_repr.edit.options import EditConfig, InterpolateConfig, MixConfig, SetConfig, VaryConfig
from gdm_repr.edit.sheets import KINDS
from gdm_repr.edit.source import Editor
from gdm_repr.generation import Generation
from gdm_repr.grouping import Grouping, build_grouping
from gdm_repr.masks import band_mask, element_mask, untouched_groups
from gdm_repr.ode import Plan, decode
from gdm_repr.oracle import gaussian_oracle
from gdm_repr.process import PROCESSES

BANDS = build_grouping("bands", (2, 2, 4), cuts=[2, 5])
GROUPS = Grouping(np.array([[0, 1, 0, 2, 1]]), (1, 2, 0), ("a", "b", "c"))
EVERYWHERE = np.ones((2, 8), np.bool_)


def latents(n: int, shape: tuple[int, int] = (2, 8), seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("spec", "elements"),
    [
        ("0_1", [0, 1]),
        ("1", [2, 3, 4]),
        ("5_7", [5, 6, 7]),
        ("1-3", [1, 2, 3]),
        ("7-7", [7]),
        ("0+5_7", [0, 1, 5, 6, 7]),
        ("0-7", [*range(8)]),
        ("none", []),
    ],
)
def test_bands_are_named_numbered_or_ranges(spec: str, elements: list[int]) -> None:
    mask = band_mask(spec, BANDS, 2)
    assert mask.shape == (2, 8)
    assert all(np.flatnonzero(channel).tolist() == elements for channel in mask)


@pytest.mark.parametrize("spec", ["3", "0_2", "4-2", "0-8", "", "0+x", "-1", "1.5"])
def test_unknown_bands_are_refused(spec: str) -> None:
    with pytest.raises(ValueError, match=r"unknown; give a name \(0_1, 2_4, 5_7\), a number below"):
        band_mask(spec, BANDS, 2)


def test_a_band_may_be_of_one_channel() -> None:
    apart = build_grouping("bands", (2, 1, 3), cuts=[1], per_channel=True)
    assert band_mask("3", apart, 2).tolist() == [[False] * 3, [False, True, True]]
    assert untouched_groups(apart, band_mask("3", apart, 2)) == 3


def test_an_element_is_of_one_channel_or_all() -> None:
    assert np.argwhere(element_mask("3", 2, 8)).tolist() == [[0, 3], [1, 3]]
    assert np.argwhere(element_mask("3:1", 2, 8)).tolist() == [[1, 3]]
    for unknown in ("8", "0:2", "a", "1:", "-1", "1:1:1"):
        with pytest.raises(ValueError, match="give an index below 8"):
            element_mask(unknown, 2, 8)


def test_mixing_all_gives_the_reference_and_none_the_original() -> None:
    z, reference = latents(3), latents(3, seed=1)
    assert torch.equal(mix(z, reference, EVERYWHERE), reference)
    assert torch.equal(mix(z, reference, ~EVERYWHERE), z)
    band = band_mask("1", BANDS, 2)
    assert torch.equal(mix(z, reference, band), mix(reference, z, ~band))


def test_what_is_fixed_does_not_vary() -> None:
    z, noise = latents(3), latents(4, seed=1)
    assert torch.equal(vary(z, ~EVERYWHERE, noise), z[:, None].expand(3, 4, 2, 8))
    assert torch.equal(vary(z, EVERYWHERE, noise), noise.expand(3, 4, 2, 8))
    varied = vary(z, band_mask("1+2", BANDS, 2), noise)
    assert torch.equal(varied[..., :2], z[:, None, :, :2].expand(3, 4, 2, 2))
    assert torch.equal(varied[..., 2:], noise[None, ..., 2:].expand(3, 4, 2, 6))


def test_an_element_is_set_or_shifted_alone() -> None:
    z, element = latents(1), element_mask("3:1", 2, 8)
    assert torch.equal(set_element(z, element, float(z[0, 1, 3])), z)
    assert torch.equal(set_element(z, element, 0.0, shift=True), z)
    for shift, value in ((False, -2.5), (True, float(z[0, 1, 3]) - 2.5)):
        edited = set_element(z, element, -2.5, shift=shift)
        assert float(edited[0, 1, 3]) == value
        assert int((edited != z).sum()) == 1


@pytest.mark.parametrize("path", PATHS)
def test_a_path_ends_at_both_latents(path: str) -> None:
    z0, z1 = latents(3), latents(3, seed=1)
    for band in (EVERYWHERE, band_mask("1", BANDS, 2), element_mask("2:0", 2, 8)):
        ends = interpolate(z0, z1, band, [0.0, 1.0], path)
        assert torch.allclose(ends[:, 0], z0, atol=1e-12)
        assert torch.allclose(ends[:, 1], mix(z0, z1, band), atol=1e-12)
    assert torch.allclose(interpolate(z0, z0, EVERYWHERE, [0.3], path)[:, 0], z0, atol=1e-12)


def test_an_arc_keeps_the_norm_and_turns_evenly() -> None:
    a, b = latents(5, (1, 7))[:, 0], latents(5, (1, 7), seed=1)[:, 0]
    b = b * a.norm(dim=1, keepdim=True) / b.norm(dim=1, keepdim=True)
    t = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    arc = [PATHS["spherical"](a, b, place) for place in t]
    turns = []
    for one, other in pairwise(arc):
        assert torch.allclose(other.norm(dim=1), a.norm(dim=1))
        turns.append(torch.nn.functional.cosine_similarity(one, other))
    assert torch.allclose(torch.stack(turns), turns[0])
    # no arc leads along one line
    for end in (2 * a, -a):
        middle = PATHS["spherical"](a, end, 0.5)
        assert torch.allclose(middle, (a + end) / 2, atol=1e-7)
    with pytest.raises(ValueError, match="choose from linear, spherical"):
        interpolate(a[:, None], b[:, None], EVERYWHERE[:1, :7], [0.5], "cubic")


def gaussian() -> Flow:
    root = torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    S = root @ root.T / 5 + 0.3 * torch.eye(5, dtype=torch.float64)
    mean = torch.zeros(5, dtype=torch.float64)
    oracle = gaussian_oracle(mean, S, GROUPS)
    return Flow(oracle, GROUPS, PROCESSES["linear"], mean[None], S.diagonal().sqrt()[None])


@pytest.mark.parametrize("strict", [True, False])
def test_edits_decode_as_latents_do_and_spare_what_came_before(strict: bool) -> None:
    flow, plan = gaussian(), Plan("midpoint", "whitened", (4, 4, 4))
    z, other = latents(2, (1, 5)), latents(2, (1, 5), seed=1)
    edits = []
    for name in ("a", "none", "b", "c", "a+c", "0-4"):
        mask = band_mask(name, GROUPS, 1)
        edits += [Edit(name, i, mix(z[i], other[i], mask), mask) for i in (1, 0)]
    generation = Generation(flow, plan, strict=strict)
    states = generation.states(z)
    before = generation.groups
    edited = decode_edits(generation, states, edits, 3)
    assert generation.groups - before == (2 * (1 + 0 + 3 + 2 + 2 + 3) if strict else 12 * 3)
    plain = decode(flow, torch.stack([edit.z for edit in edits]), plan).y
    assert torch.allclose(edited, plain, atol=1e-12)

    measured = {e.name: e for e in effects(GROUPS, decode(flow, z, plan).y, edits, plain)}
    assert {e.name: e.kept for e in measured.values()} == {
        "a": 2, "none": 3, "b": 0, "c": 1, "a+c": 1, "0-4": 0,
    }  # fmt: skip
    assert all(e.n == 2 and (e.early < 1e-12) == (e.kept > 0) for e in measured.values())
    assert measured["none"].rms == (0, 0, 0)
    assert measured["a"].rms[0] > 0.1 and max(measured["a"].rms[1:]) < 1e-12


def arguments(kind: str, model: Path, out: Path, *flags: str) -> list[str]:
    source = [] if "--latents" in flags or "--data" in flags else ["--data", "digits"]
    steps = [] if "--latents" in flags else ["--steps", "12"]
    argv = [kind, "--checkpoint", str(model), "--out", str(out), "--no-track"]
    return [*argv, *source, *steps, *flags]


def tiles(path: Path, rows: int, columns: int, tile: int) -> npt.NDArray[np.int64]:
    """Cut a sheet into its tiles, (rows, columns, tile, tile, 3); the gaps are 4 pixels."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(np.int64)
    step = tile + 4
    top, left = pixels.shape[0] - rows * step, pixels.shape[1] - columns * step
    grid = pixels[top:, left:].reshape(rows, step, columns, step, 3)
    return grid.transpose(0, 2, 1, 3, 4)[:, :, :tile, :tile]


def test_mixing_all_or_nothing_shows_one_of_the_two(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x"
    flags = ["--items", "0,1", "--references", "5,000006", "--bands", "none,0+1+2,0-63,6_20"]
    assert edit.main(arguments("mix", trained, out, *flags)) == 0
    shown = tiles(out / "mix.png", 2, 6, 96)
    original, reference, nothing, groups, indices, band = shown.swapaxes(0, 1)
    assert np.abs(nothing - original).max() <= 1
    assert np.abs(groups - reference).max() <= 1
    assert (groups == indices).all()
    for other in (original, reference):
        assert (np.abs(band - other).max((1, 2, 3)) > 10).all()
    facts = json.loads((out / "mix.json").read_text())
    assert facts["inputs"][1]["ids"] == ["000005", "000006"]
    assert facts["checkpoint"] == GDM.from_pretrained(trained).checkpoint.fingerprint
    assert all(e < 5e-5 for fact in facts["reconstruction"] for e in fact["rms_error"])
    early = {e["name"]: (e["kept"], e["early"]) for e in facts["effects"]}
    assert early["6_20"] == (1, 0) and early["0-63"] == (0, None)
    printed = capsys.readouterr().out
    assert "unedited reconstruction: RMS error at most" in printed
    assert "every fixed point of the exact inverse converged" in printed
    assert "  1 groups generated before: changed by at most 0.0e+00" in printed


def test_a_strict_model_keeps_earlier_groups_without_sharing_them(trained: Path) -> None:
    model = GDM.from_pretrained(trained)
    plan = model.plan(12, solver="midpoint")
    z, reference = model.noise(4, seed=0), model.noise(4, seed=4)
    mask = band_mask("1", model.grouping, 1)
    x_bar = model.to_basis(model.decode(z, plan))
    change = model.to_basis(model.decode(mix(z, reference, mask), plan)) - x_bar
    assert float(change[..., :6].abs().max()) < 1e-5
    assert float(change[..., 6:21].abs().min()) > 0
    assert float(change[..., 21:].square().mean()) > 1e-3  # a later group does follow


def test_what_a_model_that_is_not_strict_does_is_measured_and_said(
    make_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loose = make_model(
        tmp_path / "m.safetensors",
        (1, 8, 8),
        grouping={"name": "bands", "cuts": [6, 21]},
        denoiser={"strict": False},
    )
    flags = ["--items", "0", "--references", "5", "--bands", "2"]
    assert edit.main(arguments("mix", loose, tmp_path / "x", *flags)) == 0
    effect = json.loads((tmp_path / "x" / "mix.json").read_text())["effects"][0]
    assert effect["kept"] == 2 and effect["early"] > 1e-3
    assert "2 changes groups generated before it" in capsys.readouterr().err


def test_a_path_shows_both_images_and_moves(trained: Path, tmp_path: Path) -> None:
    flags = ["--items", "3,4", "--bands", "0-63,0_5", "--n", "5", "--tile", "16"]
    for path in PATHS:
        out = tmp_path / path
        assert edit.main(arguments("interpolate", trained, out, *flags, "--path", path)) == 0
        with Image.open(out / "interpolate.gif") as image:
            assert image.n_frames == 8  # type: ignore[attr-defined]
            assert image.info["loop"] == 0
    model = GDM.from_pretrained(trained)
    config = parse(
        InterpolateConfig, "edit", arguments("interpolate", trained, tmp_path, *flags)[1:]
    )
    sheet = KINDS["interpolate"].sheet(Editor(config), config)
    whole, band = (torch.stack([e.z for e in row.edits]) for row in sheet.rows)
    x = model.decode(whole[[0, -1]], model.plan(12, solver="midpoint"))
    assert float((x - sheet.originals.x).abs().max()) < 1e-3
    assert torch.equal(band[..., 6:], whole[:1, :, 6:].expand(5, -1, -1))


def test_variations_are_the_seeds_own(trained: Path, tmp_path: Path) -> None:
    flags = ["--items", "3,4", "--n", "3", "--seed", "5"]
    config = parse(VaryConfig, "edit", arguments("vary", trained, tmp_path, *flags)[1:])
    editor = Editor(config)
    sheet = KINDS["vary"].sheet(editor, config)
    assert [row.label.split("fixed ")[1] for row in sheet.rows[:3]] == ["none", "0_5", "0_5+6_20"]
    for row in (sheet.rows[0], sheet.rows[3]):  # nothing is fixed: the samples of these seeds
        drawn = torch.stack([e.z for e in row.edits])
        assert torch.equal(drawn, editor.model.noise(3, seed=5))
    # another seed draws other latents and leaves the image as it is
    flags = ["--items", "4", "--n", "1", "--seed", "7"]
    config = parse(VaryConfig, "edit", arguments("vary", trained, tmp_path, *flags)[1:])
    again = KINDS["vary"].sheet(Editor(config), config).rows[1].edits[0].z
    assert torch.allclose(again, sheet.rows[4].edits[2].z, atol=1e-4)


def test_variations_with_everything_fixed_are_the_image(trained: Path, tmp_path: Path) -> None:
    flags = ["--fixed", "0+1+2", "--n", "2", "--tile", "8"]
    assert edit.main(arguments("vary", trained, tmp_path / "x", *flags)) == 0
    shown = tiles(tmp_path / "x" / "vary.png", 1, 3, 8)
    # the label is wider than a tile, so that only the last one's place is known
    assert json.loads((tmp_path / "x" / "vary.json").read_text())["effects"][0]["rms"] == [0, 0, 0]
    assert shown.shape == (1, 3, 8, 8, 3)


def test_an_edit_is_made_again_to_the_same_bytes(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, new = tmp_path / "x", tmp_path / "y"
    flags = ["--items", "3", "--elements", "1,2:0", "--values", "-3:3:4"]
    assert edit.main(arguments("set", trained, out, *flags)) == 0
    recipe = out / "set.json"
    assert edit.main(["again", "--recipe", str(recipe), "--out", str(new), "--no-track"]) == 0
    assert capsys.readouterr().out.endswith("the same bytes\n")
    for name in ("set.png", "set.gif"):
        assert (out / name).read_bytes() == (new / name).read_bytes()
    assert edit.main(["again", "--recipe", str(recipe), "--out", str(new), "--no-track"]) == 0
    assert "set.json is finished already" in capsys.readouterr().out
    (new / "set.json").unlink()
    assert edit.main(["again", "--recipe", str(recipe), "--out", str(new), "--no-track"]) == 2
    assert "is there; choose another folder or add --overwrite" in capsys.readouterr().err

    facts = json.loads(recipe.read_text())
    argv = ["again", "--recipe", str(recipe), "--out", str(new), "--overwrite", "--no-track"]
    changes: list[tuple[str, object, str]] = [
        ("checkpoint", "0", "the checkpoint changed"),
        ("inputs", [], "the inputs changed"),
        ("pictures", {"set.png": "0"}, "differ from the recipe's"),
        ("command", "erase", "not the JSON of an edit"),
    ]
    for key, value, says in changes:
        recipe.write_text(json.dumps({**facts, key: value}))
        assert edit.main(argv) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("gdm-repr edit again: error: ") and says in line


def test_elements_are_set_together_in_one_picture(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x"
    flags = ["--items", "3,4", "--elements", "0,30:0", "--values", "1.5,-2", "--together"]
    argv = arguments("set", trained, out, *flags)
    config = parse(SetConfig, "edit", argv[1:])
    sheet = KINDS["set"].sheet(Editor(config), config)
    assert [len(row.edits) for row in sheet.rows] == [1, 1]
    assert sheet.columns == ["original", "0 = 1.5\n30:0 = -2"] and not sheet.moving
    for row, original in zip(sheet.rows, sheet.originals.z, strict=True):
        expected = original.clone()
        expected[0, 0], expected[0, 30] = 1.5, -2
        assert torch.equal(row.edits[0].z, expected)
        assert np.flatnonzero(row.edits[0].changed).tolist() == [0, 30]
    assert edit.main(argv) == 0
    assert not (out / "set.gif").exists()
    capsys.readouterr()
    # a record of before the option is the same edit as one without it
    argv = arguments("set", trained, tmp_path / "y", *flags[:-1])
    assert edit.main(argv) == 0
    record = tmp_path / "y" / "set.json"
    facts = json.loads(record.read_text())
    assert facts["options"].pop("together") is False
    record.write_text(json.dumps(facts))
    capsys.readouterr()
    assert edit.main(argv) == 0 and "finished already" in capsys.readouterr().out
    again = ["again", "--recipe", str(record), "--out", str(tmp_path / "z"), "--no-track"]
    assert edit.main(again) == 0 and "the same bytes" in capsys.readouterr().out
    assert edit.main([*argv, "--together"]) == 2
    assert "(together None, now True)" in capsys.readouterr().err


def test_a_store_is_edited_as_it_was_encoded(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "z"
    base = ["--checkpoint", str(trained), "--data", "digits", "--first", "6", "--steps", "30"]
    assert encode.main([*base, "--out", str(store), "--no-track", "--workers", "0"]) == 0
    capsys.readouterr()
    out = tmp_path / "x"
    flags = ["--latents", str(store), "--items", "2", "--references", "000005", "--bands", "1"]
    assert edit.main(arguments("mix", trained, out, *flags)) == 0
    facts = json.loads((out / "mix.json").read_text())
    assert [each["ids"] for each in facts["inputs"]] == [["000002"], ["000005"]]
    assert facts["inputs"][0]["plan"]["solver"] == "ab3"
    printed = capsys.readouterr().out
    assert "RMS error at most" in printed and "converged" not in printed
    again = ["again", "--recipe", str(out / "mix.json"), "--out", str(tmp_path / "y")]
    assert edit.main([*again, "--no-track"]) == 0
    # references may come from images all the same
    more = ["--reference-data", "digits", "--overwrite"]
    assert edit.main(arguments("mix", trained, out, *flags, *more)) == 0
    # numbers count the images that --ids names
    (tmp_path / "ids").write_text("000001\n000003\n000004\n000005\n")
    assert edit.main(arguments("mix", trained, out, *flags, "--ids", str(tmp_path / "ids"))) == 2
    assert "(images chosen" in capsys.readouterr().err
    some = arguments("mix", trained, tmp_path / "some", *flags, "--ids", str(tmp_path / "ids"))
    assert edit.main(some) == 0
    facts = json.loads((tmp_path / "some" / "mix.json").read_text())
    assert [each["ids"] for each in facts["inputs"]] == [["000004"], ["000005"]]


def test_colour_files_of_two_folders(make_model: Callable[..., Path], tmp_path: Path) -> None:
    grouping = {"name": "bands", "cuts": [5], "per_channel": True}
    model = make_model(tmp_path / "m.safetensors", (3, 4, 6), grouping=grouping)
    for name, color in (("a/x.png", (200, 100, 50)), ("b/y.jpg", (20, 100, 250))):
        path = tmp_path / name
        path.parent.mkdir()
        Image.new("RGB", (30, 20), color).save(path)
    data = ["--data", str(tmp_path / "a"), "--items", "x.png"]
    flags = ["--references", "0", "--reference-data", str(tmp_path / "b"), "--bands", "0-23"]
    assert edit.main(arguments("mix", model, tmp_path / "x", *data, *flags)) == 0
    facts = json.loads((tmp_path / "x" / "mix.json").read_text())
    assert [each["ids"] for each in facts["inputs"]] == [["x.png"], ["y.jpg"]]
    flags = ["--elements", "1:2,1", "--shift", "--values", "0,1"]
    assert edit.main(arguments("set", model, tmp_path / "y", *data, *flags)) == 0
    facts = json.loads((tmp_path / "y" / "set.json").read_text())
    one, every = facts["effects"]
    assert one["kept"] == 2 and every["kept"] == 0  # group 2 is the lower band of channel 2


def test_options_come_as_flags_environment_or_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = ["--checkpoint", "m", "--out", "o", "--data", "d"]

    def options(*argv: str) -> SetConfig:
        return parse(SetConfig, "edit set", [*base, *argv])

    assert options("--elements", "7:1,3", "--values", "-3:3:3").values == (-3, 0, 3)
    assert options("--elements", "7:1,3", "--values", "-1,.5").elements == ("7:1", "3")
    (tmp_path / "set.yaml").write_text("elements: [3, '7:1']\nvalues: [-1, 2]\nitems: 5\n")
    config = options("--config", str(tmp_path / "set.yaml"))
    assert (config.elements, config.values, config.items) == (("3", "7:1"), (-1, 2), ("5",))
    monkeypatch.setenv("GDM_REPR_ELEMENTS", "1,2:0")
    monkeypatch.setenv("GDM_REPR_VALUES", "-3:3:7")
    assert options().elements == ("1", "2:0") and len(options().values) == 7
    assert parse(MixConfig, "edit mix", [*base, "--references", "3"]).bands == ()


MIX = "mix --checkpoint {model} --data digits --out {out} --no-track --references "
SET = "set --checkpoint {model} --data digits --out {out} --no-track "
VARY = "vary --checkpoint {model} --out {out} --no-track "
PATH = "interpolate --checkpoint {model} --data digits --out {out} --no-track "
CASES = [
    (MIX + "1 --bands 0_7", "band '0_7': unknown"),
    (MIX + "1 --bands 60-64", "indices such as 0-63"),
    (MIX + "1 --items 1797", "--items '1797': no such item"),
    (MIX + "1 --items a.png", "give an id, such as '000000'"),
    (MIX + "3,4 --items 0,1,2", "2 for 3 items"),
    (MIX + "1 --reference-data nowhere", "nowhere"),
    (MIX + "9999 --steps 3", "--references '9999'"),
    (MIX + "1 --solver ab2", "no one-step method"),
    (MIX + "1 --steps 2", "fewer than the 3 groups"),
    ("mix --checkpoint {model} --data digits --out {out}", "--references is required"),
    (SET + "--elements 64", "element '64': unknown; give an index below 64"),
    (SET + "--elements 3:1", "channel below 1"),
    (SET + "--elements 3 --values 1:2:0", "FIRST:LAST:HOW_MANY"),
    (SET + "--elements 3 --values nan", "finite"),
    (SET + "--elements 3 --values 1e38", "not finite"),
    (SET, "--elements is required"),
    (SET + "--elements 1,2 --values 1 --together", "1 for 2 elements"),
    (SET + "--elements 1,1:0 --values 1,2 --together", "is among those before it"),
    (VARY, "neither given"),
    (VARY + "--data digits --latents z", "both given"),
    (VARY + "--data digits --n 0", "greater than or equal to 1"),
    (VARY + "--data digits --fixed 7", "band '7'"),
    (VARY + "--latents {model}", "no latent store"),
    (VARY + "--latents {foreign}", "checkpoint"),
    (PATH + "--items 3", "needs two items, 1 given"),
    (PATH + "--items 3,4 --n 1", "greater than or equal to 2"),
    (PATH + "--items 3,4 --path cubic", "'linear' or 'spherical'"),
    ("again --recipe {model}/nothing.json --out {out}", "No such file"),
    ("again --recipe {model}/model.safetensors --out {out}", "not the JSON of an edit"),
]


@pytest.fixture(scope="module")
def foreign(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of another model's latents."""
    home = tmp_path_factory.mktemp("foreign")
    model = make_model(home / "m.safetensors", (1, 8, 8))
    argv = ["--checkpoint", str(model), "--data", "digits", "--limit", "2", "--steps", "2"]
    assert encode.main([*argv, "--out", str(home / "z"), "--no-track", "--workers", "0"]) == 0
    return home / "z"


@pytest.mark.parametrize(("line", "says"), CASES, ids=[case[0][-40:] for case in CASES])
def test_bad_input_is_one_clear_line(
    trained: Path,
    foreign: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    line: str,
    says: str,
) -> None:
    argv = line.format(model=trained, out=tmp_path / "x", foreign=foreign).split()
    assert edit.main(argv) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"gdm-repr edit {argv[0]}: error: ")
    assert says in told
    assert not (tmp_path / "x").exists()


def test_an_item_that_cannot_be_read_is_told(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "b.png").write_bytes(b"no picture")
    data = ["--data", str(tmp_path / "images"), "--items", "a.png,b.png"]
    assert edit.main(arguments("vary", trained, tmp_path / "x", *data)) == 2
    assert "--items 'b.png': can't be read" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_help_shows_an_example_and_every_option(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        edit.main([kind, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert f"python -m gdm_repr.edit {kind} --" in shown
    options: type[EditConfig] = KINDS[kind].options
    assert all(f"--{option.replace('_', '-')}" in shown for option in options.model_fields)


def test_the_kinds_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert edit.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {kind} " in shown for kind in [*KINDS, "again"])
    for argv in ([], ["erase"]):
        assert edit.main(argv) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "choose from mix, vary, set, interpolate, direction, again" in line
