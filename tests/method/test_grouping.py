"""One list of groupings through the same laws, then what each strategy is defined to be."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gdm_repr.basis import build_basis
from gdm_repr.grouping import (
    STRATEGIES,
    Grouping,
    Shape,
    blocks,
    build_grouping,
    cdm,
    cdm_inverse,
    draw_grouping,
)

RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Case:
    """A grouping and its number of groups; an array stands for a file that holds it."""

    name: str
    shape: Shape
    k: int
    options: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case("single", (3, 4, 6), 1),
    Case("single", (3, 4, 6), 3, {"per_channel": True}),
    Case("single", (1, 1, 1), 1),
    Case("elementwise", (1, 1, 2), 2),
    Case("elementwise", (3, 5, 4), 20, {"order": RNG.permutation(20).tolist()}),
    Case("elementwise", (2, 2, 3), 12, {"per_channel": True}),
    Case("bottom-to-top", (3, 32, 32), 2),
    Case("bottom-to-top", (1, 7, 3), 3, {"k": 3}),
    Case("bottom-to-top", (1, 7, 3), 7, {"k": 7}),
    Case("right-to-left", (3, 32, 32), 2),
    Case("right-to-left", (1, 3, 29), 29, {"k": 29, "order": RNG.permutation(29).tolist()}),
    Case("right-to-left", (2, 3, 5), 4, {"k": 2, "per_channel": True}),
    Case("cdm", (3, 32, 32), 2),
    Case("cdm", (1, 5, 9), 3, {"levels": 3}),
    Case("cdm", (1, 1, 8), 4, {"levels": 4}),
    Case("cdm", (1, 4, 4), 1, {"levels": 1}),
    Case("cdm-inverse", (3, 16, 8), 4, {"levels": 4}),
    Case("blocks", (3, 32, 32), 9, {"order": RNG.permutation(9).tolist()}),
    Case("blocks", (1, 5, 8), 10, {"rows": 5, "cols": 2}),
    Case("blocks", (3, 4, 4), 6, {"rows": 1, "cols": 2, "per_channel": True, "order": range(6)}),
    Case("bands", (3, 64, 64), 4, {"cuts": [30, 100, 500]}),
    Case("bands", (1, 5, 3), 15, {"cuts": range(1, 15)}),
    Case("bands", (2, 5, 3), 1),
    Case("file", (3, 4, 6), 5, {"path": np.arange(24).reshape(4, 6) % 5}),
    Case("file", (3, 4, 6), 5, {"path": np.arange(24, dtype=np.uint8) % 5}),
    Case("file", (3, 4, 6), 7, {"path": np.arange(72).reshape(3, 4, 6) % 7}),
    Case("file", (3, 4, 6), 2, {"path": np.arange(72).reshape(3, 24) % 2, "order": [1, 0]}),
]


def build(case: Case, folder: Path) -> Grouping:
    options = dict(case.options)
    if isinstance(options.get("path"), np.ndarray):
        np.save(folder / "groups.npy", options["path"])
        options["path"] = str(folder / "groups.npy")
    return build_grouping(case.name, case.shape, **options)


@pytest.fixture(params=CASES, ids=lambda c: f"{c.name}-{'x'.join(map(str, c.shape))}-k{c.k}")
def case(request: pytest.FixtureRequest) -> Case:
    assert isinstance(request.param, Case)
    return request.param


@pytest.fixture
def grouping(case: Case, tmp_path: Path) -> Grouping:
    return build(case, tmp_path)


def test_every_strategy_is_in_the_list() -> None:
    assert {case.name for case in CASES} == set(STRATEGIES)


def test_groups_partition_the_elements(case: Case, grouping: Grouping) -> None:
    channels, height, width = case.shape
    assert (grouping.k, grouping.d) == (case.k, height * width)
    assert grouping.index.shape in {(1, grouping.d), (channels, grouping.d)}
    masks = np.stack([grouping.mask(group) for group in range(grouping.k)])
    assert (masks.sum(axis=0) == 1).all()
    assert grouping.sizes() == tuple(masks.sum(axis=(1, 2)))
    assert min(grouping.sizes()) > 0
    assert sum(grouping.sizes()) == grouping.index.size


def test_orders_are_permutations_and_each_other_s_reverse(grouping: Grouping) -> None:
    assert sorted(grouping.order) == list(range(grouping.k))
    assert grouping.diffusion_order == tuple(reversed(grouping.order))


def test_store_order_lists_group_after_group(grouping: Grouping) -> None:
    order = grouping.store_order()
    assert sorted(order) == list(range(grouping.index.size))
    flat = grouping.index.ravel()
    stops = np.cumsum(grouping.sizes())
    for group, part in enumerate(np.split(order, stops[:-1])):
        assert (flat[part] == group).all()
        assert (np.diff(part) > 0).all()


def test_names_are_one_per_group_and_distinct(grouping: Grouping) -> None:
    assert len(set(grouping.names)) == grouping.k


def test_fingerprint_tells_maps_and_orders_apart(
    case: Case, grouping: Grouping, tmp_path: Path
) -> None:
    assert build(case, tmp_path).fingerprint() == grouping.fingerprint()
    transposed = np.asfortranarray(grouping.index.astype(">i4"))  # the same numbers, laid out anew
    same = Grouping(transposed, grouping.order, grouping.names)
    assert same.fingerprint() == grouping.fingerprint()
    if grouping.k > 1:
        other_order = grouping.with_order(grouping.order[1:] + grouping.order[:1])
        other_map = Grouping((grouping.index + 1) % grouping.k, grouping.order, grouping.names)
        prints = {g.fingerprint() for g in (grouping, other_order, other_map)}
        assert len(prints) == 3


def test_another_order_keeps_the_groups(grouping: Grouping) -> None:
    turned = grouping.with_order(grouping.diffusion_order)
    assert turned.order == grouping.diffusion_order
    assert turned.names == grouping.names
    assert np.array_equal(turned.index, grouping.index)


def test_fingerprint_is_the_same_on_every_machine() -> None:
    grouping = build_grouping("bands", (3, 8, 8), cuts=[4, 20])
    expected = "3c31e0808ea53f355bcd43f16697bf7ccc5301897c855f3f220bc57350fc909d"
    assert grouping.fingerprint() == expected


def test_table_1_halves() -> None:
    rows, cols = np.indices((32, 32))
    bottom = build_grouping("bottom-to-top", (3, 32, 32))
    assert np.array_equal(bottom.mask(bottom.order[0])[0].reshape(32, 32), rows >= 16)
    right = build_grouping("right-to-left", (3, 32, 32))
    assert np.array_equal(right.mask(right.order[0])[0].reshape(32, 32), cols >= 16)


def test_cdm_starts_with_every_second_pixel() -> None:
    grouping = build_grouping("cdm", (3, 32, 32))
    first = grouping.mask(grouping.order[0])[0].reshape(32, 32)
    assert first[::2, ::2].all()
    assert first.sum() == 32 * 32 // 4
    assert grouping.sizes() == (256, 768)


@pytest.mark.parametrize(("height", "width", "levels"), [(32, 32, 4), (5, 9, 3), (1, 8, 4)])
def test_cdm_is_a_cascade_of_subsampled_images(height: int, width: int, levels: int) -> None:
    index = cdm((1, height, width), levels=levels)
    assert np.array_equal(
        index[::2, ::2],
        cdm((1, (height + 1) // 2, (width + 1) // 2), levels=levels - 1),
    )
    inverse = cdm_inverse((1, height, width), levels=levels)
    assert np.array_equal(inverse, levels - 1 - index)


def test_blocks_of_a_side_that_does_not_divide() -> None:
    index = blocks((3, 32, 32))
    lengths, starts = (11, 11, 10), (0, 11, 22)
    for block in range(9):
        for places, number in zip(np.nonzero(index == block), divmod(block, 3), strict=True):
            assert np.ptp(places) + 1 == lengths[number]
            assert places.min() == starts[number]


def test_bands_of_the_paper() -> None:
    grouping = build_grouping("bands", (3, 256, 256), cuts=[30, 100, 500])
    assert grouping.sizes() == (30, 70, 400, 65036)
    assert grouping.names == ("0_29", "30_99", "100_499", "500_65535")
    assert grouping.order == (0, 1, 2, 3)


def test_channels_are_split_side_by_side() -> None:
    whole = build_grouping("bottom-to-top", (3, 4, 2))
    split = build_grouping("bottom-to-top", (3, 4, 2), per_channel=True)
    assert split.per_channel
    assert not whole.per_channel
    for group in range(whole.k):
        for channel in range(3):
            members = np.zeros((3, 8), bool)
            members[channel] = whole.mask(group)[0]
            assert np.array_equal(split.mask(group * 3 + channel), members)


REFUSED = [
    ("spiral", {}, r"grouping\.name='spiral'.*single, elementwise"),
    ("single", {"k": 2}, r"grouping\.k.*'single'.*no option"),
    ("blocks", {"row": 2}, r"grouping\.row.*rows, cols"),
    ("bottom-to-top", {"k": 0}, r"grouping\.k=0: must be between 1 and 4"),
    ("right-to-left", {"k": 7}, r"grouping\.k=7: must be between 1 and 6"),
    ("blocks", {"rows": 5}, r"grouping\.rows=5"),
    ("blocks", {"cols": -1}, r"grouping\.cols=-1"),
    ("cdm", {"levels": 4}, r"grouping\.levels=4.*shorter side, 4"),
    ("cdm-inverse", {"levels": 0}, r"grouping\.levels=0"),
    ("bands", {"cuts": [5, 5]}, r"grouping\.cuts=\[5, 5\].*d=24"),
    ("bands", {"cuts": [0, 5]}, r"grouping\.cuts"),
    ("bands", {"cuts": [5, 24]}, r"grouping\.cuts"),
    ("bands", {"cuts": [9, 5]}, r"grouping\.cuts"),
    ("bands", {"cuts": [5], "order": [0, 0]}, r"order=\[0, 0\] is no permutation of 0\.\.1"),
    ("bands", {"cuts": [5], "order": [1, 2]}, r"order=\[1, 2\]"),
    ("bands", {"cuts": [5], "order": [0]}, r"order=\[0\]"),
]


@pytest.mark.parametrize(("name", "options", "message"), REFUSED)
def test_impossible_groupings_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_grouping(name, (3, 4, 6), **options)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.arange(24).reshape(4, 6) + 1, r"1, 2, .* are no partition"),
        (np.arange(24).reshape(4, 6) - 1, "no partition"),
        (np.arange(24).reshape(4, 6) * 2, "no partition"),
        (np.full(24, 10**15), "no partition"),
        (np.zeros((6, 4), int), r"shape \(6, 4\); must be .* \(4, 6\)"),
        (np.zeros((2, 24), int), r"shape \(2, 24\)"),
        (np.zeros((4, 6)), "holds float64"),
        (np.array([[{}]]), r"not a readable \.npy file"),
    ],
)
def test_impossible_files_are_refused(array: NDArray[Any], message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "groups.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=message):
        build_grouping("file", (3, 4, 6), path=str(tmp_path / "groups.npy"))


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 no zip", b"\x93NUMPY\x01\x00"])
def test_unreadable_files_are_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "groups.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"grouping\.path=.*not a readable \.npy file"):
        build_grouping("file", (3, 4, 6), path=str(path))


def test_several_arrays_in_one_file_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "groups.npz", np.zeros((4, 6), int))
    with pytest.raises(ValueError, match=r"not a readable \.npy file"):
        build_grouping("file", (3, 4, 6), path=str(tmp_path / "groups.npz"))


def test_a_map_that_separates_channels_is_not_split_again(tmp_path: Path) -> None:
    np.save(tmp_path / "groups.npy", np.zeros((3, 24), int))
    with pytest.raises(ValueError, match="separates channels already"):
        build_grouping("file", (3, 4, 6), per_channel=True, path=str(tmp_path / "groups.npy"))


def test_names_must_fit_the_groups() -> None:
    with pytest.raises(ValueError, match="1 names for 2 groups"):
        Grouping(np.array([[0, 1]]), (0, 1), ("a",))


@pytest.mark.parametrize(
    ("case", "basis"),
    [
        (Case("blocks", (3, 6, 9), 9), None),
        (Case("single", (3, 4, 6), 3, {"per_channel": True}), None),
        (Case("bands", (1, 8, 12), 3, {"cuts": [4, 20]}), "dct"),
    ],
    ids=["pixels", "channels", "frequencies"],
)
def test_picture_shows_every_group(case: Case, basis: str | None, tmp_path: Path) -> None:
    positions = None if basis is None else build_basis(basis, case.shape[1:]).positions
    path = tmp_path / "grouping.png"
    draw_grouping(build(case, tmp_path), case.shape, path, positions)
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    coloured = counts[np.ptp(colours, axis=1) > 0]  # text, frame and paper are gray
    # a group is a patch of one colour, far larger than any colour of the bar beside it
    assert (coloured > 1000).sum() >= case.k
