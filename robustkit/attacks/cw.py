"""C&W, the attack of Carlini and Wagner for the smallest L2 perturbation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._adam import BETA1, BETA2, Adam
from robustkit.attacks._adam import TINY as ADAM_TINY
from robustkit.attacks._ascent import Generator, Model
from robustkit.attacks._boundary import gap
from robustkit.attacks._parts import forward
from robustkit.attacks._search import LARGEST_C, ConstantSearch
from robustkit.attacks._successes import Successes, positive
from robustkit.base.errors import UserError
from robustkit.functional.norms import TINY, per_sample, size
from robustkit.functional.trace import Trace

# Of the adaptive search: passes of the approach; first and last relative change of its radius; how far above the c of
# the linearised boundary it works, and by how much a step more where nothing has succeeded; first and last Adam step,
# as shares of the root mean square of the smallest success, and the first at most so many times lr.
APPROACH = 40
WIDE, NARROW = 0.1, 0.005
ABOVE, MORE = 1.5, 1.05
FIRST_STEP, LAST_STEP, MOST_LR = 0.3, 0.01, 10.0
LEAST = 1e-4  # first radius, at least


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
    """Carlini and Wagner: the smallest L2 perturbation, by Adam and a search over c.

    minimise |x' - x|_2^2 + c * max(z_y - max_{i != y} z_i, -confidence) over w, x' = x + (tanh w - tanh w_0) / 2,
    w_0 = artanh((1 - shrink) (2x - 1)); c is multiplied by 10 until it succeeds, then bisected. So much for
    ``adaptive=False``, and what follows in the next paragraph.

    Deviations from the paper: x' starts exactly at x, as the paper's (tanh w + 1) / 2 cannot where a pixel is 0 or 1,
    and such pixels start where tanh has a usable slope (the public code's shrink of 1e-6 leaves them 600 steps of
    lr 0.01 away from a visible change); what this adds to the range of x', at most shrink / 2, is clipped. The rule
    that aborts a run looks at the sample's own loss, not at the batch's sum, and spares a run that still finds smaller
    successes. The iterate after the last step counts too. With 10 or more runs, the public code repeats the upper bound
    in the last one; this code bisects on. Without confidence a last search moves the result onto the linearised
    boundary and along the line to x, where that is smaller: four or five passes, and no result gets larger.

    If ``adaptive``, nothing is bisected. At most 40 passes approach the boundary: steps up the margin on a sphere that
    shrinks after a success and grows after a failure, as DDN's (Rony et al. 2019), the first as far as the linearised
    boundary. The rest of a single run minimises the same objective by Adam from the smallest success, x' clipped to the
    box, c 1.5 times what the linearised boundary asks for there: on it the optimum lies as soon as c exceeds
    c* = 2 |d|^2 (1 + f / a) / a, a = -<grad f, d>. The steps follow a cosine and the size of the smallest success.
    Another run, where c goes on to grow from where it ended, is only for samples of which none succeeded.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L).
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    steps : int
        Passes of a run, of Adam or, if adaptive, of the approach too.
    search_steps : int
        Runs, each with another c. The ADP paper's fixed c: ``initial_c=c, search_steps=1, adaptive=False``.
    initial_c : float
        The first c; if adaptive, the c of samples whose linearised boundary asks for none.
    lr : float
        Adam's step size, in units of w; if adaptive, a tenth of the largest, in pixel units.
    confidence : float
        kappa, in logits: by how much a success must be won. Where none is, the smallest plain success is returned.
    abort_early : bool
        End a sample's run when neither its loss fell by 0.01 % since the last of ten checks nor a smaller success was
        found; if adaptive, begin no other run of a sample whose margin the last one did not raise.
    adaptive : bool
        Whether to search near the boundary, which takes a fourth of the passes or less, and ends nearer.
    shrink : float
        In (0, 1): how far pixels at 0 and 1 are moved into the interval on which tanh is inverted; not if adaptive.
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
    positive(steps=steps, search_steps=search_steps, lr=lr, initial_c=initial_c)
    if adaptive:
        near = Successes(model, x, y, confidence=confidence, targeted=targeted, trace=trace)
        _search_near(near, steps, search_steps, lr, initial_c, abort_early)
        return near.refined("l2")
    search = ConstantSearch(
        model, x, y, steps=steps, passes=steps + 1, search_steps=search_steps, initial_c=initial_c,
        confidence=confidence, abort_early=abort_early, targeted=targeted, trace=trace,
    )  # fmt: skip
    _search_published(search, lr, shrink)
    return search.refined("l2")


def _search_published(search: ConstantSearch, lr: float, shrink: float) -> None:
    start = torch.atanh((2 * search.origin - 1) * (1 - shrink))
    w, mean, square = start, torch.zeros_like(start), torch.zeros_like(start)
    base = torch.tanh(start)
    while len(search.rows):
        t = torch.tanh(w)
        point = (search.origin + (t - base) / 2).clamp_(0.0, 1.0)
        delta = point - search.origin
        distance = delta.flatten(1).square().sum(1)
        z, f, slope = search.probe(point)
        search.offer(point, distance, z)
        gradient = (2 * delta + per_sample(search.c, delta) * slope) * ((1 - t * t) / 2)
        mean = BETA1 * mean + (1 - BETA1) * gradient
        square = BETA2 * square + (1 - BETA2) * gradient * gradient
        count = search.step.to(w.dtype) + 1
        rate, scale = lr / (1 - BETA1**count), (1 - BETA2**count).rsqrt()
        w = w - per_sample(rate, w) * mean / (square.sqrt() * per_sample(scale, w) + ADAM_TINY)
        restart, keep = search.advance(distance + search.c * f)
        if keep is not None:
            w, mean, square, start, base = w[keep], mean[keep], square[keep], start[keep], base[keep]
        if restart is not None:
            anew = per_sample(restart, w)
            w, mean, square = torch.where(anew, start, w), mean.masked_fill(anew, 0.0), square.masked_fill(anew, 0.0)


def _search_near(
    near: Successes, steps: int, search_steps: int, lr: float, initial_c: float, abort_early: bool
) -> None:
    first = min(APPROACH, -(-steps // 4))
    if len(near.rows) == 0:
        return
    point, c = _approach(near, first), None
    for _ in range(search_steps):
        point, c, raised = _descend(near, point, c, steps - first, lr, initial_c)
        keep = torch.nonzero(~near.sure & raised if abort_early else ~near.sure).squeeze(1)
        if len(keep) == 0:
            return
        near.keep(keep)
        point, c, first = point[keep], c[keep], 0


def _approach(near: Successes, steps: int) -> Tensor:
    """Step up the margin on spheres that close in on the boundary; return where that ends."""
    x, point = near.origin, near.origin
    widest = size(torch.maximum(x, 1 - x), "l2")
    radius = torch.zeros_like(widest)
    for step in range(steps):
        share = (1 + math.cos(math.pi * step / steps)) / 2
        rate, change = LAST_STEP + (1 - LAST_STEP) * share, NARROW + (WIDE - NARROW) * share
        z, height, g = near.look(point)
        delta = point - x
        length, steep = size(delta, "l2"), size(g, "l2").clamp_min(TINY)
        near.offer(point, length, z)
        if step == 0:  # of a sample on the boundary the radius must be able to grow, too
            radius = (height.abs() / steep).clamp_min(LEAST)
        else:
            shorter = (1 - change) * torch.minimum(radius, length)
            radius = torch.where(height > 0, shorter, (1 + change) * radius)
        radius = torch.minimum(radius, widest)
        delta.addcmul_(g, per_sample(rate / steep, g))
        point = delta.mul_(per_sample(radius / size(delta, "l2").clamp_min(TINY), g)).add_(x).clamp_(0.0, 1.0)
    return point


def _descend(
    near: Successes, point: Tensor, c: Tensor | None, steps: int, lr: float, initial_c: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Minimise |d|^2 + c f by Adam from the smallest successes, or from ``point`` (b, ...) where there is none.

    Returned are where that ends, c, and whether the margin ended higher than it began, (b,).
    """
    x, adam, root = near.origin, Adam(near.origin), math.sqrt(near.origin[0].numel())
    point = torch.where(per_sample(near.best_size.isfinite(), x), near.best[near.rows], point)
    before = None
    for step in range(steps):
        z, height, g = near.look(point)
        delta = point - x
        length = size(delta, "l2")
        near.offer(point, length, z)
        before = height if before is None else before
        c = _wanted_c(delta, height, g, initial_c) if c is None else c
        c = torch.where(near.sure, c, MORE * c).clamp_max(LARGEST_C)
        mean, factor, scale = adam.update((2 * delta).sub_(g * per_sample(c * (height <= 0), g)))
        share = LAST_STEP + (FIRST_STEP - LAST_STEP) * (1 + math.cos(math.pi * step / steps)) / 2
        reached = torch.where(near.best_size.isfinite(), near.best_size, length) * (share / root)
        rate = torch.where(reached > 0, reached, lr).clamp_max(MOST_LR * lr)
        point = (point - per_sample(rate * factor, x) * mean / scale).clamp_(0.0, 1.0)
    z = forward(near.model, point, near.rows, near.trace)
    near.offer(point, size(point - x, "l2"), z)
    after = gap(z, near.labels, near.targeted) - near.confidence
    if c is None or before is None:  # no step was left
        return point, torch.full_like(after, initial_c), torch.ones_like(after, dtype=torch.bool)
    return point, c, after > before


def _wanted_c(delta: Tensor, height: Tensor, g: Tensor, otherwise: float) -> Tensor:
    """Return 1.5 times the c* of the linearised boundary, (b,); ``otherwise`` where d does not raise the height."""
    along = (g * delta).flatten(1).sum(1)
    known = along.clamp_min(TINY)
    wanted = 2 * delta.flatten(1).square().sum(1) * (1 + (-height).clamp_min(0) / known) / known
    return torch.where((along > TINY) & (wanted > 0) & wanted.isfinite(), ABOVE * wanted, otherwise)
