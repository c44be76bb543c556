"""What makes a choice, which run stands for a seed, and which runs do not count."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from gdm_repr.analysis.compare.choices import Metric, choose_metrics, floor_key, measure
from gdm_repr.analysis.compare.report import _answer
from gdm_repr.analysis.compare.runs import Choices, gather
from gdm_repr.analysis.compare.statistics import LOWER
from gdm_repr.tracking.query import StoredRun

LOSS = {"loss": 1.0}


def stored(
    number: int,
    params: Mapping[str, str],
    metrics: Mapping[str, float] = LOSS,
    tags: Mapping[str, str] | None = None,
    status: str = "FINISHED",
    parent: str | None = None,
) -> StoredRun:
    return StoredRun(
        f"id{number}", f"run {number}", status, params, tags or {}, metrics, number, parent
    )


def newest_first(*runs: StoredRun) -> list[StoredRun]:
    return sorted(runs, key=lambda run: -run.start)


def labels(choices: Choices) -> dict[str, list[str]]:
    return {each.label: list(each.runs) for each in choices.every}


def test_a_choice_is_what_differs_besides_seeds_and_places() -> None:
    runs = [
        stored(
            10 * rate + seed,
            {
                "optim.lr": f"1e-{rate}",
                "model.name": "unet" if rate == 10 else "mlp",
                "seed": str(seed),
                "data.seed": str(seed),
                "output_dir": f"x{rate}{seed}",
                "cache": f"/data/{rate}{seed}",
                "epochs": "3",
            },
        )
        for rate in (2, 10)
        for seed in (1, 0, 11)
    ]
    found = gather(newest_first(*runs))
    # numbers in their order, not as texts
    assert labels(found) == {
        "model.name=mlp, lr=1e-2": ["0", "1", "11"],
        "model.name=unet, lr=1e-10": ["0", "1", "11"],
    }
    assert found.keys == ("model.name", "optim.lr")
    assert found.ignored == ("cache", "output_dir")
    assert found.seeded
    named = [stored(n, {"model": model}) for n, model in enumerate(("a/small", "a/large"))]
    assert labels(gather(named)).keys() == {"model=a/large", "model=a/small"}
    assert labels(gather(runs, choice=["optim.*"])).keys() == {"lr=1e-2", "lr=1e-10"}


def test_a_study_s_label_is_the_choice_and_what_differs_below_it_is_told() -> None:
    runs = [
        stored(
            place,
            {
                "grouping": label,
                "steps": steps,
                "score.out": f"{place}",
                "score.latents": f"c/{place}",
                "train.seed": seed,
                "cache": f"runs/small/{place}",
            },
            tags={"study.choice": label, "study.seed": seed},
        )
        for place, (label, seed, steps) in enumerate(
            [("rows", "0", "9"), ("rows", "1", "9"), ("bands", "0", "18"), ("bands", "1", "18")]
        )
    ]
    assert labels(gather(newest_first(*runs))) == {"rows": ["0", "1"], "bands": ["0", "1"]}
    placed = [
        replace(run, tags={**run.tags, "study.place": place})
        for run, place in zip(runs, ("10", "10", "9", "9"), strict=True)
    ]
    assert list(labels(gather(newest_first(*placed)))) == ["bands", "rows"]  # as in the study
    slow = [replace(run, params={**run.params, "encode.batch_size": run.id}) for run in runs]
    assert labels(gather(newest_first(*slow))) == labels(gather(newest_first(*runs)))  # how
    other = stored(9, {"grouping": "bands", "steps": "36"}, tags=runs[2].tags)
    assert labels(gather(newest_first(*runs, other))) == {
        "rows, steps=9": ["0", "1"],
        "bands, steps=18": ["0", "1"],
        "bands, steps=36": ["0"],
    }


def test_runs_that_do_not_count_are_told_with_the_reason() -> None:
    tags = {"study.fingerprint": "f"}
    runs = newest_first(
        stored(0, {}, {"best": 1.0}),
        stored(1, {"lr": "1", "seed": "0"}, tags=tags, parent="id0"),
        stored(2, {"lr": "1", "seed": "0"}, tags=tags, parent="id0"),
        stored(3, {"lr": "1", "seed": "1"}, status="FAILED"),
        stored(4, {"lr": "1", "seed": "1"}, {}),
        stored(5, {"lr": "2", "seed": "0"}),
    )
    found = gather(runs)
    assert labels(found) == {"lr=1": ["0"], "lr=2": ["0"]}
    assert found.every[0].runs["0"].id == "id2"
    assert {each.run.id: each.reason for each in found.left_out} == {
        "id0": "the parent of other runs",
        "id1": "older than id2 of the same choice and seed",
        "id3": "FAILED, not FINISHED",
        "id4": "has no metrics",
    }


def test_nothing_is_pooled_in_silence() -> None:
    runs = [stored(n, {"lr": "1", "width": str(n), "seed": "0"}) for n in (1, 2)]
    with pytest.raises(ValueError, match=r"--choice: .*'lr=1' with seed 0, but differ in width"):
        gather(runs, choice=["lr"])
    data = [stored(n, {"data": f"/d/{n}", "out": f"/o/{n}", "seed": str(n)}) for n in (1, 2)]
    assert labels(gather(data)) == {"data=/d/1": ["1"], "data=/d/2": ["2"]}


def test_runs_without_a_seed_are_replicates_in_no_pair() -> None:
    runs = [stored(n, {"lr": str(n % 2)}, {"loss": float(n)}) for n in range(6)]
    found = gather(newest_first(*runs))
    assert not found.seeded
    assert [len(each.runs) for each in found.every] == [3, 3]
    compared = measure(found, ["loss"])
    mean = compared.metrics[0].means["lr=0"]
    assert mean is not None
    assert mean.n == 3
    assert compared.differences["loss"]["lr=1"].verdict(None) == "no common seed"
    seeded = gather(
        newest_first(*(stored(n, {"lr": "0", "rng": str(n)}) for n in (0, 1))), (), "rng"
    )
    assert labels(seeded) == {"all runs": ["0", "1"]}


def test_the_reference_is_the_best_of_the_first_metric() -> None:
    runs = [
        stored(
            10 * at + seed,
            {"lr": str(at), "seed": str(seed)},
            {"acc": at + 0.1 * seed * at, "band_std/a": 0.5 + at, "evaluations": 10.0 * at},
        )
        for at in (1, 2, 3)
        for seed in (0, 1)
    ]
    choices = gather(newest_first(*runs))
    metrics = choose_metrics(choices)
    assert metrics == ["acc", "band_std/a", "evaluations"]
    found = measure(choices, metrics)
    assert found.quality and found.cost
    assert (found.reference, found.quality.key, found.cost.key) == ("lr=3", "acc", "evaluations")
    assert [point.on_front for point in found.points] == [True, True, True]
    # distances from 1 are compared: .5, 1.5, 2.5
    mean = found.differences["band_std/a"]["lr=1"].mean
    assert mean is not None
    assert mean.value == pytest.approx(-2)
    assert measure(choices, ["evaluations"]).reference == "lr=1"
    assert measure(choices, metrics, reference="*2").reference == "lr=2"
    with pytest.raises(
        ValueError, match=r"--reference 'x': no choice is called so; choose from 'lr=1'"
    ):
        measure(choices, metrics, reference="x")


def test_metrics_in_common() -> None:
    runs = newest_first(
        stored(0, {"lr": "1"}, {"a": 1.0, "q/b": 1.0, "q_floor/b": 0.1, "system/cpu": 1.0}),
        stored(1, {"lr": "2"}, {"a": math.nan, "q/b": 1.0, "c": 2.0}),
    )
    choices = gather(runs)
    assert choose_metrics(choices) == ["a", "q/b"]
    assert choose_metrics(choices, ["c", "q/*"]) == ["c", "q/b"]
    assert Metric.of(choices, "a").means["lr=2"] is None  # NaN is no value
    floors = Metric.of(choices, "q/b").floors
    assert floors["lr=1"] is not None
    assert floors["lr=1"].mean.value == 0.1
    assert floors["lr=2"] is None
    assert floor_key("loss") == "loss_floor"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"choice": ["learning"]}, "--choice learning: no run has it"),
        ({"seed_key": "sed"}, "--seed-key sed: no run has it; .* there are seed"),
        ({"seed_key": "see*"}, r"--seed-key see\*: must be one key"),
    ],
)
def test_keys_that_no_run_has(argument: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gather([stored(0, {"lr": "1", "seed": "0"})], **argument)  # type: ignore[arg-type]


def test_without_anything_in_common_there_is_no_comparison() -> None:
    runs = [stored(0, {"lr": "1"}, {"a": 1.0}), stored(1, {"lr": "2"}, {"b": 1.0})]
    with pytest.raises(
        ValueError, match=r"--metrics: the 2 choices have no metric in common.*a, b"
    ):
        choose_metrics(gather(runs))
    with pytest.raises(ValueError, match=r"--metrics los: no run has it; .* there are a, b"):
        choose_metrics(gather(runs), ["los"])
    with pytest.raises(ValueError, match="--filter: none of 1 runs counts"):
        gather([stored(0, {}, status="RUNNING")])
    with pytest.raises(ValueError, match="--filter: no run is there"):
        gather([])
    with pytest.raises(ValueError, match="--cost epoch: it is not known whether lower"):
        measure(gather([stored(0, {}, {"epoch": 1.0})]), ["epoch"], cost="epoch")


def test_the_best_is_none_that_another_is_told_better_than() -> None:
    """Seeds 5 to 9 are harder for all, and only the better choice has run them."""
    runs = [
        stored(10 * s + c, {"kind": kind, "seed": str(s)}, {"val_loss": loss + 2.0 * (s >= 5) + d})
        for s, d in enumerate((0.03, -0.02, 0.0, 0.01, -0.04, 0.02, 0.05, -0.01, 0.0, 0.01))
        for c, (kind, loss) in enumerate((("a", 1.0), ("b", 1.5 + d)))
        if kind == "a" or s < 5
    ]
    choices = gather(newest_first(*runs))
    found = measure(choices, ["val_loss"])
    assert found.reference == "kind=a"
    assert found.common is not None
    assert found.common.n == 5
    assert found.common.mean.value == pytest.approx(1 - 0.004)
    assert found.differences["val_loss"]["kind=b"].verdict(LOWER) == "worse"
    (said,) = [line for line in _answer(found) if line.startswith("Best by its mean")]
    assert (
        "kind=a, 0.996 [0.962, 1.03] over the 5 seeds that all have. Over its own it has 2 ["
        in said
    )


def test_without_common_seeds_no_choice_is_best_that_pairs_say_is_worse() -> None:
    """b's mean is the lowest, by an easy seed; a is better at each seed the two share."""
    loss = {
        "a": {0: 1.0, 1: 1.1, 2: 0.9, 3: 3.0},
        "b": {0: 1.5, 1: 1.62, 2: 1.39, 9: -9.0},
        "c": {7: 2.0},
    }
    runs = [
        stored(n, {"kind": kind, "seed": str(seed)}, {"loss": value})
        for n, (kind, seed, value) in enumerate(
            (kind, seed, value) for kind, own in loss.items() for seed, value in own.items()
        )
    ]
    found = measure(gather(newest_first(*runs)), ["loss"])
    assert (found.reference, found.common) == ("kind=a", None)
