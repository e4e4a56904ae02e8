"""The published search over the constant c of C&W and EAD: min |delta| + c * f(x + delta), each sample on its own."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.attacks._ascent import Model
from robustkit.attacks._boundary import gap
from robustkit.attacks._parts import forward
from robustkit.attacks._successes import Successes
from robustkit.functional.trace import Trace

LARGEST_C = 1e10  # where the exponential search for an upper bound of c ends
PROGRESS = 0.9999  # a run goes on as long as its loss falls below this share of what it was at the last check
CHECKS = 10  # how often in a run it is asked whether it should go on


class ConstantSearch(Successes):
    """Independent searches for the smallest perturbation, one per sample, and the working set of those that go on.

    A *run* is one optimisation with a fixed c. When a sample's run ends, by its length or because its own loss stopped
    falling, its c is bisected (or multiplied by 10 while no c has succeeded) and its next run starts in the same model
    pass in which other samples are in the middle of theirs; a sample that has done all its runs leaves the batch.

    Parameters
    ----------
    steps : int
        Steps of the optimiser in a run.
    passes : int
        Gradient passes in a run.
    search_steps : int
        Runs of each sample.
    initial_c : float
        The first c.
    abort_early : bool
        End a sample's run when neither its loss fell by 0.01 % since the last check nor a smaller success was found.

    Attributes
    ----------
    c, step : Tensor, shape (b,)
        Present constant, and gradient passes done in the present run.
    """

    _PER_SAMPLE = (
        *Successes._PER_SAMPLE, "c", "step", "_lower", "_upper", "_checked", "_found", "_improved", "_runs",
    )  # fmt: skip

    def __init__(
        self, model: Model, x: Tensor, y: Tensor, *, steps: int, passes: int, search_steps: int, initial_c: float,
        confidence: float, abort_early: bool, targeted: bool, trace: Trace | None,
    ) -> None:  # fmt: skip
        super().__init__(model, x, y, confidence=confidence, targeted=targeted, trace=trace)
        self.passes, self.search_steps, self.interval = passes, search_steps, max(1, -(-steps // CHECKS))
        self.abort_early = abort_early
        self.c = x.new_full((len(self.rows),), initial_c)
        self._lower, self._upper = torch.zeros_like(self.c), torch.full_like(self.c, float("inf"))
        self._checked = torch.full_like(self.c, float("inf"))
        self._found = torch.zeros(len(self.rows), dtype=torch.bool, device=x.device)
        self._improved = self._found.clone()
        self.step, self._runs = torch.zeros_like(self.rows), torch.zeros_like(self.rows)

    def probe(self, point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, f (b,) and the gradient of f with respect to the images ``point`` (b, C, H, W).

        f = max(-margin, -confidence), margin = max_{i != y} z_i - z_y, or its negative if targeted.
        """
        z, gain, gradient = self.look(point, lambda z, y: gap(z, y, self.targeted).clamp_max(self.confidence))
        return z, -gain, -gradient

    def offer(self, point: Tensor, size: Tensor, z: Tensor, at: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Keep the smaller successes, and note of which samples the present c succeeded."""
        sure, better = super().offer(point, size, z, at)
        where: Tensor | slice = slice(None) if at is None else at
        self._found[where] |= sure
        self._improved[where] |= better
        return sure, better

    def offer_scored(self, point: Tensor, size: Tensor) -> None:
        """Score those images that could still matter, and offer them.

        An image that is no smaller than the best so far matters only while the present c has not succeeded yet.
        """
        at = torch.nonzero(~self._found | (size < self._best_size[self.rows])).squeeze(1)
        if len(at):
            self.offer(point[at], size[at], forward(self.model, point[at], self.rows[at], self.trace), at)

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
        following = torch.where(self._upper.isinf(), (10 * c).clamp_max(LARGEST_C), (self._lower + self._upper) / 2)
        self.c = torch.where(ended, following, c)
        self._checked = self._checked.masked_fill(ended, float("inf"))
        self.step, self._found = self.step.masked_fill(ended, 0), self._found & ~ended
        self._runs = self._runs + ended
        keep = torch.nonzero(self._runs < self.search_steps).squeeze(1)
        if len(keep) == len(ended):
            return ended, None
        self.keep(keep)
        return ended[keep], keep
