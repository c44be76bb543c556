"""Verdicts: what is worse than a Gaussian is told first, and a trivial model gets a bad one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.stats import chi2

from gdm_repr.analysis.intervals.estimate import Estimate
from gdm_repr.analysis.sample_quality.denoising_loss import GroupLoss
from gdm_repr.api import GDM
from gdm_repr.checkpoint import load_checkpoint
from gdm_repr.data.loading import open_data
from gdm_repr.latents.store import open_store
from gdm_repr.latents.summary import BandSummary, ElementSummary, summarise_elements
from gdm_repr.training_curve import draw_curve
from gdm_repr.verdict import (
    judge,
    judge_latents,
    judge_likeness,
    measure_bands,
    unlike_training,
)


def band(name: str, value: float, half: float = 0.01) -> GroupLoss:
    mean = Estimate(value, value - half, value + half)
    return GroupLoss(name, 64, mean, Estimate(1, 0.9, 1.1), (0.1,), (mean,))


def test_the_worst_news_comes_first_with_what_to_do() -> None:
    bands = [band("a", 0.5), band("b", 1.07), band("c", 0.95), band("d", 1.0, 0.1)]
    lines = judge({"training": bands})
    assert lines[:4] == [
        "b is at 1.07 [1.06, 1.08]: worse than a Gaussian.",
        "d is at 1 [0.9, 1.1]: not clearly better than a Gaussian.",
        "c is at 0.95 [0.94, 0.96]: better than a Gaussian, and not by much.",
        "a is at 0.5 [0.49, 0.51]: learned.",
    ]
    assert lines[4].startswith("Train longer")
    assert not any("Train longer" in line for line in judge({"training": [band("a", 0.5)]}))


def test_what_is_learned_by_heart_is_told() -> None:
    lines = judge(
        {"held-out": [band("a", 0.6), band("b", 0.5)], "training": [band("a", 0.4), band("b", 0.5)]}
    )
    assert lines[0].startswith(("a is at 0.6", "b is at 0.5"))
    told = [line for line in lines if "by heart" in line]
    assert told == ["a is learned by heart in part: on training images it is at 0.4 [0.39, 0.41]."]
    assert "held-out images" in lines[-1]


def latents(name: str, std: float, ks: float = 0.0, se: float = 0.01) -> BandSummary:
    nothing = float("nan")
    return BandSummary(name, 90, 9, 0, 0.01, std, se, 3, 0.1, ks, 0.02, nothing, nothing)


def test_latents_far_from_normal_are_named_and_the_worst_first() -> None:
    near = latents("a", 1.04)
    assert judge_latents([near]) == ["All bands are near N(0, 1), from which samples are drawn."]
    lines = judge_latents([near, latents("b", 1.2), latents("c", 0.5), latents("d", 1, 0.2)])
    assert lines[0] == "c is not near N(0, 1): its std is 0.50."
    assert {line.split()[0] for line in lines[:3]} == {"b", "c", "d"}
    assert "near" in judge_latents([latents("e", 1.15, se=0.1)])[0]  # too few to tell


def elements(band: str, *stds: float, n: int = 90) -> ElementSummary:
    return ElementSummary(band, n, np.arange(len(stds)) + 7, np.array([stds]))


def test_the_worst_element_is_named_though_its_band_is_near() -> None:
    band = latents("a", 1.0)
    lines = judge_latents([band], [elements("a", *[1.0] * 88, 1.4, 0.9)])
    assert lines[1] == "1 of 90 elements have a std that N(0, 1) excludes."
    assert lines[2] == "The worst is element 95 of a: its std is 1.40."
    # of 10 values N(0, 1) allows less above 1 than below it, by factors
    low, high = (float(each) ** 0.5 for each in chi2.ppf([0.0125, 0.9875], 9) / 9)
    two = judge_latents([band], [elements("a", low * 1.01, high * 1.01, n=10)])
    assert two[1].startswith("1 of 2 ") and "element 8" in two[2]
    few = judge_latents([band], [elements("a", *[1.0] * 88, 1.4, 0.9, n=9)])
    assert few[1] == "No element has a std that N(0, 1) excludes."


def test_noise_has_no_element_that_normal_excludes(encoded: Path) -> None:
    """And the stds are those of the store."""
    store = open_store(encoded)
    found = summarise_elements(store, batch_size=17)
    for each in found:
        np.testing.assert_allclose(each.std, store.band(each.band).std(0, ddof=1), rtol=1e-5)
        assert (each.elements == store.elements(each.band)).all()
    z = np.random.default_rng(0).standard_normal((500, 1, 64))
    noise = ElementSummary("a", 500, np.arange(64), z.std(0, ddof=1))
    assert judge_latents([latents("a", 1.0)], [noise])[1].startswith("No element")


def test_images_unlike_those_of_training_are_told(trained: Path) -> None:
    checkpoint = load_checkpoint(trained / "model.safetensors")
    x = open_data("digits", checkpoint.preprocess).batch(slice(None)).x
    own = unlike_training(checkpoint, x)
    assert abs(own.value - 1) < 0.02  # but for noise drawn anew, training's own images
    assert not judge_likeness(own)
    for other in (x.flip(1, 2).neg(), 0.1 * x, torch.rand_like(x), torch.zeros_like(x)):
        told = judge_likeness(unlike_training(checkpoint, other))
        assert told[0].startswith("These images do not look like those of training")
    assert not judge_likeness(unlike_training(checkpoint, -x[:1]))  # one says too little


def test_a_network_that_answers_nothing_is_a_gaussian(trained: Path) -> None:
    """It leaves the denoiser its closed form, so that no band may pass for learned."""
    model = GDM.from_pretrained(trained)
    x = open_data("digits", model.checkpoint.preprocess, limit=64).batch(range(64)).x
    with torch.no_grad():
        for weight in model.denoiser.network.parameters():
            weight.zero_()
    bands = measure_bands(model.denoiser, x)
    for found in bands:
        assert abs(found.mean.value / found.control.value - 1) < 1e-4
    assert all("learned" not in line for line in judge({"training": bands}))


def test_training_ends_with_a_verdict_and_a_curve(trained: Path) -> None:
    assert '"verdict"' in (trained / "verdict.json").read_text()
    with Image.open(trained / "loss.png") as picture:
        assert picture.width > 600
    draw_curve([], ["a"], trained.parent / "empty.png", relative=True)
