"""The threat model of an evaluation: which norms, which budgets of each, and which attacks work there.

Never imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from robustkit.attacks import attack, available, is_minimum, works_in
from robustkit.base import options
from robustkit.base.budgets import Budgets, budgets, check_largest, threats, together, usual
from robustkit.base.errors import UserError
from robustkit.base.names import THREAT_NORMS
from robustkit.data import Facts
from robustkit.records.cells import Spec
from robustkit.study.config import Evaluation
from robustkit.study.distortion import largest

# What is attacked with where nobody says; in l1 and l0 the older attacks with a budget do not work.
DEFAULT_ATTACKS = {"linf": ("pgd", "mim"), "l2": ("pgd", "mim"), "l1": ("apgd-ce", "fmn"), "l0": ("fmn",)}


def norms_of(config: Evaluation, facts: Facts) -> tuple[str, ...]:
    """Return the norms that are evaluated: those named, else the dataset's."""
    return threats(config.norms, THREAT_NORMS) or (config.norm or facts.threat.norm,)


def default_attacks(norms: Iterable[str]) -> tuple[str, ...]:
    """Return the attacks that run where none is named, each once."""
    return tuple(dict.fromkeys(name for norm in norms for name in available(DEFAULT_ATTACKS[norm], norm)))


def budgets_of(config: Evaluation, facts: Facts, norms: Sequence[str], preset: tuple[float, ...] = ()) -> Budgets:
    """Return the budgets of each norm: those typed, else the preset's, else the dataset's; ascending.

    Raises
    ------
    UserError
        If a norm has none, or the budgets of several norms do not go together.
    """
    found = budgets(config.eps, norms)
    for norm in norms:
        if norm in found:
            continue
        if norm != facts.threat.norm:
            example = f"{norm}=..." if len(norms) > 1 else "..."
            raise UserError(
                f"{facts.name} has no standard budgets for norm '{norm}'; name them with --eps {example}; "
                f"{usual(norm)}."
            )
        found[norm] = preset or facts.threat.eps
    ordered = {norm: found[norm] for norm in norms}
    if len(norms) > 1:
        together(ordered)
    return ordered


def check_attacks(specs: Iterable[Spec], norms: Sequence[str]) -> None:
    """Raise a :class:`UserError` if an attack with a budget works in no norm, or a norm has no attack at all."""
    names = dict.fromkeys(spec.name for spec in specs)
    for name in names:
        if not is_minimum(name) and not any(works_in(name, norm) for norm in norms):
            options.check_norm(attack.entry(name), norms[0])
    for norm in norms if len(norms) > 1 else ():
        if not any(works_in(name, norm) for name in names):
            those = ", ".join(entry.name for entry in attack if norm in entry.facts["norms"])
            raise UserError(
                f"none of the attacks ({', '.join(names)}) works in {norm}; add one of {those} to --attacks, or leave "
                f"{norm} out of --norms."
            )


def check_outputs(attacks: Iterable[Spec], outputs: Mapping[str, int]) -> None:
    """Raise a :class:`UserError` if an attack does not work with as few outputs as an ensemble has.

    Parameters
    ----------
    outputs : mapping of str to int
        The number of classes that each ensemble answers in.
    """
    for spec in attacks:
        for classes in outputs.values():
            options.check_classes(attack.entry(spec.name), spec.params, classes)


def check_images(of: Budgets, shape: Sequence[int]) -> None:
    """Raise a :class:`UserError` if a budget is more than images (C, H, W) can lose."""
    for norm, eps in of.items():
        check_largest(max(eps), norm, largest(norm, shape))
