"""Weights find their network: by name and shape, by a renaming, or not, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from shared_data import LOSSLESS, PUBLIC
from torch import Tensor, nn

from robustkit import models
from robustkit.auditing._infer import declared
from robustkit.auditing.fitting import candidates, fit
from robustkit.auditing.reading import ModelInFile, read
from robustkit.base.errors import UserError


def _network(arch: str, channels: int = 3, classes: int = 10) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = models.build(arch, channels, classes)
        for name, value in network.named_buffers():
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + (0.5 if name.endswith("var") else 0))
    return network.eval()


def _found(state: dict[str, Tensor], **more: object) -> ModelInFile:
    return ModelInFile("m", "torch state dict", "top level", state, None, (), "", path="m.pth", **more)


def _images(channels: int = 3, size: int = 8) -> Tensor:
    return torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(3))


def _declared(arch: str, channels: int = 3, classes: int = 10) -> dict[str, Tensor]:
    return {n: torch.empty(s, device="meta") for n, s in declared(arch, channels, classes, {}).items()}


def _same(fitted_network: nn.Module, network: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        assert torch.equal(fitted_network(x), network(x))


@pytest.mark.skipif(not PUBLIC.exists(), reason="needs the public ResNet-20 of the maintainers")
def test_the_public_resnet20_is_recognised_with_nothing_but_the_file():
    (found,) = read(PUBLIC)
    assert candidates(found.state) == [("resnet20", {}, "every name and shape agrees, 10 classes, 3 channels")]
    fitted = fit(found, channels=3, classes=10)
    assert fitted.arch == "resnet20"
    assert any("option A" in note for note in fitted.notes)
    assert any("num_batches_tracked" in note for note in fitted.notes)
    data = np.load(LOSSLESS)
    x = torch.from_numpy(data["x"]).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        1, 3, 1, 1
    )
    with torch.no_grad():
        right = (fitted.network(x).argmax(1).numpy() == data["y"]).sum()
    assert right == 932  # 91.64 % of 1,017


@pytest.mark.parametrize(
    "arch",
    ["lenet", "small-resnet", "resnet20", "resnet32", "resnet44", "resnet56", "resnet18-32x32", "wide-resnet-28-10",
     "resnet18", "resnet50", "wide_resnet50_2", "vgg11_bn", "mobilenet_v2", "squeezenet1_1", "densenet121", "googlenet",
     "regnet_y_400mf", "shufflenet_v2_x1_0", "efficientnet_b0", "convnext_tiny", "vit_b_16", "swin_t"],
)  # fmt: skip
def test_an_architecture_is_inferred_from_names_and_shapes(arch):
    state = _declared(arch, classes=17)
    if arch == "googlenet":  # built here behind a wrapper, saved elsewhere without
        state = {name.removeprefix("network."): value for name, value in state.items()}
    ((name, params, why),) = candidates(state)
    assert name == arch
    assert "17 classes" in why
    assert params == ({"aux_logits": True} if arch == "googlenet" else {})


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_and_classes_come_from_the_weights(channels):
    network = _network("small-resnet", channels, 6)
    fitted = fit(_found(network.state_dict()), channels=None, classes=None)
    assert (fitted.arch, fitted.channels, fitted.classes) == ("small-resnet", channels, 6)
    _same(fitted.network, network, _images(channels))


def test_words_in_names_are_exchanged_one_to_one_in_any_order():
    network = _network("resnet18-32x32")
    words = {"fc": "linear", "downsample": "shortcut"}
    renamed = {
        ".".join(words.get(word, word) for word in name.split(".")): value
        for name, value in sorted(network.state_dict().items(), key=lambda item: item[0][::-1])
    }
    fitted = fit(_found(renamed), channels=3, classes=10)
    assert fitted.arch == "resnet18-32x32"
    assert any("shortcut -> downsample, linear -> fc" in note for note in fitted.notes)
    _same(fitted.network, network, _images(size=32))


def test_sorted_names_hide_the_order_and_so_are_not_mapped_by_it(tmp_path):
    for arch in ("resnet18", "densenet121", "squeezenet1_1"):  # the right names are found all the same
        assert [row[0] for row in candidates(dict(sorted(_declared(arch).items())))] == [arch]
    twelve = nn.Sequential(*(nn.Linear(4, 4) for _ in range(12))).state_dict()
    renamed = {f"l{name}": value for name, value in twelve.items()}  # l0, l1, ..., l11; sorted l0, l1, l10, l11, l2
    (tmp_path / "nets.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(*(nn.Linear(4, 4) for _ in range(12)))\n"
    )
    arch = f"{tmp_path / 'nets.py'}:net"
    assert torch.equal(fit(_found(renamed), arch=arch, channels=3, classes=4).network[2].weight, twelve["2.weight"])
    # linear layers take images of any number of channels
    assert fit(_found(renamed), arch=arch, channels=1, classes=4).channels == 1
    assert fit(_found(twelve), arch=arch, channels=1, classes=4).channels == 1
    with pytest.raises(UserError, match="24 missing"):
        fit(_found(dict(sorted(renamed.items()))), arch=arch, channels=3, classes=4)


def test_layers_with_other_names_are_mapped_by_their_order():
    network = _network("small-resnet")
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in network.state_dict()))
    renamed = {
        f"stage_{layers.index(name.rpartition('.')[0])}.{name.rpartition('.')[2]}": value
        for name, value in network.state_dict().items()
    }
    fitted = fit(_found(renamed), channels=3, classes=10)
    assert any("the same layers in the same order" in note for note in fitted.notes)
    _same(fitted.network, network, _images())
    named = fit(_found(renamed), arch="small-resnet", channels=3, classes=10)
    _same(named.network, network, _images())


def test_a_prefix_that_was_stripped_is_put_back_where_the_network_has_it(tmp_path):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, classes, width=4):\n"
        "        super().__init__()\n"
        "        self.model = nn.Sequential(nn.Conv2d(3, width, 3), nn.Flatten(), nn.Linear(width * 36, classes))\n"
        "    def forward(self, x):\n"
        "        return self.model(x)\n"
        "def wide(classes):\n"
        "    return Net(classes, width=7)\n"
        "def fails(classes):\n"
        "    raise RuntimeError('two\\nlines')\n"
    )
    arch = f"{tmp_path / 'nets.py'}:"
    network = models.build(arch + "Net", 3, 10, {"width": 5})
    torch.save(network.state_dict(), tmp_path / "m.pth")
    (found,) = read(tmp_path / "m.pth")
    assert "model." not in next(iter(found.state))
    fitted = fit(found, arch=arch + "Net", arch_args={"width": 5}, channels=3, classes=10)
    assert fitted.arch_args == {"width": 5}
    _same(fitted.network, network, _images())
    with pytest.raises(UserError, match=r"mis-shaped \(model.0.weight|0.weight"):
        fit(found, arch=arch + "wide", channels=3, classes=10)
    for factory, why in (("fails", r"RuntimeError: two.*lines"), ("gone", "no callable 'gone'")):
        with pytest.raises(UserError, match=why) as caught:
            fit(found, arch=arch + factory, channels=3, classes=10)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="there is no file"):
        fit(found, arch=f"{tmp_path}/gone.py:f", channels=3, classes=10)
    with pytest.raises(UserError, match=r"could not be built with .'depth': 3"):
        fit(found, arch=arch + "Net", arch_args={"depth": 3}, channels=3, classes=10)


def test_a_broken_file_of_code_is_one_sentence(tmp_path):
    (tmp_path / "broken.py").write_text("def f(:\n")
    with pytest.raises(UserError, match="SyntaxError") as caught:
        models.build(f"{tmp_path / 'broken.py'}:f", 3, 10)
    assert "\n" not in str(caught.value)


def _projected(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**state, "layer2.0.shortcut.0.weight": torch.ones(32, 16, 1, 1)}


def _without(part: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {name: value for name, value in state.items() if part not in name}


MISSES = {
    "stem": ("resnet18-32x32", "resnet18", dict, r"3x3 \(the CIFAR stem\), resnet18's is 7x7 \(the ImageNet stem\)"),
    "shortcut": ("resnet20", "resnet20", _projected, r"projections \(type B\)\): 1 unexpected \(layer2.0.shortcut"),
    "statistics": ("resnet20", "resnet20", _without("running"), r"no batch-norm statistics.*38 missing \(bn1.running"),
    "depth": ("resnet32", "resnet20", dict, r"unexpected \(layer1.3.conv1.weight, .*, \.\.\.\)"),
    "layer": ("resnet20", "resnet20", _without("layer3"), r"30 missing \(layer3.0.conv1.weight"),
}


@pytest.mark.parametrize("kind", MISSES)
def test_a_near_miss_is_explained(kind):
    held, arch, change, why = MISSES[kind]
    with pytest.raises(UserError, match=why) as caught:
        fit(_found(change(_declared(held))), arch=arch, channels=3, classes=10)
    assert "\n" not in str(caught.value)


def test_the_nearest_architecture_is_named_where_none_fits():
    with pytest.raises(UserError, match=r"the nearest is resnet20, but its shortcuts are projections \(type B\)"):
        fit(_found(_projected(_declared("resnet20"))), channels=3, classes=10)
    with pytest.raises(UserError, match="the file says arch 'resnet12'"):
        fit(_found({"w": torch.ones(2, 2)}, says={"arch": "resnet12"}), channels=3, classes=10)
    with pytest.raises(UserError, match="looks like a detection model"):
        fit(_found({"rpn.head.weight": torch.ones(2, 2)}), channels=3, classes=10)


@pytest.mark.parametrize("arch", [None, "small-resnet"])
def test_channels_that_would_load_are_no_reason(arch):
    grey = {**_network("small-resnet", 1).state_dict(), "extra.weight": torch.ones(3)}
    with pytest.raises(UserError, match=r"1 unexpected \(extra.weight\)") as caught:
        fit(_found(grey), arch=arch, channels=None, classes=10)
    assert "channels" not in str(caught.value)
    with pytest.raises(UserError, match="for 1 channels and the data have 3"):
        fit(_found(_network("small-resnet", 1).state_dict()), arch=arch, channels=3, classes=10)


@pytest.mark.parametrize("keep", [True, False])
def test_counters_are_missing_only_where_they_are(keep):
    network = _network("resnet18-32x32")
    for name, value in network.named_buffers():
        if name.endswith("num_batches_tracked"):
            value.fill_(7)
    renamed = {name.replace("fc", "linear"): value for name, value in network.state_dict().items()}
    renamed = {name.replace("bn1", "norm1"): value for name, value in renamed.items()}
    held = {name: value for name, value in renamed.items() if keep or not name.endswith("num_batches_tracked")}
    fitted = fit(_found(held), channels=3, classes=10)
    assert any("num_batches_tracked is missing" in note for note in fitted.notes) != keep
    assert int(fitted.network.bn1.num_batches_tracked) == (7 if keep else 0)


def test_other_classes_or_channels_than_the_data_are_named():
    state = _network("small-resnet", 1, 100).state_dict()
    for arch in (None, "small-resnet"):
        with pytest.raises(UserError, match="for 100 classes and the data have 10"):
            fit(_found(state), arch=arch, channels=1, classes=10)
        with pytest.raises(UserError, match="for 1 channels and the data have 3"):
            fit(_found(state), arch=arch, channels=3, classes=100)


def test_several_candidates_are_offered():
    models.model("twin-of-small-resnet")(lambda *, channels, classes: models.build("small-resnet", channels, classes))
    try:
        with pytest.raises(UserError, match="choose one with --arch: small-resnet, twin-of-small-resnet"):
            fit(_found(_declared("small-resnet")), channels=3, classes=10)
    finally:
        models.model.remove("twin-of-small-resnet")


def test_names_and_arguments_are_checked():
    found = _found(_declared("small-resnet"))
    with pytest.raises(UserError, match="did you mean 'resnet20'"):
        fit(found, arch="resnet-20", channels=3, classes=10)
    with pytest.raises(UserError, match="does not take {'width': 3}"):
        fit(found, arch="small-resnet", arch_args={"width": 3}, channels=3, classes=10)
    with pytest.raises(UserError, match="does not take {'width'.*TypeError"):
        fit(found, arch="small-resnet", arch_args={"width": [1, 2]}, channels=3, classes=10)
    with pytest.raises(UserError, match="without --arch"):
        fit(found, arch_args={"width": 3}, channels=3, classes=10)
    with pytest.raises(UserError, match="holds no weights"):
        fit(_found({}), channels=3, classes=10)


def test_fitting_leaves_the_global_random_state_and_the_weights_alone():
    network = _network("small-resnet")
    state = {name: value.clone() for name, value in network.state_dict().items()}
    before = torch.random.get_rng_state()
    fitted = fit(_found(network.state_dict()), channels=3, classes=10)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not fitted.network.training
    with torch.no_grad():
        next(fitted.network.parameters()).zero_()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_integer_weights_are_converted_and_noted():
    network = _network("small-resnet")
    state = dict(network.state_dict())
    state["linear.bias"] = torch.arange(10)
    fitted = fit(_found(state), arch="small-resnet", channels=3, classes=10)
    assert "1 integer tensors were converted to float32" in fitted.notes
    assert fitted.network.linear.bias.tolist() == list(range(10))


def test_timm_is_an_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(UserError, match=r"\[timm\]"):
        models.build("timm/resnet18", 3, 10)


@pytest.mark.parametrize("arch", ["resnet18d", "dla34", "vit_tiny_patch16_224", "convnext_atto"])
def test_a_timm_architecture_is_inferred_or_offered(arch):
    pytest.importorskip("timm")
    found = candidates(_declared(f"timm/{arch}", classes=17))
    assert f"timm/{arch}" in [name for name, _, _ in found]
    assert {why for _, _, why in found} == {"every name and shape agrees, 17 classes, 3 channels"}
    assert all(name.startswith("timm/") for name, _, _ in found)
    if arch == "vit_tiny_patch16_224":  # deit's has the same weights: nobody but the user can tell
        assert "timm/deit_tiny_patch16_224" in [name for name, _, _ in found]
        with pytest.raises(UserError, match="choose one with --arch: .*timm/deit_tiny_patch16_224"):
            fit(_found(_declared(f"timm/{arch}")), channels=3, classes=10)


def test_a_file_of_timms_with_other_channels_is_inferred():
    timm = pytest.importorskip("timm")
    network = timm.create_model("resnet18d", num_classes=7, in_chans=1).eval()
    fitted = fit(_found(network.state_dict()), channels=None, classes=None)
    assert (fitted.arch, fitted.channels, fitted.classes) == ("timm/resnet18d", 1, 7)
    _same(fitted.network, network, _images(1, size=32))


def test_without_timm_the_message_says_that_it_was_not_compared(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(UserError, match=r"timm's were not compared: .* install .*\[timm\]'\)"):
        fit(_found({"w": torch.ones(2, 2)}), channels=3, classes=10)


def test_a_timm_architecture():
    timm = pytest.importorskip("timm")
    network = timm.create_model("resnet18d", num_classes=10).eval()
    fitted = fit(_found(network.state_dict()), arch="timm/resnet18d", channels=3, classes=10)
    _same(fitted.network, network, _images(size=32))
    with pytest.raises(UserError, match="leave out checkpoint_path"):
        models.build("timm/resnet18d", 3, 10, {"checkpoint_path": "evil.pth"})
    with pytest.raises(UserError, match="unknown timm architecture"):
        models.check("timm/resnet18dd")


def test_code_is_asked_in_its_own_order_and_for_the_datas_channels(tmp_path: Path):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "def build(channels, classes):\n"
        "    first, second = nn.Linear(64, 64), nn.Linear(64, 64)\n"
        "    second.weight = first.weight\n"
        "    return nn.Sequential(nn.Flatten(), first, second, nn.Linear(64, classes))\n"
    )
    # As safetensors reads it: the tied name, which the header gives, comes last; and no layer says the channels.
    state = {"1.weight": torch.ones(64, 64), "1.bias": torch.ones(64), "2.bias": torch.ones(64)}
    state |= {"3.weight": torch.ones(10, 64), "3.bias": torch.ones(10), "2.weight": torch.ones(64, 64)}
    torch.save(state, tmp_path / "m.pt")
    (found,) = read(tmp_path / "m.pt")
    fitted = fit(found, arch=f"{tmp_path / 'nets.py'}:build", channels=1, classes=10)
    assert fitted.network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
