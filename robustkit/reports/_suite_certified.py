"""Floor and ceiling of an ensemble's robust accuracy: what is proven beside what the attacks left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from robustkit.records.schema import Results
from robustkit.records.schema_proofs import CertifiedResult
from robustkit.reports import _format as f
from robustkit.reports._drawing import Drawing
from robustkit.reports._labels import budget_text, in_order
from robustkit.reports._style import DPI, GRID, INK, PALETTE, SOFT, bare
from robustkit.reports._table import Table, cells

if TYPE_CHECKING:  # half a second, which a page without figures does not need
    from matplotlib.figure import Figure

NAME = "certified"
TITLE = "Certified floors and attacked ceilings"


def tables(results: Results) -> Iterator[Table]:
    """Yield a row for each ensemble and budget."""
    every = in_order(results, results["certified"])
    columns = [
        "ensemble", "eps", "certified %", "attacked %", "unsettled %", "number", "members alone %", "all alone %", "n",
    ]  # fmt: skip
    rows = [
        cells(
            r["ensemble"], budget_text(r["eps"], r["norm"]), f.percent(r["floor"]), f.percent(r["ceiling"]),
            f.percent(r["unsettled"]), verdict(r), ", ".join(f.percent(share) for share in r["alone"]),
            f.percent(r["all_alone"]), str(r["n"]),
        )
        for r in every
    ]  # fmt: skip
    notes = dict.fromkeys(f"{r['ensemble']}: {note}." for r in every for note in r["notes"])
    note = (
        "Certified: no image within eps makes these samples wrong, in exact arithmetic of the weights; attacked: the "
        "worst case of all attacks on the same samples. The truth lies between; neither settles the unsettled "
        "share. A number is proven where both are at most a point apart. Members alone: proven of each by itself; all "
        "alone: of how many samples all members are (docs/certify.md). "
    )
    note = (note + " ".join(notes)).strip()
    records = [{k: v for k, v in r.items() if k not in ("notes", "alone")} for r in every]
    yield Table(NAME, TITLE, columns, "llrrrlrrr", rows, note, 2, True, records)


def verdict(r: CertifiedResult) -> str:
    """Return whether the number is settled."""
    if r["contradicted"]:
        return f"contradicted ({r['contradicted']})"
    return "proven" if r["proven"] else "open"


def headline(results: Results, eps: float, norm: str) -> str:
    """Return what is proven of the ensemble with the highest floor at a budget; empty where nothing is."""
    own = [r for r in results.get("certified", []) if r["eps"] == eps and r["norm"] == norm]
    return " " + sentence(max(own, key=lambda r: r["floor"])) if own else ""


def sentence(r: CertifiedResult) -> str:
    """Return between what the truth is known to be."""
    at = budget_text(r["eps"], r["norm"])
    if r["ceiling"] is None:
        return f"{r['ensemble']}, {r['n']} samples at eps {at}: certified {f.percent(r['floor'])} % <= truth."
    if r["contradicted"]:
        return f"{r['ensemble']} at eps {at}: {r['notes'][-1]}."
    between = f"certified {f.percent(r['floor'])} % <= truth <= {f.percent(r['ceiling'])} %"
    settled = "proven" if r["proven"] else f"neither settles {f.percent(r['unsettled'])} %"
    return f"{r['ensemble']}, {r['n']} samples at eps {at}: {between}, {settled}."


def drawings(results: Results) -> Iterator[Drawing]:
    """Yield floor and ceiling against eps."""
    if any(r["ceiling"] is not None for r in results.get("certified", [])):
        alt = "Certified floor and attacked ceiling against eps, the band between them unsettled."
        yield Drawing(NAME, alt, _figure(in_order(results, results["certified"])), NAME)


def _figure(every: list[CertifiedResult]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained", facecolor="white", dpi=DPI)
    axes = figure.subplots()
    for at, name in enumerate(dict.fromkeys(r["ensemble"] for r in every)):
        own = sorted((r for r in every if r["ensemble"] == name), key=lambda r: r["eps"])
        eps = [0.0, *(r["eps"] for r in own)]
        low, high = ends(own)
        colour = PALETTE[at % len(PALETTE)]
        axes.fill_between(eps, [100 * v for v in low], [100 * v for v in high], color=colour, alpha=0.2, linewidth=0)
        axes.plot(eps, [100 * v for v in high], color=colour, linewidth=2.0, marker="v", label=f"{name}, attacked")
        axes.plot(eps, [100 * v for v in low], color=colour, linewidth=2.0, marker="^", linestyle="--",
                  label=f"{name}, certified")  # fmt: skip
    bare(axes)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_ylim(-2, 102)
    axes.set_xlabel(f"perturbation budget eps ({every[0]['norm']}); 0 = clean", fontsize=10, color=INK)
    axes.set_ylabel("accuracy (%)", fontsize=10, color=INK)
    axes.tick_params(labelsize=9, colors=SOFT, length=0)
    axes.legend(frameon=False, fontsize=8)
    return figure


def ends(own: list[CertifiedResult]) -> tuple[list[float], list[float]]:
    """Return floors and ceilings of one ensemble, by ascending eps, after its clean accuracy."""
    clean = own[0]["clean_accuracy"]
    high = [r["ceiling"] if r["ceiling"] is not None else clean for r in own]
    return [clean, *(r["floor"] for r in own)], [clean, *high]
