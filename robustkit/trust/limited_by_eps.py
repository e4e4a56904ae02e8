"""What stands does so because eps is small, not because the attack stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robustkit.attacks import attack
from robustkit.trust import Evidence, Finding, check
from robustkit.trust._evidence import SLACK, Scored


@check("limited-by-eps", source="Athalye et al. 2018, arXiv:1802.00420, section 3.1")
def limited_by_eps(evidence: Evidence) -> Finding | None:
    """Where eps allows any image, no more samples stand than guessing would leave."""
    if evidence.eps < evidence.largest * (1 - SLACK):
        return None
    advice = f"eps {evidence.eps:g} allows any image: what stands tells where the attack stopped, not what is robust"
    wider = list(dict.fromkeys(_wider(evidence.counted)))
    advice += f"; run {' '.join(wider)}" if wider else ""
    return Finding(float(evidence.standing.mean()), 1 / evidence.classes, advice)


def _wider(runs: Sequence[Scored]) -> Iterator[str]:
    """Yield the options under which nothing but its search limits an attack, where a run had narrower ones."""
    for run in runs:
        unlimited = {} if ":" in run.name else attack.entry(run.name).facts.get("unlimited", {})
        for name, value in unlimited.items():
            own = run.param(name, value)
            if own != value if isinstance(value, str) else own < value:
                yield f"--set {run.name}.{name}={value}"
