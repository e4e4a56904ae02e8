"""RayS, a search along rays to corners of the box that asks for labels only."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._ascent import Generator, Model
from robustkit.attacks._boundary import begun
from robustkit.attacks._parts import forward
from robustkit.base.errors import UserError
from robustkit.functional.norms import per_sample
from robustkit.functional.trace import Trace

GAIN = 1e-4  # share of the radius by which a flip must help at least
CHECK, WIDEN, BISECT = 0, 1, 2  # what a sample's next query is for


@attack(
    "rays",
    norms=("linf",),
    budget="minimum",
    gradient_free=True,
    family="gradient-free",
    source="Chen and Gu 2020, arXiv:2006.12792",
)
def rays(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    queries: int = 10000,
    tolerance: float = 0.005,
    targeted: bool = False,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """RayS: search the signs of a ray by flipping blocks, halved level by level; needs nothing but labels.

    From d = (1, ..., 1), each trial flips the signs of one of 2^k blocks of d and is kept where clip(x + r d) is
    adversarial at a radius r below the smallest so far; a binary search then finds its radius. After the last block k
    grows by one; after blocks of one element the search starts again with k = 0. Chen and Gu 2020, algorithm 3.
    Deviations: a flip must lower the radius by 0.01 %, where the paper's check at the same radius takes flips that
    change nothing; the binary search starts near the old radius, in steps that double, as most flips gain little; the
    tolerance is a share of the radius, not 0.001; every sample goes on to its own next query, so that none waits.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L), of which only the largest is looked at.
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    queries : int
        Forward passes for each sample, x itself included.
    tolerance : float
        In (0, 1): how exactly a radius is searched, as a share of it.
    generator : ignored
        There is nothing random.

    Returns
    -------
    Tensor
        The nearest adversarial images found, shape and dtype of x; x itself where none was found.

    Raises
    ------
    UserError
        If the tolerance is not in (0, 1).
    """
    if not 0 < tolerance < 1:
        raise UserError(f"tolerance = {tolerance:g} is out of range: give a number between 0 and 1.")
    x, trace = x.detach(), trace or Trace(len(x))
    nearest, _ = begun(model, x, y, "linf", targeted, trace)
    rows = nearest.standing()
    origin, state = x[rows], _Rays(x[rows].flatten(1), tolerance)
    for _ in range(queries - 1 if len(rows) else 0):
        trial, radius = state.trial(), state.radius()
        point = (origin + per_sample(radius, origin) * trial.view_as(origin)).clamp_(0.0, 1.0)
        trace.loss(rows, -state.high)
        state.answer(nearest.update(rows, point, forward(model, point, rows, trace)), trial, radius)
    return nearest.x


class _Rays:
    """The rays of a batch, each at its own query; every tensor has one row per sample.

    ``high`` is the smallest radius at which ``sign`` was adversarial, 1 (the corner of the box) before any was;
    ``low``, where it was not, and ``span`` belong to the search that is going on.
    """

    def __init__(self, flat: Tensor, tolerance: float) -> None:
        self.tolerance, self.n = tolerance, flat.shape[1]
        self.sign = torch.ones_like(flat, dtype=torch.int8)
        self.high, self.low = flat.new_ones(len(flat)), flat.new_zeros(len(flat))
        self.span = self.low.clone()
        self.phase = torch.full((len(flat),), CHECK, device=flat.device)
        self.found = torch.zeros_like(self.phase, dtype=torch.bool)
        self.level, self.block = torch.full_like(self.phase, -1), torch.zeros_like(self.phase)
        self._position = torch.arange(self.n, device=flat.device)

    def radius(self) -> Tensor:
        """Return the radius of each sample's next query, (b,)."""
        check = torch.where(self.found, self.high * (1 - GAIN), self.high)
        ahead = torch.where(self.phase == WIDEN, (self.high - self.span).clamp_min(0), (self.low + self.high) / 2)
        return torch.where(self.phase == CHECK, check, ahead)

    def trial(self) -> Tensor:
        """Return the signs of each sample's next query, (b, n): with a block flipped where that is what is tried."""
        blocks = (2 ** self.level.clamp_min(0)).clamp_max(self.n)
        first, behind = self.block * self.n // blocks, (self.block + 1) * self.n // blocks
        flips = (self.phase == CHECK) & (self.level >= 0)  # the first query flips nothing
        behind = torch.where(flips, behind, first)
        flipped = (self._position >= first[:, None]) & (self._position < behind[:, None])
        return torch.where(flipped, -self.sign, self.sign)

    def answer(self, won: Tensor, trial: Tensor, radius: Tensor) -> None:
        """Note whether the queries at ``radius`` (b,) were adversarial, bool (b,), and choose the next."""
        check, widen, bisect = (self.phase == phase for phase in (CHECK, WIDEN, BISECT))
        taken = check & won
        self.sign = torch.where(taken[:, None], trial, self.sign)
        self.found |= won
        self.high = torch.where(won, radius, self.high)
        self.low = torch.where(taken, 0.0, torch.where(won, self.low, radius))
        self.span = torch.where(taken, self.tolerance * self.high, 2 * self.span)
        near = self.high - self.low <= self.tolerance * self.high * (1 + 1e-6)
        over = (check & ~won) | ((bisect | (widen & ~won)) & near)
        search = torch.where(taken | (widen & won), WIDEN, BISECT)
        self.phase = torch.where(over, CHECK, search)
        self._next_block(over)

    def _next_block(self, over: Tensor) -> None:
        """Move those samples to their next block, those at the last of a level to the next level."""
        blocks = (2 ** self.level.clamp_min(0)).clamp_max(self.n)
        full = over & ((self.block + 1 >= blocks) | (self.level < 0))
        self.block = torch.where(full, 0, self.block + over)
        finest = max(1, math.ceil(math.log2(self.n))) if self.n > 1 else 0
        self.level = torch.where(full, torch.where(self.level >= finest, 0, self.level + 1), self.level)
