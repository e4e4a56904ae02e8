"""Networks that no architecture's name stands for: chains, computed weights, transformers' names, one output."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torchvision.models import VisionTransformer, resnet18

import robustkit
from robustkit import data, models
from robustkit.auditing._chain import chains
from robustkit.auditing._huggingface import resnet
from robustkit.auditing._infer import declared
from robustkit.auditing._judging import judge
from robustkit.auditing.detecting import Given
from robustkit.auditing.fitting import fit
from robustkit.auditing.reading import read
from robustkit.base.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm:FutureWarning")
QUICK = {"attacks": "fgsm", "eps": "0.1", "reference": False, "trust": "off", "workers": 1, "formats": ()}


def _saved(network: nn.Module, folder: Path, *, safe: bool = True) -> Path:
    state = {name: value.clone() for name, value in network.state_dict().items()}
    if safe:
        safetensors.torch.save_file(state, folder / "m.safetensors")  # sorted by name
        return folder / "m.safetensors"
    torch.save(state, folder / "m.pth")
    return folder / "m.pth"


# ---- chains


class Tutorial(nn.Module):
    """The network of PyTorch's first tutorial: two 5x5 convolutions, 6 and 16 wide, and three linear layers."""

    def __init__(self, act: Callable[[Tensor], Tensor], pool: type[nn.Module], pad: int, side: int) -> None:
        super().__init__()
        self.act, self.pool = act, pool(2, 2)
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5, padding=pad), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(16 * side**2, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.act(self.conv1(x)))
        x = self.pool(self.act(self.conv2(x))).flatten(1)
        return self.fc3(self.act(self.fc2(self.act(self.fc1(x)))))


def _normed() -> nn.Module:
    return nn.Sequential(OrderedDict(
        features=nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ),
        classifier=nn.Linear(24, 10),
    ))  # fmt: skip


def _strided() -> nn.Module:
    """A stride in the place of a pooling, which would leave as much."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(256, 10),
    )  # fmt: skip


CHAINS: dict[str, tuple[Callable[[], nn.Module], int, str]] = {
    "tutorial": (lambda: Tutorial(torch.relu, nn.MaxPool2d, 0, 5), 32, "relu, max pooling behind conv1, conv2"),
    "as in 1998": (
        lambda: Tutorial(torch.tanh, nn.AvgPool2d, 2, 5), 28,
        "tanh, average pooling behind conv1, conv2, conv1 padded by 2",
    ),
    "normed": (
        _normed, 8, "relu, max pooling behind features.0, features.4, features.0 padded by 1, features.4 padded by 1, "
        "features.8 padded by 1, an average before the linear layers",
    ),
    "strided": (_strided, 8, "relu, no pooling, 0 padded by 1, 2 padded by 1, 2 of stride 2"),
}  # fmt: skip


@pytest.fixture(scope="module")
def trained() -> dict[str, tuple[nn.Module, Tensor, Tensor]]:
    """Each chain, trained on the digits at its size for a few epochs, with test images and labels."""
    split = data.load("digits").split("train").take(800)
    _, x, y = split.batch(range(len(split)))
    found = {}
    for name, (make, side, _) in CHAINS.items():
        sized = nn.functional.interpolate(x, (side, side), mode="bilinear").expand(-1, 3, -1, -1)
        noise = torch.rand(sized.shape, generator=torch.Generator().manual_seed(1))  # or a maximum is like an average
        sized = (0.7 * sized + 0.3 * noise) if side > 8 else sized.contiguous()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = make().train()
            optimiser = torch.optim.Adam(network.parameters(), 0.01 if side == 8 else 0.003)
            for _ in range(12 if side == 8 else 4):
                for rows in torch.randperm(500).split(32):
                    optimiser.zero_grad()
                    nn.functional.cross_entropy(network(sized[rows]), y[rows]).backward()
                    optimiser.step()
        found[name] = network.eval(), sized[500:], y[500:]
    return found


@pytest.mark.parametrize(("kind", "safe"), [*((kind, True) for kind in CHAINS), ("normed", False)])
def test_a_chain_is_rebuilt_and_accuracy_chooses_the_poolings(kind: str, safe: bool, trained, tmp_path: Path):
    network, x, y = trained[kind]
    (found,) = read(_saved(network, tmp_path, safe=safe))
    fitted = fit(found, channels=3, classes=10, size=tuple(x.shape[2:]))
    chain, finding = judge(fitted.ways, x, y, Given(), "m")
    assert str(chain) == CHAINS[kind][2]
    # 256 labels do not tell averages from maxima in the second: it is chosen, and doubted
    assert finding.concern == (kind == "as in 1998")
    assert ("as likely by the labels: tanh, max pooling" in finding.evidence) == (kind == "as in 1998")
    with torch.no_grad():
        torch.testing.assert_close(chain.build()(x), network(x))
        right = float((network(x[:256]).argmax(1) == y[:256]).double().mean())
    assert right > 0.8
    assert f"accuracy {right:.3f} on 256 clean images" in finding.evidence


def test_an_audit_of_the_tutorials_network(trained, tmp_path: Path):
    network, x, y = trained["tutorial"]
    results = robustkit.audit(
        _saved(network, tmp_path), (x, y), n=40, normalize="none", suites="attacks", out=tmp_path / "out", **QUICK
    )
    with torch.no_grad():
        expected = float((network(x[:40]).argmax(1) == y[:40]).double().mean())
    assert results["ensembles"][0]["accuracy"] == pytest.approx(expected)
    assert results["ensembles"][0]["arch"] == "chain of 2 convolutions and 3 linear layers"
    assert any("rebuilt from the shapes alone" in note for note in results["audit"][0]["notes"])


def test_a_chain_no_better_than_a_guess_is_refused(trained, tmp_path: Path):
    network, x, y = trained["tutorial"]
    ways = chains(network.state_dict(), (32, 32))
    with pytest.raises(UserError, match="none of the 9 ways to run it that the shapes allow is better than a guess"):
        judge(ways, torch.rand(x.shape, generator=torch.Generator().manual_seed(1)), y, Given(), "m")
    (found,) = read(_saved(network, tmp_path))
    with pytest.raises(UserError, match="fits no known architecture"):
        fit(found, channels=3, classes=10)  # nobody said how large the images are


@pytest.mark.parametrize("channels", [1, 3])
def test_linear_layers_alone_are_a_chain_too(channels: int):
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(4, (200,), generator=generator)
    x = torch.rand((200, channels, 6, 6), generator=generator) / 4
    x[torch.arange(200), :, 0, y] = 1.0
    network = nn.Sequential(nn.Flatten(), nn.Linear(channels * 36, 16), nn.ReLU(), nn.Linear(16, 4))
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(100):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimiser.step()
    chain, finding = judge(chains(network.state_dict(), (6, 6)), x, y, Given(normalize="none"), "m")
    assert (chain.channels, str(chain), finding.concern) == (channels, "relu, no pooling", False)
    with torch.no_grad():
        torch.testing.assert_close(chain.build()(x), network(x))
    assert chains(network.state_dict(), (5, 5)) == []


def test_what_is_no_chain_is_not_rebuilt():
    assert chains(models.build("resnet18-32x32", 3, 10).state_dict(), (32, 32)) == []
    conv, head = torch.ones(4, 3, 3, 3), torch.ones(10, 4)
    assert chains({"a.weight": conv, "a.bias": torch.ones(3), "b.weight": head}, (8, 8)) == []
    assert chains({"a.weight": torch.ones(0, 3, 3, 3), "b.weight": head}, (8, 8)) == []
    assert len(chains({"a.weight": conv, "b.weight": head}, (8, 8))) > 0
    assert chains(nn.Linear(12, 10).state_dict(), (2, 2)) == []
    assert chains({"a.weight": torch.ones(4, 3, 3, 3), "b.weight": torch.ones(10, 5)}, (8, 8)) == []


# ---- computed weights


def _net(change: Callable[[nn.Module], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        network = models.build("small-resnet", 3, 10)
        for name in ("conv1", "layer1", "linear"):
            for part in getattr(network, name).modules():
                if isinstance(part, nn.Conv2d | nn.Linear):
                    change(part)
        network.train()(torch.rand(4, 3, 8, 8))  # spectral norm's vectors move
    return network.eval()


COMPUTED = {
    "weight norm": weight_norm,
    "weight norm of the whole": partial(weight_norm, dim=None),
    "weight norm by inputs": partial(weight_norm, dim=1),
    "weight norm, parametrized": parametrizations.weight_norm,
    "spectral norm": spectral_norm,
    "spectral norm by inputs": partial(spectral_norm, dim=1),
    "spectral norm, parametrized": parametrizations.spectral_norm,
    "pruning": partial(prune.l1_unstructured, name="weight", amount=0.5),
}


@pytest.mark.parametrize("kind", COMPUTED)
def test_weights_that_are_computed_are_computed(kind: str, tmp_path: Path):
    network = _net(COMPUTED[kind])
    (found,) = read(_saved(network, tmp_path))
    fitted = fit(found, channels=3, classes=10)
    assert fitted.arch == "small-resnet"
    assert any(f"{kind.split(',')[0].split(' of')[0].split(' by')[0]} of 4 weights" in note for note in fitted.notes)
    x = torch.rand(3, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(fitted.network(x), network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "parts",
    [
        {"weight_g": torch.ones(16, 1, 1, 1), "weight_v": torch.zeros(16, 3, 3, 3)},
        {"weight_g": torch.ones(5, 1, 1, 1), "weight_v": torch.ones(16, 3, 3, 3)},
        {"weight_g": torch.ones(16, dtype=torch.long), "weight_v": torch.ones(16, 3, 3, 3)},
        {"weight_orig": torch.ones(16, 3, 3, 3), "weight_u": torch.ones(4), "weight_v": torch.ones(108)},
        {"weight_orig": torch.ones(16, 3, 3, 3), "weight_mask": torch.ones(16, 3)},
    ],
)
def test_parts_that_make_no_weight_are_refused(parts: dict[str, Tensor], tmp_path: Path):
    state = {name: value for name, value in _net(lambda part: part).state_dict().items() if name != "conv1.weight"}
    torch.save({**state, **{f"conv1.{name}": value for name, value in parts.items()}}, tmp_path / "m.pth")
    (found,) = read(tmp_path / "m.pth")
    with pytest.raises(UserError, match="fits no known architecture"):
        fit(found, channels=3, classes=10, size=(8, 8))


def test_a_network_that_has_the_norm_itself_takes_the_file_as_it_is(tmp_path: Path):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\nfrom torch.nn.utils.parametrizations import weight_norm\n"
        "def net(classes):\n    return nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(12, classes)))\n"
    )
    arch = f"{tmp_path / 'nets.py'}:net"
    network = models.build(arch, 3, 10)
    (found,) = read(_saved(network, tmp_path))
    x = torch.rand(3, 3, 2, 2)
    with torch.no_grad():
        assert torch.equal(fit(found, arch=arch, channels=3, classes=10).network(x), network(x))


# ---- names of transformers


def _theirs_resnet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's names as transformers' ResNetForImageClassification has them."""
    done = {}
    for name, value in state.items():
        words = name.split(".")
        leaf = words[-1]
        if words[0] in ("conv1", "bn1"):
            kind = "convolution" if words[0] == "conv1" else "normalization"
            done[f"resnet.embedder.embedder.{kind}.{leaf}"] = value
        elif words[0] == "fc":
            done[f"classifier.1.{leaf}"] = value
        else:
            where = f"resnet.encoder.stages.{int(words[0][-1]) - 1}.layers.{words[1]}"
            if words[2] == "downsample":
                done[f"{where}.shortcut.{('convolution', 'normalization')[int(words[3])]}.{leaf}"] = value
            else:
                kind = "convolution" if words[2].startswith("conv") else "normalization"
                done[f"{where}.layer.{int(words[2][-1]) - 1}.{kind}.{leaf}"] = value
    return done


def test_a_resnet_under_transformers_names(tmp_path: Path):
    network = resnet18(num_classes=7).eval()
    theirs = _theirs_resnet(network.state_dict())
    assert "resnet.encoder.stages.1.layers.0.shortcut.convolution.weight" in theirs
    safetensors.torch.save_file(theirs, tmp_path / "model.safetensors")
    (found,) = read(tmp_path / "model.safetensors")
    fitted = fit(found, channels=3, classes=7)
    assert fitted.arch == "resnet18"
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(fitted.network(x), network(x))


def test_bottlenecks_under_transformers_names():
    ours = {name: torch.empty(shape, device="meta") for name, shape in declared("resnet50", 3, 7, {}).items()}
    theirs = dict(sorted(_theirs_resnet(ours).items()))
    assert "resnet.encoder.stages.3.layers.2.layer.2.normalization.running_var" in theirs
    found = resnet(theirs)
    assert set(found) == set(ours)
    assert all(found[name] is ours[name] for name in ours)


def _theirs_vit(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's names as transformers' ViTForImageClassification has them."""
    ends = {
        "ln_1": "layernorm_before", "ln_2": "layernorm_after", "mlp.0": "intermediate.dense", "mlp.3": "output.dense",
        "self_attention.out_proj": "attention.output.dense",
    }  # fmt: skip
    whole = {
        "class_token": "vit.embeddings.cls_token", "encoder.pos_embedding": "vit.embeddings.position_embeddings",
        "conv_proj": "vit.embeddings.patch_embeddings.projection", "encoder.ln": "vit.layernorm",
        "heads.head": "classifier",
    }  # fmt: skip
    done = {}
    for name, value in state.items():
        stem, _, leaf = name.rpartition(".")
        if name in whole:
            done[whole[name]] = value
        elif stem in whole:
            done[f"{whole[stem]}.{leaf}"] = value
        else:
            index, _, rest = stem.removeprefix("encoder.layers.encoder_layer_").partition(".")
            where = f"vit.encoder.layer.{index}"
            if rest == "self_attention" and leaf.startswith("in_proj"):
                for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                    done[f"{where}.attention.attention.{part}.{leaf.removeprefix('in_proj_')}"] = piece.clone()
            else:
                done[f"{where}.{ends[rest]}.{leaf}"] = value
    return done


@pytest.mark.parametrize("channels", [1, 3])
def test_a_vit_under_transformers_names(channels: int, tmp_path: Path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        network = VisionTransformer(
            image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=128, mlp_dim=64, num_classes=5,
            norm_layer=partial(nn.LayerNorm, eps=1e-12),
        )  # fmt: skip
        network.conv_proj = nn.Conv2d(channels, 128, 4, 4)
        nn.init.normal_(network.heads.head.weight)
    network.eval()
    theirs = _theirs_vit(network.state_dict())
    safetensors.torch.save_file({**theirs, "vit.pooler.dense.weight": torch.ones(2, 2)}, tmp_path / "model.safetensors")
    (found,) = read(tmp_path / "model.safetensors")
    fitted = fit(found, channels=channels, classes=5)
    assert (fitted.classes, fitted.channels) == (5, channels)
    assert any("images of 16x16 in patches of 4, 2 layers of width 128; 2 heads" in note for note in fitted.notes)
    x = torch.rand(2, channels, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(fitted.network(x), network(x))


@pytest.mark.parametrize(
    ("config", "heads"),
    [
        ('{"num_attention_heads": 4, "layer_norm_eps": 0.01}', 4),
        ("[]", 2),
        ("{", 2),
        ('{"num_attention_heads": "4"}', 2),
    ],
)
def test_the_heads_of_a_vit_are_those_of_its_configuration(config: str, heads: int, tmp_path: Path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        network = VisionTransformer(
            image_size=8, patch_size=4, num_layers=1, num_heads=heads, hidden_dim=128, mlp_dim=16, num_classes=5,
            norm_layer=partial(nn.LayerNorm, eps=0.01 if heads == 4 else 1e-12),
        ).eval()  # fmt: skip
        nn.init.normal_(network.heads.head.weight)
    safetensors.torch.save_file(_theirs_vit(network.state_dict()), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(config)
    (found,) = read(tmp_path)
    fitted = fit(found, channels=3, classes=5)
    assert any(("config.json's" if heads == 4 else "are assumed") in note for note in fitted.notes)
    x = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(fitted.network(x), network(x))


@pytest.mark.parametrize("change", [(2, 2), (1, 17), (), (1, 0, 128)])
def test_a_vit_of_other_shapes_is_refused_and_a_name_costs_no_memory(change: tuple[int, ...], tmp_path: Path):
    held = {
        "vit.embeddings.cls_token": torch.ones(1, 1, 8192), "vit.embeddings.position_embeddings": torch.ones(change),
        "vit.embeddings.patch_embeddings.projection.weight": torch.ones(8192, 3, 1, 1),
        "classifier.weight": torch.ones(10, 8192),
        **{f"vit.encoder.layer.{i}.intermediate.dense.weight": torch.ones(32768, 1) for i in range(60)},
    }  # fmt: skip
    torch.save(held, tmp_path / "m.pth")
    (found,) = read(tmp_path / "m.pth")
    with pytest.raises(UserError, match="fits no known architecture"):
        fit(found, channels=3, classes=10)


# ---- one output for two classes


class OneOutput(nn.Module):
    """Whether an image is brighter on the right: one number for each image."""

    def __init__(self, shape: str, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.head, self.shape, self.act = nn.Linear(16, 1), shape, act
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([-6.0, -6.0, 6.0, 6.0]).repeat(4)[None])
            self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        found = self.act(self.head(x.flatten(1)))
        return found.squeeze(1) if self.shape == "(B,)" else found


@pytest.mark.parametrize("shape", ["(B, 1)", "(B,)"])
@pytest.mark.parametrize(("act", "kind"), [(nn.Identity(), "a logit"), (torch.sigmoid, "a probability (sigmoid)")])
def test_a_model_with_one_output_is_two_classes(shape, act, kind, tmp_path: Path):
    x = torch.rand(200, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    model = OneOutput(shape, act)
    with torch.no_grad():
        margin = model.head(x.flatten(1)).squeeze(1)
    y = (margin + 0.4 * torch.randn(200, generator=torch.Generator().manual_seed(6)) > 0).long()
    results = robustkit.audit(
        model, (x, y), n=200, normalize="none", pixel_range=1, suites="attacks", out=tmp_path / "out",
        **{**QUICK, "eps": "0.01"},
    )  # fmt: skip
    [finding] = [f for f in results["audit"][0]["findings"] if f["what"] == "one output"]
    assert finding["value"] == kind
    assert results["ensembles"][0]["accuracy"] == pytest.approx(float(((margin > 0).long() == y).double().mean()))
    drop = 0.01 * 6 * 16  # a linear model: fgsm moves the margin by eps times the sum of the weights
    # at the edges of [0, 1] a pixel may move less
    expected = float((torch.where(y == 1, margin - drop, -margin - drop) > 0).double().mean())
    assert results["evaluations"][0]["robust_accuracy"] == pytest.approx(expected, abs=0.02)


def test_a_file_with_one_output_fits_data_of_two_classes(tmp_path: Path):
    network = models.build("small-resnet", 1, 1).eval()
    path = _saved(network, tmp_path)
    (found,) = read(path)
    assert fit(found, channels=1, classes=2).classes == 1
    assert fit(found, arch="small-resnet", channels=1, classes=2).classes == 1
    (tmp_path / "nets.py").write_text(
        "from robustkit import models\ndef net(channels, classes):\n"
        "    return models.build('small-resnet', channels, classes)\n"
    )
    assert fit(found, arch=f"{tmp_path / 'nets.py'}:net", channels=1, classes=2).classes == 1
    with pytest.raises(UserError, match="for 1 classes and the data have 3"):
        fit(found, channels=1, classes=3)


def test_a_function_with_one_number_for_each_image_is_two_classes(tmp_path: Path):
    x = torch.rand(100, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    model = OneOutput("(B,)", nn.Identity())
    y = (model(x) > 0).long()
    results = robustkit.audit(
        lambda x: model(x), (x, y), n=100, normalize="none", pixel_range=1, suites="attacks", out=tmp_path / "out",
        **{**QUICK, "eps": "0.01"},
    )  # fmt: skip
    assert results["ensembles"][0]["accuracy"] == 1


def test_a_chain_with_one_output_is_judged_as_two_classes(tmp_path: Path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1)).eval()
    x = torch.rand(200, 1, 8, 8)
    with torch.no_grad():
        network[3].bias -= network(x).median()
        y = (network(x)[:, 0] > 0).long()
    fitted = fit(read(_saved(network, tmp_path))[0], channels=1, classes=2, size=(8, 8))
    chosen, _ = judge(fitted.ways, x, y, Given(normalize="none"), "file")
    torch.testing.assert_close(chosen.build()(x), network(x))
