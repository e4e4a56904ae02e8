"""Any attack of torchattacks (Kim 2020, arXiv:2010.01950), as ``torchattacks:NAME``."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
from torch import Tensor

from robustkit.backends import Foreign, backend
from robustkit.backends._common import Counted, constructor_params, seeded, untouched
from robustkit.base.errors import unknown
from robustkit.base.options import check_classes, least_classes
from robustkit.base.registry import Entry, Param
from robustkit.functional.sampling import as_generator
from robustkit.functional.trace import Trace

# Norms of the attacks that look for a small perturbation, and of fixed-budget ones that are not linf.
MINIMUM = {
    "CW": "l2", "DeepFool": "l2", "SparseFool": "l1", "JSMA": "l0", "OnePixel": "l0", "Pixle": "l0",
    "EADL1": "l1", "EADEN": "l1", "FAB": "linf",
}  # fmt: skip
L2 = {"PGDL2", "PGDRSL2"}
LOGITS = {"CW", "EADL1", "EADEN"}  # these compare a maximum with 0: log-probabilities, which are negative, blind them
SHIFT = 200.0  # added to every output for those; no label depends on it
# How few outputs of a model an attack works with: the targeted ratio of logits looks at the fourth largest, the plain
# one at the third.
LEAST_CLASSES = {"APGDT": 4, "AutoAttack": 4}
LEAST_CLASSES_OF = {"APGD": {"loss": {"dlr": 3}}}
MOST_TARGETS = 10  # the authors' AutoAttack aims at the nine most likely other classes, of a thousand too
CYCLIC = {"JSMA"}  # knows no untargeted mode and aims at (y + 1) % 10 instead, whatever number of classes there is
NEEDS_MORE = {"MultiAttack", "LGV", "VANILA", "GN"}  # other attacks, training data, or no attack at all


@backend("torchattacks", source="arXiv:2010.01950")
def load(name: str) -> Foreign:
    """Attacks of torchattacks, by the names of its classes."""
    import torchattacks

    names = [n for n in torchattacks.__all__ if n not in NEEDS_MORE]
    if name not in names:
        raise unknown("attack of torchattacks", name, names)
    factory = getattr(torchattacks, name)
    params = constructor_params(factory, {"self", "model", "device", "verbose", "norm", "seed", "n_classes"})
    minimum = name in MINIMUM
    has_norm = any(p.name == "norm" for p in constructor_params(factory, set()))
    norms = ("linf", "l2") if has_norm else ("l2",) if name in L2 else ("linf",)
    own = {p.name for p in params}
    facts = {
        "norms": (MINIMUM[name],) if minimum else norms,
        "budget": "minimum" if minimum else "fixed",
        "source": "torchattacks",
        "least_classes": LEAST_CLASSES.get(name, 2),
        "least_classes_of": LEAST_CLASSES_OF.get(name, {}),
    }
    decided = [Param("targeted", "bool", False), *([Param("norm", "str", "linf")] if has_norm else [])]
    decided += [Param("relative_step", "float | None", None)] if "alpha" in own else []  # alpha as a share of eps
    summary = f"{name} of torchattacks."
    entry = Entry("attack", f"torchattacks:{name}", __name__, name, summary, facts, (*params, *decided))
    function = functools.partial(_run, entry, factory, "eps" in own and not minimum, has_norm)
    return Foreign(entry, function)


def _run(
    entry: Entry, factory: Any, has_eps: bool, has_norm: bool, model: Any, x: Tensor, y: Tensor, *, eps: float = 0.0,
    norm: str = "linf", relative_step: float | None = None, targeted: bool = False, generator: Any = None,
    trace: Trace | None = None, **params: Any,
) -> Tensor:  # fmt: skip
    """Run one of their attacks on one batch under the contract of ours."""
    counted = Counted(model, SHIFT if factory.__name__ in LOGITS else 0.0)
    if has_eps:
        params["eps"] = eps
    if relative_step is not None:
        params["alpha"] = relative_step * eps
    if has_norm:
        params["norm"] = {"linf": "Linf", "l2": "L2"}[norm]
    with untouched(model), seeded(as_generator(generator, x)):
        asks = "n_classes" in inspect.signature(factory).parameters
        if asks or factory.__name__ in CYCLIC or least_classes(entry, params) > 2:
            with torch.no_grad():
                classes = counted(x[:1]).shape[1]
            check_classes(entry, params, classes)
            params |= {"n_classes": min(classes, MOST_TARGETS)} if asks else {}
        attack = factory(counted, **params)
        if targeted:
            attack.set_mode_targeted_by_label(quiet=True)
        elif factory.__name__ in CYCLIC:
            attack.set_mode_targeted_by_function(lambda _, labels: (labels + 1) % classes, quiet=True)
        made: Tensor = attack(x, y)
    counted.report(trace)
    return made.detach()
