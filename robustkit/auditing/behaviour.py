"""How a model behaves apart from what it answers: modes, randomness, dependence on the batch, kind of outputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robustkit.base.names import OutputKind

How = Literal["detected", "given", "assumed"]
CLOSE = 1e-3  # of the spread of the logits: what rounding may change between batches


@dataclass(frozen=True)
class Finding:
    """One thing that the file does not say: what was found, how, on what evidence; ``concern`` is a reason to worry."""

    what: str
    value: str
    how: How
    evidence: str
    concern: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return asdict(self)


def kind_of(rows: Tensor) -> OutputKind:
    """Return what rows of outputs (B, L) are: probabilities, log-probabilities, or, unless they are those, logits."""
    if rows.shape[1] < 2 or not bool(torch.isfinite(rows).all()):
        return "logits"
    if bool((rows >= -1e-6).all()) and bool(((rows.sum(1) - 1).abs() < 1e-3).all()):
        return "probabilities"
    return "log-probabilities" if bool((rows.logsumexp(1).abs() < 1e-3).all()) else "logits"


@torch.no_grad()
def behaviour(network: nn.Module, adapted: nn.Module, x: Tensor) -> Iterator[Finding]:
    """Yield what the model does beside answering; ``adapted`` maps images x (B, C, H, W) in [0, 1] to logits."""
    on = [name or "the model itself" for name, module in network.named_modules() if module.training]
    yield Finding(
        "training mode", f"{len(on)} modules" if on else "off", "detected",
        f"still on after eval(): {', '.join(on[:3])}" if on else "every module is in eval mode", bool(on),
    )  # fmt: skip
    first = adapted(x)
    whole = bool(torch.isfinite(first).all())
    text = "on the first images" if whole else f"{_lost(first)}; such an image counts as broken"
    yield Finding("finite outputs", "yes" if whole else "no", "detected", text, not whole)
    spread = float((first.amax(1) - first.amin(1)).mean()) if whole else 1.0
    again = _most(adapted(x), first)
    moved = again > CLOSE * spread
    text = f"two passes differ by {again:.2g} at most, logits span {spread:.2g}"
    yield Finding("randomness", "random" if moved else "none", "detected", text, moved)
    alone = _most(torch.cat([adapted(one[None]) for one in x[:8]]), first[:8])
    depends = alone > CLOSE * spread and not moved
    text = f"an image alone and among {len(x)} differs by {alone:.2g} at most"
    yield Finding("dependence on the batch", "yes" if depends else "none", "detected", text, depends)


def _lost(z: Tensor) -> str:
    """Return on how many images an output is not finite, and the usual cause of minus infinity."""
    rows = int((~torch.isfinite(z)).any(1).sum())
    text = f"some outputs are NaN or infinite on {rows} of {len(z)} images"
    lowest = bool((z.isfinite() | (z == -torch.inf)).all())
    return f"{text}, -inf: return logits, or log_softmax in place of the log of a softmax" if lowest else text


def _most(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().nan_to_num(0.0).max())
