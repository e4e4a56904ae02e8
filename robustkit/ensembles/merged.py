"""Members that are residual networks of one shape, computed as one network with a group of channels for each.

On a CPU a small network on small images is more calls than arithmetic. One convolution in groups takes three quarters
of the time of one for each member, and everything between the convolutions is called once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.ensembles.ensemble import Ensemble, Member, Normalize
from robustkit.models._residual import BasicBlock, ResNet

# What such networks are made of; a batch norm that is folded into its convolution is an identity.
LAYERS = {Member, Normalize, ResNet, BasicBlock, nn.Conv2d, nn.BatchNorm2d, nn.Identity, nn.Linear, nn.Sequential}
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def mergeable(members: Iterable[nn.Module]) -> bool:
    """Return whether :class:`MergedEnsemble` computes these: several of robustkit's residual networks, equal in shape.

    They are in evaluation mode. A member that somebody has changed, or looks into with a hook, is called as it is.
    """
    members = list(members)
    if len(members) < 2 or not all(type(m) is Member and type(m.network) is ResNet for m in members):
        return False
    made = [[(name, type(part), getattr(part, "eps", None)) for name, part in m.named_modules()] for m in members]
    shapes = [[(name, value.shape) for name, value in m.state_dict().items()] for m in members]
    parts = [part for m in members for part in m.modules()]
    watched = any(getattr(part, hooks) for part in parts for hooks in HOOKS)
    replaced = any("forward" in vars(part) for part in parts)  # on one object, where its type does not tell
    training = any(part.training for part in parts)
    return (
        all(one == made[0] for one in made)
        and all(shape == shapes[0] for shape in shapes)
        and {kind for _, kind, _ in made[0]} <= LAYERS
        and not training
        and not watched
        and not replaced
    )


class MergedEnsemble(Ensemble):
    """An ensemble of :func:`mergeable` members whose weights never change, from one pass of a network M times as wide.

    Their weights are joined when they are first used, and no gradient reaches them.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__(list(ensemble.members), ensemble.rule)
        self._networks = [member.get_submodule("network") for member in self.members]
        self._joined: dict[tuple[str, str], Tensor] = {}
        normalisers = [member.get_submodule("normalize") for member in self.members]
        scales = [torch.cat([value.flatten() for value in n.buffers()]) for n in normalisers]
        self._alike = all(torch.equal(s, scales[0]) for s in scales)
        self.eval()

    def member_logits(self, x: Tensor) -> Tensor:
        """Return the logits of every member, (M, B, L), of images (B, C, H, W)."""
        members = list(self.members)[:1] if self._alike else self.members
        given = [member.get_submodule("normalize")(x) for member in members]
        x = given[0] if len(given) == 1 else torch.cat(given, 1)
        x = x.contiguous(memory_format=torch.channels_last)
        out = self._normalised(x, "conv1", "bn1", groups=len(given)).relu_()
        for stage in range(1, self._networks[0].stages + 1):  # type: ignore[operator]
            for name, block in self._networks[0].get_submodule(f"layer{stage}").named_children():
                out = self._block(out, f"layer{stage}.{name}", block)
        pooled = out.mean((2, 3)).view(len(out), len(self._networks), -1).transpose(0, 1)
        weight, bias = (self._together("linear", name, torch.stack) for name in ("weight", "bias"))
        return torch.baddbmm(bias[:, None], pooled, weight.transpose(1, 2))

    def _block(self, x: Tensor, name: str, block: nn.Module) -> Tensor:
        """Return what :class:`BasicBlock` does of all members, (B, M C, H, W)."""
        members, padding, stride = len(self._networks), int(block.padding), int(block.stride)  # type: ignore[arg-type]
        out = self._normalised(x, f"{name}.conv1", f"{name}.bn1", members).relu_()
        out = self._normalised(out, f"{name}.conv2", f"{name}.bn2", members)
        if stride != 1:
            x = x[:, :, ::stride, ::stride]
        if padding:  # each member's channels have their own zeros
            each = x.permute(0, 2, 3, 1)
            each = each.reshape(*each.shape[:3], members, -1)
            x = functional.pad(each, (padding // 2, padding - padding // 2)).flatten(3).permute(0, 3, 1, 2)
        return (out + x).relu_()

    def _normalised(self, x: Tensor, conv: str, norm: str, groups: int) -> Tensor:
        """Return a convolution and its batch norm, unless that is folded into it."""
        one = self._networks[0].get_submodule(conv)
        assert isinstance(one, nn.Conv2d)
        bias = self._together(conv, "bias") if one.bias is not None else None
        out = functional.conv2d(x, self._together(conv, "weight"), bias, one.stride, one.padding, groups=groups)
        first = self._networks[0].get_submodule(norm)
        if not isinstance(first, nn.BatchNorm2d):
            return out
        mean, variance = (self._together(norm, name) for name in ("running_mean", "running_var"))
        weight, bias = (self._together(norm, name) for name in ("weight", "bias"))
        return functional.batch_norm(out, mean, variance, weight, bias, eps=first.eps)

    def _together(self, layer: str, name: str, join: Callable[[list[Tensor]], Tensor] = torch.cat) -> Tensor:
        """Return a tensor of all members' layers as one."""
        if (layer, name) not in self._joined:
            with torch.inference_mode(False):  # what is kept must do for attacks, which need gradients
                made = join([getattr(network.get_submodule(layer), name) for network in self._networks])
            self._joined[layer, name] = made.detach()
        return self._joined[layer, name]
