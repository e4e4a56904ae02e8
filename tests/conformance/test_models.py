"""Every registered architecture maps images to logits, sample by sample, and can be trained."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from robustkit import models
from robustkit.base.errors import UserError
from robustkit.models import model

SMALL = [e.name for e in model if e.name != "wide-resnet-28-10"]  # 36 million parameters: one test of its own


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("channels", "side", "classes"), [(1, 8, 10), (1, 28, 3), (3, 32, 100)])
def test_shapes_gradients_and_independence_of_the_batch(name: str, channels: int, side: int, classes: int):
    network = models.build(name, channels, classes).double().eval()
    x = torch.rand((4, channels, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    out = network(x)
    assert out.shape == (4, classes)
    assert torch.isfinite(out).all()
    torch.testing.assert_close(network(x[2:3]), out[2:3], atol=1e-9, rtol=1e-9)
    network.train()(x).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "parameters"),
    # He et al. 2016, table 6: 0.27, 0.46, 0.66, 0.85 million; exact counts by hand for option A shortcuts.
    [("resnet20", 269_722), ("resnet32", 464_154), ("resnet44", 658_586), ("resnet56", 853_018)],
)
def test_cifar_resnets_have_the_published_size(name: str, parameters: int):
    assert sum(p.numel() for p in models.build(name, 3, 10).parameters()) == parameters


def test_wide_resnet_has_the_published_size():
    network = models.build("wide-resnet-28-10", 3, 10).eval()
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == 36.5
    assert network(torch.rand(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize(("side", "pooled"), [(28, False), (8, True), (32, True)])
def test_lenet_pools_only_what_has_not_the_size_of_its_grid(side: int, pooled: bool, monkeypatch: pytest.MonkeyPatch):
    network, given, real = models.build("lenet", 1, 10), list[torch.Tensor](), functional.adaptive_avg_pool2d
    monkeypatch.setattr(functional, "adaptive_avg_pool2d", lambda z, size: given.append(z) or real(z, size))
    network.fc1.register_forward_pre_hook(lambda _, at: given.append(at[0]))
    network(torch.rand(4, 1, side, side))
    assert len(given) == 1 + pooled
    grid = given[-1].unflatten(1, (16, 7, 7))
    assert torch.equal(real(given[0] if pooled else grid, 7), grid)


@pytest.mark.parametrize("record", [torch.jit.script, torch.fx.symbolic_trace, None])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_recorded_lenet_takes_other_sizes(record: Any):
    network, (small, large) = models.build("lenet", 1, 10).eval(), (torch.rand(2, 1, side, side) for side in (28, 40))
    recorded = torch.jit.trace(network, small, check_trace=False) if record is None else record(network)
    for x in (small, large):
        torch.testing.assert_close(recorded(x), network(x))


def test_an_exported_lenet_takes_other_sizes():
    network, sides = models.build("lenet", 1, 10).eval(), {d: torch.export.Dim(f"s{d}", min=8, max=256) for d in (2, 3)}
    x = torch.rand(2, 1, 28, 28)
    pooled = nn.Sequential(nn.Conv2d(1, 2, 5, padding=2), nn.MaxPool2d(2), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(7))
    try:
        torch.export.export(pooled, (x,), dynamic_shapes=(sides,))
    except Exception as error:  # noqa: BLE001 - whatever an older torch says of sizes that are halved
        pytest.skip(f"torch {torch.__version__} exports no pooling of free sizes: {error}")
    made = torch.export.export(network, (x,), dynamic_shapes={"x": sides}).module()
    other = torch.rand(2, 1, 40, 36)
    torch.testing.assert_close(made(other), network(other))


@pytest.mark.parametrize("channels", [1, 3])
def test_torchvision_by_name_with_a_fitted_stem(channels: int):
    network = models.build("resnet18", channels, 7).eval()
    assert network(torch.rand(2, channels, 64, 64)).shape == (2, 7)


def test_factory_is_called_with_what_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mynets.py").write_text(
        "from torch import nn\n"
        "def plain(classes):\n    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))\n"
        "def wrong():\n    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert models.build("mynets:plain", 1, 6)(torch.rand(2, 1, 4, 4)).shape == (2, 6)
    for arch, message in (
        ("mynets:wrong", "returned int, not a torch.nn.Module"),
        ("mynets:none", "has no callable 'none'"),
        ("nomodule:x", "cannot import 'nomodule'"),
        ("my nets:x", "is not of the form module:factory"),
        ("resnet21", "unknown architecture 'resnet21': did you mean 'resnet"),
    ):
        with pytest.raises(UserError, match=message):
            models.build(arch, 1, 6)
    assert "mynets" in sys.modules


def test_checking_a_factory_runs_none_of_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "harmful.py").write_text("raise SystemExit('ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    models.check("harmful:build")
    assert "harmful" not in sys.modules


def test_resnet18_for_32x32_has_the_published_size():
    # torchvision's 11,689,512 with 1,000 classes; 990 fewer of 513 weights each, and a 3x3 stem where a 7x7 one was.
    expected = 11_689_512 - 990 * 513 - 64 * 3 * (7 * 7 - 3 * 3)
    assert sum(p.numel() for p in models.build("resnet18-32x32", 3, 10).parameters()) == expected
