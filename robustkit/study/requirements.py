"""What a number has to be: ``worst_case@8/255>=0.30`` read, and checked against the numbers that there are.

The grammar is ``[ENSEMBLE:]NUMBER[@EPS[ NORM]] OPERATOR SHARE``. NUMBER is ``worst_case``, ``clean``, ``union`` (of the
worst cases of several norms), or an attack by its name (``pgd``) or by that and its steps, as reports call it
(``pgd-10``); without ENSEMBLE, EPS or NORM every one
that there is has to hold, and with that of a study over seeds without its seed each of these. OPERATOR is one of >=, >,
<=, <; SHARE is in [0, 1], or a percentage like 30%. Never imports torch.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from robustkit.attacks import attack, works_in
from robustkit.base.budgets import Budgets, budget
from robustkit.base.errors import UserError, unknown
from robustkit.base.options import budget_text, number
from robustkit.records.cells import Spec
from robustkit.study.config import Evaluation
from robustkit.study.reference import reference_name

WORST, CLEAN, UNION = "worst_case", "clean", "union"
NO_EPS = {CLEAN: "clean accuracy has no eps", UNION: "a union has a budget of each norm, and no eps"}
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
FORM = "write it like 'worst_case@8/255>=0.30', 'adp:clean>=0.9' or 'pgd@0.1>=0.5'"
_SYNTAX = re.compile(
    r"\s*(?P<subject>[^@<>]+?)\s*(?:@\s*(?P<eps>[^\s<>@]+)(?:\s+(?P<norm>l0|l1|l2|linf))?\s*)?"
    r"(?P<operator>>=|<=|>|<)\s*(?P<share>[^\s<>=]+(?:\s*%)?)\s*"
)
_CLOSE = 1e-9  # two ways to write one eps


@dataclass(frozen=True)
class Requirement:
    """One requirement as it was typed; ``subject`` is the number's name, perhaps after an ensemble and a colon."""

    text: str
    subject: str
    eps: float | None
    norm: str
    operator: str
    share: float

    def holds(self, value: float) -> bool:
        """Tell whether a share meets it."""
        return OPERATORS[self.operator](value, self.share)

    def about(self, metrics: Iterable[str], ensembles: Sequence[str]) -> tuple[str, str]:
        """Return ensemble (empty: every one) and number; a :class:`UserError` names the nearest there is.

        Parameters
        ----------
        ensembles : sequence of str
            Ids that may stand before the number; where there are none, any may.
        """
        known = list(metrics)
        if self.subject in known:
            return "", self.subject
        ends = [metric for metric in known if self.subject.endswith(f":{metric}")]
        if ends:
            metric = max(ends, key=len)  # torchattacks:PGD is one number, not PGD of an ensemble
            id = self.subject.removesuffix(f":{metric}")
            if ensembles and id not in ensembles:
                raise unknown("ensemble in --min", id, ensembles)
            return id, metric
        named = next((id for id in ensembles if self.subject.startswith(f"{id}:")), "")
        raise unknown("number in --min", self.subject.removeprefix(f"{named}:"), known)

    def at(self, budgets: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
        """Return those of the (norm, eps) that are meant; a :class:`UserError` names those there are."""
        there = sorted(set(budgets))
        found = [
            (norm, eps)
            for norm, eps in there
            if (self.eps is None or abs(eps - self.eps) <= _CLOSE) and self.norm in ("", norm)
        ]
        if not found:
            named = ", ".join(budget_text(eps, norm) for norm, eps in there)
            raise UserError(f"--min '{self.text}' is at an eps that was not run; there are {named}.")
        if self.eps is not None and len(found) > 1:
            raise UserError(
                f"--min '{self.text}' is at an eps of several norms; add one of {', '.join(n for n, _ in found)} to "
                "it, like '@0.5 l2'."
            )
        return found


def parse(text: str) -> Requirement:
    """Read one requirement; a :class:`UserError` says how it is written."""
    match = _SYNTAX.fullmatch(text)
    if match is None:
        raise UserError(f"--min '{text}' is no requirement; {FORM}.")
    share = _share(match["share"], text)
    eps = None if match["eps"] is None else _eps(match["eps"], match["norm"] or "")
    subject = re.sub(r"\s*:\s*", ":", match["subject"])
    read = Requirement(text.strip(), subject, eps, match["norm"] or "", match["operator"], share)
    reason = NO_EPS.get(read.subject.rpartition(":")[2])
    if eps is not None and reason:
        raise UserError(f"--min '{text}': {reason}; leave @{match['eps']} out.")
    return read


def _eps(text: str, norm: str) -> float:
    eps = budget(text, norm or "l2")  # whose range is the widest
    if not norm and eps > 1:
        raise UserError(f"--min: eps {eps:.6g} is out of range in linf; of another norm name it, like '@{eps:.6g} l1'.")
    return eps


def foresee(
    config: Evaluation, attacks: Sequence[Spec], budgets: Budgets, ensembles: Sequence[str] = ()
) -> None:  # fmt: skip
    """Refuse, before any work is done, what is required of numbers that there will not be.

    Parameters
    ----------
    attacks : sequence of Spec
        That will run; of none there is only clean accuracy.
    budgets : mapping of str to tuple of float
        Those of all attacks but the ones with their own, by norm.
    ensembles : sequence of str
        Ids and groups of those that will be evaluated; empty where they are not known yet, and any may be named.
    """
    names = [spec.name for spec in attacks]
    there = {
        (norm, float(one))
        for norm, eps in budgets.items()
        for spec in attacks
        if works_in(spec.name, norm)
        for one in spec.params.get("eps", eps)
    }
    if config.reference and names:
        names += dict.fromkeys(reference_name(norm) for norm in budgets)
        there |= {(norm, one) for norm, eps in budgets.items() for one in eps}
    # What may follow is not known, nor are the largest budgets of attacks in another norm, which the images decide.
    unsure = config.escalate or not all(any(works_in(spec.name, norm) for norm in budgets) for spec in attacks)
    several = [UNION] if len(budgets) > 1 else []
    for one in map(parse, listed(config.minimum)):
        plain = replace(one, subject=re.sub(r"-\d+$", "", one.subject))  # pgd-10: steps are known once it has run
        known = [
            CLEAN,
            *([WORST, *several, *names] if names else []),
            *(attack.names() if names and config.escalate else ()),
        ]
        if plain.about(known, ensembles)[1] not in NO_EPS and not (unsure and one.eps is not None):
            one.at(there)
    if config.require is not None and not names:
        raise UserError(f"--require {config.require} is of attacked numbers, but no attack runs; add --suites attacks.")


def listed(texts: str | Iterable[str] | None) -> list[str]:
    """Return one requirement, several or none as a list."""
    return [texts] if isinstance(texts, str) else list(texts or ())


def _share(text: str, whole: str) -> float:
    percent = text.endswith("%")
    value = number(text.removesuffix("%"), f"share in --min '{whole}'") / (100 if percent else 1)
    if not 0 <= value <= 1:
        raise UserError(f"--min '{whole}': {text} is no share of samples; write it in [0, 1], or in percent like 30%.")
    return value
