"""GradCAM and saliency against captum, NumPy and networks whose maps are known; which layer is found."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit import models
from robustkit.auditing._infer import WithoutData
from robustkit.base.errors import UserError
from robustkit.ensembles.ensemble import Ensemble, Member
from robustkit.functional.attribution import check_maps, find_layer, gradcam, integrated_gradients, saliency


def member_of(arch: str, channels: int = 3, classes: int = 10) -> Member:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Member(models.build(arch, channels, classes))


def blank_member_of(arch: str, channels: int) -> Member:
    """Return a member whose weights are zero: those of a large network take a second to be drawn."""
    with WithoutData():
        made = Member(models.build(arch, channels, 10))
    for module in made.modules():
        for kept in (module._parameters, module._buffers):
            for name, value in kept.items():
                if value is not None and value.is_meta:
                    zeros = torch.zeros(value.shape, dtype=value.dtype)
                    kept[name] = nn.Parameter(zeros) if kept is module._parameters else zeros
    return made


def images(count: int, channels: int, height: int, width: int) -> Tensor:
    return torch.rand((count, channels, height, width), generator=torch.Generator().manual_seed(1))


def test_gradcam_by_hand_of_a_linear_head():
    """Maps A = conv(x), logits = mean over 35 pixels of the sum over channels of v[l, c] A[c]: weights v[y, c] / 35."""
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)
    ).double()
    with torch.no_grad():
        network[3].weight[2] = -network[3].weight[0]
    x, y = images(2, 1, 5, 7).double().repeat(2, 1, 1, 1), torch.tensor([0, 1, 2, 1])
    a, v = network[0](x).detach().numpy(), network[3].weight.detach().numpy()
    plain = np.stack([(v[k][:, None, None] * a[i] / 35).sum(0) for i, k in enumerate(y.tolist())])
    np.testing.assert_array_equal(plain[0], -plain[2])  # so that of one image what is cut off is seen, and what is not
    found = gradcam([network], x, y)[0].detach().numpy()
    np.testing.assert_allclose(found, np.maximum(plain, 0), rtol=1e-12)
    assert (found[0] - found[2] != 0).all()


@pytest.mark.parametrize(("arch", "layer"), [("small-resnet", "layer2"), ("resnet20", "layer3"), ("lenet", "conv2")])
def test_gradcam_and_saliency_against_captum(arch: str, layer: str):
    attr = pytest.importorskip("captum.attr")
    member, x, y = member_of(arch).eval(), images(5, 3, 32, 32), torch.tensor([3, 1, 4, 1, 5])
    module = member.network.get_submodule(layer)
    expected = attr.LayerGradCam(member, module).attribute(x, y, relu_attributions=True)
    found = gradcam([member, member], x, y, layer=layer)
    assert expected.count_nonzero() > expected.numel() / 4
    for own in found:
        torch.testing.assert_close(own, expected[:, 0], rtol=1e-4, atol=1e-7)
    expected = attr.Saliency(member).attribute(x, y, abs=False)
    torch.testing.assert_close(saliency([member], x, y)[0], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("arch", ["small-resnet", "lenet"])
def test_integrated_gradients_against_captum(arch: str):
    attr = pytest.importorskip("captum.attr")
    member, x, y = member_of(arch).double().eval(), images(4, 3, 32, 32).double(), torch.tensor([3, 1, 4, 1])
    expected = attr.IntegratedGradients(member).attribute(x, target=y, n_steps=7, method="gausslegendre")
    found = integrated_gradients([member, member], x, y, steps=7)
    assert found.shape == (2, 4, 3, 32, 32)
    for own in found:
        torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-12)
    assert not found.requires_grad


def test_integrated_gradients_add_up_to_what_the_image_adds_to_the_logit():
    """Of x0^3 + 2 x0 x1 + 5 by hand: x0 gets x0^3 + x0 x1, x1 gets x0 x1; two points integrate a quadratic exactly."""

    class Cubic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            a, b = x.flatten(1).unbind(1)
            return torch.stack([a**3 + 2 * a * b + 5, b], 1)

    x, y = images(3, 1, 1, 2).double(), torch.tensor([0, 0, 1])
    a, b = x.flatten(1).unbind(1)
    expected = torch.stack([a**3 + a * b, a * b], 1)
    expected[2] = torch.stack([torch.zeros(()), b[2]])
    found = integrated_gradients([Cubic()], x, y, steps=2)[0].flatten(1)
    torch.testing.assert_close(found, expected)
    one = integrated_gradients([Cubic()], x, y, steps=1)[0].flatten(1)  # the middle alone: 3/4 of the cube
    torch.testing.assert_close(one[:2, 0], (0.75 * a**3 + a * b)[:2])


@pytest.mark.parametrize(
    ("arch", "channels", "shape", "layer", "size"),
    [
        ("small-resnet", 1, (8, 8), "network.layer2", (4, 4)),
        ("resnet20", 3, (32, 32), "network.layer2", (16, 16)),
        ("resnet20", 3, (32, 20), "network.layer2", (16, 10)),
        ("lenet", 1, (28, 28), "network.conv1", (28, 28)),
        ("wide-resnet-28-10", 3, (16, 16), "network.blocks.7", (8, 8)),  # not the norm inside the strided block
        ("resnet18", 3, (128, 128), "network.layer3", (8, 8)),
        ("resnet50", 3, (64, 64), "network.layer3", (4, 4)),  # not layer4.0.relu, which a shortcut goes around
        ("resnet18", 3, (32, 32), "network.layer2", (4, 4)),  # layer3 gives 2x2, too small
        ("vgg11", 3, (64, 64), "network.features.19", (4, 4)),
        ("mobilenet_v3_small", 3, (64, 64), "network.features.8", (4, 4)),  # its squeezing makes maps of 1x1
        ("convnext_tiny", 3, (64, 64), "network.features.6.0", (4, 4)),  # it works on (B, h, w, C) in between
        ("swin_t", 3, (64, 64), "network.features.0.0", (16, 16)),  # one convolution only
    ],
)
def test_the_layer_that_is_found(arch: str, channels: int, shape: tuple[int, int], layer: str, size: tuple[int, int]):
    member, x = blank_member_of(arch, channels), images(2, channels, *shape)
    assert find_layer(member, x) == layer
    maps = gradcam([member], x, torch.tensor([0, 1]))
    assert maps.shape == (1, 2, *size)
    assert maps.dtype == torch.float32
    assert torch.equal(gradcam([member], x, torch.tensor([0, 1]), layer=layer.removeprefix("network.")), maps)


class Backbone(nn.Module):
    """Two stages, and a head; all of one size and one smaller size inside one module."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(functional.relu(self.first(x)))


def test_layers_inside_a_backbone_of_two_sizes_and_of_one():
    x = images(2, 1, 8, 8)
    network = nn.Sequential(Backbone(), nn.Flatten(), nn.Linear(64, 5))
    assert find_layer(network, x) == "0.first"
    one = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(192, 5))
    assert find_layer(one, x) == "1"


def test_maps_of_one_height_and_two_widths_are_two_sizes():
    wide = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.Conv2d(2, 2, 3, stride=(1, 2), padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    assert find_layer(wide, images(1, 1, 6, 12)) == "0"


def test_maps_do_not_depend_on_the_batch_nor_on_what_was_asked_before():
    member, x, y = member_of("small-resnet", 1).train(), images(6, 1, 8, 8), torch.arange(6)
    together = gradcam([member], x, y)
    member(x)  # moves the statistics of batch norm, which maps do not
    moved = gradcam([member], x, y)
    assert not torch.allclose(together, moved)
    torch.testing.assert_close(moved[:, 2:3], gradcam([member], x[2:3], y[2:3]), rtol=1e-4, atol=1e-7)


def test_modes_come_back_even_after_an_error_and_hooks_are_gone():
    members = [member_of("small-resnet", 1), member_of("small-resnet", 1)]
    members[0].network.layer1.eval()
    modes = [[m.training for m in member.modules()] for member in members]
    for call in (
        lambda: gradcam(members, images(2, 1, 8, 8), torch.tensor([0, 1])),
        lambda: pytest.raises(RuntimeError, gradcam, members, images(2, 3, 8, 8), torch.tensor([0, 1])),
        lambda: pytest.raises(UserError, gradcam, members, images(2, 1, 8, 8), torch.tensor([0, 1]), layer="layer9"),
    ):
        call()
        assert [[m.training for m in member.modules()] for member in members] == modes
        assert not any(m._forward_hooks for member in members for m in member.modules())


def test_graph_is_made_on_request_and_frozen_members_have_maps_too():
    member, x, y = member_of("small-resnet", 1), images(2, 1, 8, 8), torch.tensor([0, 1])
    with_graph = gradcam([member], x, y)
    gradient = torch.autograd.grad(with_graph.sum(), member.network.conv1.weight)[0]
    assert (gradient != 0).any()
    with torch.no_grad():
        without = gradcam([member], x, y, create_graph=False)
    assert not without.requires_grad
    assert not saliency([member], x, y, create_graph=False).requires_grad
    torch.testing.assert_close(without, with_graph.detach())
    frozen = copy.deepcopy(member).requires_grad_(False)
    torch.testing.assert_close(gradcam([frozen], x, y), with_graph)
    assert x.grad is None
    assert not x.requires_grad


def test_maps_of_autocast_members_are_single_precision_and_close():
    member, x, y = member_of("small-resnet"), images(4, 3, 32, 32), torch.arange(4)
    exact, lines = gradcam([member], x, y), saliency([member], x, y)
    with torch.autocast("cpu", torch.bfloat16):
        rough, rough_lines = gradcam([member], x, y), saliency([member], x, y)
    assert rough.dtype == rough_lines.dtype == torch.float32
    assert 0 < (rough - exact).norm() < 0.1 * exact.norm()
    assert 0 < (rough_lines - lines).norm() < 0.2 * lines.norm()
    gradient = torch.autograd.grad(rough.sum(), member.network.conv1.weight)[0]
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).any()


def test_members_without_maps_wrong_names_and_different_sizes_are_refused():
    x = images(2, 1, 8, 8)
    flat = Member(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    with pytest.raises(UserError, match="no convolutional maps of at least 3x3 pixels"):
        check_maps([flat], x)
    with pytest.raises(UserError, match="no convolutional maps of at least 3x3 pixels"):
        check_maps([flat], x, "layer2")
    ensemble = Ensemble([member_of("small-resnet", 1), member_of("small-resnet", 1)])
    check_maps(ensemble.members, x)
    check_maps(ensemble.members, x, "layer1")
    with pytest.raises(
        UserError, match=r"unknown layer 'layr2': did you mean .*layer2.* Known: .*network.layer1.*layer2"
    ):
        check_maps(ensemble.members, x, "layr2")
    with pytest.raises(UserError, match=r"layer 'layer3' gives maps of 2x2 pixels; .* at least 3x3, like .*layer2"):
        check_maps(ensemble.members, x, "layer3")
    with pytest.raises(UserError, match=r"different sizes \(4x4, 8x8\)"):
        check_maps([ensemble.members[0], member_of("lenet", 1)], x)
    check_maps([ensemble.members[0], member_of("wide-resnet-28-10", 1)], x)


class Branch(nn.Module):
    """A member with a convolution that leads nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle, self.head = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3), nn.Linear(2, 10)

    def forward(self, x: Tensor) -> Tensor:
        self.idle(x)
        return self.head(self.used(x).mean((2, 3)))


def test_a_layer_without_influence_is_refused():
    check_maps([Branch()], images(2, 1, 8, 8), "used")
    with pytest.raises(UserError, match="layer 'idle' has no influence on the logits"):
        check_maps([Branch()], images(2, 1, 8, 8), "idle")
