"""The command that installs an extra, for every way in which robustkit may have come to where it runs."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from robustkit.base import installing
from robustkit.base.installing import DISTRIBUTION, PACKAGES, install_command

ROOT = Path(__file__).parents[2]
PIP = ["/opt/my python/bin/python3", "-m", "pip", "install"]
REPOSITORY = "https://example.org/robustkit.git"


class Installed:
    """A distribution of which nothing but ``direct_url.json`` is read."""

    def __init__(self, text: str | None) -> None:
        self.text = text

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self.text


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch):
    """Return the command's arguments, given what metadata holds of each distribution."""
    monkeypatch.setattr(sys, "executable", PIP[0])
    monkeypatch.setattr(installing, "find_spec", lambda name: object())

    def make(extra: str = "timm", **held: object) -> list[str]:
        def distribution(name: str) -> Installed:
            key = name.replace("-", "_")
            if key not in held:
                raise metadata.PackageNotFoundError(name)
            origin = held[key]
            return Installed(origin if origin is None or isinstance(origin, str) else json.dumps(origin))

        monkeypatch.setattr(metadata, "distribution", distribution)
        return shlex.split(install_command(extra))

    return make


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of sources, from which the module seems to be imported."""
    folder = tmp_path / "my clone"
    (folder / "robustkit/base").mkdir(parents=True)
    monkeypatch.setattr(installing, "__file__", str(folder / "robustkit/base/installing.py"))
    return folder


@pytest.mark.parametrize(("editable", "flag"), [({"editable": True}, ["-e"]), ({}, [])])
def test_a_local_folder(command, sources: Path, editable, flag):
    origin = {"url": sources.as_uri(), "dir_info": editable}
    assert "%20" in origin["url"]
    assert command(robustkit_ensembles=origin) == [*PIP, *flag, f"{sources}[timm]"]


@pytest.mark.parametrize(
    ("origin", "requirement"),
    [
        (None, "robustkit-ensembles[timm]"),
        (
            {"url": REPOSITORY, "vcs_info": {"vcs": "git", "commit_id": "abc123", "requested_revision": "main"}},
            f"robustkit-ensembles[timm] @ git+{REPOSITORY}@abc123",
        ),
        (
            {"url": REPOSITORY, "vcs_info": {"vcs": "git", "commit_id": "abc123"}, "subdirectory": "python"},
            f"robustkit-ensembles[timm] @ git+{REPOSITORY}@abc123#subdirectory=python",
        ),
        (
            {"url": "https://example.org/robustkit.zip", "archive_info": {"hash": "sha256=00"}},
            "robustkit-ensembles[timm] @ https://example.org/robustkit.zip",
        ),
    ],
)
def test_an_index_a_repository_and_an_archive(command, origin, requirement):
    assert command(robustkit_ensembles=origin) == [*PIP, requirement]


def test_a_local_archive(command, sources: Path):
    wheel = sources / "robustkit_ensembles-0.1.0-py3-none-any.whl"
    origin = {"url": wheel.as_uri(), "archive_info": {}}
    assert command(robustkit_ensembles=origin) == [*PIP, "timm>=1.0"]
    wheel.touch()
    assert command(robustkit_ensembles=origin) == [*PIP, f"robustkit-ensembles[timm] @ {wheel.as_uri()}"]


def test_a_repository_on_this_machine_falls_back_to_the_packages(command, sources: Path):
    origin = {"url": sources.as_uri(), "vcs_info": {"vcs": "git", "commit_id": "abc123"}}
    assert command(robustkit_ensembles=origin) == [*PIP, "timm>=1.0"]  # pip 23 refuses "NAME[EXTRA] @ git+file:///..."


@pytest.mark.parametrize(
    "origin", [{"url": "file:///no/such/folder", "dir_info": {"editable": True}}, "{", "[]", {"dir_info": {}}]
)
def test_what_is_gone_or_broken_falls_back_to_the_packages(command, origin):
    assert command(robustkit_ensembles=origin) == [*PIP, "timm>=1.0"]
    assert command("onnx", robustkit_ensembles=origin) == [*PIP, *PACKAGES["onnx"]]


@pytest.mark.parametrize("stranger", [{}, {"robustkit": None}])
def test_sources_that_were_not_installed(command, sources: Path, stranger):
    assert command(**stranger) == [*PIP, "timm>=1.0"]  # no pyproject.toml
    (sources / "pyproject.toml").write_text('[project]\nname = "another"\n')
    assert command(**stranger) == [*PIP, "timm>=1.0"]
    (sources / "pyproject.toml").write_text(f'[project]\nname = "{DISTRIBUTION}"\n')
    assert command(**stranger) == [*PIP, "-e", f"{sources}[timm]"]


def test_without_pip_uv_installs_into_the_same_interpreter(command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(installing, "find_spec", lambda name: None)
    monkeypatch.setattr(installing.shutil, "which", lambda name: "/usr/bin/uv")
    requirement = "robustkit-ensembles[timm]"
    assert command(robustkit_ensembles=None) == ["uv", "pip", "install", "--python", PIP[0], requirement]
    monkeypatch.setattr(installing.shutil, "which", lambda name: None)
    assert command(robustkit_ensembles=None) == [*PIP, requirement]


def test_an_extra_that_there_is_not(command):
    with pytest.raises(ValueError, match="extra 'time' is none of backends, onnx, timm"):
        command("time", robustkit_ensembles=None)


def test_the_packages_are_those_of_pyproject():
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["name"] == DISTRIBUTION
    for extra, packages in PACKAGES.items():
        assert tuple(project["optional-dependencies"][extra]) == packages


def test_torch_is_not_imported():
    code = "import sys, robustkit.base.installing as i; i.install_command('timm'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_names_the_stranger_on_the_package_index():
    files = [ROOT / name for name in ("pyproject.toml", "README.md", "CHANGELOG.md", ".ci/run")]
    for folder in ("robustkit", "docs", "benchmarks"):
        files += [path for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".md", ".html", ".toml", ".j2"}]
    assert len(files) > 200
    bad = (
        "robustkit" + "[",
        "install robustkit" + "\n",
        "install robustkit ",
        "install 'robustkit'",
        "install robustkit`",
    )
    found = [str(path.relative_to(ROOT)) for path in files if any(words in path.read_text("utf-8") for words in bad)]
    assert found == []
