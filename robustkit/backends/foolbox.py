"""Any attack of foolbox (Rauber et al. 2020, JOSS 5(53), 2607), as ``foolbox:NAME``."""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor

from robustkit.backends import Foreign, backend
from robustkit.backends._common import Counted, constructor_params, seeded, untouched
from robustkit.base.errors import unknown
from robustkit.base.registry import Entry, Param
from robustkit.functional.sampling import as_generator
from robustkit.functional.trace import Trace

NORMS = {0: "l0", 1: "l1", 2: "l2", float("inf"): "linf"}


@backend("foolbox", source="doi:10.21105/joss.02607")
def load(name: str) -> Foreign:
    """Attacks of foolbox, by the names of its classes."""
    import foolbox

    kinds = (foolbox.attacks.base.FixedEpsilonAttack, foolbox.attacks.base.MinimizationAttack)
    classes = {n: c for n, c in vars(foolbox.attacks).items() if isinstance(c, type) and issubclass(c, kinds)}
    classes = {n: c for n, c in classes.items() if _norm(c) and not getattr(c, "__abstractmethods__", None)}
    if name not in classes:
        raise unknown("attack of foolbox", name, classes)
    factory = classes[name]
    minimum = not issubclass(factory, kinds[0])
    facts = {"norms": (_norm(factory),), "budget": "minimum" if minimum else "fixed", "source": "foolbox"}
    params = constructor_params(factory, {"self"})
    budget = [] if minimum else [Param("eps", "float", 0.0)]
    summary = f"{name} of foolbox."
    decided = (*params, *budget, Param("targeted", "bool", False))
    entry = Entry("attack", f"foolbox:{name}", __name__, name, summary, facts, decided)
    return Foreign(entry, functools.partial(_run, factory, minimum))


def _norm(factory: Any) -> str | None:
    distance = getattr(factory, "distance", None)
    return NORMS.get(getattr(distance, "p", None))  # type: ignore[arg-type]


def _run(
    factory: Any, minimum: bool, model: Any, x: Tensor, y: Tensor, *, eps: float | None = None, targeted: bool = False,
    generator: Any = None, trace: Trace | None = None, **params: Any,
) -> Tensor:  # fmt: skip
    """Run one of their attacks on one batch under the contract of ours."""
    import foolbox

    counted = Counted(model)
    criterion = foolbox.criteria.TargetedMisclassification(y) if targeted else foolbox.criteria.Misclassification(y)
    with untouched(model), seeded(as_generator(generator, x)):
        wrapped = foolbox.PyTorchModel(counted, bounds=(0, 1), device=x.device)  # type: ignore[attr-defined]
        _, made, success = factory(**params)(wrapped, x, criterion, epsilons=None if minimum else eps)
    counted.report(trace)
    result: Tensor = made.detach()
    if minimum:  # what failed is no perturbation
        result = result.where(success.view(-1, *([1] * (x.dim() - 1))), x)
    return result
