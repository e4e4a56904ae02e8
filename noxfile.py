"""Everything that is checked, each in an environment of its own: ``nox -l`` lists it, ``nox -s lint`` runs one.

Tests take what stands behind ``--``: ``nox -s lowest-3.10 -- tests/metrics -x``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nox

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "tests-3.13", "docs", "wheel"]
nox.options.error_on_missing_interpreters = True

ROOT = Path(__file__).parent
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
BOUNDED = ("torch", "torchvision", "numpy", "scikit-learn")
# Where the lowest version that pyproject.toml allows was never built for a newer Python: the lowest that was.
LATER = {"3.12": {"numpy": "1.26"}, "3.13": {"numpy": "2.1", "scikit-learn": "1.5.2"}}


def project() -> dict[str, list[str]]:
    """Return the requirements of pyproject.toml: by extra, and under an empty name those of the package."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {"": stated["dependencies"], **stated["optional-dependencies"]}


def lowest(python: str) -> list[str]:
    """Return the lowest versions that are allowed and exist for a Python, as requirements."""
    found = []
    for name in BOUNDED:
        [least] = [
            re.split(r"[;,]", line[len(name) + 2 :])[0] for line in project()[""] if line.startswith(f"{name}>=")
        ]
        found.append(f"{name}=={LATER.get(python, {}).get(name, least)}.*")
    return found


def run_tests(session: nox.Session) -> None:
    """Say which versions these are, then run the tests."""
    shown = "import sys, importlib.metadata as m; print(*(f'{name} {m.version(name)}' for name in sys.argv[1:]))"
    session.run("python", "-c", shown, *BOUNDED)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests, with the newest versions that are allowed."""
    session.install("-e", ".[test]")
    run_tests(session)


@nox.session(python=PYTHONS, name="lowest")
def with_lowest(session: nox.Session) -> None:
    """The tests, with the lowest versions of torch, torchvision, NumPy and scikit-learn that are allowed."""
    session.install("-e", ".[test]", *lowest(str(session.python)))
    run_tests(session)


@nox.session
def lint(session: nox.Session) -> None:
    """Format, rules, types and floors."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports", "--no-cache")


@nox.session
def docs(session: nox.Session) -> None:
    """The site, strictly: site/index.html. Made from the source, so that torch is not installed."""
    session.install(*project()["docs"])
    session.run("mkdocs", "build", "--strict", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """Wheel and sdist, built, measured, installed in an empty environment and tried."""
    session.install("build")
    session.run("python", ".ci/wheel.py", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Mutants that no test notices: ``nox -s mutants -- metrics/roc`` (a file, or a package), see tests/mutants.py."""
    session.install("-e", ".[test]", "cosmic-ray>=8.4", "coverage>=7.5")
    session.run("python", "tests/mutants.py", *session.posargs)
