"""Ways of computing a training step give the same gradients; the choice is proven by a trial and remembered."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerator import pretend_cuda
from torch import nn
from torch.nn import functional

from robustkit import models
from robustkit.base import paths
from robustkit.base.errors import RunError, UserError
from robustkit.ensembles.ensemble import Ensemble, Member
from robustkit.models._residual import BasicBlock
from robustkit.training import forward
from robustkit.training.forward import Forward

with contextlib.suppress(ImportError):
    # torch.compile imports it, and it refuses to be imported once another test has loaded Python's own distutils.
    import setuptools  # noqa: F401

GPU = torch.device("cuda:0")


class OneBlock(BasicBlock):
    """What a ResNet is made of, shortcut that subsamples and pads included: of compiling, each layer takes seconds."""

    def __init__(self) -> None:
        super().__init__(1, 16, stride=2)
        self.linear = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(super().forward(x).mean((2, 3)))


def _ensemble(build: Callable[[], nn.Module], members: int = 3) -> Ensemble:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Ensemble([Member(build()) for _ in range(members)]).train()


@pytest.fixture
def ensemble() -> Ensemble:
    return _ensemble(lambda: models.build("small-resnet", 1, 10))


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand((16, 1, 8, 8), generator=generator), torch.randint(0, 10, (16,), generator=generator)


def _gradients(ensemble: Ensemble, way: str, x: torch.Tensor, y: torch.Tensor):
    logits, _ = Forward(ensemble, way)(x)
    functional.cross_entropy(logits.flatten(0, 1), y.repeat(len(ensemble))).backward()
    return logits, {name: p.grad for name, p in ensemble.named_parameters()}


@pytest.mark.parametrize("way", ["channels last", "stacked", "channels last, stacked", "compiled"])
def test_every_exact_way_has_the_logits_gradients_and_statistics_of_the_plain_one(
    way: str, ensemble: Ensemble, batch, monkeypatch: pytest.MonkeyPatch
):
    if way == "compiled":
        # Whether the C++ compiler knows each kind of vector instruction takes fifteen seconds to find out, and a pool
        # of processes to compile in takes another five.
        monkeypatch.setattr("torch._inductor.config.cpp.vec_isa_ok", False)
        monkeypatch.setattr("torch._inductor.config.compile_threads", 1)
        ensemble = _ensemble(OneBlock, members=2)
    other = copy.deepcopy(ensemble)
    logits, gradients = _gradients(ensemble, "as it is", *batch)
    others_logits, others = _gradients(other, way, *batch)
    torch.testing.assert_close(others_logits, logits, rtol=1e-4, atol=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    for (name, buffer), moved in zip(ensemble.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(moved, buffer, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    assert not torch.equal(ensemble.members[0].network.bn1.running_mean, torch.zeros(16))


def test_bfloat16_is_near_and_gives_float32(ensemble: Ensemble, batch):
    other = copy.deepcopy(ensemble)
    logits, gradients = _gradients(ensemble, "as it is", *batch)
    rough, others = _gradients(other, "channels last, bfloat16", *batch)
    assert rough.dtype == torch.float32
    assert 0 < (rough - logits).abs().max() < 0.1 * logits.abs().max()
    name = "members.0.network.linear.weight"
    assert others[name].dtype == torch.float32
    assert functional.cosine_similarity(others[name].flatten(), gradients[name].flatten(), 0) > 0.99


def test_each_member_may_have_images_of_its_own(ensemble: Ensemble):
    own = torch.rand((3, 5, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    ensemble.eval()
    logits, features = Forward(ensemble, "channels last", features=True)(own)
    for member, x, z, f in zip(ensemble.members, own, logits, features, strict=True):
        torch.testing.assert_close(member(x), z)
        torch.testing.assert_close(member.network.linear(f), z)
    assert all(not layer._forward_pre_hooks for layer in (m.network.linear for m in ensemble.members))


def test_features_need_a_linear_layer():
    with pytest.raises(UserError, match="has no linear layer"):
        Forward(Ensemble([nn.Conv2d(1, 2, 3)]), "as it is", features=True)


def test_the_fastest_way_is_chosen_and_remembered(
    ensemble: Ensemble, batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(tmp_path))
    seconds = {"as it is": 1.0, "channels last": 0.5, "channels last, bfloat16": 0.45}
    asked: list[str] = []
    monkeypatch.setattr(forward, "_seconds", lambda e, way, x, y, limit=None: (asked.append(way), seconds.get(way))[1])
    before = ensemble.fingerprint()
    choose = lambda **more: forward.choose(ensemble, *batch, **{"steps": 100, "speed": "auto", **more})  # noqa: E731
    assert choose() == "channels last"  # bfloat16 is faster, but not by enough for its rounding
    assert asked == ["as it is", "channels last", "channels last, bfloat16"]
    assert choose() == "channels last"
    assert len(asked) == 3
    assert choose(speed="off") == "as it is"
    seconds |= {"channels last, bfloat16": 0.4}
    assert choose(plain_calls=True) == "channels last, bfloat16"
    seconds |= {"channels last, bfloat16, compiled": 0.3}
    assert choose(speed="max") == "channels last, bfloat16, compiled"
    assert choose(steps=10_000_000) == "channels last, bfloat16, compiled"  # so long a training pays for compiling
    assert ensemble.fingerprint() == before
    kept = [json.loads(file.read_text()) for file in (paths.cache_dir() / "forward").iterdir()]
    assert {row["way"] for row in kept} >= {"channels last", "channels last, bfloat16, compiled"}


def test_a_way_that_fails_is_not_chosen(ensemble: Ensemble, batch):
    class NoBfloat16(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(64, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if torch.is_autocast_enabled("cpu"):
                raise RuntimeError("not here")
            return self.linear(x.flatten(1))

    stubborn = Ensemble([NoBfloat16()])
    assert forward._seconds(stubborn, "channels last, bfloat16", *batch) is None
    assert forward._seconds(stubborn, "channels last", *batch) > 0
    assert "bfloat16" not in forward.choose(stubborn, *batch, 10, "auto")


def test_stacked_members_make_fewer_launches_than_members_one_by_one():
    def launches(way: str) -> int:
        with pretend_cuda() as gpu:
            torch.manual_seed(0)
            members = [Member(models.build("small-resnet", 1, 10, {})) for _ in range(3)]
            ensemble = Ensemble(members).to(GPU).train()
            step = Forward(ensemble, way)
            x = torch.rand(4, 1, 8, 8, device=GPU)
            gpu.clear()
            step(x)[0].sum().backward()
            assert not gpu.waits
            return sum(gpu.launches.values())

    assert launches("channels last, stacked") < 0.85 * launches("channels last")


def test_a_step_that_does_not_fit_is_refused_with_the_batch_size_to_try(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(tmp_path))
    with pretend_cuda() as gpu:
        ensemble = Ensemble([models.build("small-resnet", 1, 10, {})]).to(GPU)
        x, y = torch.rand(64, 1, 8, 8, device=GPU), torch.zeros(64, dtype=torch.int64, device=GPU)
        gpu.limit = gpu.live + 2**20
        with pytest.raises(RunError, match=r"64 images does not fit .* of cuda:0; use --set train.batch_size=32"):
            forward.choose(ensemble, x, y, 10, "auto")
