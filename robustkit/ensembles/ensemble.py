"""An ensemble: members with their own normalisation inside, and one fused output."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.ensembles.fusion import FUSIONS, Draw, rule_of

Rule = Callable[[Tensor], Tensor]


class Normalize(nn.Module):
    """(x - mean) / std per channel, x in [0, 1], (B, C, H, W)."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised images."""
        return (x - self.mean) / self.std


class Member(nn.Module):
    """A classifier of images in [0, 1]: normalisation, then a network that returns logits (B, L)."""

    def __init__(self, network: nn.Module, mean: Sequence[float] = (0.0,), std: Sequence[float] = (1.0,)) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, L)."""
        logits: Tensor = self.network(self.normalize(x))
        return logits


class Ensemble(nn.Module):
    """Members and a fusion rule; maps x in [0, 1] to fused log-probabilities (B, L), so that any toolkit can attack it.

    Parameters
    ----------
    members : sequence of nn.Module
        Each maps x (B, C, H, W) in [0, 1] to logits (B, L); architectures may differ.
    fusion : str or callable
        One of ``mean-prob``, ``mean-logit``, ``median``, ``geometric-mean``, ``majority``, ``crossmax``, ``random`` (a
        member is drawn; ``random:0.9,0.1`` with these probabilities), or a rule of your own: member logits (M, B, L)
        to fused log-probabilities (B, L).

    Attributes
    ----------
    chances : tuple of float
        With what probability each member is drawn; empty where none is.

    Raises
    ------
    UserError
        If the fusion rule is unknown, or has probabilities that do not fit.
    """

    def __init__(self, members: Sequence[nn.Module], fusion: str | Rule = "mean-prob") -> None:
        super().__init__()
        if not members:
            raise ValueError("an ensemble needs at least one member")
        self.members = nn.ModuleList(members)
        self.rule: Rule = rule_of(fusion) if isinstance(fusion, str) else fusion
        self.chances: tuple[float, ...] = self.rule.of(len(members)) if isinstance(self.rule, Draw) else ()
        names = {rule: name for name, rule in FUSIONS.items()}
        self.fusion: str = names.get(self.rule, getattr(self.rule, "__name__", type(self.rule).__name__))

    def __len__(self) -> int:
        return len(self.members)

    def member_logits(self, x: Tensor) -> Tensor:
        """Return the logits of every member, (M, B, L), in the dtype of the images x (B, C, H, W)."""
        return torch.stack([member(x).to(x.dtype) for member in self.members])

    def fuse(self, logits: Tensor) -> Tensor:
        """Return fused log-probabilities (B, L) from member logits (M, B, L): what is scored."""
        return self.rule(logits)

    def shown(self, logits: Tensor) -> Tensor:
        """Return what attacks follow, (B, L): the fused output, where a member is drawn its mean probability's log."""
        return self.rule.smooth(logits) if isinstance(self.rule, Draw) else self.fuse(logits)

    def forward(self, x: Tensor) -> Tensor:
        """Return fused log-probabilities (B, L); where a member is drawn, the log of its mean probability."""
        return self.shown(self.member_logits(x))

    def view(self, source: str) -> nn.Module:
        """Return what an attack is shown: ``member-I`` (that member's log-probabilities), else the fused output."""
        if not source.startswith("member-"):
            return self
        return _MemberView(self.members[int(source.removeprefix("member-"))])

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of every weight and buffer, by name."""
        return fingerprint(self.state_dict())


def fingerprint(state: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of a module's named state: tensors, and what else modules keep (``get_extra_state``).

    A value that can be neither read nor pickled is known by its ``repr``, so that in another process it is a new one.
    """
    sha = hashlib.sha256()
    for name, value in sorted(state.items()):
        _hash(sha, name, value)
    return sha.hexdigest()


def _hash(sha: Any, name: str, value: Any) -> None:
    if isinstance(value, Tensor):
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        held = value.detach().cpu()
        if held.is_quantized:
            sha.update(f"{held.qscheme()} {held}\n".encode())  # scales and zero points
            held = held.int_repr()
        elif held.layout is not torch.strided:
            held = held.to_dense()
        sha.update(held.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, Mapping | list | tuple):
        sha.update(f"{name} {type(value).__name__} {len(value)}\n".encode())
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            _hash(sha, f"{name}.{key}", inner)
    else:
        sha.update(f"{name} {type(value).__name__}\n".encode())
        sha.update(_known_by(value))


def _known_by(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    try:
        return pickle.dumps(value)
    except Exception:  # noqa: BLE001 - any object may be there, and few can be pickled
        return repr(value).encode()


class _MemberView(nn.Module):
    def __init__(self, member: nn.Module) -> None:
        super().__init__()
        self.member = member

    def forward(self, x: Tensor) -> Tensor:
        return functional.log_softmax(self.member(x).to(x.dtype), -1)
