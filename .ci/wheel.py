"""Build wheel and sdist, look at them, install the wheel in an empty environment, try the README's commands there.

``python .ci/wheel.py`` installs all that the wheel asks for. ``--layer VENV`` takes the dependencies from another
virtual environment instead of installing them again (the gate has one, and torch alone is gigabytes); robustkit itself
is that of the wheel either way, which is checked. Needs ``build``; the standard library does the rest.
``--build FOLDER`` builds and looks only, which needs no torch, and ``--built FOLDER`` tries what lies there.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST = 2_000_000  # bytes of a wheel, and of an sdist
SMALL = ["--n", "24", "--arch", "lenet", "--members", "2", "--epochs", "1", "--eps", "0.1", "--trust", "off"]
NEEDED = ("robustkit/py.typed", "robustkit/study/study.schema.json", "robustkit/attacks/pgd.py")
SHIPPED = (
    "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "pyproject.toml", "tests/conftest.py", "docs/trust.md",
)  # fmt: skip


def build(folder: Path) -> tuple[Path, Path]:
    """Build the sdist, and from it the wheel; return both."""
    made = subprocess.run([sys.executable, "-m", "build", "--outdir", folder, ROOT], text=True, capture_output=True)
    assert made.returncode == 0, made.stdout + made.stderr
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def look(wheel: Path, sdist: Path) -> None:
    """Check names, sizes and contents."""
    for one in (wheel, sdist):
        print(f"{one.name}: {one.stat().st_size / 1e6:.2f} MB")
        assert one.stat().st_size < MOST, f"{one.name} is larger than {MOST / 1e6:.0f} MB"
    inside = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in inside if not re.match(r"robustkit/|robustkit_ensembles-[^/]+\.dist-info/", name)]
    assert not [name for name in NEEDED if name not in inside]
    with tarfile.open(sdist) as archive:
        shipped = {name.partition("/")[2] for name in archive.getnames()}
    assert not [name for name in SHIPPED if name not in shipped]


def environment(folder: Path, layer: Path | None, wheel: Path) -> Path:
    """Make an empty virtual environment with the wheel in it; return its folder of commands."""
    venv.create(folder, with_pip=layer is None)
    commands = folder / ("Scripts" if os.name == "nt" else "bin")
    if layer is None:
        subprocess.run([commands / "python", "-m", "pip", "install", "-q", f"{wheel}[backends]"], check=True)
        return commands
    # pip of the environment that runs this; what it installs comes before the layer on the path.
    pip = [sys.executable, "-m", "pip", "--python", commands / "python", "install", "-q", "--no-deps", wheel]
    subprocess.run(pip, check=True)
    own, other = packages(folder), packages(layer)
    (own / "layer.pth").write_text(f"{other}\n", "utf-8")
    return commands


def packages(folder: Path) -> Path:
    """Return where a virtual environment has its packages."""
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.run([python, "-c", code], check=True, text=True, stdout=subprocess.PIPE).stdout.strip())


def readme() -> list[str]:
    """Return the words of the README's first command behind the installation."""
    text = (ROOT / "README.md").read_text("utf-8")
    found = re.search(r"<!-- main -->\n```bash\n.*&& \.venv/bin/robustkit (.*)\n```", text)
    assert found, "the README's first command is not where it was"
    return shlex.split(found[1])


def attempt(commands: Path, folder: Path) -> None:
    """Run the commands from the wheel in an empty folder, with small sizes."""
    folder.mkdir()
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"ROBUSTKIT_CACHE": str(folder / "cache")}

    def run(*words: object, last: str = "") -> str:
        started = time.monotonic()
        done = subprocess.run([*map(str, words)], cwd=folder, env=env, text=True, stdout=subprocess.PIPE)
        print(f"{time.monotonic() - started:5.1f} s  {Path(str(words[0])).name} {' '.join(map(str, words[1:]))}")
        assert done.returncode == 0, done.stdout
        assert not last or done.stdout.rstrip().endswith(last), done.stdout
        return done.stdout

    where = run(commands / "python", "-c", "import robustkit; print(robustkit.__file__)")
    assert Path(where.strip()).is_relative_to(commands.parent), f"robustkit is not that of the wheel: {where}"
    robustkit = commands / "robustkit"
    run(robustkit, "--version")
    run(robustkit, "list", "pgd")
    run(robustkit, *readme(), *SMALL, last=f"report: {Path('robustkit-out') / 'report.html'}")
    run(robustkit, "check", "robustkit-out", "--min", "clean>=0")
    assert (folder / "robustkit-out" / "report.html").stat().st_size > 10_000


def main() -> None:
    """Do all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layer", type=Path, help="a virtual environment that has the dependencies")
    parser.add_argument("--keep", type=Path, help="a folder for wheel and sdist")
    parser.add_argument("--build", type=Path, help="the same, and that is all")
    parser.add_argument("--built", type=Path, help="a folder that has wheel and sdist")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if args.built:
            [wheel] = args.built.glob("*.whl")
        else:
            wheel, sdist = build(args.build or args.keep or work / "dist")
            look(wheel, sdist)
        if not args.build:
            attempt(environment(work / "empty", args.layer and args.layer.resolve(), wheel), work / "run")


if __name__ == "__main__":
    main()
