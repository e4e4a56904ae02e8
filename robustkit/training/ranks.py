"""Several processes that train one ensemble (``torchrun``): who is who, and what they add up."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn

from robustkit.base.errors import UserError


@dataclass(frozen=True)
class Ranks:
    """One process of ``world``; rank 0 leads: it alone prints and writes."""

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter], weight: float) -> None:
        """Replace each gradient by the sum over all processes of ``weight`` times theirs; one message for all.

        Each keeps the memory layout of its parameter: fused optimisers walk through the memory of both side by side.
        """
        if self.world == 1:
            return
        chosen = [p for p in parameters if p.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in chosen]
        flat = torch.cat([g.flatten() for g in gradients]).mul_(weight)
        distributed.all_reduce(flat)
        parts = torch.split(flat, [g.numel() for g in gradients])
        for p, g, part in zip(chosen, gradients, parts, strict=True):
            p.grad = g if g.stride() == p.stride() else torch.empty_like(p)
            p.grad.copy_(part.view(g.shape))

    def average_statistics(self, module: nn.Module) -> None:
        """Average the running statistics of batch norm, which each process has of its share; one message for all."""
        buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
        if self.world == 1 or not buffers:
            return
        flat = torch.cat([buffer.flatten() for buffer in buffers])
        distributed.all_reduce(flat)
        for buffer, part in zip(buffers, torch.split(flat, [b.numel() for b in buffers]), strict=True):
            buffer.copy_(part.view(buffer.shape) / self.world)

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes."""
        if self.world > 1:
            distributed.all_reduce(values)
        return values

    def decided(self, value: Any) -> Any:
        """Return the leader's value in every process; plain values only."""
        if self.world == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` started (NCCL on GPUs, else gloo); alone without it."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield Ranks()
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def own_device(device: torch.device) -> torch.device:
    """Return this process's GPU, where ``torchrun`` started one process for each of them.

    Raises
    ------
    UserError
        If there are more processes than GPUs, or if several are to share the one that is named: they cannot talk.
    """
    local = os.environ.get("LOCAL_RANK")
    if device.type != "cuda" or local is None:
        return device
    processes, there = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    named = ":" in str(device)
    if named and processes > 1:
        raise UserError(
            f"torchrun started {processes} processes here, and all of them are to train on {device}; write "
            "--device cuda, so that each takes a GPU of its own."
        )
    if processes > there:
        raise UserError(
            f"torchrun started {processes} processes here, but torch sees {there} CUDA devices; "
            f"start --nproc-per-node {there}, or use --device cpu."
        )
    if not named:
        device = torch.device("cuda", int(local))
    torch.cuda.set_device(device)
    return device
