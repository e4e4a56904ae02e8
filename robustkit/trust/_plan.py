"""Which probes a study needs, and on how many samples: a function of the stored runs. Never imports torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from robustkit.base.chances import is_random
from robustkit.base.names import VOTES
from robustkit.base.registry import Entry
from robustkit.records.cells import Cell, EnsembleRecord, Facts, Run, Spec, digest
from robustkit.records.samples import Samples
from robustkit.records.store import Store
from robustkit.study.distortion import largest
from robustkit.study.plan import Study
from robustkit.trust import probe
from robustkit.trust._evidence import Bools, Probed, Scored, families
from robustkit.trust.outsider import challenger

SHARES = {"quick": 0.05, "full": 0.2}  # of the passes of the attacks; small batches take five times their time
FEWEST = {"quick": 32, "full": 64}  # samples that are looked at, whatever that costs ...
MOST = 256  # ... and whatever the attacks' passes would allow
BUDGETS = {"quick": 2, "full": 1000}  # of each norm that are probed at most; one, where more cost too much
NORMS = ("linf", "l2")  # of the budgets that probes know
LONG_ENOUGH = 20  # steps of a longer attack at least: twice one step is no test of anything
BACKWARD = 2  # a backward pass costs about two forward passes


@dataclass(frozen=True)
class Item:
    """One probe: the cell that its facts are stored under, and which of the first samples are looked at."""

    cell: Cell
    rows: Bools

    @property
    def name(self) -> str:
        """Name of the probe."""
        return self.cell.name

    @property
    def attack(self) -> str:
        """Key of the attack that the probe is about, empty if about none."""
        return attack_key(self.cell.attack.params.get("attack")) if self.cell.attack else ""


def requested_runs(study: Study, store: Store, ensemble: EnsembleRecord) -> list[Scored]:
    """Return the white-box runs that were asked for, at each of their budgets; not those that followed on a doubt."""
    if "attacks" not in study.suites:
        return []
    runs = [store.get(cell) for cell in study.white_box(ensemble)]
    clean = clean_of(study, store, ensemble)
    elements = math.prod(study.dataset.shape)
    return [Scored(run, eps, clean, elements) for run in runs for eps in study.budgets(run.cell)]


def clean_of(study: Study, store: Store, ensemble: EnsembleRecord) -> Samples | None:
    """Return the clean samples of an ensemble whose answers are drawn, which no run may exceed; else None."""
    return store.get(study.clean(ensemble)).samples if is_random(ensemble.fusion) else None


def plan(study: Study, ensemble: EnsembleRecord, clean: Run, runs: Sequence[Scored]) -> list[Item]:
    """Return the probes of an ensemble, given every white-box run that was asked for.

    All probes together cost at most the share of the attacks' passes that the level of trust allows, by looking at
    fewer samples, never at fewer than 32 (full: 64) nor at more than 256, and then at fewer budgets, but at one. Not so
    the attacks that decide, of another family and from other starts: they look at the samples that it takes to tell, at
    every budget.
    """
    if study.trust == "off" or not runs:
        return []
    distinct = {id(r.run): r.run.samples for r in runs}.values()
    paid = SHARES[study.trust] * sum(int(s.forwards.sum() + BACKWARD * s.backwards.sum()) for s in distinct)
    most = min(BUDGETS[study.trust], len({r.eps for r in runs}))
    for budgets in range(most, 0, -1):
        items = list(_items(study, ensemble, clean, runs, budgets))
        cheap = [item for item in items if not _samples(item)]
        n = int(paid / max(1.0, sum(_passes(item, runs) * item.rows.mean() for item in cheap)))
        if n >= FEWEST[study.trust]:
            break
    n = min(max(n, FEWEST[study.trust]), MOST)
    return [_first(item, min(_samples(item) or n, len(item.rows))) for item in items]


def _samples(item: Item) -> int:
    """Return how many samples a probe must look at to tell anything, 0 where it says something of any number."""
    return int(probe.entry(item.name).facts.get("samples", 0))


def _items(study: Study, ensemble: EnsembleRecord, clean: Run, runs: Sequence[Scored], most: int) -> Iterator[Item]:
    """Yield every probe at so many budgets of each norm, each with the samples of the split that it may look at."""
    correct: Bools = clean.samples.prediction == clean.samples.y
    every = np.ones_like(correct)
    untargeted = [r for r in runs if not r.run.cell.target and r.run.cell.norm in NORMS and r.eps > 0]
    # Where any image is allowed nothing is left to find out: what stands there is no robustness (limited-by-eps).
    bounded = [r for r in untargeted if r.eps < largest(r.run.cell.norm, study.dataset.shape)]
    budgets = _telling(bounded, most)
    for entry in probe:
        if not _applies(entry, study, ensemble):
            continue
        params = dict(entry.facts[study.trust])
        if entry.facts["per"] == "ensemble":
            yield Item(_cell(study, ensemble, entry, params), every)
        elif entry.facts["per"] == "budget":
            for norm, eps in _telling(bounded, len(runs)) if entry.facts.get("every_budget") else budgets:
                here = [r for r in untargeted if (r.run.cell.norm, r.eps) == (norm, eps)]
                ran = frozenset(family for r in here for family in families(r.name))
                if entry.facts.get("unless") in ran or not ran.issuperset(entry.facts.get("beside", ())):
                    continue
                if (by := _challenger(entry, ran, ensemble.members)) is None:
                    continue
                standing = np.logical_and.reduce([r.standing for r in here]) & ~clean.samples.failed
                own = params | _longer(params, here) | by
                after = digest(sorted({r.run.cell.key for r in here}))
                rows = every if entry.facts.get("rows") == "all" else standing
                yield Item(_cell(study, ensemble, entry, own, norm, eps, after), rows)
        else:
            for spec, (norm, eps) in _attacks(untargeted).values():
                whole = params | {"attack": spec.to_json()}
                most = entry.facts.get("most", len(correct))
                yield Item(_cell(study, ensemble, entry, whole, norm, eps), correct & (np.cumsum(correct) <= most))


def _applies(entry: Entry, study: Study, ensemble: EnsembleRecord) -> bool:
    """Return whether a probe can say anything of an ensemble."""
    if entry.facts.get("votes") and ensemble.fusion not in VOTES:
        return False
    alone = entry.facts.get("others") and not _others(study, ensemble)
    return ensemble.members >= entry.facts.get("members", 1) and not alone


def _telling(runs: Sequence[Scored], most: int) -> list[tuple[str, float]]:
    """Return the budgets (norm, eps) to probe: of each norm, those whose worst case is nearest to a half."""
    worst: dict[tuple[str, float], Bools] = {}
    for r in runs:
        key = (r.run.cell.norm, r.eps)
        worst[key] = worst.get(key, np.ones_like(r.standing)) & r.standing
    ranked = sorted(worst, key=lambda key: (abs(float(worst[key].mean()) - 0.5), key))
    return sorted(key for norm in NORMS for key in [k for k in ranked if k[0] == norm][:most])


def _longer(params: Mapping[str, Any], runs: Sequence[Scored]) -> dict[str, int]:
    """Return the steps of a probe that takes ``times`` as many as the longest run, but twenty at least."""
    return {"steps": max(LONG_ENOUGH, params["times"] * max(r.steps for r in runs))} if "times" in params else {}


def _challenger(entry: Entry, ran: frozenset[str], members: int) -> dict[str, Any] | None:
    """Return the settings of a probe that picks an attack of another family; None where it has none left to pick."""
    if not entry.facts.get("challenger"):
        return {}
    found = challenger(ran, members)
    return {"family": found[0], "by": found[1].to_json()} if found else None


def _attacks(runs: Sequence[Scored]) -> dict[str, tuple[Spec, tuple[str, float]]]:
    """Return each attack that walks within a budget, by key, with the middle one of its budgets."""
    found: dict[str, list[Scored]] = {}
    for r in runs:
        if r.bounded and r.run.cell.attack and (r.steps > 1 or r.param("queries", 1) > 1):
            found.setdefault(attack_key(r.run.cell.attack.to_json()), []).append(r)
    chosen = {}
    for key, own in found.items():
        middle = sorted(own, key=lambda r: r.eps)[len(own) // 2].run.cell
        if middle.attack and middle.eps:
            chosen[key] = (middle.attack, (middle.norm, middle.eps))
    return chosen


def attack_key(spec: Mapping[str, Any] | None) -> str:
    """Return what makes two attacks the same but for their budget; a step size follows the budget."""
    if spec is None:
        return ""
    return digest([spec["name"], {name: value for name, value in spec["params"].items() if name != "step_size"}])


def _cell(
    study: Study, ensemble: EnsembleRecord, entry: Entry, params: Mapping[str, Any], norm: str = "",
    eps: float | None = None, after: str = "",
) -> Cell:  # fmt: skip
    others = _others(study, ensemble) if entry.facts.get("others") else []
    return Cell(
        kind="probe", ensemble=ensemble.key, data=study.dataset.sha256, eps=eps, norm=norm, after=after,
        attack=Spec("probe", entry.name, {**params, **({"others": others} if others else {})}),
        seed=study.seed_of(ensemble),
        version=study.version, eot=study.eot,
    )  # fmt: skip


def _others(study: Study, ensemble: EnsembleRecord) -> list[str]:
    """Return the keys of the other ensembles; in a study over seeds of those of the same one."""
    return sorted(e.key for e in study.ensembles if e.key != ensemble.key and e.seed == ensemble.seed)


def _passes(item: Item, runs: Sequence[Scored]) -> float:
    """Return the cost of a probe in forward passes for each sample that it looks at, about."""
    params = item.cell.attack.params if item.cell.attack else {}
    inner = params.get("attack", {}).get("params", params)
    members = runs[0].run.samples.member_logits.shape[0]
    times = {"swap": members + 3, "from-others": len(params.get("others", ()))}.get(item.name, 1)
    walk = inner.get("steps", 0) * inner.get("restarts", 1) * (1 + BACKWARD)
    usual = probe.entry(item.name).facts.get("usual", 1.0)  # share of its steps that it usually takes
    return float(usual * walk * times + inner.get("queries", 0) + params.get("draws", 0))


def cost_of(item: Item, runs: Sequence[Scored]) -> float:
    """Return about how many forward passes of one image a probe takes."""
    return _passes(item, runs) * float(item.rows.sum())


def _first(item: Item, n: int) -> Item:
    spec = item.cell.attack
    if spec is None:
        raise ValueError("a probe has a name")
    return Item(replace(item.cell, attack=replace(spec, params={**spec.params, "n": n})), item.rows[:n])


def facts_for(items: Sequence[tuple[Item, Facts]], norm: str, eps: float, run: Scored | None) -> dict[str, Probed]:
    """Return what the probes noted that concerns one number: of its ensemble, its budget, and its attack."""
    own = attack_key(run.run.cell.attack.to_json()) if run and run.run.cell.attack and run.run.cell.eps else None
    return {
        item.name: Probed(facts.cell.attack.params if facts.cell.attack else {}, facts.arrays)
        for item, facts in items
        if (
            item.attack == own
            if item.attack
            else item.cell.eps is None or (item.cell.norm, item.cell.eps) == (norm, eps)
        )
    }


def load(store: Store, items: Sequence[Item]) -> list[tuple[Item, Facts]]:
    """Return the stored facts of probes; those that are not there are left out."""
    pairs = ((item, store.load_facts(item.cell)) for item in items)
    return [(item, facts) for item, facts in pairs if facts is not None]
