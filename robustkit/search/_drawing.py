"""Drawings of cells: by Graphviz where its ``dot`` is installed, else by matplotlib."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from robustkit.models._genotype import INPUTS, Genotype
from robustkit.reports._files import write_bytes
from robustkit.reports._style import INK, PALETTE, SOFT

if TYPE_CHECKING:  # half a second
    from matplotlib.figure import Figure

PATIENCE = 20  # seconds


def draw(genotype: Genotype, path: Path, title: str) -> Path:
    """Write a picture of a cell as SVG: its nodes from left to right, the operation on each edge."""
    return write_bytes(path, _by_graphviz(genotype, title) or _by_matplotlib(genotype, title))


def label(node: int, genotype: Genotype) -> str:
    """Return what a node is called: the inputs by where they come from, the last is the output."""
    names = {0: "before", 1: "last", genotype.nodes - 1: "output"}
    return names.get(node, str(node))


def dot(genotype: Genotype, title: str) -> str:
    """Return a cell in Graphviz's language."""
    lines = [
        f'digraph "{title}" {{', '  rankdir=LR; labelloc=t; fontname="sans-serif";', f'  label="{title}";',
        f'  node [shape=box, style="rounded,filled", fontname="sans-serif", color="{SOFT}", fillcolor="white"];',
        f'  edge [fontname="sans-serif", fontsize=11, color="{INK}"];',
    ]  # fmt: skip
    lines += [f'  {node} [label="{label(node, genotype)}"];' for node in range(genotype.nodes)]
    lines += [f'  {parent} -> {node} [label="{operation}"];' for parent, node, operation in genotype.chosen]
    last = genotype.nodes - 1
    lines += [f'  {node} -> {last} [style=dashed, color="{SOFT}"];' for node in range(INPUTS, last)]
    return "\n".join([*lines, "}"]) + "\n"


def _by_graphviz(genotype: Genotype, title: str) -> bytes | None:
    program = shutil.which("dot")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "-Tsvg"], input=dot(genotype, title).encode(), capture_output=True, timeout=PATIENCE, check=True
        )
    except (OSError, subprocess.SubprocessError):  # a broken installation: there is the other way
        return None
    return done.stdout


def _by_matplotlib(genotype: Genotype, title: str) -> bytes:
    from matplotlib import rc_context

    picture = io.BytesIO()
    with rc_context({"svg.hashsalt": title}):  # else the names of its parts are drawn anew each time
        figure(genotype, title).savefig(picture, format="svg", metadata={"Date": None})
    return picture.getvalue()


def figure(genotype: Genotype, title: str) -> Figure:
    """Draw a cell: nodes in a row, kept edges as arcs above with their operations, dashed ones to the output below."""
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch

    last = genotype.nodes - 1
    made = Figure(figsize=(1.6 * genotype.nodes, 3.2), layout="constrained", facecolor="white")
    axes = made.subplots()
    axes.set_title(title, fontsize=11)
    places = {node: (float(node), 0.0 if node >= INPUTS else 0.35 - 0.7 * node) for node in range(genotype.nodes)}
    places[0], places[1] = (0.4, 0.35), (0.4, -0.35)
    arcs = [(p, n, o, INK, "-") for p, n, o in genotype.chosen]
    arcs += [(n, last, "", SOFT, "--") for n in range(INPUTS, last)]
    for parent, node, operation, colour, style in arcs:
        (x0, y0), (x1, y1) = places[parent], places[node]
        bend = (-0.3 if operation else 0.35) * (1 if node - parent > 1 or parent < INPUTS else 0)
        axes.add_patch(
            FancyArrowPatch(
                (x0, y0), (x1, y1), arrowstyle="-|>", mutation_scale=12, color=colour, linestyle=style, shrinkA=18,
                shrinkB=18, connectionstyle=f"arc3,rad={bend}",
            )
        )  # fmt: skip
        if operation:
            height = (y0 + y1) / 2 - bend * (x1 - x0) / 2 + 0.13
            axes.text((x0 + x1) / 2, height, operation, ha="center", va="bottom", fontsize=8, color=PALETTE[0])
    for node, (x, y) in places.items():
        box = {"boxstyle": "round", "facecolor": "white", "edgecolor": SOFT}
        axes.text(x, y, label(node, genotype), ha="center", va="center", bbox=box, color=INK)
    axes.set_xlim(-0.2, last + 0.5)
    axes.set_ylim(-1.1, 1.3)
    axes.axis("off")
    return made
