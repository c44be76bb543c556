"""One distribution, three folders: what is installed is what stands in the tree."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import gdm_repr
from gdm_repr import cli

ROOT = Path(__file__).resolve().parents[2]
MAPPED = ("models", "analysis")
HEAVY = ("torch", "torchvision", "mlflow", "pandas", "sklearn", "matplotlib")


def python(*arguments: str, cwd: Path, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run python in `cwd` with the package found under `path`."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


def modules_in_tree() -> set[str]:
    """List the package's .py files as they import, through the links."""
    return {
        (Path(folder) / name).relative_to(ROOT).as_posix()
        for folder, _, names in os.walk(ROOT / "gdm_repr", followlinks=True)
        for name in names
        if name.endswith(".py")
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel through an sdist, from a copy, so that no stale build/ can leak into it."""
    copy = tmp_path_factory.mktemp("build") / "source"
    copy.mkdir()
    for name in ("gdm_repr", *MAPPED):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    done = python("-m", "build", "--no-isolation", str(copy), cwd=copy.parent, path=copy.parent)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (built,) = (copy / "dist").glob("*.whl")
    return built


@pytest.mark.parametrize("name", MAPPED)
def test_links_resolve(name: str) -> None:
    link = ROOT / "gdm_repr" / name
    assert link.is_dir() and link.samefile(ROOT / name), (
        f"gdm_repr/{name} is no link to ../{name}: git wrote it as a text file. Run "
        f"`git config core.symlinks true && git checkout -- gdm_repr/{name}`"
    )
    assert link.is_symlink() and link.readlink() == Path("..") / name


def test_wheel_holds_the_tree(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if name.endswith(".py")} == modules_in_tree()
    assert "gdm_repr/py.typed" in names
    assets = {path.name for path in (ROOT / "gdm_repr" / "assets").iterdir()}
    assert {
        f"gdm_repr/assets/{name}" for name in assets
    } <= names and "scenes.safetensors" in assets
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.parametrize("source", ["tree", "wheel"])
def test_a_foreign_models_package_is_not_taken(source: str, wheel: Path, tmp_path: Path) -> None:
    place = ROOT
    if source == "wheel":
        place = tmp_path / "site"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(place)
    for name in MAPPED:
        (tmp_path / "foreign" / name).mkdir(parents=True)
        (tmp_path / "foreign" / name / "__init__.py").write_text("raise SystemExit('foreign')\n")
    code = (
        "import gdm_repr.models as m, gdm_repr.analysis as a; print(m.__file__); print(a.__file__)"
    )
    done = python("-c", code, cwd=tmp_path / "foreign", path=place)
    assert done.returncode == 0, done.stderr
    for name, line in zip(MAPPED, done.stdout.splitlines(), strict=True):
        assert Path(line).samefile(place / "gdm_repr" / name / "__init__.py")
    done = python("-m", "gdm_repr.selftest", "--help", cwd=tmp_path / "foreign", path=place)
    assert done.returncode == 0, done.stderr
    assert "foreign" not in done.stdout + done.stderr


@pytest.mark.parametrize("line", [f"import {name}" for name in MAPPED] + ["from models import x"])
def test_ruff_bans_bare_names(line: str) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    done = subprocess.run(
        [ruff, "check", "--select", "TID251", "--stdin-filename", "gdm_repr/new.py", "-"],
        cwd=ROOT,
        input=f"{line}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "TID251" in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in cli.COMMANDS)])
def test_help_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = f"""
import sys
from gdm_repr import cli
try:
    status = cli.main(sys.argv[1:])
except SystemExit as stop:
    status = stop.code
sys.exit(status or ", ".join(set({HEAVY!r}) & sys.modules.keys()) or None)
"""
    done = python("-c", code, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr  # stderr names what was loaded
    assert "usage:" in done.stdout.lower()


def test_commands_are_listed_and_misspellings_answered(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in cli.COMMANDS)
    assert cli.main(["encod"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'encod'" in line and "did you mean encode" in line and "sample" in line
    assert cli.main([]) == 2
    assert capsys.readouterr().err.startswith("usage:")


def test_version_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"gdm-repr {gdm_repr.__version__}"
    assert importlib.metadata.version("gdm-repr") == gdm_repr.__version__
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="gdm-repr")
    assert entry.load() is cli.main


@pytest.mark.parametrize("module", ["gdm_repr", "gdm_repr.analysis", "gdm_repr.models"])
def test_dir_names_all_that_a_package_offers(module: str, tmp_path: Path) -> None:
    """In a new process: what was used once stands among the globals anyway."""
    code = f"""
import sys
import {module} as package
offered = {{*getattr(package, "__all__", ())}}
sys.exit(", ".join(offered - {{*dir(package)}}) or None)
"""
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr  # stderr names what is missing


def test_package_is_lazy_and_says_what_it_lacks() -> None:
    assert gdm_repr.GDM.__name__ == "GDM"
    assert "GDM" in dir(gdm_repr)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = gdm_repr.nothing_of_the_kind
