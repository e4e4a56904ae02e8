"""Where a classifier looks: differentiable maps of the true class, for losses (with their graph) and for metrics.

Members are any modules from images (B, C, H, W) to logits (B, L). They run in eval mode here, so that batch norm sees
no other sample and no statistic moves, and get the mode of each of their modules back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.base.errors import UserError, unknown
from robustkit.functional.precision import full

SMALLEST = 3  # pixels per side of a map: fewer are no picture of where a member looks
# Modules that surely work on (B, C, h, w). Others may hand around (B, h, w, C), whose last two sides are no picture.
SPATIAL = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)
Size = tuple[int, int]


def gradcam(
    members: Iterable[nn.Module], x: Tensor, y: Tensor, *, layer: str = "", create_graph: bool = True
) -> Tensor:
    """GradCAM of the true class: relu(sum_c w_c A_c), w_c the spatial mean of the gradient of logit y (B, h, w each).

    Selvaraju et al. 2017 (arXiv:1610.02391), as it is: neither scaled nor resized. Where the module after the layer
    works in place (``ReLU(inplace=True)``), A is what that module leaves.

    Parameters
    ----------
    members : iterable of nn.Module
    x, y : Tensor
        Images (B, C, H, W) in [0, 1] and labels (B,), on the members' device.
    layer : str
        Name of the module whose output is A, as ``named_modules`` gives it; ``network.`` may be left out. Empty: the
        last module on the next-to-last size of the member's maps (:func:`find_layer`).
    create_graph : bool
        Whether the maps can be differentiated with respect to the members' weights.

    Returns
    -------
    Tensor
        (M, B, h, w), float32 (float64 for members in float64), not negative.

    Raises
    ------
    UserError
        If a member has no convolutional maps, the layer is unknown or of no influence, or map sizes differ.
    """
    maps = [_gradcam(member, x, y, layer, create_graph) for member in members]
    sizes = sorted({tuple(found.shape[1:]) for found in maps})
    if len(sizes) > 1:
        raise UserError(
            f"the members' maps have different sizes ({', '.join(f'{h}x{w}' for h, w in sizes)}) and cannot be "
            "compared; name a layer that gives all of them the same, like --set sdde.layer=layer2."
        )
    return torch.stack(maps)


def saliency(members: Iterable[nn.Module], x: Tensor, y: Tensor, *, create_graph: bool = True) -> Tensor:
    """Input gradients of the true-class logit (Simonyan et al. 2013, arXiv:1312.6034), signed, (M, B, C, H, W).

    Parameters and precision are those of :func:`gradcam`.
    """
    return _input_gradients(members, x, lambda logits: _true_logits(logits, y), create_graph)


def loss_gradients(members: Iterable[nn.Module], x: Tensor, y: Tensor, *, create_graph: bool = True) -> Tensor:
    """Input gradients of each sample's own cross-entropy, (M, B, C, H, W).

    Parameters and precision are those of :func:`gradcam`. Of images that require a gradient they can be differentiated
    with respect to them, too.
    """

    def loss(logits: Tensor) -> Tensor:
        return functional.cross_entropy(full(logits), y, reduction="sum")

    return _input_gradients(members, x, loss, create_graph)


def _input_gradients(
    members: Iterable[nn.Module], x: Tensor, of: Callable[[Tensor], Tensor], create_graph: bool
) -> Tensor:
    maps = []
    for member in members:
        with evaluating(member), torch.enable_grad():
            own = x if x.requires_grad else x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(of(member(own)), own, create_graph=create_graph)
        maps.append(full(gradient))
    return torch.stack(maps)


def integrated_gradients(members: Iterable[nn.Module], x: Tensor, y: Tensor, *, steps: int = 20) -> Tensor:
    """Integrated gradients of the true-class logit from a black image, signed, (M, B, C, H, W); without a graph.

    x times the integral over a from 0 to 1 of the gradient at a x (Sundararajan et al. 2017, arXiv:1703.01365), by
    Gauss-Legendre quadrature at ``steps`` points, as captum does. Summed over an image they are the logit less that of
    the black image, up to the error of the quadrature. Parameters and precision are those of :func:`gradcam`.
    """
    members = list(members)
    points, weights = np.polynomial.legendre.leggauss(steps)  # on [-1, 1], so that the weights sum to 2
    total = torch.zeros((len(members), *x.shape), dtype=x.dtype, device=x.device)
    for point, weight in zip(points.tolist(), weights.tolist(), strict=True):
        total += weight / 2 * saliency(members, x * (1 + point) / 2, y, create_graph=False)
    return x * total


def check_maps(members: Iterable[nn.Module], x: Tensor, layer: str = "") -> None:
    """Raise a :class:`UserError` unless every member has a map like the others', named or found; x is (B, C, H, W)."""
    gradcam(members, x, torch.zeros(len(x), dtype=torch.long, device=x.device), layer=layer, create_graph=False)


def find_layer(member: nn.Module, x: Tensor, layer: str = "") -> str:
    """Return the name of the module whose maps :func:`gradcam` uses for images like x.

    It is the last module to be called that gives maps of the next-to-last size among those of the member's
    convolutions and poolings: the end of the next-to-last stage (``layer3`` of an ImageNet ResNet), where maps still
    have a shape. Global pooling (1x1) is no size; with one size only that one is taken; the size is the smallest of
    at least 3x3 where the next-to-last one is smaller. What lies inside the block that leaves the size (the first
    convolution of a strided residual block) is passed over: a shortcut goes around it.
    """
    with evaluating(member), torch.no_grad():
        return _choose(_forward(member, x)[1], layer).name


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module and all its parts into eval mode, and give each part its own mode back."""
    modes = [(part, part.training) for part in module.modules()]
    for part, _ in modes:
        part.training = False  # not eval(): a part's own train() may do more than that
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@dataclass(frozen=True)
class _Map:
    """One call of a module that gave a map (B, C, h, w); ``given`` is the size of its input, if that was one too."""

    name: str
    module: nn.Module
    output: Tensor
    given: Size | None

    @property
    def size(self) -> Size:
        return self.output.shape[2], self.output.shape[3]


def _gradcam(member: nn.Module, x: Tensor, y: Tensor, layer: str, create_graph: bool) -> Tensor:
    trained = [p.requires_grad for p in member.parameters()]
    with evaluating(member), torch.enable_grad():
        # Maps behind frozen weights have no graph of their own; then the images start one.
        logits, seen = _forward(member, x.detach().requires_grad_(not trained or not all(trained)))
        chosen = _choose(seen, layer)
        (gradient,) = torch.autograd.grad(
            _true_logits(logits, y), chosen.output, create_graph=create_graph, allow_unused=True
        )
        if gradient is None:
            raise UserError(f"layer '{chosen.name}' has no influence on the logits; name one before the classifier.")
        weights = full(gradient).mean((2, 3), keepdim=True)
        found = functional.relu((weights * full(chosen.output)).sum(1))
    return found if create_graph else found.detach()


def _true_logits(logits: Tensor, y: Tensor) -> Tensor:
    return logits.gather(1, y[:, None]).sum()  # in eval mode samples do not meet: one pass gives every gradient


def _forward(member: nn.Module, x: Tensor) -> tuple[Tensor, list[_Map]]:
    """Return the logits, and what every module gave that has the shape of a map, in the order of the calls."""
    seen: list[_Map] = []

    def hook(name: str, module: nn.Module, given: tuple[object, ...], output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:
            first = given[0] if given else None
            before = (first.shape[2], first.shape[3]) if isinstance(first, Tensor) and first.dim() == 4 else None
            seen.append(_Map(name, module, output, before))

    handles = [
        module.register_forward_hook(lambda m, given, output, name=name: hook(name, m, given, output))
        for name, module in member.named_modules()
        if name
    ]
    try:
        logits: Tensor = member(x)
    finally:
        for handle in handles:
            handle.remove()
    return logits, seen


def _choose(seen: list[_Map], layer: str) -> _Map:
    sizes = {m.size for m in seen if isinstance(m.module, SPATIAL)} - {(1, 1)}
    ordered = sorted(sizes, key=lambda size: -size[0] * size[1])
    enough = [size for size in ordered if min(size) >= SMALLEST]
    if not enough:
        raise UserError(
            f"a member gives no convolutional maps of at least {SMALLEST}x{SMALLEST} pixels for these images, and "
            "the defence compares such maps; use a convolutional architecture, or larger images."
        )
    if layer:
        return _named(seen, layer, set(enough))
    wanted = ordered[-2] if len(ordered) > 1 else ordered[-1]
    wanted = wanted if min(wanted) >= SMALLEST else enough[-1]
    candidates = [m for m in seen if m.size == wanted]
    leaving = tuple(
        f"{m.name}." for m in seen if m.given == wanted and m.size != wanted and not isinstance(m.module, nn.Sequential)
    )
    return ([m for m in candidates if not m.name.startswith(leaving)] or candidates)[-1]


def _named(seen: list[_Map], layer: str, sizes: set[Size]) -> _Map:
    by_name = {m.name: m for m in seen}  # of a module that is called repeatedly, the last call
    found = by_name.get(layer) or by_name.get(f"network.{layer}")
    usable = {m.name: m for m in seen if m.size in sizes}
    if found is None:
        last_of_each = {m.size: m.name for m in usable.values()}
        raise unknown("layer", layer, last_of_each.values(), usable)
    if min(found.size) < SMALLEST:
        h, w = found.size
        raise UserError(
            f"layer '{layer}' gives maps of {h}x{w} pixels; they must be at least {SMALLEST}x{SMALLEST}, like those "
            f"of: {', '.join(sorted({m.size: m.name for m in usable.values()}.values()))}."
        )
    return found
