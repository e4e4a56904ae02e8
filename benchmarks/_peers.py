"""The peers' side: each library called as its documentation says, with the parameters of the row."""

from __future__ import annotations

import importlib.util
import math
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
from _ours import Outcome
from _subject import Subject
from _workloads import BETA, CONFIDENCE, INITIAL_C, LR, THETA, Workload
from torch import Tensor, nn

from robustkit.backends._common import Counted, seeded, untouched
from robustkit.backends.torchattacks import SHIFT

Run = Callable[[nn.Module, Workload, Tensor, Tensor, Tensor], Tensor]
MODULES = {"torchattacks": "torchattacks", "foolbox": "foolbox", "art": "art", "adv-lib": "adv_lib"}
NOTES = {
    ("torchattacks", "cw"): "no search over c: 200 steps with c = 1; outputs shifted by 200, since it needs logits",
    ("torchattacks", "ead"): "outputs shifted by 200, since it needs logits",
    ("torchattacks", "jsma"): "pairs only, and limits the steps instead of the features",
    ("foolbox", "mim"): "sums raw gradients, without the division by their L1 norm",
    ("art", "jsma"): "two features a step, each the best on its own",
}


class NotOfferedError(Exception):
    """A library has no such attack."""


def installed(peer: str) -> bool:
    """Return whether a library can be imported."""
    return importlib.util.find_spec(MODULES[peer]) is not None


def craft(peer: str, subject: Subject, workload: Workload, seed: int = 0) -> Outcome:
    """Run a workload as a user of the library does: batch by batch on the untouched model.

    Raises
    ------
    NotOfferedError
        If the library has no such attack; anything else that the library raises passes.
    """
    ensemble, x, y = subject.ensemble, subject.x, subject.y
    z = torch.from_numpy(subject.clean.fused).to(x.device)
    target = z.scatter(1, y[:, None], float("-inf")).argmax(1)

    def attack(model: nn.Module) -> Tensor:
        parts = zip(*(torch.split(t, subject.run_options.batch_size) for t in (x, y, target)), strict=True)
        return torch.cat([RUNS[peer](model, workload, *part).detach() for part in parts])

    with untouched(ensemble), seeded(None):
        if not workload.transfer:
            return Outcome(attack(ensemble))
        sources = [*(f"member-{i}" for i in range(len(ensemble))), "ensemble"]
        made = [attack(ensemble.view(source).eval()) for source in sources]
        return Outcome(torch.cat(made), [_by_hand(subject, images, y) for images in made])


@torch.no_grad()
def _by_hand(subject: Subject, images: Tensor, y: Tensor) -> list[float]:
    """Return the accuracy of every member and of the ensemble, one model after the other."""
    models = [*subject.ensemble.members, subject.ensemble]
    size = subject.run_options.batch_size
    return [
        float((torch.cat([model(part).argmax(1) for part in torch.split(images, size)]) == y).float().mean())
        for model in models
    ]


def _offered(table: dict[str, Any], workload: Workload) -> Any:
    if workload.attack not in table:
        raise NotOfferedError
    return table[workload.attack]()


def _torchattacks(model: nn.Module, w: Workload, x: Tensor, y: Tensor, target: Tensor) -> Tensor:
    import torchattacks as ta

    if w.attack in ("cw", "ead"):  # these compare a maximum with 0: negative log-probabilities blind them
        model = Counted(model, SHIFT)
    step = {"eps": w.eps, "alpha": w.step_size, "steps": w.steps}
    search = {"binary_search_steps": w.search_steps, "max_iterations": w.steps, "initial_const": INITIAL_C}
    attack = _offered(
        {
            "pgd": lambda: ta.PGD(model, **step, random_start=True),
            "bim": lambda: ta.BIM(model, **step),
            "mim": lambda: ta.MIFGSM(model, **step, decay=1.0),
            "apgd-ce": lambda: ta.APGD(model, norm="Linf", eps=w.eps, steps=w.steps, n_restarts=1, loss="ce"),
            "square": lambda: ta.Square(model, norm="Linf", eps=w.eps, n_queries=w.steps, n_restarts=1, p_init=0.8),
            "cw": lambda: ta.CW(model, c=1, kappa=CONFIDENCE, steps=w.steps, lr=LR),
            "ead": lambda: ta.EADEN(model, kappa=CONFIDENCE, lr=LR, beta=BETA, **search),
            "jsma": lambda: ta.JSMA(model, theta=THETA, gamma=w.gamma),
        },
        w,
    )
    if w.attack == "jsma":
        attack.set_mode_targeted_by_label(quiet=True)
        y = target
    made: Tensor = attack(x, y)
    for _ in range(w.restarts - 1):  # it has no restarts: a loop by hand that keeps the successes
        tried = attack(x, y)
        with torch.no_grad():
            won = model(tried).argmax(1) != y
        made = torch.where(won.view(-1, 1, 1, 1), tried, made)
    return made


def _foolbox(model: nn.Module, w: Workload, x: Tensor, y: Tensor, target: Tensor) -> Tensor:
    import foolbox

    fb: Any = foolbox  # its modules do not declare what they export
    step = {"rel_stepsize": 0.1, "steps": w.steps}
    search = {"binary_search_steps": w.search_steps, "steps": w.steps, "initial_const": INITIAL_C}
    attack = _offered(
        {
            "pgd": lambda: fb.attacks.LinfPGD(**step, random_start=True),
            "bim": lambda: fb.attacks.LinfBasicIterativeAttack(**step, random_start=False),
            "mim": lambda: fb.attacks.MIFGSM(**step, momentum=1.0, random_start=False),
            "cw": lambda: fb.attacks.L2CarliniWagnerAttack(**search, stepsize=LR, confidence=CONFIDENCE),
            "ead": lambda: fb.attacks.EADAttack(
                **search, initial_stepsize=LR, confidence=CONFIDENCE, regularization=BETA, decision_rule="EN"
            ),
        },
        w,
    )
    if w.restarts > 1:
        attack = attack.repeat(w.restarts)
    wrapped = fb.PyTorchModel(model, bounds=(0, 1), device=x.device)
    made: Tensor = attack(wrapped, x, fb.criteria.Misclassification(y), epsilons=w.eps)[1]
    return made


def _art(model: nn.Module, w: Workload, x: Tensor, y: Tensor, target: Tensor) -> Tensor:
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    with torch.no_grad():
        classes = model(x[:1]).shape[1]
    classifier = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), tuple(x.shape[1:]), classes, clip_values=(0.0, 1.0),
        device_type="gpu" if x.is_cuda else "cpu",
    )  # fmt: skip
    common = {"batch_size": len(x), "verbose": False}
    step = {"norm": math.inf, "eps": w.eps, "eps_step": w.step_size, "max_iter": w.steps}
    search = {
        "binary_search_steps": w.search_steps, "max_iter": w.steps, "initial_const": INITIAL_C, "learning_rate": LR,
        "confidence": CONFIDENCE,
    }  # fmt: skip
    pgd, apgd = evasion.ProjectedGradientDescent, evasion.AutoProjectedGradientDescent
    attack = _offered(
        {
            "pgd": lambda: pgd(classifier, **step, num_random_init=w.restarts, **common),
            "bim": lambda: pgd(classifier, **step, num_random_init=0, **common),
            "mim": lambda: evasion.MomentumIterativeMethod(classifier, **step, decay=1.0, **common),
            "apgd-ce": lambda: apgd(
                classifier, **{**step, "eps_step": 2 * (w.eps or 0.0)}, nb_random_init=1, loss_type="cross_entropy",
                **common,
            ),
            "square": lambda: evasion.SquareAttack(
                classifier, norm=math.inf, max_iter=w.steps, eps=w.eps, p_init=0.8, nb_restarts=1, **common
            ),
            "cw": lambda: evasion.CarliniL2Method(classifier, **search, **common),
            "ead": lambda: evasion.ElasticNet(classifier, **search, beta=BETA, decision_rule="EN", **common),
            "jsma": lambda: evasion.SaliencyMapMethod(classifier, theta=THETA, gamma=w.gamma, **common),
        },
        w,
    )  # fmt: skip
    labels = nn.functional.one_hot(target if w.attack == "jsma" else y, classes).cpu().numpy()
    return torch.from_numpy(attack.generate(x.cpu().numpy(), labels)).to(x.device)


def _adv_lib(model: nn.Module, w: Workload, x: Tensor, y: Tensor, target: Tensor) -> Tensor:
    try:
        import visdom  # noqa: F401 - a plotting server that adv-lib imports and its attacks never call
    except ImportError:  # its own installation fails with a recent setuptools
        sys.modules["visdom"] = types.ModuleType("visdom")
    from adv_lib import attacks

    step = {"steps": w.steps, "absolute_step_size": w.step_size, "loss_function": "ce"}
    made: Tensor = _offered(
        {
            "pgd": lambda: attacks.pgd_linf(model, x, y, w.eps, **step, random_init=True, restarts=w.restarts),
            "bim": lambda: attacks.pgd_linf(model, x, y, w.eps, **step, random_init=False),
            "apgd-ce": lambda: attacks.apgd(model, x, y, w.eps, norm=math.inf, n_iter=w.steps, loss_function="ce"),
            "cw": lambda: attacks.carlini_wagner_l2(
                model, x, y, confidence=CONFIDENCE, learning_rate=LR, initial_const=INITIAL_C,
                binary_search_steps=w.search_steps, max_iterations=w.steps,
            ),
        },
        w,
    )  # fmt: skip
    return made


RUNS: dict[str, Run] = {"torchattacks": _torchattacks, "foolbox": _foolbox, "art": _art, "adv-lib": _adv_lib}
