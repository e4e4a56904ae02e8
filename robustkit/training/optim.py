"""Optimisers and learning-rate schedules of the papers, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, MultiStepLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.precision import flush_denormals
from robustkit.training.spec import TrainSpec, shares

LOWEST_LR = 1e-6  # where the cosine ends (SDDE paper, section 5.1)


def optimiser(spec: TrainSpec, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser that a training names, over these parameters."""
    chosen = list(parameters)
    if spec.optimiser == "sgd":
        return torch.optim.SGD(
            chosen, spec.lr, spec.momentum, weight_decay=spec.weight_decay, nesterov=spec.momentum > 0, fused=True
        )
    if spec.optimiser == "adabelief":
        return AdaBelief(chosen, spec.lr, weight_decay=spec.weight_decay)
    return torch.optim.Adam(chosen, spec.lr, weight_decay=spec.weight_decay, fused=True)


def schedule(spec: TrainSpec, on: torch.optim.Optimizer) -> LRScheduler:
    """Return the schedule that a training names; it is stepped once an epoch."""
    if spec.schedule == "cosine":
        return CosineAnnealingLR(on, spec.epochs, eta_min=min(LOWEST_LR, spec.lr))
    if spec.schedule == "constant":
        return LambdaLR(on, lambda epoch: 1.0)
    drops = sorted({round(spec.epochs * share) for share in shares(spec.drops, "train.drops")} - {0})
    return MultiStepLR(on, drops, gamma=0.1)


def settle(on: torch.optim.Optimizer, average: AveragedModel | None = None) -> None:
    """Set weights that decay has all but ended, and what is remembered of them, to zero, where they stay."""
    flush_denormals(p for group in on.param_groups for p in group["params"])
    flush_denormals(value for state in on.state.values() for value in state.values() if isinstance(value, Tensor))
    flush_denormals(average.parameters() if average is not None else ())


class AdaBelief(torch.optim.Optimizer):
    """AdaBelief (Zhuang et al. 2020, arXiv:2010.07468, algorithm 2), with L2 weight decay.

    s_t = b2 s_{t-1} + (1 - b2) (g_t - m_t)^2 + eps stands where Adam has the square of the gradient: steps are long
    where the gradient is what its mean promised.

    Parameters
    ----------
    params : iterable of nn.Parameter
    lr, betas, eps, weight_decay
        As in Adam; the design-diversity paper's are 1e-3, (0.9, 0.999), 1e-8.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Move every parameter that has a gradient."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        for group in self.param_groups:
            together: dict[tuple[float, torch.device, torch.dtype], list[nn.Parameter]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    together.setdefault((self._counted(p), p.device, p.dtype), []).append(p)
            for (t, *_), parameters in together.items():
                self._move(parameters, t, group)
        return value

    def _counted(self, p: nn.Parameter) -> float:
        """Return which step of a parameter this is."""
        state = self.state[p]
        if not state:
            state |= {"step": torch.zeros(()), "mean": torch.zeros_like(p), "belief": torch.zeros_like(p)}
        state["step"] += 1
        return float(state["step"])

    def _move(self, parameters: list[nn.Parameter], t: float, group: dict[str, Any]) -> None:
        """Move parameters together: on a GPU a dozen launches, where one after the other takes a dozen for each."""
        (b1, b2), eps, decay = group["betas"], group["eps"], group["weight_decay"]
        weights: list[Tensor] = [p.detach() for p in parameters]
        gradients: list[Tensor] = [p.grad for p in parameters if p.grad is not None]
        mean, belief = ([self.state[p][name] for p in parameters] for name in ("mean", "belief"))
        if decay:
            gradients = list(torch._foreach_add(gradients, weights, alpha=decay))
        torch._foreach_lerp_(mean, gradients, 1 - b1)
        surprise = list(torch._foreach_sub(gradients, mean))
        torch._foreach_mul_(belief, b2)
        torch._foreach_addcmul_(belief, surprise, surprise, value=1 - b2)
        torch._foreach_add_(belief, eps)
        scale = list(torch._foreach_div(belief, 1 - b2**t))
        torch._foreach_sqrt_(scale)
        torch._foreach_add_(scale, eps)
        torch._foreach_addcdiv_(weights, mean, scale, value=-group["lr"] / (1 - b1**t))


def averaged(ensemble: Ensemble, decay: float) -> AveragedModel:
    """Return a moving average of weights and buffers: average <- decay average + (1 - decay) weights."""
    return AveragedModel(ensemble, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)  # type: ignore[no-untyped-call]
