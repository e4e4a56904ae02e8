"""Figure 4 of the ADP paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustkit.metrics import roc as metrics
from robustkit.metrics.diversity import log_ensemble_diversity
from robustkit.records.samples import NOT_ATTACKED, Samples
from robustkit.reports._drawing import Drawing
from robustkit.reports._style import DPI, INK, PALETTE, SOFT, bare
from robustkit.reproduce import reproduction
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Claim, Comparison, Images, Outcome
from robustkit.reproduce._recipes import ADP, adp_recipe
from robustkit.suites._ladder import NEARLY_ALL, rungs

IMAGES = Images(1000, 200)
FIXED = ("fgsm", "bim", "pgd", "mim")
LADDER = rungs(0.05, "linf")  # the eps that are tried: the paper says only "much larger than in Table 2"
# Ten times the largest constants of Table 2.
OPTIMISED = {
    "cw": {"initial_c": 1.0, "search_steps": 1, "confidence": 0.1, "adaptive": False, "abort_early": False},
    "ead": {"initial_c": 50.0, "search_steps": 1, "confidence": 0.1, "adaptive": False, "abort_early": False},
}
TRUE, DEPLOYABLE = "true labels (paper)", "predicted labels (deployable)"
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Attacked:
    """What an attack at some strength left of the images."""

    text: str
    samples: Samples

    @property
    def broken(self) -> npt.NDArray[np.bool_]:
        """Which samples (N,) are misclassified after the attack."""
        result: npt.NDArray[np.bool_] = (self.samples.prediction != self.samples.y) & ~self.samples.failed
        return result

    @property
    def adversarial(self) -> npt.NDArray[np.bool_]:
        """Which of these the attack made: not those that were wrong from the start."""
        made: npt.NDArray[np.bool_] = self.broken & (self.samples.status != NOT_ATTACKED)
        return made


@reproduction(
    "adp-figure4",
    title="ADP, Figure 4: ensemble diversity as a detector of adversarial examples",
    source="Pang et al. 2019, arXiv:1901.08846, Figure 4 and section 4.5",
    datasets=("cifar10",),
    defenses=("adp",),
    attacks=("fgsm", "bim", "pgd", "mim", "cw", "ead"),
)
def adp_figure4(lab: Lab) -> Outcome:
    """ROC of log ED between normal and adversarial images of an ADP(2,0.5) ensemble, on true and predicted labels."""
    lab.train((ADP,), adp_recipe(lab.stands_for))
    lab.clean((ADP,), IMAGES)
    normal = next(run.samples for _, run in lab.runs("clean"))
    attacked = [*_fixed(lab), *_optimised(lab)]
    lab.note("attacks", "all of Table 2", ", ".join(one.text for one in attacked))
    comparisons, areas = [], []
    curves: dict[str, dict[str, tuple[Floats, Floats]]] = {TRUE: {}, DEPLOYABLE: {}}
    for one in attacked:
        comparisons.append(Comparison(f"{one.text}: misclassified", "ADP(2,0.5)", 100 * float(one.broken.mean())))
        if not one.adversarial.any():
            continue
        for how in (TRUE, DEPLOYABLE):
            clean, made = (_scores(s, how) for s in (normal, one.samples))
            area, curve = roc(clean, made[one.adversarial])
            comparisons.append(Comparison(f"{one.text}: AUC, {how}", "ADP(2,0.5)", area, unit="AUC"))
            curves[how][f"{one.text}, AUC {area:.3f}"] = curve
            areas += [area] if how == TRUE else []
    claim = Claim(
        "ensemble diversity is an effective detection metric on ADP-trained models",
        f"AUC on true labels {min(areas):.3f} to {max(areas):.3f} over {len(areas)} attacks"
        if areas
        else "nothing broke",
        bool(areas) and min(areas) > 0.5,
    )
    alt = "ROC curves of log ED, a curve per attack; left on true labels, right on predicted ones."
    note = "The paper's AUC are only in its picture. True labels are not known where a detector is used; predicted are."
    return Outcome(comparisons, [claim], [Drawing("roc", alt, draw(curves), "roc")], decimals=3, note=note)


def roc(normal: Floats, adversarial: Floats) -> tuple[float, tuple[Floats, Floats]]:
    """Return the area and the curve (false and true positive rates); positive is normal, a higher score more normal."""
    found = metrics.roc(normal, adversarial)
    return found.auroc, (found.fpr, found.tpr)


def _scores(samples: Samples, how: str) -> Floats:
    return log_ensemble_diversity(samples.member_logits, samples.y if how == TRUE else samples.prediction)


def _fixed(lab: Lab) -> Iterator[Attacked]:
    """Yield each attack with a budget at the smallest eps that breaks nearly all, or else at the largest.

    The transfer suite's row of the ensemble is read: it runs all steps, where a white-box attack would stop at the
    first success, next to the boundary.
    """
    left = list(FIXED)
    for eps in LADDER:
        part = f"strong-{eps:g}"
        lab.evaluate(part, (ADP,), IMAGES, attacks=",".join(left), eps=eps, suites="transfer")
        for _, run in lab.runs(part):
            cell = run.cell
            if cell.name in left and cell.source == "ensemble" and not cell.targeted:
                one = Attacked(f"{cell.name.upper()} eps={eps:g}", run.samples)
                if one.broken.mean() >= NEARLY_ALL or eps == LADDER[-1]:
                    yield one
                    left.remove(cell.name)
        if not left:
            return


def _optimised(lab: Lab) -> Iterator[Attacked]:
    """Yield C&W and EAD."""
    lab.evaluate("strong-optimised", (ADP,), IMAGES, attacks="cw,ead", settings=OPTIMISED, suites="attacks")
    for _, run in lab.runs("strong-optimised"):
        if run.cell.attack is not None:
            title = "C&W" if run.cell.name == "cw" else run.cell.name.upper()
            yield Attacked(f"{title} c={run.cell.attack.params['initial_c']:g}", run.samples)


def draw(curves: Mapping[str, Mapping[str, tuple[Floats, Floats]]]) -> Figure:
    """Draw a panel per kind of labels, a curve per attack."""
    figure = Figure(figsize=(5.2 * len(curves), 4.6), layout="constrained", facecolor="white", dpi=DPI)
    panels: Sequence[Axes] = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (how, named) in zip(panels, curves.items(), strict=True):
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=(0, (1, 3)))
        for at, (text, (false, true)) in enumerate(named.items()):
            axes.plot(false, true, color=PALETTE[at % len(PALETTE)], linewidth=1.6, label=text)
        axes.set_title(f"log ED on {how}", fontsize=10, color=INK)
        axes.set_xlabel("adversarial images taken for normal", fontsize=9, color=SOFT)
        axes.set_ylabel("normal images taken for normal", fontsize=9, color=SOFT)
        axes.set_aspect("equal")
        if named:
            axes.legend(frameon=False, fontsize=8, loc="lower right")
        bare(axes)
    return figure
