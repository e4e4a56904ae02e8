"""``robustkit run`` and ``robustkit validate``: a study in a file. Never imports torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from robustkit.base.configuration import Configuration
from robustkit.base.errors import UserError
from robustkit.commands.studies import CHECKS
from robustkit.study import file as studies
from robustkit.study.problems import problems_of

Words = Annotated[str, Parameter(allow_leading_hyphen=True, help="The study, and options that go before the file.")]


def add(app: App, commands: Mapping[str, tuple[type[Configuration], Callable[[Any], None]]]) -> None:
    """Add both commands to the app; a study may be of any command that has a configuration."""
    configs = {name: config for name, (config, _) in commands.items()}

    @app.command
    def run(*words: Words) -> None:
        """Run a study that is written in a TOML file: an evaluation, an audit or a training, or a grid of them.

        Examples: robustkit run study.toml --dry-run, or robustkit run study.toml --n 100
        """
        path = _file(words)
        name = _named(path, configs)
        at = words.index(str(path))
        app(
            [name, "--config", *words[at : at + 1], *words[:at], *words[at + 1 :]],
            exit_on_error=False,
            print_error=False,
        )

    @app.command
    def validate(study: Path, /) -> None:
        """Say everything that is wrong with a study, each thing with its line.

        Example: robustkit validate study.toml
        """
        read = studies.read(study, configs)
        problems = problems_of(read, configs[read.command], CHECKS.get(read.command)) if read.command else read.problems
        for problem in problems:
            print(problem.at(study))
        if problems:
            sys.exit(2)
        runs = len(studies.combinations(configs[read.command], read.values))
        print(f"{study}: robustkit {read.command}{f', a grid of {runs}' if runs > 1 else ''}.")


def _file(words: tuple[str, ...]) -> Path:
    """Return the study among the words of a command line: a file that ends so, else a file, else what is no flag.

    A word behind a flag may be the flag's, so that it is the study only where such a file is there.
    """
    named = [word for word in words if word.endswith(".toml")]
    there = [word for word in (*named, *words) if not word.startswith("-") and Path(word).is_file()]
    found = [*there, *named, *(word for word in words[:1] if not word.startswith("-"))]
    if not found:
        raise UserError("run needs a study; write robustkit run study.toml.")
    return Path(found[0])


def _named(path: Path, configs: Mapping[str, type[Configuration]]) -> str:
    read = studies.read(path, configs)
    if not read.command:
        raise UserError(read.problems[0].at(path))
    return read.command
