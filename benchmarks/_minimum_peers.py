"""Minimum-norm attacks of adversarial-library and foolbox, each called as its documentation says."""

from __future__ import annotations

import importlib.util
import math
import sys
import types
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

INITIAL_C, LR, BETA = 0.1, 0.01, 0.01
ORDERS = {"l0": 0, "l1": 1, "l2": 2, "linf": math.inf}
MODULES = {"adv-lib": "adv_lib", "foolbox": "foolbox"}
Run = Callable[[], Tensor]


def installed(peer: str) -> bool:
    """Return whether a library can be imported."""
    return importlib.util.find_spec(MODULES[peer]) is not None


def adv_lib_attacks() -> Any:
    """Return adversarial-library's attacks; an ImportError where it is not installed."""
    if "visdom" not in sys.modules and importlib.util.find_spec("visdom") is None:
        sys.modules["visdom"] = types.ModuleType("visdom")  # a plotting server that the attacks never call
    from adv_lib import attacks

    return attacks


def adv_lib(model: nn.Module, x: Tensor, y: Tensor, attack: str, norm: str, steps: int, runs: int) -> Run | None:
    """Return the call of adversarial-library's attack; None where it has none."""
    if norm not in ORDERS:
        return None
    theirs, order = adv_lib_attacks(), ORDERS[norm]
    # Its documentation prefers the l2/3 operator to that of l0.
    proximal = {"proximal_operator": 23} if norm == "l0" else {}
    offered: dict[str, Run] = {
        "sigma-zero": lambda: theirs.sigma_zero(model, x, y, num_steps=steps),
        "ddn": lambda: theirs.ddn(model, x, y, steps=steps, levels=None),
        "pdpgd": lambda: theirs.pdpgd(model, x, y, order, num_steps=steps, **proximal),
        "fmn": lambda: theirs.fmn(model, x, y, order, steps=steps),
        "cw": lambda: theirs.carlini_wagner_l2(
            model, x, y, learning_rate=LR, initial_const=INITIAL_C, binary_search_steps=runs, max_iterations=steps
        ),
        "fab": lambda: theirs.fab(model, x, y, order, n_iter=steps),
        "alma": lambda: theirs.alma(model, x, y, distance=norm, num_steps=steps),
        "deepfool": lambda: theirs.df(model, x, y, steps=steps, norm=order),
        "vfga": lambda: theirs.vfga(model, x, y, targeted=False, max_iter=steps),
    }
    return offered.get(attack)


def foolbox(model: nn.Module, x: Tensor, y: Tensor, attack: str, norm: str, steps: int, runs: int) -> Run | None:
    """Return the call of foolbox's attack; None where it has none, or one that does not project (FMN in l2)."""
    import foolbox as fb

    theirs: Any = fb.attacks
    search = {"binary_search_steps": runs, "steps": steps, "initial_const": INITIAL_C}
    elastic = {"initial_stepsize": LR, "regularization": BETA}
    offered: dict[tuple[str, str], Callable[[], Any]] = {
        ("ddn", "l2"): lambda: theirs.DDNAttack(steps=steps),
        ("fmn", "l0"): lambda: theirs.L0FMNAttack(steps=steps),
        ("fmn", "l1"): lambda: theirs.L1FMNAttack(steps=steps),
        ("fmn", "linf"): lambda: theirs.LInfFMNAttack(steps=steps),
        ("deepfool", "l2"): lambda: theirs.L2DeepFoolAttack(steps=steps),
        ("deepfool", "linf"): lambda: theirs.LinfDeepFoolAttack(steps=steps),
        ("cw", "l2"): lambda: theirs.L2CarliniWagnerAttack(**search, stepsize=LR),
        ("ead", "l1"): lambda: theirs.EADAttack(**search, **elastic, decision_rule="L1"),
        ("ead", "en"): lambda: theirs.EADAttack(**search, **elastic, decision_rule="EN"),
    }
    if (attack, norm) not in offered:
        return None

    def run() -> Tensor:
        wrapped = fb.PyTorchModel(model, bounds=(0, 1), device=x.device)
        made: Tensor = offered[attack, norm]().run(wrapped, x, fb.criteria.Misclassification(y))
        return made

    return run


RUNS: dict[str, Callable[..., Run | None]] = {"adv-lib": adv_lib, "foolbox": foolbox}
