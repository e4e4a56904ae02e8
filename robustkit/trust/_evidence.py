"""What a check is shown: the number in question, the other runs at its budget, and what the probes noted."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from robustkit.attacks import attack, is_minimum
from robustkit.records.cells import Run, Spec, counted
from robustkit.records.samples import Samples

Bools = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]
SLACK = 1e-5  # relative rounding of a stored size
POINT = 0.01  # one point of robust accuracy
STRONG = ("members", "reweighing", "targeted")  # families whose failure to lower a number says something


@dataclass(frozen=True)
class Scored:
    """A white-box run at a budget; a minimum-norm run has several. A budget of l0 counts values of ``elements``."""

    run: Run
    eps: float
    clean: Samples | None = None  # of the same ensemble; known where its answers are drawn
    elements: int = 1  # values of an image

    @functools.cached_property
    def standing(self) -> Bools:
        """Which samples (N,) are left standing: some answer is right within eps, and the attack did not crash."""
        result: Bools = self.correctness > 0
        return result

    @functools.cached_property
    def correctness(self) -> Doubles:
        """How likely each sample (N,) is classified right within eps; 1 or 0 unless the answer is drawn."""
        samples = self.run.samples
        result = samples.correctness
        if self.run.cell.eps is None:  # broken, but only by more than eps
            size = samples.distance(self.run.cell.norm, self.elements)
            far = (size > self.eps * (1 + SLACK)) & ~samples.failed
            result = np.where(far, 1.0, result)
        return result if self.clean is None else np.minimum(result, self.clean.correctness)

    @property
    def name(self) -> str:
        """Name of the attack."""
        return self.run.cell.name

    @property
    def bounded(self) -> bool:
        """Whether the attack itself keeps to a budget; one that looks for the nearest boundary is cut to it."""
        return self.run.cell.eps is not None and not is_minimum(self.name)

    @property
    def drawn(self) -> bool:
        """Whether the members answer by chance, so that accuracies are expected ones."""
        return self.clean is not None

    @property
    def steps(self) -> int:
        """Steps of the attack, 1 where it has none."""
        return int(self.param("steps", 1))

    @property
    def scale_free(self) -> bool:
        """Whether the size of the logits does not matter to the attack, as it does to cross-entropy."""
        return ":" not in self.name and self.name != "apgd-ce" and self.param("loss", "") != "ce"

    @property
    def eot(self) -> int:
        """Over how many draws of the model the attack took the mean."""
        return self.run.cell.eot

    @property
    def settings(self) -> str:
        """Name, steps and restarts, as a person would say them."""
        words = counted(self.run.cell.attack.params) if self.run.cell.attack else []
        return f"{self.name} ({', '.join(words)})" if words else self.name

    def param(self, name: str, default: Any = None) -> Any:
        """Return a parameter of the attack."""
        return self.run.cell.attack.params.get(name, default) if self.run.cell.attack else default


@dataclass(frozen=True)
class Probed:
    """What a probe noted of the first samples: arrays of one row per sample, and the probe's settings.

    ``rows`` says which of the first samples were looked at at all; the others read zero.
    """

    params: Mapping[str, Any]
    arrays: Mapping[str, npt.NDArray[Any]]

    @property
    def rows(self) -> Bools:
        """Which of the first samples were looked at, bool (n,)."""
        rows: Bools = self.arrays["rows"]
        return rows

    def of(self, name: str) -> npt.NDArray[Any]:
        """Return an array (n,), zero where nothing was looked at."""
        return self.arrays.get(name, np.zeros(len(self.rows)))

    def mean(self, name: str) -> float:
        """Return the mean of an array over the samples that were looked at; 0 where there is none."""
        return float(self.of(name)[self.rows].mean()) if self.rows.any() else 0.0


@dataclass(frozen=True)
class Finding:
    """What a check found: it passes where ``value`` is at most ``threshold``.

    ``advice`` is one sentence, with what to run; ``remedy`` are attacks that may settle the matter on every sample.
    """

    value: float
    threshold: float
    advice: str
    remedy: tuple[Spec, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the value keeps to the threshold."""
        return bool(self.value <= self.threshold + 1e-9)


@dataclass(frozen=True)
class Evidence:
    """One number, and everything that is known of the ensemble at its budget.

    Attributes
    ----------
    run : Scored or None
        The run whose number it is; None for the worst case over all runs of a budget.
    siblings : sequence of Scored
        Every white-box run of the same ensemble on the same data, this one included.
    facts : mapping of str to Probed
        By the probe's name, those that are about this number.
    largest : float
        The size that no perturbation exceeds in this norm.
    doubts : sequence of str
        Reasons to doubt the set-up itself, whatever the attacks found.
    members : int
        Members of the ensemble; reweighing one is nothing to advise.
    command, given : str
        The command line that an advice adds its attacks to, and the attacks that it was given.
    """

    run: Scored | None
    siblings: Sequence[Scored]
    eps: float
    norm: str
    target: str = ""
    facts: Mapping[str, Probed] = field(default_factory=dict)
    classes: int = 2
    largest: float = math.inf
    doubts: Sequence[str] = ()
    members: int = 2
    command: str = "robustkit evaluate"
    given: str = ""

    @classmethod
    def of(cls, run: Scored, siblings: Sequence[Scored], **more: Any) -> Evidence:
        """Return the evidence for the number of one run."""
        return cls(run, siblings, run.eps, run.run.cell.norm, run.run.cell.target, **more)

    def at(self, eps: float | None = None) -> list[Scored]:
        """Return the siblings with this number's norm and aim, at one eps or at all of them."""
        return [
            s
            for s in self.siblings
            if s.run.cell.norm == self.norm
            and (s.run.cell.target == self.target or self.run is None)
            and (eps is None or s.eps == eps)
        ]

    @property
    def counted(self) -> list[Scored]:
        """The runs that the number is made of: one, or all at the budget."""
        return [self.run] if self.run else self.at(self.eps)

    @property
    def below(self) -> list[Scored]:
        """Of a worst case, the runs at smaller budgets: what these broke is broken here."""
        return [] if self.run else [s for s in self.at() if s.eps < self.eps]

    @functools.cached_property
    def standing(self) -> Bools:
        """Which samples (N,) the number counts as robust."""
        standing: Bools = np.logical_and.reduce([s.standing for s in (*self.counted, *self.below)])
        return standing

    @functools.cached_property
    def families(self) -> frozenset[str]:
        """What kinds of attacks the number is made of."""
        return frozenset(family for s in self.counted for family in families(s.name))

    @property
    def challenged(self) -> bool:
        """Whether an attack of another family than those that ran has tried to lower the number, on enough samples.

        A run of the same aim at the same budget on all samples, or the probe of :mod:`robustkit.trust.outsider`. A
        worst case is made of every run, so there it is a strong family without which it would be the same within a
        point. Nothing is left to try where nothing stands or no pixel may move. Without any fact of the model nobody
        has looked.
        """
        if not self.facts:
            return False
        if self.eps == 0 or not self.standing.any():
            return True
        others = [s for s in self.at(self.eps) if s is not self.run] if self.run else []
        if any(not self.families.issuperset(families(s.name)) for s in others):
            return True
        if not self.run and any(map(self._failed, STRONG)):
            return True
        probed = self.facts.get("outsider")
        return probed is not None and not self.targeted and probed.params["family"] not in self.families

    @functools.cached_property
    def correctness(self) -> Doubles:
        """How likely each sample (N,) is classified right, at worst; the mean is the number."""
        least: Doubles = np.minimum.reduce([s.correctness for s in (*self.counted, *self.below)])
        return least

    @property
    def targeted(self) -> bool:
        """Whether the number is about reaching given labels; the probes look for any other label."""
        return self.run is not None and bool(self.target)

    @property
    def gradient(self) -> bool:
        """Whether a gradient attack is among what the number is made of."""
        return any(uses_gradient(s.name) for s in self.counted)

    def ran(self, attack: Spec, eot: int | None = None) -> bool:
        """Return whether an attack ran at this budget with just these settings, over so many draws if that is said."""
        return any(s.run.cell.attack == attack and eot in (None, s.eot) for s in self.at(self.eps))

    def _failed(self, family: str) -> bool:
        """Return whether attacks of a family ran beside others and lowered the number by no more than a point."""
        rest = [s.standing for s in self.counted if family not in families(s.name)]
        if not rest or len(rest) == len(self.counted):
            return False
        return bool(np.logical_and.reduce(rest).mean() - self.standing.mean() <= POINT + 1e-9)

    def advised(self, *attacks: Spec) -> str:
        """Return the whole command that runs attacks on the same models and data; of a worst case, that escalates."""
        if self.run is None:
            return " ".join(filter(None, [self.command, self.given, "--escalate"]))
        changed = [
            f"--set {a.name}.{name}={value:.6g}" if isinstance(value, float) else f"--set {a.name}.{name}={value}"
            for a in attacks
            for name, value in a.params.items()
            if name in attack.entry(a.name).defaults() and value != attack.entry(a.name).defaults()[name]
        ]
        draws = [f"--eot {a.params['eot']}" for a in attacks if "eot" in a.params]
        named = f"--attacks {','.join(dict.fromkeys(a.name for a in attacks))}"
        return " ".join([self.command, named, *changed, *dict.fromkeys(draws)])

    def broken_by(self, name: str) -> tuple[float, float] | None:
        """Return the share of probed samples that the number counts as robust and a probe broke, and the threshold.

        None where the probe did not look. One point, but one sample is no evidence where fewer than 100 were probed.
        """
        probed = self.facts.get(name)
        if probed is None or self.targeted:
            return None
        broken = probed.of("broken").astype(bool)
        share = float((broken & self.standing[: len(broken)]).mean())
        return share, max(POINT, 1 / len(broken))


def families(name: str) -> tuple[str, ...]:
    """Return how an attack works: ``loss`` (it ascends the fused output's), ``members``, ``reweighing``, ``targeted``,
    ``smallest`` (it looks for the nearest boundary) or ``gradient-free``, as its file says; another library's: loss.
    """
    said = "loss" if ":" in name else attack.entry(name).facts.get("family", "loss")
    return (said,) if isinstance(said, str) else tuple(said)


def settles(name: str) -> bool:
    """Return whether the steps of an attack fall to nothing by a schedule."""
    return ":" not in name and bool(attack.entry(name).facts.get("settles"))


def uses_gradient(name: str) -> bool:
    """Return whether an attack asks for gradients, by what its file says of it; of other libraries' all do."""
    return ":" in name or not attack.entry(name).facts.get("gradient_free")
