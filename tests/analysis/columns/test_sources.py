"""Tables of columns: what they hold, that nothing but the seed matters, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gdm_repr.analysis.columns import sources
from gdm_repr.analysis.columns.baselines import Baseline, other_store
from gdm_repr.analysis.columns.layout import Layout, layout
from gdm_repr.analysis.columns.names import LATENTS, RAW
from gdm_repr.analysis.columns.sources import Sources
from gdm_repr.analysis.draws import first_latent
from gdm_repr.analysis.journal import Journal
from gdm_repr.analysis.options import AnalysisConfig
from gdm_repr.analysis.subject import Subject
from gdm_repr.latents.store import open_store
from gdm_repr.ode import Plan

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def subject(trained: Path, encoded: Path) -> Subject:
    given = {"checkpoint": str(trained), "latents": encoded, "out": encoded}
    return Subject.open(AnalysisConfig.model_validate(given))


@pytest.fixture(scope="module")
def columns(subject: Subject) -> Layout:
    return layout(subject.model.grouping, 1, most=20)


def encoded_noise(
    subject: Subject, columns: Layout, folder: Path, n: int, size: int
) -> sources.Columns:
    journal = Journal(folder / "journal.jsonl", {})
    return Sources(subject, range(n), columns.take).encoded_noise(
        n, 5, batch_size=size, folder=folder / "z", journal=journal
    )


def test_tables_are_chunked_but_whole(
    subject: Subject, columns: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [1, 7, 30, 31]
    given = Sources(subject, rows, columns.take)
    whole = given.table(LATENTS), given.table(RAW), given.fresh_noise(3)
    np.testing.assert_array_equal(whole[0], subject.store.z(rows)[:, 0, columns.columns])
    x = subject.model.to_basis(subject.images(rows))
    np.testing.assert_allclose(whole[1], x[:, 0, columns.columns], atol=1e-6)
    np.testing.assert_array_equal(whole[2], fresh(subject, 4, 3)[:, columns.columns])
    monkeypatch.setattr(sources, "CHUNK", 3)
    parts = given.table(LATENTS), given.table(RAW), given.fresh_noise(3)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def fresh(subject: Subject, n: int, seed: int) -> torch.Tensor:
    return subject.model.noise(n, seed=first_latent(seed))[:, 0]


def test_noise_comes_back_and_is_not_encoded_twice(
    subject: Subject, columns: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "CHUNK", 4)
    z = encoded_noise(subject, columns, tmp_path / "a", 6, size=4)
    original = fresh(subject, 6, 5)[:, columns.columns].numpy()
    assert 0 < np.abs(z - original).mean() < 0.5 < original.std()
    other = encoded_noise(subject, columns, tmp_path / "b", 6, size=1)
    np.testing.assert_allclose(z, other, atol=1e-4)  # batches do not matter
    (tmp_path / "a" / "z" / "4.npy").unlink()  # as if killed before the second chunk
    calls, decode = [], subject.model.decode

    def counted(z: torch.Tensor, plan: Plan) -> torch.Tensor:
        calls.append(len(z))
        return decode(z, plan)

    monkeypatch.setattr(subject.model, "decode", counted)
    again = encoded_noise(subject, columns, tmp_path / "a", 6, size=4)
    np.testing.assert_array_equal(z, again)
    assert calls == [2]


def test_n_images_have_no_nth_principal_component(subject: Subject, columns: Layout) -> None:
    """It would be rounding, which other images, scaled by it, blow up."""
    fold = np.arange(96) % 3
    given = Sources(subject, range(96), columns.take)
    for number, scores in enumerate(given.fold_components(64, fold, seed=0)):
        std = scores[fold != number].std(0)
        assert scores.shape == (96, 63) and std[0] > std[-1] > 1e-4 * std[0]


def test_components_are_uncorrelated_where_they_were_fitted(
    subject: Subject, columns: Layout
) -> None:
    rows = list(range(40))
    scores = Sources(subject, rows, columns.take).half_components(len(columns.columns), seed=0)
    assert scores.shape == (20, 20)  # no more components than images
    mixed = np.random.default_rng(0).permutation(40)
    fitted = subject.images(sorted(mixed[20:].tolist())).flatten(1).double()
    scored = subject.images(sorted(mixed[:20].tolist())).flatten(1).double()
    # scores are an orthonormal map of the pixels, about the mean of the other half
    axes = torch.linalg.lstsq(scored - fitted.mean(0), torch.from_numpy(scores).double()).solution
    spread = ((fitted - fitted.mean(0)) @ axes).std(0)
    assert spread.isfinite().all()
    assert (scores**2).sum() <= ((scored - fitted.mean(0)) ** 2).sum() * (1 + 1e-5)
    assert (scores[:, 0] ** 2).sum() > (scores[:, 10] ** 2).sum()


DIGITS = "--data digits --first 96 --steps 4 --dequantize"


def test_another_store_gives_the_same_images(
    subject: Subject, columns: Layout, make_model: Make, make_store: Make, tmp_path: Path
) -> None:
    single = make_model(tmp_path / "k1.safetensors", (1, 8, 8), grouping={"name": "single"})
    other = open_store(make_store(tmp_path / "z", single, DIGITS))
    baseline = Baseline("k1", other_store(tmp_path / "z", subject), None, {})
    rows = [3, 11]
    store, theirs = baseline.latents(subject, rows)
    assert store.path == other.path and theirs == rows
    table = Sources(subject, rows, columns.take, [baseline]).table("k1")
    np.testing.assert_array_equal(table, other.z(rows)[:, 0, columns.columns])


def test_a_store_of_other_images_or_another_basis_is_refused(
    subject: Subject, trained: Path, make_model: Make, make_store: Make, tmp_path: Path
) -> None:
    few = make_store(tmp_path / "few", trained, "--data digits --limit 9 --steps 3")
    with pytest.raises(ValueError, match=r"--baseline .*few': its data is another than that of"):
        other_store(few, subject)
    pixels = make_model(tmp_path / "p.safetensors", (1, 8, 8), basis={"name": "identity"})
    with pytest.raises(ValueError, match="its basis is another"):
        other_store(make_store(tmp_path / "pixels", pixels, DIGITS), subject)
