"""What is installed is what is in the folders: wheel and sdist, built offline and looked into."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = ("build", "setuptools")
DATA_OF_MODELS = ("recipe.toml", "README.md", "weights.safetensors", "golden.safetensors")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(find_spec, NEEDED)), reason=f"needs {' and '.join(NEEDED)}: pip install .[dev]"
    ),
]


def build(source: Path, kind: str, into: Path) -> Path:
    """The one archive that `python -m build` makes of a source folder, without a network."""
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(into)]
    done = subprocess.run(
        [*command, str(source)], capture_output=True, text=True, check=False, cwd=into.parent
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = into.iterdir()
    return archive


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the work tree, since building leaves folders behind, and takes up old ones."""
    folder = tmp_path_factory.mktemp("source") / "posepipe"
    unwanted = shutil.ignore_patterns(
        *(".git", "__pycache__", "*.egg-info", "build", "dist", "runs", "demo", "datasets"),
        *(".venv", ".*_cache", ".hypothesis"),
    )
    shutil.copytree(ROOT, folder, ignore=unwanted)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, "wheel", tmp_path_factory.mktemp("built") / "wheel")


@pytest.fixture(scope="module")
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, "sdist", tmp_path_factory.mktemp("built") / "sdist")


def installed_files(wheel: Path) -> set[str]:
    """The files of a wheel, without those about the wheel itself."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def files_on_disk() -> set[str]:
    """What an installation must have: every module, and the models' data, as named there."""
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "posepipe").rglob("*.py")}
    models = {
        f"posepipe/models/{path.relative_to(ROOT / 'models').as_posix()}"
        for name in ("__init__.py", *(f"*/{file}" for file in DATA_OF_MODELS))
        for path in (ROOT / "models").glob(name)
    }
    experiments = {
        f"posepipe/experiments/{path.name}"
        for path in (ROOT / "experiments").iterdir()
        if path.suffix in (".py", ".toml")
    }
    pages = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "posepipe/viewing/page").iterdir()
    }
    return modules | models | experiments | pages | {"posepipe/py.typed"}


def test_setup_cfg_lists_every_package() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = set(config["options"]["packages"].split())
    folders = {path.parent for path in (ROOT / "posepipe").rglob("__init__.py")}
    found = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert listed == found | {"posepipe.models", "posepipe.experiments"}


def test_the_wheel_has_every_module_and_every_model(wheel: Path) -> None:
    assert installed_files(wheel) == files_on_disk()


def test_the_wheel_has_the_command_and_the_licences(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        about = {
            name.split(".dist-info/")[1]: name for name in archive.namelist() if "info/" in name
        }
        assert (
            "posepipe = posepipe.cli.main:main" in archive.read(about["entry_points.txt"]).decode()
        )
        for file in ("LICENSE", "NOTICE"):
            assert archive.read(about[f"licenses/{file}"]) == (ROOT / file).read_bytes()
        metadata = archive.read(about["METADATA"]).decode()
    assert "\nLicense-Expression: MIT AND Apache-2.0\n" in metadata


def test_both_archives_are_small(wheel: Path, sdist: Path) -> None:
    assert max(wheel.stat().st_size, sdist.stat().st_size) < 25_000_000  # nearly all of it weights


def test_the_citation_is_of_this_version() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    assert f"version: {config['metadata']['version']}" in citation


def test_the_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    again = build(folder, "wheel", tmp_path / "wheel")
    assert installed_files(again) == installed_files(wheel)
    with zipfile.ZipFile(again) as ours, zipfile.ZipFile(wheel) as theirs:
        for name in installed_files(wheel):
            assert ours.read(name) == theirs.read(name), name


def test_the_sdist_has_what_the_tests_and_the_readme_need(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tests = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")}
    examples = {path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").iterdir()}
    files = {"README.md", "LICENSE", "NOTICE", "CITATION.cff", "SECURITY.md", "mkdocs.yml"}
    assert tests | examples | files | {"setup.cfg", "pyproject.toml", "Makefile"} <= names
    assert not [name for name in names if name.endswith(".pyc") or "__pycache__" in name]


def test_an_unpacked_wheel_runs_away_from_its_source(wheel: Path, tmp_path: Path) -> None:
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)  # noqa: S202  # our own archive
    # -S leaves out an editable installation; what it would add besides comes by PYTHONPATH.
    libraries = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), *libraries])}

    def said(*arguments: str) -> str:
        command = [sys.executable, "-S", *arguments]
        done = subprocess.run(
            command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    place = said("-c", "import posepipe.models; print(posepipe.models.__file__)")
    assert place.startswith(str(installed))
    listed = {line.split()[0] for line in said("-m", "posepipe", "models").splitlines()[1:]}
    assert listed >= {path.parent.name for path in (ROOT / "models").glob("*/recipe.toml")}
    paper = said("-m", "posepipe", "models", "show", "cpn-c2-resnet50-256x192")
    assert "refine_bottlenecks" in paper
