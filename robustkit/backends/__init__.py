"""Attacks of other libraries, by ``library:Name``, under our verification and store.

One file for each library turns any of its attacks into a function of the contract of ours; what it returns is checked
and scored like the rest. A table says which of our attacks have a faithful equivalent there. The libraries are optional
and are imported when one of their attacks is asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from robustkit.base.errors import UserError, unknown
from robustkit.base.installing import install_command
from robustkit.base.registry import Entry, Registry

if TYPE_CHECKING:
    from torch import Tensor

backend = Registry("backend", "robustkit.backends")


@dataclass(frozen=True)
class Foreign:
    """An attack of another library: what is known of it, and a function of the contract of ours."""

    entry: Entry
    function: Callable[..., Tensor]


@functools.cache
def find(name: str) -> Foreign:
    """Return the attack ``library:Name``.

    Raises
    ------
    UserError
        If the library is not one of ours, is not installed, or has no such attack.
    """
    library, _, attack = name.partition(":")
    if library not in backend:
        raise unknown("backend", library, backend.names())
    load = backend.get(library)
    try:
        found: Foreign = load(attack)
    except ModuleNotFoundError as error:
        raise UserError(
            f"attack '{name}' needs the package '{error.name}', which is not installed; "
            f"run {install_command('backends')}."
        ) from None
    return found


def translate(name: str, params: Mapping[str, Any], library: str) -> tuple[str, dict[str, Any]]:
    """Return what one of our attacks is called in another library, and its parameters there.

    Raises
    ------
    UserError
        If the library has no faithful equivalent; the message lists the attacks that it has one for.
    """
    table = EQUIVALENTS[library]
    if name not in table:
        raise UserError(f"backend '{library}' has no equivalent of '{name}'; it has: {', '.join(sorted(table))}.")
    other, names = table[name]
    theirs = {their: params[our] for our, their in names.items() if params.get(our) is not None}
    if "step_size" in names and params.get("step_size") is None:  # eps / 10
        theirs[RELATIVE_STEP[library]] = 0.1
    return f"{library}:{other}", theirs


RELATIVE_STEP = {"torchattacks": "relative_step", "foolbox": "rel_stepsize"}
_ITERATIVE = {"steps": "steps", "step_size": "alpha"}
# Our name -> (their class, our parameter -> theirs).
EQUIVALENTS: dict[str, dict[str, tuple[str, dict[str, str]]]] = {
    "torchattacks": {
        "fgsm": ("FGSM", {}),
        "bim": ("BIM", _ITERATIVE),
        "pgd": ("PGD", {**_ITERATIVE, "random_start": "random_start"}),
        "mim": ("MIFGSM", {**_ITERATIVE, "decay": "decay"}),
        "cw": ("CW", {"initial_c": "c", "confidence": "kappa", "steps": "steps", "lr": "lr"}),
        "jsma": ("JSMA", {"theta": "theta", "gamma": "gamma"}),
        "deepfool": ("DeepFool", {"steps": "steps", "overshoot": "overshoot"}),
        "apgd-ce": ("APGD", {"steps": "steps", "restarts": "n_restarts"}),
        "apgd-t": ("APGDT", {"steps": "steps", "restarts": "n_restarts"}),
        "square": ("Square", {"queries": "n_queries", "restarts": "n_restarts", "p_init": "p_init"}),
    },
    "foolbox": {
        "fgsm": ("LinfFastGradientAttack", {}),
        "bim": ("LinfBasicIterativeAttack", {"steps": "steps", "step_size": "abs_stepsize"}),
        "pgd": ("LinfPGD", {"steps": "steps", "step_size": "abs_stepsize", "random_start": "random_start"}),
        "cw": ("L2CarliniWagnerAttack", {
            "initial_c": "initial_const", "confidence": "confidence", "steps": "steps", "lr": "stepsize",
            "search_steps": "binary_search_steps",
        }),
        "ead": ("EADAttack", {
            "initial_c": "initial_const", "confidence": "confidence", "steps": "steps", "lr": "initial_stepsize",
            "search_steps": "binary_search_steps", "beta": "regularization", "decision_rule": "decision_rule",
        }),
        "deepfool": ("L2DeepFoolAttack", {"steps": "steps", "overshoot": "overshoot"}),
    },
}  # fmt: skip
