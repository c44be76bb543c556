"""No two names share a key or a file."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdm_repr.boundary.names import MAX_FILE, MAX_KEY, file_name, key_part, metric_key
from gdm_repr.tracking.facts import changed_tag, flatten, recorded_params
from gdm_repr.tracking.keys import BAND_STD, LEAKAGE, band_metric

ANY = st.text(alphabet=st.characters(exclude_categories=()), max_size=300)
NEAR = st.text(alphabet="ab_-./ :[]0,\x1bÄä", max_size=8)  # names that are easily taken for another
OWN = re.compile(r"\[\d+, \d+\]|\d+:\d+")  # written in two ways by the package itself


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a b", "a_b"), ("a b", "a  b"), ("a/b", "a_b"), ("a:b", "a_b"), ("ä", "ö"), ("", "/"),
        ("x" * 300, "x" * 301), ("a.", "a"), ("_a", "a"), ("a//b", "a/b"), ("a\x1b", "a"),
        ("\udcff", "\udcfe"), ("é", "e\u0301"), ("a/../b", "a/b"),
    ],
)  # fmt: skip
def test_names_that_were_one(one: str, other: str) -> None:
    assert metric_key(one) != metric_key(other) and file_name(one) != file_name(other)
    assert key_part(one) != key_part(other)
    assert band_metric(BAND_STD, one) != band_metric(BAND_STD, other)


@given(st.sets(ANY | NEAR, min_size=2))
def test_all_differ_and_are_accepted(names: set[str]) -> None:
    keys = {metric_key(name) for name in names if not OWN.search(name)}
    assert len(keys) == len([name for name in names if not OWN.search(name)])
    for key in keys:
        assert re.fullmatch(r"[A-Za-z0-9_./-]+", key) and len(key) <= MAX_KEY
        assert not any(part in ("", ".", "..") for part in key.split("/"))
        assert metric_key(key) == key  # a key is taken as it is
    files = {file_name(name).casefold() for name in names}
    assert len(files) == len(names)
    for file in files:
        assert "/" not in file and len(file) <= MAX_FILE and not file.startswith(".")


def test_a_name_that_reads_as_a_key_of_another() -> None:
    assert metric_key(metric_key("a b")) == metric_key("a b")  # made by us: as it is
    assert metric_key(str(metric_key("a b"))) != metric_key("a b")
    assert file_name(file_name("a/b")) != file_name("a/b")
    assert file_name("Bands").casefold() != file_name("bands") and file_name("con") != "con"


def test_usual_names_keep_their_keys() -> None:
    for name in (
        "loss", "band_std/0_29", "sample_quality/frechet/vgg19", "a.b-c", "leakage/0_1_to_2_3",
        "factor_map/5_o_Clock_Shadow/all", "images_per_second", "efficientnet-lite0",
    ):  # fmt: skip
        assert metric_key(name) == name
    assert band_metric(BAND_STD, "[0, 29]") == "band_std/0_29"
    assert band_metric(LEAKAGE, "[0, 29]_to_[30, 99]") == "leakage/0_29_to_30_99"
    assert metric_key("loss, [0, 29]") == "loss_0_29"
    assert band_metric("traversal/effect", "7:1") == "traversal/effect/7_1"
    assert metric_key("q/torchvision:resnet18:layer4") == "q/torchvision_resnet18_layer4"
    assert metric_key("element_factors_control/random directions/probe/moving").endswith(
        "/random_directions/probe/moving"
    )


def test_params_differ_as_their_places_do() -> None:
    flat = flatten({"a": {"b": 1}, "a.b": 2, "a b": 3, "a_b": 4, "x": "\x1b\udcff"})
    assert sorted(flat.values()) == ["1", "2", "3", "4", "\\x1b\\xff"]
    assert flat["a.b"] == "1" and flat["a_b"] == "4"
    odd = metric_key("a b")
    events = [
        {"event": "params", "values": {odd: "3"}},
        {"event": "tags", "values": {changed_tag(odd): "5"}},
    ]
    assert recorded_params(events) == {odd: "5"}
    assert metric_key(changed_tag(odd)) == changed_tag(odd)
