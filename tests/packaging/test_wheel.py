"""The wheel has everything that `linegate` needs, nothing else, and works where no source tree is near."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("bridge", "simulators", "models")
NEEDED = (
    "bridge/outputs/vision/nodesets/LICENSE",
    "bridge/outputs/vision/nodesets/Opc.Ua.MachineVision.NodeSet2.xml",
    "bridge/outputs/plc/linegate_blocks.st",
    "models/bundles/TRUSTED.toml",
    "models/bundles/ball-screw-1.0.0/bundle.toml",
    "models/bundles/ball-screw-1.0.0/card.md",
    "models/bundles/ball-screw-1.0.0/golden/golden.toml",
    "models/bundles/ball-screw-1.0.0/model.onnx",
    "models/recipes/ball-screw.toml",
    "simulators/faults/all.toml",
    "simulators/faults/basic.toml",
    "simulators/pictures/ball-screw/CREDITS.md",
    "simulators/pictures/ball-screw/LICENSE",
)
pytestmark = pytest.mark.timeout(90)
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")


def run(*command: str | Path, cwd: Path, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a command as a user's shell would: nothing of this checkout or of a configuration in its environment."""
    ours = ("PYTHON", "LINEGATE_", "VIRTUAL_ENV", "PYTEST_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source archive, and from it the wheel, as a package index would be given them."""
    folder = tmp_path_factory.mktemp("built")
    command = (sys.executable, "-P", "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    done = run(*command, cwd=folder, timeout=80)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture
def archive(wheel: Path) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(wheel) as opened:
        yield opened


def metadata_of(archive: zipfile.ZipFile) -> Message:
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_has_the_three_packages_file_by_file(archive: zipfile.ZipFile) -> None:
    packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    there = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert packed == there
    assert [name for name in packed if archive.read(name) != (ROOT / name).read_bytes()] == []
    assert [name for name in NEEDED if name not in packed] == []
    pictures = [name for name in packed if name.startswith("simulators/pictures/") and name.endswith(".jpg")]
    assert {name.split("/")[3] for name in pictures} == {"good", "pitting"}


def test_the_source_archive_has_the_packages_and_the_papers_beside_them(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as opened:
        tops = {name.split("/")[1] for name in opened.getnames() if "/" in name}

    papers = {"docs", "README.md", "LICENSE", "CHANGELOG.md", "constraints.txt", "pyproject.toml"}
    assert tops - {"PKG-INFO", ".gitignore"} == {*PACKAGES, *papers}


def test_its_metadata_promises_what_it_keeps(archive: zipfile.ZipFile) -> None:
    metadata = metadata_of(archive)
    packed = archive.namelist()
    (entry_points,) = (name for name in packed if name.endswith(".dist-info/entry_points.txt"))
    scripts = configparser.ConfigParser()
    scripts.read_string(archive.read(entry_points).decode())

    assert dict(scripts["console_scripts"]) == {"linegate": "bridge.cli:main"}
    assert any(name.endswith("/licenses/LICENSE") for name in packed)
    typed = "Typing :: Typed" in (metadata.get_all("Classifier") or ())
    assert typed == all(f"{package}/py.typed" in packed for package in PACKAGES)


def test_every_package_that_it_needs_has_its_version_in_the_constraints(archive: zipfile.ZipFile) -> None:
    def name_of(line: str) -> str:
        return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", line, maxsplit=1)[0]).lower()

    needed = [line for line in metadata_of(archive).get_all("Requires-Dist") or () if "extra ==" not in line]
    constrained = {name_of(line) for line in (ROOT / "constraints.txt").read_text().splitlines()}

    assert needed
    assert [line for line in needed if name_of(line) not in constrained] == []


@pytest.fixture(scope="module")
def linegate(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Install the wheel with its dependencies into an environment of its own; gives the command."""
    folder = tmp_path_factory.mktemp("installed")
    made = run(sys.executable, "-m", "venv", folder / "venv", cwd=folder, timeout=60)
    assert made.returncode == 0, made.stderr
    python, constraints = folder / "venv" / "bin" / "python", ("--constraint", ROOT / "constraints.txt")
    probe = run(python, *PIP, "download", "--no-deps", *constraints, "tenacity", cwd=folder, timeout=60)
    if probe.returncode != 0:
        pytest.skip(f"pip reaches no index here: {probe.stderr.strip()[-200:]}")
    installed = run(python, *PIP, "install", *constraints, wheel, cwd=folder, timeout=300)
    assert installed.returncode == 0, installed.stderr[-3000:]
    yield folder / "venv" / "bin" / "linegate"
    shutil.rmtree(folder / "venv")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Give a folder with packages of the same names, which must be nobody's business."""
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('the decoy was imported')\n")
    decoy = tmp_path / "models" / "bundles" / "ball-screw-1.0.0"
    decoy.mkdir(parents=True)
    (decoy / "bundle.toml").write_text("a decoy, not TOML\n")
    return tmp_path


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_installed_wheel_works_beside_packages_of_the_same_names(linegate: Path, elsewhere: Path) -> None:
    def said(*arguments: str) -> str:
        done = run(linegate, *arguments, cwd=elsewhere, timeout=60)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert "decoy" not in done.stdout + done.stderr
        return done.stdout

    assert "check-config" in said("--help")
    said("init")
    assert (elsewhere / "linegate.toml").is_file()
    assert (elsewhere / "recipes" / "ball-screw.toml").is_file()
    assert said("check-config")
    assert "FUNCTION_BLOCK" in said("tags", "--format", "st")


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_installed_demo_judges_every_part(linegate: Path, elsewhere: Path) -> None:
    done = run(linegate, "demo", "--parts", "12", "--no-dashboard", "--report", "r.json", cwd=elsewhere, timeout=180)
    assert (elsewhere / "r.json").is_file(), done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads((elsewhere / "r.json").read_text())

    assert (report["parts"], report["triggers"], report["records"]) == (12, 12, 12)
    assert sum(report["verdicts"].values()) == 12
    assert (done.returncode == 0) == report["reconciled"]
    assert "decoy" not in done.stdout + done.stderr
