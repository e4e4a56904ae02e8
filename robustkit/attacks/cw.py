"""C&W, the attack of Carlini and Wagner for the smallest L2 perturbation."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._ascent import Generator, Model
from robustkit.attacks._search import ConstantSearch
from robustkit.base.errors import UserError
from robustkit.functional.norms import per_sample
from robustkit.functional.trace import Trace

BETA1, BETA2, TINY = 0.9, 0.999, 1e-8  # Adam


@attack(
    "cw",
    norms=("l2",),
    budget="minimum",
    iterative=True,
    unlimited={"search_steps": 9},
    family="smallest",
    source="Carlini and Wagner 2017, arXiv:1608.04644",
)
def cw(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 1000,
    search_steps: int = 9,
    initial_c: float = 1e-3,
    lr: float = 0.01,
    confidence: float = 0.0,
    abort_early: bool = True,
    adaptive: bool = True,
    shrink: float = 0.1,
    targeted: bool = False,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Carlini and Wagner: the smallest L2 perturbation, by Adam in tanh space and a search over c.

    minimise |x' - x|_2^2 + c * max(z_y - max_{i != y} z_i, -confidence) over w, x' = x + (tanh w - tanh w_0) / 2,
    w_0 = artanh((1 - shrink) (2x - 1)); c is multiplied by 10 until it succeeds, then bisected. So much for
    ``adaptive=False``. Otherwise c jumps to where the linearised boundary asks for it, a sample ends when its successes
    no longer shrink, and as soon as there is one, w moves by at most the root mean square of the smallest success in a
    step: lr 0.01 alone leads far past the boundary of most models. That takes about half of the passes for distances as
    small.

    Deviations from the paper: x' starts exactly at x, as the paper's (tanh w + 1) / 2 cannot where a pixel is 0 or 1,
    and such pixels start where tanh has a usable slope (the public code's shrink of 1e-6 leaves them 600 steps of
    lr 0.01 away from a visible change); what this adds to the range of x', at most shrink / 2, is clipped. The rule
    that aborts a run looks at the sample's own loss, not at the batch's sum, and spares a run that still finds smaller
    successes. The iterate after the last step counts too. With 10 or more runs, the public code repeats the upper bound
    in the last one; this code bisects on. Without confidence a last search moves the result onto the linearised
    boundary and along the line to x, where that is smaller: four or five passes, and no result gets larger.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L).
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    steps : int
        Adam steps of a run.
    search_steps : int
        Runs, each with another c. The ADP paper's fixed c: ``initial_c=c, search_steps=1``.
    initial_c : float
        The first c.
    lr : float
        Adam's step size, in units of w.
    confidence : float
        kappa, in logits: by how much a success must be won. Where none is, the smallest plain success is returned.
    abort_early : bool
        End a sample's run when neither its loss fell by 0.01 % since the last check nor a smaller success was found; a
        run has ten checks, or twenty if adaptive.
    adaptive : bool
        Choose c, and limit the steps, by what has been found; with ``abort_early`` end runs and searches by it too.
    shrink : float
        In (0, 1): how far pixels at 0 and 1 are moved into the interval on which tanh is inverted.
    generator : ignored
        There is nothing random.

    Returns
    -------
    Tensor
        The smallest adversarial images found, shape and dtype of x; x itself where it is won already, or where none
        was found.

    Raises
    ------
    UserError
        If a count, c or lr is not positive, or shrink not in (0, 1).
    """
    if not 0 < shrink < 1:
        raise UserError(f"shrink = {shrink:g} is out of range: give a number between 0 and 1.")
    search = ConstantSearch(
        model, x, y, steps=steps, passes=steps + 1, search_steps=search_steps, lr=lr, initial_c=initial_c,
        checks=20 if adaptive else 10, aim=1.5 if adaptive else None, settle=adaptive and abort_early,
        confidence=confidence, abort_early=abort_early, targeted=targeted, trace=trace,
    )  # fmt: skip
    start = torch.atanh((2 * search.origin - 1) * (1 - shrink))
    w, mean, square = start, torch.zeros_like(start), torch.zeros_like(start)
    base = torch.tanh(start)
    while len(search.rows):
        t = torch.tanh(w)
        point = (search.origin + (t - base) / 2).clamp_(0.0, 1.0)
        delta = point - search.origin
        distance = delta.flatten(1).square().sum(1)
        z, f, slope = search.probe(point, 2 * distance)
        search.offer(point, distance, z)
        gradient = (2 * delta + per_sample(search.c, delta) * slope) * ((1 - t * t) / 2)
        mean = BETA1 * mean + (1 - BETA1) * gradient
        square = BETA2 * square + (1 - BETA2) * gradient * gradient
        count = search.step.to(w.dtype) + 1
        rate = (search.best_size / point[0].numel()).sqrt().clamp_max(lr) if adaptive else lr
        rate, scale = rate / (1 - BETA1**count), (1 - BETA2**count).rsqrt()
        w = w - per_sample(rate, w) * mean / (square.sqrt() * per_sample(scale, w) + TINY)
        restart, keep = search.advance(distance + search.c * f)
        if keep is not None:
            w, mean, square, start, base = w[keep], mean[keep], square[keep], start[keep], base[keep]
        if restart is not None:
            anew = per_sample(restart, w)
            w, mean, square = torch.where(anew, start, w), mean.masked_fill(anew, 0.0), square.masked_fill(anew, 0.0)
    return search.refined("l2")
