"""Detection in a report: every score against who ignores it and who knows it, as tables and ROC curves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from robustkit.records.schema import Results
from robustkit.records.schema_suites import DetectionResult
from robustkit.reports import _format as f
from robustkit.reports._drawing import Drawing
from robustkit.reports._labels import budget_text, in_order
from robustkit.reports._style import DPI, INK, PALETTE, SOFT, bare
from robustkit.reports._table import Table, cells

if TYPE_CHECKING:  # half a second, which a page without figures does not need
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WORST = "worst"
PANELS = {False: "attacker ignores the detector", True: "attacker knows the detector"}
CURVES = ("fpr", "tpr")  # not in the CSV file
OTHERS = ("log-ed", "msp", "energy")  # drawn where no score is attacked
Row = DetectionResult
_HEADS = {"broken": "broken %", "fpr95": "FPR95 %", "evaded": "evaded %"}


def tables(results: Results) -> Iterator[Table]:
    """Yield the worst over the attacks, then every attack."""
    every = in_order(results, results["detection"])
    whole = [row for row in every if row["attack"] == WORST] or every
    normal = max(row["n_normal"] for row in every)
    attacked = ", ".join(dict.fromkeys(row["score"] for row in every if row["adaptive"]))
    note = (
        f"AUROC with bootstrap 95 % interval between {normal} normal images at most and the misclassified ones of an "
        "attack, at the smallest eps of a ladder that breaks 95 % of the images or else at the largest. Oblivious: the "
        "attacker ignores the detector. Adaptive: he knows it and maximises the score within the same eps"
        + (f" ({attacked}). " if attacked else " (not run). ")
        + "FPR95: adversarial images taken for normal where 95 % of the normal ones are. Evaded: attacked images that "
        "are misclassified and taken for normal. Both: oblivious / adaptive. Attacks without eps are left out."
        + _alone(results)
    )
    title = "Detection of adversarial images" + (", worst attack" if whole is not every else "")
    brief = ("fpr95", "evaded")
    yield _table("detection", title, whole, brief, note, records=[dict(row) for row in every])
    if whole is not every:
        details = [row for row in every if row["attack"] != WORST]
        more = "As above; broken: images that the attack made wrong, of those that were right."
        name, title = "detection-attacks", "Detection of adversarial images, every attack"
        yield _table(name, title, details, ("broken", *brief), more)


def drawings(results: Results) -> Iterator[Drawing]:
    """Yield for each ensemble the ROC curves of the main scores, a panel for each attacker."""
    for ensemble, shown in with_curves(results):
        alt = f"{ensemble}: ROC curves of detection scores; left the attacker ignores the detector, right knows it."
        yield Drawing(f.slug("detection", ensemble), alt, draw(ensemble, shown), "detection")


def with_curves(results: Results) -> Iterator[tuple[str, list[Row]]]:
    """Yield each ensemble with the rows whose curves are shown: of the worst attack, with labels that one has."""
    every = in_order(results, results["detection"])
    for ensemble in dict.fromkeys(row["ensemble"] for row in every):
        own = [row for row in every if row["ensemble"] == ensemble and row["labels"] == "predicted"]
        shown = [row for row in (_with_curve(row, own) for row in _worst(own)) if row["fpr"]]
        if shown:
            yield ensemble, shown


def names_of(shown: Sequence[Row]) -> list[str]:
    """Return the scores that are drawn: those that are attacked too, or the main ones."""
    return list(dict.fromkeys(row["score"] for row in shown if row["adaptive"])) or list(OTHERS)


def draw(ensemble: str, shown: Sequence[Row]) -> Figure:
    """Draw a panel for each attacker: in both the same scores, in the same colours."""
    from matplotlib.figure import Figure

    names = names_of(shown)
    panels = [kind for kind in PANELS if any(row["adaptive"] == kind for row in shown)]
    figure = Figure(figsize=(4.9 * len(panels), 4.8), layout="constrained", facecolor="white", dpi=DPI)
    figure.suptitle(f"{ensemble}: normal against adversarial images", fontsize=11, color=INK)
    axes: Sequence[Axes] = figure.subplots(1, len(panels), squeeze=False)[0]
    for panel, kind in zip(axes, panels, strict=True):
        panel.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=(0, (1, 3)))
        for row in shown:
            if row["adaptive"] == kind and row["score"] in names:
                colour = PALETTE[names.index(row["score"]) % len(PALETTE)]
                attack = f"{row['attack']} at {budget_text(row['eps'], row['norm'])}"
                label = f"{row['score']}, {attack}, AUROC {row['auroc'] or 0.0:.3f}"
                panel.plot(row["fpr"], row["tpr"], color=colour, linewidth=1.6, label=label)
        panel.set_title(PANELS[kind], fontsize=10, color=INK)
        panel.set_xlabel("adversarial images taken for normal", fontsize=9, color=SOFT)
        panel.set_ylabel("normal images taken for normal", fontsize=9, color=SOFT)
        panel.set_aspect("equal")
        panel.tick_params(labelsize=9, colors=SOFT)
        if len(panel.lines) > 1:
            panel.legend(frameon=False, fontsize=8, loc="lower right" if not kind else "best")
        bare(panel)
    return figure


def _table(
    name: str, title: str, rows: Sequence[Row], shares: Sequence[str], note: str,
    records: Iterable[dict[str, Any]] = (),
) -> Table:  # fmt: skip
    """Return a row for each ensemble, attack and score, the two attackers side by side."""
    found: dict[tuple[str, str, str], dict[bool, Row]] = {}
    for row in rows:
        label = row["score"] + (" (true labels)" if row["labels"] == "true" else "")
        found.setdefault((row["ensemble"], row["attack"], label), {})[row["adaptive"]] = row
    lines = []
    for (ensemble, _, label), pair in found.items():
        plain, informed = pair[False], pair.get(True)
        attack = " / ".join(dict.fromkeys(_attack(row) for row in (plain, informed) if row))
        both = [f"{_share(plain, key)} / {_share(informed, key)}" for key in shares]
        lines.append(cells(ensemble, attack, label, _auroc(plain), _auroc(informed), *both))
    columns = ["ensemble", "attack", "score", "AUROC oblivious", "AUROC adaptive", *(_HEADS[key] for key in shares)]
    kept = [{k: v for k, v in record.items() if k not in CURVES} for record in records]
    return Table(name, title, columns, "lll" + "r" * (len(columns) - 3), lines, note, 3, True, kept)


def _attack(row: Row) -> str:
    return f"{row['of'] or row['attack']}, eps {budget_text(row['eps'], row['norm'])}"


def _auroc(row: Row | None) -> str:
    if row is None or row["auroc"] is None or row["ci95"] is None:
        return f.NONE
    return f.followed(f.Number.of(row["auroc"], "{:.3f}".format), f" [{row['ci95'][0]:.3f}, {row['ci95'][1]:.3f}]")


def _share(row: Row | None, key: str) -> str:
    return f.percent(None if row is None else row[key])  # type: ignore[literal-required]


def _worst(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["attack"] == WORST] or list(rows)


def _with_curve(row: Row, every: Sequence[Row]) -> Row:
    """Return the row of the attack that is the worst, which has the curve."""
    same = (row["score"], row["adaptive"], row["of"] or row["attack"])
    return next(r for r in every if (r["score"], r["adaptive"], r["attack"]) == same)


def _alone(results: Results) -> str:
    """Say what is missing of a model of one member."""
    alone = [e["id"] for e in results["ensembles"] if e["members"] == 1]
    if not alone:
        return ""
    works = dict.fromkeys(row["score"] for row in results["detection"] if row["ensemble"] in alone)
    return (
        f" {', '.join(alone)} has one member: log-ed, mutual-information and agreement compare members and say nothing "
        f"there; these work: {', '.join(works)}."
    )
