"""The weights of an elastic network, shared: every subnetwork is views of them, and can be copied out."""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.swa_utils import update_bn
from torch.utils.flop_counter import FlopCounterMode

from robustkit.base.parallel import GLOBAL_RNG
from robustkit.models._elastic import ElasticResNet, Lists, Space
from robustkit.search._elastic import largest

CALIBRATION = 1500  # images whose statistics batch norm takes for a subnetwork (listing 1 of the paper)
BATCH = 128  # of these at a time


class Supernet(nn.Module):
    """The largest network of a space; of every other one its parameters and statistics are the first channels.

    Nothing is elastic in the layers: a subnetwork is a network of its own size without memory (``meta``), called with
    slices of the shared tensors. So its outputs are those of the extracted network bit by bit, and gradients arrive in
    the shared weights.
    """

    def __init__(self, space: Space, channels: int, classes: int) -> None:
        super().__init__()
        self.space, self.channels, self.classes = space, channels, classes
        self.network = ElasticResNet(space, largest(space), channels, classes)
        self.skeleton = functools.lru_cache(maxsize=256)(self._skeleton)

    def _skeleton(self, lists: Lists) -> ElasticResNet:
        # Drawing weights on `meta` takes twenty times as long as drawing them in memory and throwing them away.
        with GLOBAL_RNG, torch.random.fork_rng(devices=[]):
            return ElasticResNet(self.space, lists, self.channels, self.classes).to("meta")

    def shared(self, lists: Lists) -> dict[str, Tensor]:
        """Return the parameters and buffers of a subnetwork by name, views of the shared ones."""
        whole = dict(self.network.named_parameters()) | dict(self.network.named_buffers())
        sizes, parts = self.space.sizes(lists), {}
        skeleton = self.skeleton(lists)
        for name in (*dict(skeleton.named_parameters()), *dict(skeleton.named_buffers())):
            tensor = whole[name]
            for dimension, group in enumerate(skeleton.groups.get(name, ())):
                if group is not None and sizes[group] < tensor.shape[dimension]:
                    tensor = tensor.narrow(dimension, 0, sizes[group])
            parts[name] = tensor
        return parts

    def forward(self, x: Tensor, lists: Lists) -> Tensor:
        """Return the logits (B, L) of a subnetwork for images (B, C, H, W).

        In training mode batch norm takes the batch's statistics, and only the largest network leaves its own behind:
        those of others are calibrated when one is taken out.
        """
        skeleton = self.skeleton(lists)
        skeleton.train(self.training)
        for module in skeleton.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.1 if lists == self.network.lists else 0.0
        logits: Tensor = functional_call(skeleton, self.shared(lists), (x,))
        return logits

    def extracted(self, lists: Lists) -> ElasticResNet:
        """Return a subnetwork with weights and statistics of its own, in eval mode."""
        network = copy.deepcopy(self.skeleton(lists)).to_empty(device=next(self.network.parameters()).device)
        with torch.no_grad():
            network.load_state_dict(self.shared(lists))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.1
        return network.eval()

    @torch.no_grad()
    def reorganise(self) -> None:
        """Put the channels of each group in the order of their importance, so that a narrow network has the best ones.

        Importance is the sum of the absolute weights that read a channel (Once-for-All; ``reorg_weights`` in listing 1
        of the paper). What the largest network computes does not change, but for the order of sums.
        """
        weights = {name: tensor for name, tensor in self.network.named_parameters() if tensor.dim() > 1}
        groups, order = self.network.groups, {}
        for group in self.space.sizes(self.network.lists):
            read = [
                weights[name].abs().sum([d for d in range(weights[name].dim()) if d != 1])
                for name, of in groups.items()
                if name in weights and len(of) > 1 and of[1] == group
            ]
            order[group] = torch.stack(read).sum(0).argsort(descending=True, stable=True)
        for name, tensor in (*self.network.named_parameters(), *self.network.named_buffers()):
            for dimension, of_dimension in enumerate(groups.get(name, ())):
                if of_dimension is not None:
                    tensor.copy_(tensor.index_select(dimension, order[of_dimension]))


def calibrated(network: ElasticResNet, images: Tensor) -> ElasticResNet:
    """Let batch norm take the statistics of these images (N, C, H, W), normalised as in training; return the network.

    They are means over the batches, of equal size where the images allow it.
    """
    with torch.no_grad():
        update_bn(_batches(images), network)
    return network.eval()


def _batches(images: Tensor) -> Iterator[Tensor]:
    yield from torch.tensor_split(images, max(1, round(len(images) / BATCH)))


def complexity_of(net: Supernet, lists: Lists, shape: tuple[int, int, int], *, flops: bool = False) -> dict[str, int]:
    """Return how many ``parameters`` a subnetwork has and, if asked, how many ``flops`` one image (C, H, W) takes."""
    found = {"parameters": _parameters(net, net.space.sizes(lists))}
    if flops:
        skeleton = net.skeleton(lists).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            skeleton(torch.empty((1, *shape), device="meta"))
        found["flops"] = counter.get_total_flops()
    return found


def _parameters(net: Supernet, sizes: Mapping[str, int]) -> int:
    """Count without building the network, of which thousands may be asked for."""
    total, groups = 0, net.network.groups
    for name, parameter in net.network.named_parameters():
        layer, block = (*name.split("."), "")[:2]
        if layer.startswith("layer") and f"{layer.replace('layer', 'stage')}.{block}" not in sizes:
            continue  # a block that is not there
        of = itertools.chain(groups.get(name, ()), itertools.repeat(None))
        total += math.prod(size if group is None else sizes[group] for size, group in zip(parameter.shape, of))  # noqa: B905
    return total
