"""Optimisers and learning-rate schedules of the papers, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, MultiStepLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from robustkit.ensembles.ensemble import Ensemble
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
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, group)
        return value

    def _move(self, p: Tensor, group: dict[str, Any]) -> None:
        state, (b1, b2), eps = self.state[p], group["betas"], group["eps"]
        if not state:
            state |= {"step": torch.zeros(()), "mean": torch.zeros_like(p), "belief": torch.zeros_like(p)}
        state["step"] += 1
        mean, belief, t = state["mean"], state["belief"], float(state["step"])
        assert p.grad is not None
        gradient = p.grad.add(p, alpha=group["weight_decay"]) if group["weight_decay"] else p.grad
        mean.lerp_(gradient, 1 - b1)
        surprise = gradient - mean
        belief.mul_(b2).addcmul_(surprise, surprise, value=1 - b2).add_(eps)
        scale = (belief / (1 - b2**t)).sqrt_().add_(eps)
        p.addcdiv_(mean, scale, value=-group["lr"] / (1 - b1**t))


def averaged(ensemble: Ensemble, decay: float) -> AveragedModel:
    """Return a moving average of weights and buffers: average <- decay average + (1 - decay) weights."""
    return AveragedModel(ensemble, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)  # type: ignore[no-untyped-call]
