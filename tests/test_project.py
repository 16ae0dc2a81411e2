"""The shape of the project itself: what imports what, how long modules are, what the wheel holds."""

import ast
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.copied import copy_source

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "o365", "lake", "transforms", "pipeline", "emulator")
MAY_IMPORT = {
    "schemas": set(),
    "o365": {"schemas"},
    "lake": {"schemas"},
    "transforms": {"schemas", "o365", "lake"},
    "pipeline": {"schemas", "o365", "lake", "transforms", "emulator"},
    "emulator": {"schemas"},
}
POOL = "ARROW_DEFAULT_MEMORY_POOL"
MODULES = [p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))]


def imports(module: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(module: Path) -> None:
    package = module.relative_to(ROOT).parts[0]
    assert imports(module) & set(PACKAGES) <= MAY_IMPORT[package] | {package}
    if package in ("schemas", "o365", "lake", "emulator"):
        assert "apache_beam" not in imports(module)
    if package in ("schemas", "lake"):
        assert not imports(module) & {"requests", "msal"}


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_are_short(module: Path) -> None:
    assert module.read_text().count("\n") <= 400


@pytest.mark.parametrize("words", [["--help"], ["query", "--help"], ["backfill", "--help"], ["emulate", "--help"]])
def test_help_does_not_wait_for_beam(words: list[str]) -> None:
    code = f"import sys\nfrom pipeline.cli import main\ntry:\n    main({words})\nexcept SystemExit:\n    pass\n"
    code += "assert 'apache_beam' not in sys.modules and 'duckdb' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("wanted", ["system", "mimalloc"])
def test_arrow_allocates_as_the_system_does_unless_told_otherwise(wanted: str) -> None:
    env = {k: v for k, v in os.environ.items() if k != POOL} | ({} if wanted == "system" else {POOL: wanted})
    code = "import pipeline.cli, pyarrow\nprint(pyarrow.default_memory_pool().backend_name)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == wanted


def test_setup_file_makes_a_source_archive_that_workers_can_install(tmp_path: Path) -> None:
    source = copy_source(tmp_path / "source")
    make = [sys.executable, "setup.py", "-q", "sdist", "--dist-dir", str(tmp_path)]  # as Beam does for --setup_file
    subprocess.run(make, cwd=source, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    unpacked = tmp_path / "unpacked"
    with tarfile.open(archive) as opened:
        opened.extractall(unpacked, filter="data")
    (folder,) = unpacked.iterdir()
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    wanted = [p for package in PACKAGES for p in (source / package).rglob("*") if p.is_file() and p.suffix != ".pyc"]
    assert {str(p.relative_to(source)) for p in wanted} <= names
    assert {"setup.py", "pyproject.toml", "README.md"} <= names


def test_wheel_holds_the_packages_and_their_data_and_nothing_else(tmp_path: Path) -> None:
    source = copy_source(tmp_path / "source")
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('..'))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {n.partition("/")[0] for n in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == set(PACKAGES)
    for data in (
        *(ROOT / "schemas").rglob("*.avsc"),
        *(ROOT / "schemas").rglob("*.csv"),
        *(ROOT / "emulator/data").iterdir(),
    ):
        assert str(data.relative_to(ROOT)) in names
