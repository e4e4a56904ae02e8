"""A plain chain of convolutions, poolings and linear layers, rebuilt from the shapes of its weights alone."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
POOLINGS: dict[str, type[nn.Module]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}
NORM = frozenset({"weight", "bias", "running_mean", "running_var", "num_batches_tracked"})
SIZES = (32, 28, 64, 224)  # pixels, in turn, where no chain fits at the images' own size
DEEP = 6  # convolutions up to which each may be padded or not; beyond, all are or none
SHAPES = 16  # ways to place paddings and poolings, or strides, that are tried at most, the most regular first


@dataclass(frozen=True)
class Layer:
    """A layer's tensors by what they are called in it; ``kind`` is conv, linear or norm."""

    kind: str
    name: str
    tensors: Mapping[str, Tensor] = field(repr=False)

    @property
    def outputs(self) -> int:
        """Channels or features that it returns."""
        return len(self.tensors["running_mean" if self.kind == "norm" else "weight"])


@dataclass(frozen=True)
class Place:
    """What the shapes do not say of a convolution: padding, stride, and the size of the pooling behind it (0: none)."""

    padding: int
    stride: int
    pool: int


@dataclass(frozen=True)
class Chain:
    """One way to run the layers, at one size of the images; ``pooled``: an average over what is left goes before."""

    layers: tuple[Layer, ...]
    places: tuple[Place, ...]
    size: tuple[int, int]
    pooled: bool
    pooling: str = "max"
    activation: str = "relu"

    @property
    def channels(self) -> int:
        """Channels of the images that it takes."""
        takes = int(self.layers[0].tensors["weight"].shape[1])
        return takes if self.layers[0].kind == "conv" else takes // math.prod(self.size)

    def __str__(self) -> str:
        """Return what was assumed, as a report says it."""
        convs = [layer.name for layer in self.layers if layer.kind == "conv"]
        placed = list(zip(convs, self.places, strict=True))
        pools = ", ".join(name for name, place in placed if place.pool)
        said = [
            self.activation,
            f"{self.pooling} pooling behind {pools}" if pools else "no pooling",
            *(f"{name} padded by {place.padding}" for name, place in placed if place.padding),
            *(f"{name} of stride {place.stride}" for name, place in placed if place.stride > 1),
            *(["an average before the linear layers"] if self.pooled else []),
        ]
        return ", ".join(said)

    def build(self) -> nn.Module:
        """Return the network with its weights, in eval mode."""
        places, done, flat = iter(self.places), list[nn.Module](), False
        blocks = [list(group) for group in _blocks(self.layers)]
        for index, block in enumerate(blocks):
            place = next(places) if block[0].kind == "conv" else None
            if place is None and not flat:
                done += [*([nn.AdaptiveAvgPool2d(1)] if self.pooled else []), nn.Flatten()]
                flat = True
            done += [_module(layer, place, flat) for layer in block]
            if index < len(blocks) - 1:
                done.append(ACTIVATIONS[self.activation]())
            if place and place.pool:
                done.append(POOLINGS[self.pooling](place.pool, 2))
        return nn.Sequential(*done).eval()


def _blocks(layers: Sequence[Layer]) -> Iterator[Sequence[Layer]]:
    """Yield each convolution or linear layer with the norms behind it."""
    starts = [index for index, layer in enumerate(layers) if layer.kind != "norm"]
    for start, end in zip(starts, [*starts[1:], len(layers)], strict=True):
        yield layers[start:end]


def _module(layer: Layer, place: Place | None, flat: bool) -> nn.Module:
    weight, bias = layer.tensors.get("weight"), layer.tensors.get("bias")
    made: nn.Module
    with torch.random.fork_rng(devices=[]):
        if layer.kind == "norm":
            made = (nn.BatchNorm1d if flat else nn.BatchNorm2d)(layer.outputs, affine=weight is not None)
        elif layer.kind == "conv" and place is not None and weight is not None:
            out, channels, *kernel = weight.shape
            size = (kernel[0], kernel[1])
            made = nn.Conv2d(channels, out, size, place.stride, place.padding, bias=bias is not None)
        else:
            assert weight is not None
            made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.load_state_dict(dict(layer.tensors), strict=False)  # a counter may be missing
    return made


def chains(state: Mapping[str, Tensor], size: tuple[int, int]) -> list[Chain]:
    """Return the ways to run a state dict as a chain on images of a size (H, W), or of another size where none fits.

    Every convolution may be padded so that it keeps the size, or not; a pooling of two (or three) by stride two may
    stand behind it, or its own stride be two. What is left has to be what the first linear layer takes. The most
    regular come first; each is returned with every activation and kind of pooling. Empty: it is no chain.
    """
    layers = next((found for found in _orders(state) if _follows(found)), None)
    if layers is None:
        return []
    for one in (size, *((side, side) for side in SIZES if (side, side) != size)):
        if found := _placed(layers, one):
            return [
                Chain(c.layers, c.places, c.size, c.pooled, pooling, activation)
                for pooling, activation in itertools.product(POOLINGS, ACTIVATIONS)
                for c in found
                if pooling == "max" or any(place.pool for place in c.places)
            ]
    return []


def _orders(state: Mapping[str, Tensor]) -> Iterator[list[Layer]]:
    """Yield the layers in the file's order, in that of their names, and convolutions before linear layers."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        parent, _, leaf = name.rpartition(".")
        groups.setdefault(parent, {})[leaf] = value
    found = [layer for name, tensors in groups.items() if (layer := _layer(name, tensors))]
    if len(found) < len(groups):
        return
    by_name = sorted(found, key=lambda layer: [int(w) if w.isdigit() else w for w in re.split(r"(\d+)", layer.name)])
    yield found
    yield by_name
    for order in (found, by_name):  # fc1, ..., conv1, ...; bn1, ..., conv1, ...: each norm behind a layer of its width
        rest = [layer for layer in order if layer.kind == "norm"]
        mixed: list[Layer] = []
        for layer in (*(one for one in order if one.kind == "conv"), *(one for one in order if one.kind == "linear")):
            mixed.append(layer)
            if rest and rest[0].outputs == layer.outputs:
                mixed.append(rest.pop(0))
        if not rest:
            yield mixed


def _layer(name: str, tensors: Mapping[str, Tensor]) -> Layer | None:
    leaves = set(tensors)
    vectors = [value for leaf, value in tensors.items() if leaf != "num_batches_tracked"]
    if {"running_mean", "running_var"} <= leaves <= NORM:
        alike = vectors[0].ndim == 1 and len({tuple(value.shape) for value in vectors}) == 1
        return Layer("norm", name, tensors) if alike and vectors[0].numel() else None
    if "weight" not in leaves or not leaves <= {"weight", "bias"}:
        return None
    weight = tensors["weight"]
    kind = {4: "conv", 2: "linear"}.get(weight.ndim)
    fits = kind and weight.numel() and ("bias" not in leaves or tensors["bias"].shape == weight.shape[:1])
    return Layer(kind, name, tensors) if kind and fits else None


def _follows(layers: Sequence[Layer]) -> bool:
    """Return whether every layer takes what the one before returns, convolutions before linear layers."""
    width, flat, first = 0, False, True
    for layer in layers:
        if layer.kind == "norm":
            if layer.outputs != width:
                return False
            continue
        takes = layer.tensors["weight"].shape[1]
        if layer.kind == "conv" and (flat or (not first and takes != width)):
            return False
        if layer.kind == "linear" and (takes != width if flat else not first and takes % width):
            return False
        flat, first, width = layer.kind == "linear", False, layer.outputs
    if layers[0].kind == "linear":  # one alone is rather the head of something
        return sum(layer.kind == "linear" for layer in layers) > 1
    return flat and layers[0].kind == "conv"


def _placed(layers: Sequence[Layer], size: tuple[int, int]) -> list[Chain]:
    """Return what fits: poolings of two, else of three, and strides in their place, which shapes do not tell apart."""
    pooled = next((found for pool in (2, 3) if (found := _fitting(layers, size, pool))), [])
    strided = _fitting(layers, size, 0)
    if pooled:  # which hold those without either as well
        strided = [chain for chain in strided if any(place.stride > 1 for place in chain.places)]
    return [chain for found in (pooled, strided) for chain in sorted(found, key=_irregular)[:SHAPES]]


def _fitting(layers: Sequence[Layer], size: tuple[int, int], pool: int) -> list[Chain]:
    """Return the chains with poolings of that size, 0: with strides, that leave what the first linear layer takes."""
    convs = [layer for layer in layers if layer.kind == "conv"]
    linear = next(layer for layer in layers if layer.kind == "linear")
    takes = linear.tensors["weight"].shape[1]
    if not convs:  # whose pixels it takes as they are, grey or in colour
        alone = Chain(tuple(layers), (), size, pooled=False)
        return [alone] if not pool and alone.channels in (1, 3) and takes % math.prod(size) == 0 else []
    width = convs[-1].outputs
    kernels = [tuple(conv.tensors["weight"].shape[2:]) for conv in convs]
    found = []
    for places in _places(kernels, pool, strided=not pool):
        left = _left(size, kernels, places)
        if left and (takes == width * math.prod(left) or takes == width):
            found.append(Chain(tuple(layers), places, size, takes != width * math.prod(left)))
    return found


def _places(kernels: Sequence[tuple[int, ...]], pool: int, strided: bool) -> Iterator[tuple[Place, ...]]:
    each = [sorted({0, (kernel[0] - 1) // 2} if kernel[0] == kernel[1] else {0}) for kernel in kernels]
    paddings = (
        itertools.product(*each) if len(kernels) <= DEEP else zip(*((one[0], one[-1]) for one in each), strict=True)
    )
    halvings = (
        list(itertools.product((True, False), repeat=len(kernels))) if len(kernels) <= DEEP else _regular(len(kernels))
    )
    for padding, halved in itertools.product(paddings, halvings):
        yield tuple(
            Place(p, 2 if strided and half else 1, pool if half and not strided else 0)
            for p, half in zip(padding, halved, strict=True)
        )


def _regular(count: int) -> list[tuple[bool, ...]]:
    return [tuple((index + 1) % step == 0 for index in range(count)) for step in (1, 2, 3, 4)] + [(False,) * count]


def _left(size: tuple[int, int], kernels: Sequence[tuple[int, ...]], places: Sequence[Place]) -> tuple[int, int] | None:
    sides = []
    for axis, side in enumerate(size):
        for kernel, place in zip(kernels, places, strict=True):
            side = (side + 2 * place.padding - kernel[axis]) // place.stride + 1
            side = (side - place.pool) // 2 + 1 if place.pool else side
            if side < 1:
                return None
        sides.append(side)
    return sides[0], sides[1]


def _irregular(chain: Chain) -> tuple[int, bool, int]:
    """Return how far a chain is from what people build: layers treated alike, sizes halved at equal distances."""
    pads = [bool(place.padding) for place in chain.places]
    halved = [place.pool > 0 or place.stride > 1 for place in chain.places]
    count = len(halved)
    periodic = any(all(halved[i] == halved[i - p] for i in range(p, count)) for p in (2, 3) if p < count)
    falling = halved == sorted(halved, reverse=True)  # none is left to be halved, or an average follows
    unlike = sum(a != b for a, b in itertools.pairwise(halved))
    cost = 0 if not unlike else 1 if falling or periodic else 1 + unlike
    return cost + 2 * sum(a != b for a, b in itertools.pairwise(pads)), chain.pooled, count - sum(halved)
