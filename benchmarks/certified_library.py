"""Certified bounds beside those of bound-propagation: seconds and bounds of one network, each image by itself.

python benchmarks/certified_library.py --model cifar_cnn_a_adv.model --data cifar_sdp.npz --eps 2/255 --images 3

One thread, float64, the faster of two calls. The library knows linear layers only, so it is given the same network with
its convolutions written out as matrices, which is not timed. Without ``--model`` weights and images are random.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import bound_propagation as library
import torch
from _cnn_a import SIDE, cnn_a, published
from torch import Tensor, nn

from robustkit.base.files import write_json
from robustkit.certify import reading
from robustkit.certify.bounds import bound
from robustkit.certify.region import Region

CLASSES = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0: our bounds are nowhere below the library's, 1: one is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="weights of a cnn_a network")
    parser.add_argument("--data", type=Path, help=".npz with its x (N, H, W, C) in [0, 1] and y")
    parser.add_argument("--channels", type=int, default=3, choices=sorted(SIDE), help="of random weights and images")
    parser.add_argument("--eps", type=lambda text: float(Fraction(text)), default=2 / 255)
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    if (args.model is None) != (args.data is None):
        parser.error("--model and --data belong together: bounds of a trained network on noise say nothing.")
    torch.set_num_threads(1)
    network, x = _subject(args.model, args.data, args.channels, args.images)
    rows = [compared(network, dense(network, one), one, args.eps) for one in x.split(1)]
    for row in rows:
        print(", ".join(f"{name} {value:.3g}" for name, value in row.items()))
    print(f"{statistics.median(row['theirs_s'] / row['ours_s'] for row in rows):.3g} times as fast, median")
    if args.json:
        write_json(args.json, rows)
    return int(any(row["least_difference"] < -1e-6 for row in rows))


def _subject(model: Path | None, data: Path | None, channels: int, images: int) -> tuple[nn.Sequential, Tensor]:
    """Return a network of convolutions, linear layers and ReLUs, and images."""
    if model is not None and data is not None:
        network, x, _ = published(model, data)
    else:
        torch.manual_seed(0)
        network, x = cnn_a(channels, CLASSES), torch.rand(images, channels, SIDE[channels], SIDE[channels])
    return network.eval().requires_grad_(False).double(), x[:images].double()


def dense(network: nn.Sequential, x: Tensor) -> nn.Sequential:
    """Return the network on flat images (1, C H W), each affine run of its layers as one linear layer."""
    made: list[nn.Module] = []
    run: list[nn.Module] = []
    shape = x.shape[1:]
    for layer in [*network, nn.ReLU()]:
        if not isinstance(layer, nn.ReLU):
            run.append(layer)
            continue
        affine = nn.Sequential(*run)
        size = math.prod(shape)
        shift = affine(x.new_zeros(1, *shape))
        linear = nn.Linear(size, shift.numel(), dtype=x.dtype)
        linear.weight.data = (
            (affine(torch.eye(size, dtype=x.dtype).view(size, *shape)) - shift).flatten(1).T.contiguous()
        )
        linear.bias.data = shift.flatten()
        made += [linear, nn.ReLU()]
        run, shape = [], shift.shape[1:]
    return nn.Sequential(*made[:-1]).requires_grad_(False)


def compared(network: nn.Sequential, flat: nn.Sequential, x: Tensor, eps: float) -> dict[str, float]:
    """Return seconds of both, and the least and greatest difference of our lower bounds of logits and theirs."""
    torch.testing.assert_close(flat(x.flatten(1)), network(x))
    region = Region(x, eps, "linf")
    graph = reading.read([network.float()], x.float())
    network.double()
    a = torch.eye(CLASSES, dtype=x.dtype)[:, None]
    model = library.BoundModelFactory(adaptive_relu=True).build(flat)
    low, high = (end.flatten(1) for end in region.interval())
    with torch.no_grad():
        ours_s, ours = _timed(lambda: bound(graph, region).lower({graph.outputs[0]: a}).T)
        theirs_s, theirs = _timed(lambda: model.crown(library.HyperRectangle(low, high)).concretize().lower)
    difference = ours - theirs
    return {
        "ours_s": ours_s,
        "theirs_s": theirs_s,
        "least_difference": float(difference.min()),
        "greatest_difference": float(difference.max()),
    }


def _timed(function: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Return the processor seconds of the faster of two calls, and what it returned."""
    seconds = []
    for _ in range(2):
        began = time.process_time()
        made = function()
        seconds.append(time.process_time() - began)
    return min(seconds), made


if __name__ == "__main__":
    sys.exit(main())
