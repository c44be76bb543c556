"""What the layout promises: no import circles, and public paths that go on working."""

from __future__ import annotations

import importlib
import runpy
import subprocess
import sys
from graphlib import TopologicalSorter

import grimp
import pytest

from gdm_repr.analysis.runner import ANALYSES, load

FACES = {
    "gdm_repr": ["GDM", "__version__"],
    "gdm_repr.analysis": ["measure"],
    "gdm_repr.analysis.compare": ["main"],
    "gdm_repr.analysis.features": ["build_extractor"],
    "gdm_repr.analysis.report": ["Picture", "Report", "Table", "write_report"],
    "gdm_repr.analysis.study": ["main"],
    "gdm_repr.analysis.total_correlation.estimate": ["total_correlation"],
    "gdm_repr.data": [
        "Batch", "ImageDataset", "Preprocess", "QuarantineLog", "Rejected", "load", "open_data",
        "work_ahead",
    ],
    "gdm_repr.data.scenes": ["SCENE_FACTORS", "held_out", "render_scenes", "scene_factors"],
    "gdm_repr.edit": ["main"],
    "gdm_repr.latents": [
        "Band", "LatentBatch", "LatentStore", "Manifest", "Rejected", "StoreWriter", "label_type",
        "open_store",
    ],
    "gdm_repr.tracking": ["Run", "main", "start"],
}  # fmt: skip
PACKAGES = [
    "gdm_repr.edit",
    "gdm_repr.tracking",
    "gdm_repr.analysis.study",
    "gdm_repr.analysis.compare",
]


@pytest.mark.parametrize("module", FACES)
def test_public_names_are_where_they_were(module: str) -> None:
    face = importlib.import_module(module)
    for name in FACES[module]:
        assert getattr(face, name) is not None
        assert name in dir(face)
        with pytest.raises(ModuleNotFoundError):  # a submodule of that name would take its place
            importlib.import_module(f"{module}.{name}")
    with pytest.raises(AttributeError, match="nothing"):
        _ = face.nothing


@pytest.mark.parametrize("name", ANALYSES)
def test_every_analysis_has_its_parts(name: str) -> None:
    module = importlib.import_module(f"gdm_repr.analysis.{name}")
    assert load(name) is module.ANALYSIS
    assert callable(module.main)
    for part, functions in {"measure": ("check", "measure"), "report": ("report",)}.items():
        found = importlib.import_module(f"{module.__name__}.{part}")
        assert all(callable(getattr(found, each)) for each in functions)


@pytest.mark.parametrize("module", [*PACKAGES, *(f"gdm_repr.analysis.{each}" for each in ANALYSES)])
def test_packages_run_as_commands(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    monkeypatch.delitem(sys.modules, f"{module}.__main__", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert ended.value.code in (0, None)
    assert "usage" in capsys.readouterr().out


def test_options_are_light() -> None:
    """``--help`` imports options: they must not import what computes."""
    modules = [f"gdm_repr.analysis.{name}.options" for name in ANALYSES]
    program = (
        f"import importlib, sys; [importlib.import_module(m) for m in {modules}]; "
        "print([m for m in ('torch', 'scipy', 'sklearn', 'matplotlib', 'mlflow', 'pyarrow') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph("gdm_repr", exclude_type_checking_imports=True, cache_dir=None)
    imports = {each: graph.find_modules_directly_imported_by(each) for each in graph.modules}
    assert len(imports) > 200
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle
