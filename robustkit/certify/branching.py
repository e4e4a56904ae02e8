"""What linear bounds leave open, decided by cases: a ReLU's input is above zero, or it is below.

Branch and bound with split constraints as multipliers (Wang et al. 2021, beta-CROWN, arXiv:2103.06624). A few ReLUs
are tried, and the one whose halves are bounded best is split (De Palma et al. 2021, arXiv:2104.06718). Deviations:
tried are those whose relaxation is furthest from the ReLU at the image where the bound is reached, times the
coefficient, since (of what is not split) these add up to what the bound loses there (what a relaxation costs at most,
as in Bunel et al. 2020, arXiv:1909.06588, is often lost nowhere near); bounds of inner layers are not computed again
after a split; and images at which a bound is reached are tried as counterexamples, so that no time is spent on what is
not robust. How many cases a sample may take is fixed, so that no clock decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustkit.certify.bounds import Bounded, backward, unit
from robustkit.certify.relaxations import Relu
from robustkit.certify.slopes import ascend, single

TOGETHER = 64  # cases that are bounded side by side
SHARE = 16  # cases of one sample that are split before the next look, however many samples there are
ELSEWHERE = 1e-3  # of what a relaxation can cost at most, beside what it costs where the bound is reached
TRIED = 6  # splits whose halves are bounded roughly before one of them is chosen
Split = tuple[int, int, int]  # node, place, and -1 for an input above zero, +1 for one below


@dataclass(frozen=True)
class Case:
    """One open question: is a linear function of the outputs above zero where these ReLUs are split so?"""

    sample: int
    function: int
    splits: tuple[Split, ...] = ()
    slopes: dict[int, Tensor] | None = None
    next: tuple[int, int] = (0, 0)  # node and place to split

    def halves(self) -> list[Case]:
        """Return the two cases of which this one consists."""
        return [replace(self, splits=(*self.splits, (*self.next, sign))) for sign in (-1, 1)]


@torch.no_grad()
def settle(
    found: Bounded, wanted: Tensor, weights: Tensor, known: Tensor, most: int, steps: int, slack: float
) -> Tensor:
    """Return which functions are above ``slack`` over the whole region, (S, B) of bool.

    Parameters
    ----------
    wanted : Tensor
        Coefficients (S, B, L) on the weighted sum of the outputs.
    weights : Tensor
        Weight of each output, (outputs,).
    known : Tensor
        Lower bounds (S, B) so far. Of a sample with a function that cannot be proven the others are not looked at.
    most : int
        Cases that a sample may take.
    """
    proven, search = known > slack, _Search(found, wanted, weights, steps, slack)
    todo = {s: [int(f) for f in known[:, s].argsort() if not proven[f, s]] for s in range(known.shape[1])}
    stacks: dict[int, list[Case]] = {s: [] for s in todo}
    used = dict.fromkeys(todo, 0)
    begun = {s: False for s in todo}
    while active := [s for s in todo if todo[s] and s not in search.broken and used[s] + 1 + begun[s] <= most]:
        cases: list[Case] = []
        for s in active:
            if not begun[s]:
                cases.append(Case(s, todo[s][0]))
            else:
                share = min(SHARE, (most - used[s]) // 2)
                cases += [half for case in stacks[s][-share:] for half in case.halves()]
                del stacks[s][-share:]
            begun[s] = True
        for case, open_ in search.bounded(cases):
            used[case.sample] += 1
            stacks[case.sample] += [open_] if open_ else []
        for s in active:
            if not stacks[s] and s not in search.broken:
                proven[todo[s].pop(0), s], begun[s] = True, False
    return proven


class _Search:
    """Bounds cases of several samples side by side; ``broken`` are samples of which nothing can be proven."""

    def __init__(self, found: Bounded, wanted: Tensor, weights: Tensor, steps: int, slack: float) -> None:
        self.found, self.wanted, self.weights, self.steps, self.slack = found, wanted, weights, steps, slack
        self.broken: set[int] = set()
        self.relus = [at for at in found.inner if isinstance(found.graph.nodes[at].operation, Relu)]

    def bounded(self, cases: list[Case]) -> list[tuple[Case, Case | None]]:
        """Return each case, and with what to split, where its bound is not enough."""
        made = []
        for at in range(0, len(cases), TOGETHER):
            made += self._bounded(cases[at : at + TOGETHER])
        return made

    def _bounded(self, cases: list[Case]) -> list[tuple[Case, Case | None]]:
        part, outputs, signs = self._part(cases)
        need = torch.full((1, len(cases)), self.slack, device=self.wanted.device)
        best = ascend(part, outputs, self.steps, _slopes(cases), signs, need)
        rows = [i for i in range(len(cases)) if not float(best.value[0, i]) > self.slack]  # nan is open, too
        result: dict[int, Case | None] = dict.fromkeys(range(len(cases)))
        if rows:
            kept = [replace(cases[i], slopes={at: s[0, i] for at, s in best.slopes.items()}) for i in rows]
            forces = {at: force[:, rows] for at, force in best.forces.items()}
            result |= dict(zip(rows, self._chosen(kept, best.at_least[0, rows], forces), strict=True))
        return [(case, result[i]) for i, case in enumerate(cases)]

    def _part(self, cases: list[Case]) -> tuple[Bounded, dict[int, Tensor], dict[int, Tensor]]:
        """Return the bounds of the cases' samples, narrowed by the splits, and two dicts by node.

        These are the coefficients (1, cases, ...) of the outputs and the signs (cases, *shape) of the splits.
        """
        rows = torch.tensor([case.sample for case in cases], device=self.wanted.device)
        part = self.found.select(rows)
        a = torch.stack([self.wanted[case.function, case.sample] for case in cases])[None]
        outputs = unit([a * w if w else None for w in self.weights.tolist()], part.graph)
        return part, outputs, _narrowed(part, cases)

    def _chosen(self, cases: list[Case], reached: Tensor, forces: dict[int, Tensor]) -> list[Case]:
        """Return open cases with what to split; note samples that an image breaks, or of which nothing is left."""
        part, outputs, _ = self._part(cases)
        values = part.graph.values(part.region.least(reached))
        self._try(cases, [values[at] for at in part.graph.outputs])
        candidates = _candidates(part, outputs, cases, self.relus, values, forces)
        tried = [
            replace(case, next=(node, place))
            for case, own in zip(cases, candidates, strict=True)
            for node, place in own
        ]
        halves = self._rough([half for case in tried for half in case.halves()])
        chosen, at = [], 0
        for case, own in zip(cases, candidates, strict=True):
            if not own:
                self.broken.add(case.sample)
                chosen.append(case)
                continue
            worse = halves[2 * at : 2 * (at + len(own))].view(-1, 2)
            gain = worse.amin(1) + 1e-3 * worse.amax(1)
            chosen.append(tried[at + int(gain.argmax())])
            at += len(own)
        return chosen

    def _rough(self, halves: list[Case]) -> Tensor:
        """Return bounds of cases with the slopes that they have, in float32."""
        values = [torch.empty(0, device=self.wanted.device)]
        for at in range(0, len(halves), TOGETHER):
            cases = halves[at : at + TOGETHER]
            part, outputs, _ = self._part(cases)
            rough = single(part)
            values.append(rough.lower({k: a.float() for k, a in outputs.items()}, _slopes(cases) or None)[0])
        return torch.cat(values)

    def _try(self, cases: list[Case], outputs: list[Tensor]) -> None:
        """Note the samples that an image at which a bound is reached breaks; its outputs are given."""
        fused = sum(w * z for w, z in zip(self.weights, outputs, strict=True))
        for i, case in enumerate(cases):
            if float((self.wanted[:, case.sample] * fused[i]).sum(-1).min()) < 0:
                self.broken.add(case.sample)


def _slopes(cases: list[Case]) -> dict[int, Tensor]:
    """Return the slopes (1, cases, *shape) of the ReLUs of which all cases have some."""
    given = [case.slopes or {} for case in cases]
    return {at: torch.stack([slopes[at] for slopes in given])[None] for at in given[0] if all(at in g for g in given)}


def _narrowed(part: Bounded, cases: list[Case]) -> dict[int, Tensor]:
    """Narrow the bounds of split inputs; return the direction of their multipliers (B, *shape), by node."""
    signs: dict[int, Tensor] = {}
    for i, case in enumerate(cases):
        for node, place, sign in case.splits:
            ends = part.inner[node]
            signs.setdefault(node, torch.zeros_like(ends[0]))
            ends[0 if sign < 0 else 1][i].view(-1)[place] = 0.0
            signs[node][i].view(-1)[place] = sign
    return signs


def _candidates(
    part: Bounded, outputs: dict[int, Tensor], cases: list[Case], relus: list[int], values: list[Tensor],
    forces: dict[int, Tensor],
) -> list[list[tuple[int, int]]]:  # fmt: skip
    """Return the ReLUs, node and place, whose relaxation costs the bound of each case most where it is reached.

    ``values`` are those of all nodes there, (B, *shape); ``forces`` what split ReLUs add to coefficients.
    """
    seen: dict[int, Tensor] = {}
    slopes = {at: own.double() for at, own in _slopes(cases).items()}
    backward(part.graph, part.inner, outputs, slopes or None, forces or None, seen)
    costs, names = [], []
    for at in [at for at in relus if at in seen]:
        (low, high), a = part.inner[at], seen[at][0]
        z = values[part.graph.nodes[at].inputs[0]]
        opened = (low < 0) & (high > 0)
        slope = slopes[at][0] if at in slopes else (high > -low).to(low.dtype)
        cost = _lost(a, low, high, slope, z)
        # A multiplier can take from a bound what no relaxation does: something is left to split even then.
        ends = [_lost(a, low, high, slope, end) for end in (low, high, torch.zeros_like(low))]
        cost = cost + ELSEWHERE * torch.stack(ends).amax(0)
        costs.append(torch.where(opened, cost, -torch.ones_like(low)).flatten(1))
        names += [(at, place) for place in range(costs[-1].shape[1])]
    if not costs:
        return [[] for _ in cases]
    best = torch.cat(costs, 1).topk(min(TRIED, len(names)), dim=1)
    return [
        [names[int(place)] for cost, place in zip(values, places, strict=True) if cost > 0]
        for values, places in zip(best.values, best.indices, strict=True)
    ]


def _lost(a: Tensor, low: Tensor, high: Tensor, slope: Tensor, z: Tensor) -> Tensor:
    """Return what the relaxation of open ReLUs with coefficients ``a`` takes from a bound where their inputs are z."""
    on = z.clamp_min(0)
    above = high * (z - low) / (high - low).clamp_min(1e-30) - on
    return a.clamp_min(0) * (on - slope * z) - a.clamp_max(0) * above
