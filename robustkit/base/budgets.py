"""Budgets that a user types, of one norm or several, and what of one goes with what of another. Never imports torch.

A budget of l0 counts values: each channel of a pixel is one. So do FMN, sigma-zero and AttackBench, so that numbers can
be compared; the stored size and ``mean_l0`` stay the share of all values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from robustkit.base.errors import UserError
from robustkit.base.options import budget_text, choice, names, number

Budgets = dict[str, tuple[float, ...]]  # ascending, by norm
USUAL = {"linf": "8/255 or 0.1", "l2": "0.5 or 1", "l1": "5 or 12", "l0": "10 or 20"}
UNITS = {
    "linf": "how far any value may move", "l2": "a Euclidean length", "l1": "the sum of all moves",
    "l0": "how many values may change",
}  # fmt: skip
FAINT = 0.1  # l1: below it an image changes by 25 grey levels in all; whoever asks for that means linf


def budget(text: str | float, norm: str) -> float:
    """Read one budget of a norm: ``8/255``, ``0.5``, ``12``.

    Raises
    ------
    UserError
        If it is no number, negative, above 1 in linf, or no whole number in l0.
    """
    eps = number(text, "eps")
    if norm == "l0" and eps >= 0 and eps != int(eps):
        raise UserError(f"eps {eps:.6g} is no whole number, and in l0 it counts values of an image; {usual(norm)}.")
    if eps < 0 or (norm == "linf" and eps > 1):
        most = "in [0, 1]" if norm == "linf" else "at least 0"
        raise UserError(f"eps {eps:.6g} is out of range; it must be {most} in {norm}; {usual(norm)}.")
    return eps


def usual(norm: str) -> str:
    """Return what budgets of a norm usually are, and of the others, for a sentence."""
    others = ", ".join(f"{eps} in {other}" for other, eps in USUAL.items() if other != norm)
    return f"usual in {norm} ({UNITS[norm]}) are {USUAL[norm]}; {others}"


def threats(text: str | Iterable[str] | None, accepted: Iterable[str]) -> tuple[str, ...]:
    """Read ``linf,l2,l1`` into distinct norms, in the order in which they stand; of None none."""
    found = () if text is None else names(text, kind="norm")
    return tuple(choice(one, "norm", accepted) for one in found)


def budgets(text: str | float | Iterable[str | float] | None, norms: Sequence[str]) -> Budgets:
    """Read ``2/255,4/255``, or of several norms ``linf=2/255,4/255,l2=0.5``, into ascending, distinct budgets.

    Parameters
    ----------
    norms : sequence of str
        Those that are evaluated; of one alone its name may be left out.

    Raises
    ------
    UserError
        If a budget is none of its norm, or it is not said of which norm it is.
    """
    if text is None:
        return {}
    parts = text.split(",") if isinstance(text, str) else [text] if isinstance(text, int | float) else list(text)
    parts = [part for part in parts if str(part).strip()]
    if not parts:
        raise UserError("eps is empty; write a list like 2/255,4/255,8/255.")
    norm, found = norms[0] if len(norms) == 1 else "", dict[str, set[float]]()
    for part in parts:
        name, named, value = str(part).rpartition("=")
        if named:
            norm = name.strip()
            if norm not in norms:
                raise UserError(
                    f"eps '{part}' is of norm '{norm}', which is not evaluated, only {', '.join(norms)}; name "
                    "the norms with --norms."
                )
        if not norm:
            example = ",".join(f"{one}={USUAL[one].partition(' ')[0]}" for one in norms)
            raise UserError(f"eps '{part}' does not say of which norm; write --eps {example}.")
        found.setdefault(norm, set()).add(budget(value, norm))
    if 0 < max(found.get("l1", [0.0])) < FAINT:
        largest = max(found["l1"])
        raise UserError(f"eps {largest:.6g} leaves an image as it is in l1; {usual('l1')}.")
    return {one: tuple(sorted(found[one])) for one in norms if one in found}


def check_largest(eps: float, norm: str, largest: float) -> None:
    """Raise a :class:`UserError` if a budget of l0 counts more values than the images have.

    Parameters
    ----------
    largest : float
        The size that no perturbation of these images exceeds.
    """
    if norm == "l0" and eps > largest:
        raise UserError(f"eps {eps:.6g} is more than the {largest:.6g} values of an image; {usual(norm)}.")


def together(of: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    """Return which budgets of several norms go together: the first of each, the second of each, ...

    One alone goes with each of the others'.

    Raises
    ------
    UserError
        If the norms have different numbers of them.
    """
    count = max(map(len, of.values()))
    if any(len(eps) not in (1, count) for eps in of.values()):
        lists = "; ".join(f"{norm}: {', '.join(budget_text(e, 'linf') for e in eps)}" for norm, eps in of.items())
        raise UserError(
            f"the budgets of several norms go together one by one, but there are different numbers of them ({lists}); "
            "give each norm as many, or one."
        )
    return [{norm: eps[at if len(eps) > 1 else 0] for norm, eps in of.items()} for at in range(count)]


def union_text(at: Mapping[str, float]) -> str:
    """Return budgets that go together as people write them: ``8/255 linf, 0.5 l2``."""
    return " and ".join(budget_text(eps, norm) + (" linf" if norm == "linf" else "") for norm, eps in at.items())
