"""The copies that are attacked: equal where they can be, the original where they cannot, which is never changed."""

from __future__ import annotations

import copy
import itertools
import threading

import pytest
import torch
from torch import Tensor, nn

from robustkit import models
from robustkit.ensembles import fastpath
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fastpath import Crafting, prepare
from robustkit.ensembles.folding import fold
from robustkit.evaluation.cell import RunOptions, run_cell
from robustkit.records.cells import Cell, Spec


def batch_norms(module: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in module.modules())


@pytest.fixture
def fast(monkeypatch) -> None:
    """Times decide nothing here: every copy that is proven wins over the ones before it."""
    order = iter(range(20))
    monkeypatch.setattr(fastpath, "_seconds", lambda model, x, limit=None: 0.5 ** next(order))


def gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    point = x.clone().requires_grad_()
    return torch.autograd.grad(nn.functional.nll_loss(model(point), y), point)[0]


def test_exact_copy_is_equal_and_has_no_batch_norm(resnets: Ensemble, test_images, fast):
    x, y = test_images
    before = resnets.fingerprint()
    made = prepare(resnets, x[:64])
    assert made.kept == ""
    assert made.chosen == "batch norm folded, channels last, members merged; bfloat16 first"
    assert resnets.fingerprint() == before
    assert all(p.requires_grad for p in resnets.parameters())
    assert (batch_norms(resnets), batch_norms(made.exact)) == (21, 0)
    assert next(made.exact.parameters()).is_contiguous(memory_format=torch.channels_last)
    assert next(resnets.parameters()).is_contiguous()
    torch.testing.assert_close(made.exact(x), resnets(x), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(gradient(made.exact, x, y), gradient(resnets, x, y), atol=1e-5, rtol=1e-3)


def test_an_exact_copy_has_no_denormal_weights_and_the_original_keeps_its_own(test_images, fast):
    x, _ = test_images
    slow = Ensemble([models.build("lenet", 1, 10) for _ in range(2)]).eval()
    with torch.no_grad():
        for member in slow.members:
            member.fc1.weight[:60] = 1e-40
    made = prepare(slow, x[:64])
    assert made.chosen != "as it is"
    assert all((m.fc1.weight[:60] == 0).all() for m in made.exact.members)
    assert all((m.fc1.weight[:60] != 0).all() for m in slow.members)
    torch.testing.assert_close(made.exact(x), slow(x), atol=1e-5, rtol=1e-5)


class _SharesWhenCopied(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def __deepcopy__(self, memo: object) -> _SharesWhenCopied:
        return _SharesWhenCopied(self.inner)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class _CountsWhatIsTiny(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1)) + (self.weight != 0).float().mean()


class _HoldsNested(nn.Linear):
    def __init__(self) -> None:
        super().__init__(64, 10)
        self.ragged = nn.Parameter(torch.nested.nested_tensor([torch.rand(2, 3), torch.rand(3, 3)]))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1))


@pytest.mark.parametrize(
    "make", [lambda: _SharesWhenCopied(models.build("lenet", 1, 10)), lambda: _CountsWhatIsTiny(64, 10), _HoldsNested]
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_denormal_weights_stay_where_a_copy_without_them_is_none(make, test_images, fast):
    x, _ = test_images
    member = make().eval()
    with torch.no_grad():
        for weight in member.parameters():
            if not weight.is_nested:
                weight[0] = 1e-40
    expected = Ensemble([member])(x)
    made = fastpath._folded(Ensemble([member]), x)[0]
    assert torch.equal(made(x), expected)
    assert torch.equal(Ensemble([member])(x), expected)
    if not isinstance(member, _HoldsNested):
        assert all((weight[0] == 1e-40).all() for weight in member.parameters())


def test_half_precision_keeps_its_small_weights(test_images):
    torch.manual_seed(1)
    member = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).half()
    small = sum(int(((p != 0) & (p.abs() < torch.finfo(p.dtype).tiny)).sum()) for p in member.parameters())
    made = fastpath._folded(Ensemble([member]), test_images[0].half())[0]
    assert small
    assert made.fingerprint() == Ensemble([member]).fingerprint()


def test_rough_copy_is_near_and_only_there_if_it_pays(resnets: Ensemble, test_images, monkeypatch):
    x, y = test_images

    def seconds(of_rough: float):
        """What a trial would measure: 1 of the ensemble as it is and of a copy as exact, so much of a rough one."""
        return lambda model, x, limit=None: of_rough if isinstance(model, fastpath._Rough) else 1.0

    monkeypatch.setattr(fastpath, "_seconds", seconds(0.9))
    assert prepare(resnets, x).rough is None
    monkeypatch.setattr(fastpath, "_seconds", seconds(0.5))
    made = prepare(resnets, x)
    assert made.rough is not None
    assert made.chosen.endswith("; bfloat16 first")
    out = made.rough(x)
    assert out.dtype == torch.float32
    difference = (out - resnets(x)).abs().max()
    assert 1e-4 < difference < 0.5  # another precision, not another model
    rough, exact = (gradient(m, x, y).flatten(1) for m in (made.rough, resnets))
    assert nn.functional.cosine_similarity(rough, exact, dim=1).median() > 0.95


def test_members_of_one_architecture_can_be_stacked(resnets: Ensemble, test_images):
    x, y = test_images
    stacked = fastpath._Stacked(fastpath._folded(resnets, x[:8])[0])
    torch.testing.assert_close(stacked.member_logits(x), resnets.member_logits(x), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(gradient(stacked, x, y), gradient(resnets, x, y), atol=1e-5, rtol=1e-3)
    member = stacked.view("member-1")(x)
    torch.testing.assert_close(member, resnets.view("member-1")(x), atol=1e-4, rtol=1e-4)
    rough = fastpath._Rough(stacked)
    assert (rough.member_logits(x) - stacked.member_logits(x)).abs().max() > 1e-4


def test_another_precision_breaks_what_float32_breaks(resnets: Ensemble, digits, fast):
    split = digits.split("test").take(100)  # bfloat16 is slow where the processor cannot do it
    run_options, two = RunOptions(torch.device("cpu")), Ensemble(list(resnets.members)[:2])
    clean = run_cell(Cell("clean", "e", "d"), two, split, None, run_options).samples
    made = prepare(two, split.batch(range(64))[1])
    assert made.rough is not None
    for name, steps, eps in (("pgd", 20, 0.1), ("mim", 20, 0.15), ("apgd-ce", 20, 0.1)):
        asked = Cell("attack", "e", "d", Spec("attack", name, {"steps": steps}), eps, "linf")
        off, exact, auto = (
            run_cell(asked, two, split, clean, run_options, crafting=c).samples
            for c in (Crafting(two), Crafting(made.exact), made)
        )
        original, folded, both = (s.prediction == s.y for s in (off, exact, auto))
        assert not (both & ~folded).any()  # whatever the exact copy breaks, both together break
        assert abs(int(both.sum()) - int(original.sum())) <= 0.01 * len(split)  # its rounding moves hardly any
        assert auto.backwards.sum() > off.backwards.sum()  # those that stand were attacked twice


def test_what_was_chosen_is_made_again_without_a_trial(resnets: Ensemble, test_images, fast, monkeypatch):
    x, _ = test_images
    first = prepare(resnets, x)

    def trial(model, x):
        raise AssertionError("a trial")

    monkeypatch.setattr(fastpath, "_seconds", trial)
    again = prepare(resnets, x, "auto", first.chosen)
    assert again.chosen == first.chosen
    assert again.rough is not None
    for chosen in ("batch norm folded", "as it is"):
        other = prepare(resnets, x, "auto", chosen)
        assert (other.chosen, other.rough) == (chosen, None)
    assert other.exact is resnets
    monkeypatch.setattr(fastpath, "_seconds", lambda model, x, limit=None: 1.0 if model is resnets else 0.5)
    assert "folded" in prepare(resnets, x, "auto", "something that there is not").chosen  # a whole trial


def test_a_fusion_rule_of_its_own_is_attacked_as_it_is(resnets: Ensemble, test_images, fast):
    class Maximum(Ensemble):
        def fuse(self, logits: Tensor) -> Tensor:
            return nn.functional.log_softmax(logits.amax(0), -1)

    ensemble = Maximum(list(resnets.members))
    made = prepare(ensemble, test_images[0])
    assert (made.exact, made.rough) == (ensemble, None)


def test_speed_off_attacks_the_ensemble_itself(resnets: Ensemble, test_images):
    made = prepare(resnets, test_images[0], "off")
    assert made.exact is resnets
    assert made.rough is None


class Branching(nn.Module):
    """Cannot be traced symbolically: its path depends on the values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn(self.conv(x))
        return out.mean((2, 3)) if x.sum() > 0 else out.amax((2, 3))


class Shortcut(Branching):
    """Its convolution feeds the batch norm and a shortcut around it; a second pair can be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.bn1 = nn.Linear(3, 3), nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(x)
        return self.bn1(self.linear((out + self.bn(out)).mean((2, 3))))


class Noisy(nn.Module):
    """Tracing would freeze the noise: the copy would be a model without this defence."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3] + 0.01 * torch.randn(3)


class Fragile(nn.Module):
    """Works in float32 alone."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):
            raise TypeError("no")
        return x.flatten(1)[:, :3]


def _with_statistics(module: nn.Module) -> nn.Module:
    """Return it in eval mode with running statistics that are not those of a fresh batch norm."""
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.uniform_(-1, 1, generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
    return module.eval()


@pytest.mark.parametrize(("make", "left"), [(Branching, 0), (Shortcut, 1)])
def test_whatever_runs_can_be_folded_where_nothing_else_sees_the_layer(make: type[nn.Module], left: int):
    x = torch.rand((16, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        member = _with_statistics(make())
    before = {name: value.clone() for name, value in member.state_dict().items()}
    folded, reason = fold(member, x)
    assert reason == ""
    assert batch_norms(folded) == left
    assert not any(isinstance(m, nn.BatchNorm1d) for m in folded.modules())
    torch.testing.assert_close(folded(x), member(x), atol=1e-5, rtol=1e-4)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in (*member.modules(), *folded.modules()))
    assert all(torch.equal(value, before[name]) for name, value in member.state_dict().items())


def test_folding_does_not_disturb_a_model_that_runs_in_another_thread(resnets: Ensemble, test_images):
    x, _ = test_images
    expected, errors, stop = resnets(x[:8]).detach(), [], threading.Event()

    def attack() -> None:
        try:
            while not stop.is_set():
                if not torch.equal(resnets(x[:8]).detach(), expected):
                    raise AssertionError("other outputs")
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    running = threading.Thread(target=attack)
    running.start()
    try:
        for _ in range(5):
            fold(copy.deepcopy(resnets.members[0]), x[:8])
    finally:
        stop.set()
        running.join()
    assert errors == []


def test_a_model_whose_outputs_vary_is_attacked_itself(fast):
    one = Ensemble([_with_statistics(Branching()), Noisy()])
    made = prepare(one, torch.rand((4, 1, 8, 8), generator=torch.Generator().manual_seed(0)))
    assert made.exact is one
    assert made.kept == "member 1: its logits differ from pass to pass: see --eot"


class Cut(nn.Module):
    """Has no gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1)[:, :3] * 8).detach().round()


@pytest.mark.parametrize("members", [[Cut()], [Cut(), Branching()]])
def test_a_model_without_a_gradient_is_no_error_here(members: list[nn.Module]):
    x = torch.rand((4, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    made = prepare(Ensemble(members), x)
    assert torch.equal(made.exact(x), Ensemble(members)(x))


def test_a_model_that_fails_under_autocast_has_no_rough_copy(fast):
    x = torch.rand((4, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    assert prepare(Ensemble([Fragile()]), x).rough is None


@pytest.mark.parametrize("works", [True, False])
def test_max_compiles_what_can_be_compiled(resnets: Ensemble, test_images, fast, monkeypatch, works: bool):
    x, _ = test_images

    def compiled(member: nn.Module, dynamic: bool) -> nn.Module:
        assert dynamic
        return nn.Sequential(member) if works else Broken()

    monkeypatch.setattr(torch, "compile", compiled)
    chosen = prepare(resnets, x, "max").chosen
    assert ("compiled" in chosen) is works


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("no compiler here")


@pytest.mark.parametrize(("hopeless", "calls"), [(1.1, 4), (0.9, 2), (0.3, 1)])
def test_a_hopeless_candidate_is_not_tried_to_the_end(hopeless: float, calls: int, monkeypatch: pytest.MonkeyPatch):
    made, clock = [], itertools.count()
    monkeypatch.setattr(fastpath.time, "perf_counter", lambda: next(clock))  # every call takes one second
    assert fastpath.fastest(lambda: made.append(0), torch.device("cpu"), hopeless=hopeless) == 1
    assert len(made) == calls  # the first may be slow for other reasons
