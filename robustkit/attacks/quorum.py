"""Quorum, an ascent that attacks an ensemble's fused output together with changing groups of its members."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._ascent import PULL, Generator, Model, Readout, ascend, chances, gliding
from robustkit.attacks._members import by_gap, by_spread, count, fusion, mean_of, outputs
from robustkit.attacks._promise import Unpromising
from robustkit.attacks._votes import ballots
from robustkit.base.errors import UserError
from robustkit.base.names import VOTES
from robustkit.functional.eot import drawn
from robustkit.functional.norms import Norm
from robustkit.functional.trace import Trace

SHARP = 4.0  # standard deviation of a group's logits: of ten equally spread classes the first two are 1.4 apart
ALONE = 2.0  # a single model's logits against a group's: nobody else pulls
BROAD = 0.5  # gap of a single model in every second run, where classes further off count
LOOKS = {2: 1.25, 4: 1.0}  # after how many runs it is looked what they have hardly moved, and times ``give_up``
VOTED = 4  # runs: the fewest after which it is looked where members vote, since each run is against other votes


@attack(
    "quorum", norms=("linf", "l2"), iterative=True, settles=True, family="members",
    source="robustkit; MIFPE; arXiv:2211.08008",
)  # fmt: skip
def quorum(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int = 24,
    restarts: int = 8,
    norm: Norm = "linf",
    targeted: bool = False,
    stop_early: bool = True,
    give_up: float = 0.4,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Quorum: short runs against the fused output and, beside it, a group of members that would outvote the rest.

    Each run ascends the cross-entropy of (1 - s) f / gap(f) + s mean_{m in G} 4 z_m / std(z_m), f the fused output, z_m
    the logits of member m, gap the difference of the two largest entries, std the standard deviation (no gradient
    through either); where members vote, z_m / gap(z_m) stands for the latter. By such scales the loss is the same
    however sure a member is. By its gap, every class that comes near the answer counts; by its spread, the nearest
    counts most until it is level. The group G is, in turn: the members that are still right (s = .5), all members but
    one, for each (s = .75), nobody (s = 0, the fused output alone), and again those still right (s = .25, .75, 1).
    Steps are as in APGD, with momentum .75, and glide from 2 eps to nothing by a cosine; each run starts at a random
    point, and what one broke the next does not see, unless ``stop_early=False``.

    After two runs (not where members vote) a sample is given up whose members still have more than 1.25 ``give_up`` of
    their clean margin, on average, each in standard deviations of its clean logits, after four one with more than
    ``give_up`` (not of crossmax, of members that are drawn, of passes averaged, or aimed at a label): of what later
    runs broke nothing had more than .24 of it (in logits) after two runs against means, and .14 after four, and much of
    what stands has.

    Where members vote (majority, median, crossmax), a run ascends how likely it is, in logs, that more than half of
    them agree on a wrong class, if each answered by chance: e_k of the softmaxes of z_m / (t gap), k = M // 2 + 1, e_k
    the sum over all groups of k members of the product of their probabilities. In turn: against that on the label (t =
    .5, gap the members' mean), without it (t = 1, gap each member's own; t = .5, the mean), all members but one. Of
    crossmax, which falls where members err beside one that does not, log sum_w p_wy e_k(1 - p_my, m != w) is the first
    of three.

    A model without members, or with one, is its own group, in turn with s = .5, twice as sharp, and with
    f / (2 gap(f)) alone.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L). One with members has ``member_logits(x)``
        (M, B, L), ``fuse(member_logits)`` (B, L) and a length M, as :class:`robustkit.ensembles.ensemble.Ensemble` has.
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    eps : float
        Budget in pixel units [0, 1]; the first step is 2 eps long.
    steps : int
        Steps of each run.
    restarts : int
        Runs; the M + 5 mixtures, of votes the 4 M, of crossmax three, take turns.
    give_up : float
        What share of the clean margin four runs may leave of a sample that further runs see; from .8 on two runs
        give nothing up, from 1 on none.
    generator : SampleGenerator, torch.Generator, int or None
        Source of the random starts.

    Returns
    -------
    Tensor
        Adversarial images, shape and dtype of x; where all runs fail, that of the fused output's smallest
        margin (of members that are drawn, of highest cross-entropy).

    Raises
    ------
    UserError
        If ``give_up`` is below 0.
    FloatingPointError
        If a gradient is not finite.
    """
    if not give_up >= 0:
        raise UserError(f"give_up = {give_up:g} is out of range: give a share of the clean margin, like 0.4.")
    views = turns(model, targeted)
    by_margin = (
        stop_early and not targeted and not chances(model) and fusion(model) != "crossmax" and drawn(model)[1] == 1
    )
    fewest = VOTED if fusion(model) in VOTES else 0
    shares = {runs: times * give_up for runs, times in LOOKS.items() if runs >= fewest and times * give_up < 1}
    hopeless = Unpromising(model, x, y, shares, trace) if by_margin and shares else None
    return ascend(
        model, x, y, eps=eps, steps=steps, step_size=gliding(eps, steps), norm=norm, loss="ce", targeted=targeted,
        randomly=True, pull=PULL, stop_early=stop_early, readouts=[views[run % len(views)] for run in range(restarts)],
        generator=generator, trace=trace, hopeless=hopeless, ranked="margin",
    )  # fmt: skip


def turns(model: Model, targeted: bool) -> list[Readout | None]:
    """Return what is ascended in turn, by the rule that fuses the members."""
    rule, members = fusion(model), count(model)
    views = groups(members, targeted)
    if members < 2 or rule not in VOTES:
        return views
    votes = ballots(rule, targeted)
    if rule == "crossmax":  # a group's fused output is nearly blind
        return [*votes]
    return [view for all_but_one in views[members:0:-1] for view in (*votes, all_but_one)]


def groups(members: int, targeted: bool) -> list[Readout | None]:
    """Return what is ascended in turn, of an ensemble of so many members."""
    if members < 2:
        return [_alone, _broad]
    without = [[other for other in range(members) if other != m] for m in range(members)]
    return [
        _beside(0.5, None, targeted),
        *(_beside(0.75, group, targeted) for group in without),
        *(_beside(share, None, targeted) for share in (0.0, 0.25, 0.75, 1.0)),
    ]


@lru_cache(maxsize=64)  # a list would be copied to the device in each pass, and waited for
def _indices(group: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(group, device=device)


def _sharp(z: Tensor) -> Tensor:
    return SHARP * by_spread(z)


def _alone(model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    _, fused = outputs(model, x)
    return fused, (0.5 * by_gap(fused) + 0.5 * ALONE * _sharp(fused))[None]


def _broad(model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    _, fused = outputs(model, x)
    return fused, BROAD * by_gap(fused)[None]


def _beside(share: float, group: list[int] | None, targeted: bool) -> Readout:
    """Return a readout that ascends the fused output and, with that share, a group; None: those not yet fooled."""

    def read(model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits, fused = outputs(model, x)
        if not share:
            return fused, by_gap(fused)[None]
        own = logits if group is None else logits[_indices(tuple(group), logits.device)]
        right = (own.argmax(2) == y) ^ targeted if group is None else torch.ones_like(own[..., 0], dtype=torch.bool)
        # Measured: on votes groups by their gap leave less, on means those by their spread.
        scaled = by_gap if fusion(model) in VOTES else _sharp
        weight = (share * right.any(0)).to(own.dtype)[:, None]  # of nobody, nothing
        mixed = (1 - weight) * by_gap(fused) + weight * mean_of(right.to(own.dtype), scaled(own))
        return fused, mixed[None]

    return read
