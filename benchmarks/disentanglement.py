"""Our disentanglement scores beside those of disentanglement_lib, on the same latents and factors.

    git clone https://github.com/google-research/disentanglement_lib
    python benchmarks/disentanglement.py disentanglement_lib --latents runs/digits/latents

Only the reference's metric files are run, on NumPy and scikit-learn; gin, absl and TensorFlow are
replaced by stand-ins. A row is a score of a representation:

    ours, reference  means over seeds, with the same images and the same part of them to test on
    difference       largest over seeds, since trees get the same seed too; FactorVAE and BetaVAE,
                     which draw images: difference of the means over ten times as many seeds
    spread           standard deviation over those seeds, for these two
    agree            difference at most 1e-6, or for these two 3 standard errors

With --qedr, a checkout of https://github.com/cianeastwood/qedr, linear DCI is compared too, on
continuous factors, with that repository's functions and its completeness weighted as ours.

FactorVAE and BetaVAE ask a simulator for images that share a factor; the reference's is replaced by
one that draws them from the same images.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gdm_repr.analysis.disentanglement.input import (
    Factors,
    Ints,
    histogram_codes,
    latent_columns,
    split_rows,
)
from gdm_repr.analysis.disentanglement.scores import SCORES, Settings, read_factors
from gdm_repr.analysis.disentanglement.unsupervised import udr
from gdm_repr.analysis.intervals.estimate import Floats
from gdm_repr.data.scenes.factors import render_scenes, scene_factors
from gdm_repr.latents.store import open_store

Values = dict[str, float]
SCENES = ("background_hue", "shape", "size", "x", "y")  # factors compared on
DRAWN = ("factor_vae", "beta_vae")  # scores that draw images, ours and the reference's others


def load_reference(checkout: str) -> dict[str, Any]:
    """Import the reference's metric files, with stand-ins for what they do not need here."""

    def configurable(*args: object, **kwargs: object) -> Callable[[Any], Any]:
        return lambda function: function

    gin = types.ModuleType("gin")
    tf = types.ModuleType("gin.tf")
    for module in (gin, tf):
        module.configurable, module.REQUIRED = configurable, None  # type: ignore[attr-defined]
    gin.tf = tf  # type: ignore[attr-defined]
    absl = types.ModuleType("absl")
    absl.logging = types.SimpleNamespace(info=lambda *args: None)  # type: ignore[attr-defined]
    sys.modules.update({"gin": gin, "gin.tf": tf, "absl": absl})
    sys.path.insert(0, checkout)
    import sklearn.metrics  # noqa: F401

    names = ("dci", "mig", "sap_score", "modularity_explicitness", "factor_vae", "beta_vae", "irs")
    root = "disentanglement_lib.evaluation"
    found = {
        name: importlib.import_module(f"{root}.metrics.{name}")
        for name in (*names, "unsupervised_metrics", "utils")
    }
    found["udr"] = importlib.import_module(f"{root}.udr.metrics.udr")
    utils = found["utils"]
    utils.make_discretizer = lambda target: utils._histogram_discretize(target, 20)
    return found


class Simulator:
    """What the reference asks for images: here they are the rows of a table."""

    def __init__(self, codes: Ints) -> None:
        """Keep the codes (n, f), and which rows have each."""
        self.codes, self.num_factors = codes, codes.shape[1]
        self.rows = [
            {code: np.flatnonzero(column == code) for code in np.unique(column)}
            for column in codes.T
        ]
        self.drawn: list[Ints] = []

    def sample_factors(self, count: int, random: np.random.RandomState) -> Ints:
        """Draw the factors of `count` rows."""
        self.drawn = [*self.drawn[-1:], random.randint(len(self.codes), size=count)]
        factors: Ints = self.codes[self.drawn[-1]]
        return factors

    def sample_observations(self, count: int, random: np.random.RandomState) -> Ints:
        """Return every row: what the reference takes the variances over all images from."""
        return np.arange(count)

    def sample_observations_from_factors(
        self, factors: Ints, random: np.random.RandomState
    ) -> Ints:
        """Return the rows drawn; where one factor was changed since, other rows that have it."""
        first, last = self.drawn[0], self.drawn[-1]
        if (factors == self.codes[first]).all():
            return first
        same = (factors == factors[:1]).all(0)  # FactorVAE
        if not same.any():
            same = (factors == self.codes[first]).all(0)  # the second images of BetaVAE
        fixed = int(same.argmax())
        changed = (factors[:, fixed] != self.codes[last, fixed]).any()
        assert changed and same.sum() == 1, "the fixed factor is not to be told"
        return np.array([random.choice(self.rows[fixed][code]) for code in factors[:, fixed]])


def reference_values(
    lib: dict[str, Any], z: Floats, factors: Factors, settings: Settings, seed: int
) -> Values:
    """Return the reference's values, but those of `reference_drawn`."""
    from sklearn.ensemble import GradientBoostingClassifier

    rng = np.random.default_rng(seed)
    train, test = split_rows(len(z), settings, rng)
    codes = factors.codes
    both = (z[train].T, codes[train].T, z[test].T, codes[test].T)
    lib["dci"].ensemble = types.SimpleNamespace(
        GradientBoostingClassifier=lambda: GradientBoostingClassifier(
            random_state=int(rng.integers(2**31))
        )
    )
    dci = lib["dci"]._compute_dci(*both)
    utils, explicit = lib["utils"], lib["modularity_explicitness"]
    information = utils.discrete_mutual_info(utils.make_discretizer(z[train].T), codes[train].T)
    x, mean, std = utils.normalize_data(z[train].T)
    x_test, _, _ = utils.normalize_data(z[test].T, mean, std)
    areas = [
        explicit.explicitness_per_factor(x, codes[train, j], x_test, codes[test, j])[1]
        for j in range(codes.shape[1])
    ]
    unsupervised, S = lib["unsupervised_metrics"], np.cov(z.T)
    distance = float(np.real(unsupervised.gaussian_wasserstein_correlation(S)))
    binned = utils.make_discretizer(z.T)
    pairs = utils.discrete_mutual_info(binned, binned)
    np.fill_diagonal(pairs, 0)
    found = {
        "dci_boosted_disentanglement": dci["disentanglement"],
        "dci_boosted_completeness": dci["completeness"],
        "dci_boosted_informativeness": dci["informativeness_test"],
        "mig": lib["mig"]._compute_mig(z.T, codes.T)["discrete_mig"],
        "sap": lib["sap_score"]._compute_sap(*both, False)["SAP_score"],
        "modularity": explicit.modularity(information),
        "explicitness": np.mean(areas),
        "irs": lib["irs"].scalable_disentanglement_score(codes, z, settings.quantile)["avg_score"],
        "gaussian_tc": unsupervised.gaussian_total_correlation(S),
        "wasserstein": distance,
        "wasserstein_normalised": distance / np.trace(S),
        "mutual_information": pairs.sum() / (len(S) ** 2 - len(S)),
    }
    for similarity in ("lasso", "spearman"):
        found[f"udr_{similarity}"] = lib["udr"].compute_udr_sklearn(
            Simulator(codes),
            [lambda rows, x=x: (x[rows], np.ones(x.shape[1])) for x in _seeds(z)],
            0,
            batch_size=len(z),
            num_data_points=len(z),
            correlation_matrix=similarity,
        )["model_scores"][0]
    return {name: float(value) for name, value in found.items()}


def reference_drawn(
    lib: dict[str, Any], z: Floats, factors: Factors, settings: Settings, seed: int
) -> Values:
    """Return the reference's FactorVAE and BetaVAE."""
    simulator, random = Simulator(factors.codes), np.random.RandomState(seed)
    lib["factor_vae"]._prune_dims.__defaults__ = (settings.prune,)
    few = {
        "batch_size": settings.batch,
        "num_train": settings.votes,
        "num_eval": settings.test_votes,
    }
    images = (simulator, z.__getitem__, random)
    votes = lib["factor_vae"].compute_factor_vae(*images, num_variance_estimate=len(z), **few)
    points = lib["beta_vae"].compute_beta_vae_sklearn(*images, **few)
    return {"factor_vae": votes["eval_accuracy"], "beta_vae": points["eval_accuracy"]}


def _seeds(z: Floats) -> list[Floats]:
    """Make three models of a representation: itself, reordered with flipped signs, and noisy."""
    rng = np.random.default_rng(1)
    other = z[:, rng.permutation(z.shape[1])] * rng.choice([-1.0, 1.0], z.shape[1])
    return [z, other, z + 0.3 * z.std() * rng.standard_normal(z.shape)]


def our_values(
    z: Floats, factors: Factors, settings: Settings, seed: int, *, drawn: bool
) -> Values:
    """Return our values; every method splits the images by the generator's first draw."""
    found: Values = {}
    for name, method in SCORES.items():
        if (name in DRAWN) is drawn:
            found |= method.compute(z, factors, settings, np.random.default_rng(seed))
    if not drawn:
        for similarity in ("lasso", "spearman"):
            found[f"udr_{similarity}"] = float(udr(_seeds(z), similarity=similarity)[0])
    return found


def representations(n: int, latents: str | None) -> Iterator[tuple[str, Floats, Factors]]:
    """Yield latents and factors: made ones, of which the truth is known, PCA's, and a store's."""
    rng = np.random.default_rng(0)
    levels = (3, 4, 5, 6)
    v = np.stack([rng.integers(0, k, n) for k in levels], axis=1)
    factors = read_factors(v)
    x = (v - v.mean(0)) / v.std(0)
    rotation = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    small = 0.05 * rng.standard_normal((n, 8))
    yield "perfect", x, factors
    yield "noisy", x + 0.3 * rng.standard_normal(x.shape), factors
    yield "rotated", x @ rotation, factors
    yield "redundant", np.concatenate([x, x], axis=1) + small, factors
    yield "padded", np.concatenate([x, rng.standard_normal((n, 16))], axis=1), factors
    yield "noise", rng.standard_normal((n, 6)), factors
    table = scene_factors(range(n), seed=0)
    pixels = render_scenes(table, size=16).reshape(n, -1) / 127.5 - 1
    pixels = pixels - pixels.mean(0)
    components = np.linalg.svd(pixels, full_matrices=False)[2][:10]
    chosen = {name: table[name] for name in SCENES}
    yield "pca", pixels @ components.T, binned(chosen)
    if latents:
        store = open_store(latents)
        if store.manifest.settings["source"] == "digits":
            from sklearn.datasets import load_digits

            images = load_digits().images[store.index]
            across = np.arange(images.shape[2])
            known = {
                "digit": store.labels("digit"),
                "ink": images.mean((1, 2)),
                "slant": (images * across).sum((1, 2)) / images.sum((1, 2)),
            }
        else:
            known = {name: store.labels(name) for name in SCENES}
        first, names = np.arange(min(n, len(store))), [band.name for band in store.manifest.bands]
        yield f"gdm {names[0]}", latent_columns(store, bands=[0])[first], binned(known).take(first)


def binned(columns: dict[str, Any]) -> Factors:
    """Read factors, amounts as 5 classes of equal frequency: the reference knows classes only."""
    whole = {}
    for name, values in columns.items():
        if np.asarray(values).dtype.kind == "f" and len(np.unique(values)) > 10:
            ranks = np.argsort(np.argsort(values))
            values = histogram_codes(ranks[:, None].astype(float), 5)[:, 0]
        whole[name] = values
    return read_factors(whole)


def compare(
    lib: dict[str, Any] | None, name: str, z: Floats, factors: Factors, options: argparse.Namespace
) -> bool:
    """Print the scores of a representation, and return whether all agree."""
    settings = Settings(votes=options.votes, test_votes=options.votes // 2)
    given = (z, factors, settings)
    print(f"\n{name}: n = {len(z)}, d = {z.shape[1]}, {len(factors.names)} factors")
    print(f"  {'':30}{'ours':>10}{'reference':>11}{'difference':>12}{'spread':>9}  agree")
    fine = True
    for drawn, reference in ((False, reference_values), (True, reference_drawn)):
        seeds = range(options.seeds * (10 if drawn else 1))
        ours = [our_values(*given, seed, drawn=drawn) for seed in seeds]
        theirs = [reference(lib, *given, seed) if lib else {} for seed in seeds]
        for key in ours[0]:
            a = np.array([values[key] for values in ours])
            if key not in theirs[0]:
                print(f"  {key:30}{a.mean():10.6f}{'-':>11}")
                continue
            b = np.array([values[key] for values in theirs])
            spread = max(a.std(ddof=1), b.std(ddof=1)) if drawn else 0.0
            difference = abs(a.mean() - b.mean()) if drawn else abs(a - b).max()
            agree = difference <= max(1e-6, 3 * spread * np.sqrt(2 / len(seeds)))
            fine &= bool(agree)
            print(
                f"  {key:30}{a.mean():10.6f}{b.mean():11.6f}{difference:12.1e}{spread:9.1e}  "
                f"{'yes' if agree else 'NO'}",
                flush=True,
            )
    return fine


def compare_linear(checkout: Path) -> bool:
    """Print linear DCI beside that of qedr, and return whether they agree."""
    from sklearn.linear_model import Lasso

    spec = importlib.util.spec_from_file_location("qedr", checkout / "lib/eval/regression.py")
    assert spec and spec.loader
    qedr = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(qedr)
    rng = np.random.default_rng(3)
    v = rng.uniform(size=(3000, 4))
    made = {
        "perfect": v,
        "rotated": v @ np.linalg.qr(rng.standard_normal((4, 4)))[0],
        "redundant": np.concatenate([v, v + 0.05 * rng.standard_normal(v.shape)], axis=1),
        "noise": rng.standard_normal((3000, 6)),
    }
    settings, fine = Settings(), True
    train, test = split_rows(len(v), settings, np.random.default_rng(0))
    y, *y_scale = qedr.normalize(v[train], remove_constant=False)[:3]
    y_test = qedr.normalize(v[test], *y_scale, remove_constant=False)[0]
    for name, z in made.items():
        ours = SCORES["dci_linear"].compute(z, read_factors(v), settings, np.random.default_rng(0))
        x, *scale = qedr.normalize(z[train], remove_constant=False)[:3]
        x_test = qedr.normalize(z[test], *scale, remove_constant=False)[0]
        models = [Lasso(alpha=settings.penalty).fit(x, column) for column in y.T]
        R = abs(np.stack([model.coef_ for model in models], axis=1))
        used = R[R.sum(1) > 0]  # a latent of no importance is 0 / 0 there
        errors = [
            qedr.nmse(model.predict(x_test), column)
            for model, column in zip(models, y_test.T, strict=True)
        ]
        theirs = {
            "dci_linear_disentanglement": qedr.entropic_scores(used.T) @ used.sum(1) / R.sum(),
            "dci_linear_completeness": qedr.entropic_scores(R) @ R.sum(0) / R.sum(),
            "dci_linear_informativeness": 1 - np.mean(errors),
        }
        print(f"\n{name}, continuous factors: n = {len(z)}, d = {z.shape[1]}")
        for key, value in theirs.items():
            difference = abs(ours[key] - value)
            fine &= bool(difference <= 1e-6)
            print(f"  {key:30}{ours[key]:10.6f}{value:11.6f}{difference:12.1e}")
    return fine


def main() -> int:
    """Compare, and exit with 1 where a score disagrees."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "reference",
        nargs="?",
        type=Path,
        help="checkout of disentanglement_lib; none: ours only",
    )
    parser.add_argument("--qedr", type=Path, help="a checkout of qedr")
    parser.add_argument("--latents", help="a latent store of digits or scenes, to compare on")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--votes", type=int, default=500, help="of FactorVAE and BetaVAE")
    parser.add_argument("--only", nargs="*", help="names of representations")
    parser.add_argument("--quick", action="store_true", help="perfect and noise, 300 images, once")
    options = parser.parse_args()
    if options.quick:
        options.images, options.seeds, options.votes = 300, 1, 50
        options.only = ["perfect", "noise"]
    lib = load_reference(str(options.reference)) if options.reference else None
    fine = compare_linear(options.qedr) if options.qedr else True
    for name, z, factors in representations(options.images, options.latents):
        if not options.only or name in options.only:
            fine &= compare(lib, name, z, factors, options)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
