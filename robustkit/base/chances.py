"""Probabilities with which the members of a randomised ensemble are drawn, ``random:0.9,0.1``. Never imports torch."""

from __future__ import annotations

from robustkit.base.errors import UserError
from robustkit.base.options import number

RANDOM = "random"  # alone: every member with the same probability
ROUNDING = 1e-6  # by which a sum may miss one, and the smallest probability that is told from none
NEVER = -80.0  # the logarithm of the probability of an answer that no member gives, and the largest that such a one has
HALFWAY = NEVER / 2  # below: nobody's answer


def is_random(fusion: str | None) -> bool:
    """Return whether a fusion rule draws a member, by its name."""
    return fusion is not None and fusion.partition(":")[0] == RANDOM


def read(fusion: str) -> tuple[float, ...]:
    """Return the probabilities that the name of a random fusion gives, which sum to one; none: all are equal."""
    _, colon, text = fusion.partition(":")
    if not colon:
        return ()
    found = tuple(number(part, f"fusion rule '{fusion}': probability") for part in text.split(","))
    wanted = "give one from 0 to 1 for each member, that sum to one, like random:0.9,0.1."
    for chance in found:
        if chance < 0 or 0 < chance < ROUNDING:
            small = "negative" if chance < 0 else f"below {ROUNDING:g} and not 0"
            raise UserError(f"fusion rule '{fusion}' has the probability {chance:g}, which is {small}; {wanted}")
    if abs(sum(found) - 1) > ROUNDING:
        raise UserError(f"fusion rule '{fusion}' has probabilities that sum to {sum(found):.7g}; {wanted}")
    return tuple(chance / sum(found) for chance in found)


def accepted(fusion: str) -> bool:
    """Return whether a name is a random fusion's with probabilities; a :class:`UserError` says what is wrong there."""
    return is_random(fusion) and bool(read(fusion))


def check_members(fusion: str | None, members: int) -> None:
    """Raise a :class:`UserError` if a random fusion has probabilities of another number of members."""
    chances = read(fusion) if fusion is not None and is_random(fusion) else ()
    if chances and len(chances) != members:
        raise UserError(
            f"fusion rule '{fusion}' has {len(chances)} probabilities, but the ensemble has {members} members; give "
            f"{members}, or write {RANDOM} alone, which draws every member alike."
        )
