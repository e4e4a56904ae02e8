"""A document of some of the tables that robustkit writes, compiled by whatever TeX is there."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

ENGINES = ("pdflatex", "xelatex", "tectonic")
HARDLY = 3.0  # points that nobody sees a line stick out


def compiled(engine: str, folder: Path, names: Sequence[str], options: str = "") -> list[str]:
    """Compile ``paper.tex`` below ``folder``, which inputs the named files; return the boxes that are too wide.

    Skips the test where the engine is not installed, and fails it where the document has an error.
    """
    if not shutil.which(engine):
        pytest.skip(f"{engine} is not installed")
    head = rf"\documentclass[{options}]{{article}}\usepackage{{array,booktabs}}"
    inputs = "".join(rf"\input{{{name}}}" for name in names)
    (folder / "paper.tex").write_text(rf"{head}\begin{{document}}Text. {inputs}\end{{document}}", "utf-8")
    how = ["-X", "compile", "--keep-logs"] if engine == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([engine, *how, "paper.tex"], cwd=folder, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (folder / "paper.pdf").stat().st_size > 10_000
    log = (folder / "paper.log").read_text(errors="replace")
    assert not re.search("^! |Too many unprocessed floats|multiply defined|Float too large", log, re.MULTILINE)
    over = re.findall(r"(Overfull \\hbox \(([\d.]+)pt[^\n]*)", log)
    return [said for said, points in over if float(points) > HARDLY]
