"""Square Attack, a random search that asks for no gradient."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._ascent import Best, Generator, Model
from robustkit.attacks._boundary import gap
from robustkit.attacks._parts import fork, forward
from robustkit.functional.losses import succeeded
from robustkit.functional.norms import TINY, Norm, per_sample, size
from robustkit.functional.sampling import SampleGenerator, as_generator
from robustkit.functional.trace import Trace
from robustkit.functional.waits import Looks

_Index = tuple[Tensor, Tensor, Tensor, Tensor]
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of p, in queries out of 10,000


@attack(
    "square",
    norms=("linf", "l2"),
    budget="fixed",
    gradient_free=True,
    family="gradient-free",
    source="Andriushchenko et al. 2020, arXiv:1912.00049",
)
def square(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    queries: int = 5000,
    p_init: float = 0.8,
    restarts: int = 1,
    norm: Norm = "linf",
    targeted: bool = False,
    stop_early: bool = True,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Square Attack: random search by square patches on the surface of the ball; needs outputs only.

    From random stripes (linf) or tiles (l2), each query changes one square, at a random place, of a share p of the
    image; the change is kept where the margin max_{i != y} z_i - z_y rises. linf: the square gets x +- eps, a sign for
    each channel. l2: the budget of a second square and what is unused moves to the first. Andriushchenko et al. 2020,
    algorithms 1 to 3. Deviations: every sample draws its own squares, from all positions (the authors' draw leaves out
    the last row and column, which small squares then never reach).

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L).
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    eps : float
        Budget in pixel units [0, 1].
    queries : int
        Squares tried in one restart; the clean image and each start cost one forward pass more.
    p_init : float
        Share of the image that the first squares cover; halved nine times, at queries that scale with ``queries``.
    restarts : int
        Runs, each with its own draws; later ones see only the samples that still stand.
    stop_early : bool
        End a sample's run at its first success; otherwise it goes on to raise the margin.
    generator : SampleGenerator, torch.Generator, int or None
        Source of everything random.

    Returns
    -------
    Tensor
        Adversarial images, shape and dtype of x.
    """
    x = x.detach()
    best, trace, draws = Best(x), trace or Trace(len(x)), as_generator(generator, x)
    every = torch.arange(len(x), device=x.device)
    z = forward(model, x, every, trace)
    best.update(every, x, gap(z, y, targeted), succeeded(z, y, targeted))
    for _ in range(restarts):
        rows = torch.nonzero(~best.won).squeeze(1) if stop_early else every
        if len(rows) == 0:
            break
        patches = _Patches(eps, norm, fork(draws, rows, "square"))
        _search(model, rows, x[rows], y[rows], patches, best, queries, p_init, targeted, stop_early, trace)
    return best.x


def share(query: int, queries: int, p_init: float) -> float:
    """Return the share p of the image that a square covers at a query, section 4.3 of the paper."""
    return p_init / 2.0 ** sum(int(query / queries * 10000) > limit for limit in HALVINGS)


def _search(
    model: Model, rows: Tensor, origin: Tensor, y: Tensor, patches: _Patches, best: Best,
    queries: int, p_init: float, targeted: bool, stop_early: bool, trace: Trace,
) -> None:  # fmt: skip
    """Run one random search and hand what it found to ``best``."""
    point = patches.start(origin)
    z = forward(model, point, rows, trace)
    value, won = gap(z, y, targeted), succeeded(z, y, targeted)
    looks, standing = Looks(), None
    for query in range(queries):
        trace.loss(rows, value, standing)
        if stop_early:
            keep, standing = looks.leave(~won)
            if keep is not None:
                best.update(rows, point, value, won)
                rows, origin, y, point, value, won = (t[keep] for t in (rows, origin, y, point, value, won))
                patches.keep(keep)
                if len(rows) == 0:
                    return
        proposal = patches.propose(point, origin, share(query, queries, p_init))
        z = forward(model, proposal, rows, trace, standing)
        tried, hit = gap(z, y, targeted), succeeded(z, y, targeted)
        better = (hit & ~won) | ((hit == won) & (tried > value))
        if standing is not None:
            better = better & standing
        point = torch.where(per_sample(better, point), proposal, point)
        value, won = torch.where(better, tried, value), torch.where(better, hit, won)
    trace.loss(rows, value, standing)
    best.update(rows, point, value, won)


class _Patches:
    """Random starts and changes in the ball, each sample's from its own stream."""

    def __init__(self, eps: float, norm: Norm, draws: SampleGenerator) -> None:
        self.eps, self.norm, self.draws = eps, norm, draws

    def keep(self, rows: Tensor) -> None:
        self.draws = self.draws.select(rows)

    def start(self, origin: Tensor) -> Tensor:
        """Return vertical stripes of x +- eps (linf), or tiles of the l2 patch scaled to the sphere."""
        _, c, h, w = origin.shape
        if self.norm == "linf":
            return (origin + self.eps * self._signs((c, 1, w), origin)).clamp(0.0, 1.0)
        s = max(min(h, w) // 5, 1)
        down, across = h // s, w // s
        tile = _patch(s, origin.dtype, origin.device)
        flat = (self._signs((c, down, across), origin)[..., None, None] * tile).permute(0, 1, 2, 4, 3, 5)
        delta = torch.zeros_like(origin)
        top, left = (h - down * s) // 2, (w - across * s) // 2
        delta[:, :, top : top + down * s, left : left + across * s] = flat.reshape(-1, c, down * s, across * s)
        return self._onto_sphere(origin, delta)

    def propose(self, point: Tensor, origin: Tensor, p: float) -> Tensor:
        """Return points with one square changed, of side about sqrt(p h w)."""
        b, c, h, w = origin.shape
        side = round(math.sqrt(p * h * w))
        if self.norm == "linf":
            s = max(1, min(side, h - 1, w - 1))
            window, _, sign, _ = self._squares(origin, s)
            proposal = point.clone()
            proposal[window] = (origin[window] + self.eps * sign).clamp(0.0, 1.0)
            return proposal
        s = min(max(side, 3) | 1, h, w)
        delta = point - origin
        window, second, sign, flip = self._squares(origin, s)
        old = delta[window]
        spare = (self.eps**2 - size(delta, "l2").square()).clamp_min(0)
        total = delta.square().sum((2, 3))
        delta[second] = 0.0
        delta[window] = 0.0
        moved = (total - delta.square().sum((2, 3))).clamp_min(0)  # squared length in the two squares, per channel
        tile = _patch(s, origin.dtype, origin.device)
        new = sign * torch.where(flip, tile.T, tile) + old / old.square().sum((2, 3), keepdim=True).sqrt().clamp_min(
            1e-12
        )
        budget = (spare[:, None] / c + moved).sqrt()[..., None, None]
        delta[window] = new / new.square().sum((2, 3), keepdim=True).sqrt().clamp_min(1e-12) * budget
        return self._onto_sphere(origin, delta)

    def _squares(self, origin: Tensor, s: int) -> tuple[_Index, _Index, Tensor, Tensor]:
        """Draw two squares of side s, a sign for each channel (b, c, 1, 1) and a coin (b, 1, 1, 1) for each sample."""
        b, c, h, w = origin.shape
        device = origin.device
        drawn = self.draws.integers(_ranges(h - s + 1, w - s + 1, c, device), (c + 5,), device)
        sample, channel = torch.arange(b, device=device)[:, None, None, None], torch.arange(c, device=device)
        reach = torch.arange(s, device=device)

        def square_at(corner: Tensor) -> _Index:
            down, across = corner[:, 0, None] + reach, corner[:, 1, None] + reach
            return sample, channel[:, None, None], down[:, None, :, None], across[:, None, None, :]

        sign = (2 * drawn[:, 5:] - 1).to(origin.dtype)[:, :, None, None]
        return square_at(drawn[:, 0:2]), square_at(drawn[:, 2:4]), sign, drawn[:, 4, None, None, None] == 1

    def _signs(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        return (2 * self.draws.integers(2, shape, like.device) - 1).to(like.dtype)

    def _onto_sphere(self, origin: Tensor, delta: Tensor) -> Tensor:
        scale = per_sample(self.eps / size(delta, "l2").clamp_min(TINY), delta)
        return (origin + scale * delta).clamp(0.0, 1.0)


@lru_cache(maxsize=64)  # a new tensor of numbers is a copy to the device, and a wait
def _ranges(down: int, across: int, channels: int, device: torch.device) -> Tensor:
    """Return of how many values each number of a query is drawn: two corners, a coin and a sign for each channel."""
    return torch.tensor([down, across, down, across, *[2] * (channels + 1)], device=device)


@lru_cache(maxsize=64)
def _patch(s: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the l2 patch (s, s) of unit length: two halves of concentric rectangles, of opposite signs (eq. 3)."""
    upper, lower = _rectangles(s // 2, s), _rectangles(s - s // 2, s)
    whole = torch.cat([upper, -lower])
    return _unit(whole).to(dtype=dtype, device=device)


def _rectangles(h: int, w: int) -> Tensor:
    """Return (h, w), of unit length: sum_{k >= distance to the centre} 1 / (k + 1)^2, k to the longer half side."""
    if h == 0:
        return torch.zeros((0, w), dtype=torch.float64)
    terms = torch.arange(1, max(h, w) // 2 + 2, dtype=torch.float64) ** -2
    tail = terms.flip(0).cumsum(0).flip(0)
    distance = torch.maximum((torch.arange(h) - h // 2).abs()[:, None], (torch.arange(w) - w // 2).abs()[None, :])
    values = tail[distance]
    return _unit(values)


def _unit(values: Tensor) -> Tensor:
    return values / values.square().sum().sqrt()
