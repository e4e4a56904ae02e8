"""The search over the constant c that C&W and EAD share: min |delta| + c * f(x + delta), each sample on its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustkit.attacks._ascent import Model, value_and_gradient
from robustkit.attacks._boundary import Nearest, gap, refine
from robustkit.attacks._last import shortest
from robustkit.base.errors import UserError
from robustkit.functional.losses import objective, succeeded
from robustkit.functional.norms import TINY, size
from robustkit.functional.trace import Trace
from robustkit.functional.waits import Finite, put

LARGEST_C = 1e10  # where the exponential search for an upper bound of c ends
PROGRESS = 0.9999  # a run goes on as long as its loss falls below this share of what it was at the last check
SETTLED = 0.99  # a search may end with a run whose success is no smaller than this share of those before
REFINEMENTS = 2  # steps of the last search between x and a result


class ConstantSearch:
    """Independent searches for the smallest perturbation, one per sample, and the working set of those that go on.

    A *run* is one optimisation with a fixed c. When a sample's run ends, by its length or because its own loss stopped
    falling, its c is bisected (or multiplied by 10 while no c has succeeded) and its next run starts in the same model
    pass in which other samples are in the middle of theirs; a sample that has done all its runs leaves the batch.
    Nothing is shared between samples, so that no result depends on the batch.

    With an ``aim`` the next c is not blindly bisected. On a linearised boundary the optimum lies on it as soon as c
    exceeds c* = p (1 + f / a) / a, where p = <grad distortion, delta> is what the distortion and a = -<grad f, delta>
    what f changes with the length of delta: the next c is ``aim`` times c* where that is between the bounds known.

    Parameters
    ----------
    steps, lr : int, float
        Settings of the optimiser, only checked here.
    passes : int
        Gradient passes in a run.
    search_steps : int
        Runs of each sample.
    initial_c : float
        The first c.
    checks : int
        How often in a run it is asked whether it should go on.
    aim : float or None
        What c* is multiplied by for the next c; None: bisect.
    settle : bool
        End a sample's search with a run whose success is hardly smaller than those before.
    confidence : float
        kappa: by how much (in logits) the margin must be won for a run to count as successful.
    abort_early : bool
        End a sample's run when neither its loss fell by 0.01 % since the last check nor a smaller success was found.

    Attributes
    ----------
    rows : Tensor of int64, shape (b,)
        The working set, as indices into the batch. The tensors below have one row for each of them.
    origin, labels, c, step : Tensor
        Images, labels, present constant, and gradient passes done in the present run.
    best : Tensor, shape (B, C, H, W)
        The smallest success of each sample; x where there is none. One that reaches the confidence goes before one
        that does not.

    Raises
    ------
    UserError
        If a count, lr or the first c is not positive.
    """

    _PER_SAMPLE = (
        "rows", "origin", "labels", "c", "step", "_lower", "_upper", "_checked", "_found", "_improved", "_runs",
        "_critical", "_before",
    )  # fmt: skip

    def __init__(
        self, model: Model, x: Tensor, y: Tensor, *, steps: int, passes: int, search_steps: int, lr: float,
        initial_c: float, checks: int, aim: float | None, settle: bool, confidence: float, abort_early: bool,
        targeted: bool, trace: Trace | None,
    ) -> None:  # fmt: skip
        given = {"steps": steps, "search_steps": search_steps, "lr": lr, "initial_c": initial_c}
        for name, value in given.items():
            if not value > 0:
                raise UserError(f"{name} = {value:g} is out of range: give a number above 0.")
        self.model, self.targeted, self.confidence = model, targeted, confidence
        self.passes, self.search_steps, self.interval = passes, search_steps, max(1, -(-steps // checks))
        self.aim, self.settle = aim, settle
        self.abort_early, self.trace = abort_early, trace or Trace(len(x))
        gain = objective("margin", targeted)
        self._gain: Callable[[Tensor, Tensor], Tensor] = lambda z, y: gain(z, y).clamp_max(confidence)
        self._x, self.best = x.detach(), x.detach().clone()
        self._best_size = x.new_full((len(x),), float("inf"))
        self._best_tier = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        with torch.no_grad():
            z = model(self.best)
        self._all_labels, self._start = y, gap(z, y, targeted)
        self.rows = torch.arange(len(x), device=x.device)
        self.trace.count(self.rows, forwards=1)
        self.rows = torch.nonzero(~succeeded(z, y, targeted)).squeeze(1)
        self.origin, self.labels = self.best[self.rows], y[self.rows]
        self.c = x.new_full((len(self.rows),), initial_c)
        self._lower, self._upper = torch.zeros_like(self.c), torch.full_like(self.c, float("inf"))
        self._checked = torch.full_like(self.c, float("inf"))
        self._critical, self._before = torch.full_like(self.c, float("inf")), torch.full_like(self.c, float("inf"))
        self._found = torch.zeros(len(self.rows), dtype=torch.bool, device=x.device)
        self._improved = self._found.clone()
        self.step, self._runs = torch.zeros_like(self.rows), torch.zeros_like(self.rows)
        self._finite = Finite()

    def probe(self, point: Tensor, price: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, f (b,) and the gradient of f with respect to the images ``point`` (b, C, H, W).

        f = max(-margin, -confidence), margin = max_{i != y} z_i - z_y, or its negative if targeted. ``price`` (b,) is
        p above.
        """
        z, gain, gradient = value_and_gradient(
            self.model, point, self.labels, self._gain, backward=True, finite=self._finite
        )
        self.trace.count(self.rows, forwards=1, backwards=1)
        self.trace.loss(self.rows, -gain)
        along = (gradient * (point - self.origin)).flatten(1).sum(1)
        critical = price * (1 + (self.confidence - gain).clamp_min(0) / along.clamp_min(TINY)) / along.clamp_min(TINY)
        known = (along > TINY) & (price > 0) & torch.isfinite(critical)  # f has no slope where it is at its least
        self._critical = torch.where(known, critical, self._critical)
        return z, -gain, -gradient

    @property
    def best_size(self) -> Tensor:
        """Distortion of the best success of each sample of the working set, (b,); infinite where there is none."""
        return self._best_size[self.rows]

    def offer(self, point: Tensor, size: Tensor, z: Tensor, at: Tensor | None = None) -> None:
        """Keep those of the images that succeed with less distortion ``size`` than any before.

        ``at`` says which rows of the working set the images belong to; None: all of them.
        """
        at = torch.arange(len(self.rows), device=self.rows.device) if at is None else at
        won, labels, rows = succeeded(z, self.labels[at], self.targeted), self.labels[at], self.rows[at]
        sure = won if self.confidence <= 0 else won & (self._gain(z, labels) >= self.confidence)
        tier = won.long() + sure
        self._found[at] |= sure
        held = self._best_tier[rows]
        better = (tier > held) | ((tier == held) & won & (size < self._best_size[rows]))
        self._improved[at] |= better
        put(rows, better, (self.best, point), (self._best_size, size), (self._best_tier, tier))

    def offer_scored(self, point: Tensor, size: Tensor) -> None:
        """Score those images that could still matter, and offer them.

        An image that is no smaller than the best so far matters only while the present c has not succeeded yet.
        """
        at = torch.nonzero(~self._found | (size < self._best_size[self.rows])).squeeze(1)
        if len(at):
            with torch.no_grad():
                z = self.model(point[at])
            self.trace.count(self.rows[at], forwards=1)
            self.offer(point[at], size[at], z, at)

    def advance(self, loss: Tensor, stuck: Tensor | None = None) -> tuple[Tensor | None, Tensor | None]:
        """Count a step with ``loss`` (b,), end runs and samples that are done, and choose the next c of the others.

        Returns
        -------
        restart : Tensor of bool or None
            Which samples of the *new* working set begin a run; None: none does.
        keep : Tensor of int64 or None
            Which rows of the old working set are in the new one; None: all.
        """
        ended = self.step + 1 >= self.passes
        if self.abort_early:
            check = self.step % self.interval == 0
            ended = ended | (check & ~(loss <= PROGRESS * self._checked) & ~self._improved)
            self._checked = torch.where(check, loss, self._checked)
            self._improved = self._improved & ~check
        if stuck is not None:
            ended = ended | stuck
        self.step = self.step + 1
        # A GPU is waited for here: what follows, each time, would take more launches than a wait is worth.
        if not self._finite.settle_and_read(ended.any()):
            return None, None
        c = self.c
        self._upper = torch.where(ended & self._found, torch.minimum(self._upper, c), self._upper)
        self._lower = torch.where(ended & ~self._found, torch.maximum(self._lower, c), self._lower)
        self.c = torch.where(ended, self._following(), c)
        if self.settle:
            settled = ended & self._found & (self.best_size >= SETTLED * self._before)
            self._runs = torch.where(settled, self.search_steps, self._runs)
            self._before = torch.where(ended, self.best_size, self._before)
        self._checked = self._checked.masked_fill(ended, float("inf"))
        self.step, self._found = self.step.masked_fill(ended, 0), self._found & ~ended
        self._runs = self._runs + ended
        keep = torch.nonzero(self._runs < self.search_steps).squeeze(1)
        if len(keep) == len(ended):
            return ended, None
        for name in self._PER_SAMPLE:
            setattr(self, name, getattr(self, name)[keep])
        return ended[keep], keep

    def refined(self, norm: str, *, plane: bool = True) -> Tensor:
        """Return the results, made smaller in a last search where no confidence was asked for.

        With ``plane`` see :func:`~robustkit.attacks._last.shortest`, otherwise the line to x alone is searched, along
        which every norm shrinks. No result gets larger in ``norm``.
        """
        if self.confidence > 0 or len(self.best) == 0:
            return self.best
        nearest = Nearest(self._x, self._all_labels, norm, self.targeted)
        nearest.x = self.best
        found = torch.isfinite(self._best_size)
        nearest.distance = torch.where(found, size(self.best - self._x, norm), nearest.distance)
        search = shortest if plane else refine
        search(self.model, nearest, self._start, REFINEMENTS, self.trace)
        return nearest.x

    def _following(self) -> Tensor:
        """Return the c of the next run of each sample, whose bounds are up to date."""
        blind = torch.where(self._upper.isinf(), (10 * self.c).clamp_max(LARGEST_C), (self._lower + self._upper) / 2)
        if self.aim is None:
            return blind
        # Where nothing has succeeded c must grow, and fast where such a guess has failed before: that boundary is no
        # plane, or the steps are too few for a small c. Near a bound, whose c has been tried, bisection learns more.
        guess = self.aim * self._critical
        least = torch.where(self._runs < 2, 2 * self.c, 10 * self.c)
        grown = torch.minimum(torch.maximum(guess, least), 100 * self.c)
        wanted = torch.where(self._upper.isinf(), grown, guess).clamp_max(LARGEST_C)
        sensible = self._critical.isfinite() & (wanted > self._lower) & (wanted < 0.9 * self._upper)
        return torch.where(sensible, wanted, blind)
