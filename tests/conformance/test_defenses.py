"""Every registered loss: a finite, differentiable scalar that is right in every weight and leaves the members alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustkit import defenses, models
from robustkit.base import options
from robustkit.base.errors import UserError
from robustkit.base.registry import REQUIRED, Entry
from robustkit.defenses import Batch, Outputs, defense
from robustkit.ensembles.ensemble import Ensemble, Member
from robustkit.ensembles.fusion import FUSIONS
from robustkit.training import spec as trainspec
from robustkit.training.untrained import companion_of

LOSSES = [entry for entry in defense if entry.facts.get("role", "loss") == "loss"]
ALL = pytest.mark.parametrize("entry", LOSSES, ids=lambda e: e.name)


def loss_of(entry: Entry, **given: Any) -> Callable[[Outputs], defenses.Loss]:
    required = {p.name: "digits" for p in entry.params if p.default is REQUIRED}
    return defenses.method(entry.name, {**entry.defaults(), **required, **given}).loss


def ensemble_of(members: int, classes: int, dtype: torch.dtype = torch.float32) -> Ensemble:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(members)
        return Ensemble([Member(models.build("small-resnet", 1, classes)) for _ in range(members)]).to(dtype)


def companion(entry: Entry, ensemble: Ensemble, classes: int) -> nn.Module | None:
    spec = trainspec.TrainSpec(None, "digits", "", "small-resnet", members=len(ensemble))  # type: ignore[arg-type]
    method = defenses.method(entry.name, entry.defaults())
    made = companion_of(method, ensemble, spec, classes)
    return made.to(next(ensemble.parameters()).dtype) if made else None


def outputs_of(entry: Entry, ensemble: Ensemble, batch: int, classes: int, seed: int = 0) -> Outputs:
    """Return what the training loop would hand to a loss with these facts, with the members' graph."""
    generator = torch.Generator().manual_seed(seed)
    dtype, needs = next(ensemble.parameters()).dtype, entry.facts.get("needs", ())
    count = len(ensemble)

    def images(*shape: int) -> Tensor:
        return torch.rand((*shape, 1, 8, 8), generator=generator, dtype=torch.float64).to(dtype)

    x, y = images(batch), torch.randint(0, classes, (batch,), generator=generator)
    own, labels = x.expand(count, *x.shape), y
    if entry.facts.get("own_batches"):
        own, labels = images(count, batch), torch.randint(0, classes, (count, batch), generator=generator)
    features: list[Tensor] = []
    handles = [
        m.network.linear.register_forward_pre_hook(lambda _, given: features.append(given[0])) for m in ensemble.members
    ]
    logits = torch.stack([m(o) for m, o in zip(ensemble.members, own, strict=True)])
    for handle in handles:
        handle.remove()
    outliers = None
    if "outliers" in needs:
        others = images(batch)
        outliers = torch.stack([m(others) for m in ensemble.members])
    return Outputs(
        logits, labels, list(ensemble.members), Batch(x, y), tuple(features) if "features" in needs else (), outliers,
        companion(entry, ensemble, classes),
    )  # fmt: skip


def permuted(outputs: Outputs, order: Tensor) -> Outputs:
    assert outputs.shared is not None
    return replace(
        outputs,
        logits=outputs.logits[:, order],
        y=outputs.y[..., order],
        shared=Batch(outputs.shared.x[order], outputs.shared.y[order]),
        features=tuple(f[order] for f in outputs.features),
        outliers=None if outputs.outliers is None else outputs.outliers[:, order],
    )


def test_there_are_losses_of_every_kind():
    needs = {need for entry in LOSSES for need in entry.facts.get("needs", ())}
    assert needs == {"maps", "features", "outliers"}
    assert any(entry.facts.get("own_batches") for entry in LOSSES)
    assert any("companion" in entry.facts for entry in LOSSES)


@pytest.mark.parametrize(
    ("entry", "members"), [(e, m) for e in LOSSES for m in (1, 2, 5) if m >= e.facts.get("members", 1)],
    ids=lambda value: value.name if isinstance(value, Entry) else str(value),
)  # fmt: skip
def test_loss_is_a_finite_scalar_that_moves_every_member(entry: Entry, members: int):
    ensemble = ensemble_of(members, 10)
    outputs = outputs_of(entry, ensemble, 16, 10)
    loss = loss_of(entry)(outputs)
    assert loss.total.shape == ()
    assert torch.isfinite(loss.total)
    assert all(not part.requires_grad and torch.isfinite(part) and part.shape == () for part in loss.parts.values())
    trained = [*ensemble.parameters(), *(outputs.companion.parameters() if outputs.companion else ())]
    gradients = torch.autograd.grad(loss.total, trained, retain_graph=True)
    assert all(torch.isfinite(g).all() for g in gradients)
    assert all((g != 0).any() for g, p in zip(gradients, trained, strict=True) if p.dim() > 1)


@ALL
def test_the_order_of_the_batch_does_not_matter(entry: Entry):
    outputs = outputs_of(entry, ensemble_of(3, 10, torch.float64), 16, 10)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    if (
        "companion" in entry.facts
    ):  # it may pair each sample with the next one of its class, in a batch that is shuffled
        order = torch.argsort(outputs.y, stable=True, descending=True)
    assert not torch.equal(order, torch.arange(16))
    loss = loss_of(entry)
    torch.testing.assert_close(loss(permuted(outputs, order)).total, loss(outputs).total)


@ALL
def test_extreme_and_equal_members_give_no_nan(entry: Entry):
    ensemble = ensemble_of(3, 10)
    usual = outputs_of(entry, ensemble, 4, 10)
    dark = Batch(torch.zeros(4, 1, 8, 8), torch.arange(4))
    equal = [ensemble.members[0]] * 3
    dead = copy.deepcopy(ensemble.members[0])
    nn.init.zeros_(dead.network.conv1.weight)  # nothing of an image gets through: maps without any contrast
    for logits in (torch.zeros(3, 4, 10), torch.full((3, 4, 10), 60.0), torch.eye(10)[:4].expand(3, 4, 10) * 80):
        for members in (equal, [dead] * 3):
            z = logits.clone().requires_grad_()
            features = tuple(torch.full((4, f.shape[1]), 50.0, requires_grad=True) for f in usual.features)
            outliers = None if usual.outliers is None else logits.flip(2).clone().requires_grad_()
            y = torch.arange(4).expand(usual.y.shape)
            loss = loss_of(entry)(Outputs(z, y, members, dark, features, outliers, usual.companion)).total
            sources = [z, *features, *([] if outliers is None else [outliers]), *members[0].parameters()]
            assert torch.isfinite(loss)
            found = torch.autograd.grad(loss, sources, allow_unused=True)
            assert all(g is None or torch.isfinite(g).all() for g in found)
            assert found[0] is not None


@ALL
def test_gradcheck_of_everything_that_the_members_gave(entry: Entry):
    ensemble = ensemble_of(2, 4, torch.float64).eval()
    outputs = outputs_of(entry, ensemble, 3, 4)
    given = [outputs.logits] + ([] if outputs.outliers is None else [outputs.outliers])
    loss = loss_of(entry)

    def total(logits: Tensor, *outliers: Tensor) -> Tensor:
        return loss(replace(outputs, logits=logits, outliers=outliers[0] if outliers else None)).total

    assert torch.autograd.gradcheck(total, [g.detach().requires_grad_() for g in given])


def with_each_kind_of_maps() -> list[Any]:
    """Return (loss, parameters); without companions: two players, each with the other held, have not one gradient."""
    cases = []
    for entry in LOSSES:
        if "companion" not in entry.facts:
            has_maps = any(p.name == "maps" for p in entry.params)
            choices = [{"maps": m, "lam": 2.0} for m in ("gradcam", "saliency")] if has_maps else [{}]
            cases += [pytest.param(entry, c, id=f"{entry.name} {c.get('maps', '')}") for c in choices]
    return cases


@pytest.mark.parametrize(("entry", "given"), with_each_kind_of_maps())
def test_gradient_with_respect_to_the_members_weights(entry: Entry, given: dict[str, Any]):
    loss = loss_of(entry, **given)
    ensemble = ensemble_of(2, 4, torch.float64).eval()
    weights = list(ensemble.parameters())
    generator = torch.Generator().manual_seed(2)
    direction = [torch.randn(w.shape, generator=generator, dtype=torch.float64) for w in weights]
    gradients = torch.autograd.grad(loss(outputs_of(entry, ensemble, 6, 4)).total, weights)
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
    h, values = 1e-7, []
    for sign in (1, -1):
        moved = copy.deepcopy(ensemble)
        for parameter, d in zip(moved.parameters(), direction, strict=True):
            parameter.data.add_(d, alpha=sign * h)
        values.append(float(loss(outputs_of(entry, moved, 6, 4)).total.detach()))
    assert (values[0] - values[1]) / (2 * h) == pytest.approx(slope, rel=1e-4)


@ALL
def test_members_keep_their_modes_gradients_statistics_and_hooks(entry: Entry):
    ensemble = ensemble_of(3, 10)
    outputs = outputs_of(entry, ensemble, 6, 10)
    ensemble.train()
    ensemble.members[1].network.layer2.eval()
    modes = [m.training for m in ensemble.modules()]
    state = copy.deepcopy(ensemble.state_dict())
    assert outputs.shared is not None
    images = outputs.shared.x.clone()
    loss_of(entry)(outputs)
    assert [m.training for m in ensemble.modules()] == modes
    assert all(torch.equal(v, state[k]) for k, v in ensemble.state_dict().items())
    assert all(p.grad is None for p in ensemble.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in ensemble.modules())
    assert torch.equal(outputs.shared.x, images)
    assert not outputs.shared.x.requires_grad


@ALL
def test_rough_logits_are_summed_in_single_precision(entry: Entry):
    outputs = outputs_of(entry, ensemble_of(3, 10), 8, 10)
    rough = replace(outputs, logits=outputs.logits.bfloat16(), features=tuple(f.bfloat16() for f in outputs.features))
    same = replace(rough, logits=rough.logits.float(), features=tuple(f.float() for f in rough.features))
    total = loss_of(entry)(rough).total
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, loss_of(entry)(same).total, rtol=0, atol=0)


@ALL
def test_label_smoothing_reaches_the_cross_entropy(entry: Entry):
    outputs = outputs_of(entry, ensemble_of(3, 10, torch.float64), 8, 10)
    sharp, smooth = loss_of(entry)(outputs), loss_of(entry)(replace(outputs, smoothing=0.1))
    logs = outputs.logits.log_softmax(2)
    own = -logs.gather(2, outputs.y.expand(3, 8)[..., None]).mean()
    scale = sharp.parts["ce"] / own  # the sum over members, or their mean
    torch.testing.assert_close(scale.round(), scale)
    torch.testing.assert_close(smooth.parts["ce"], scale * (0.9 * own - 0.1 * logs.mean()))
    assert not torch.isclose(smooth.total, sharp.total)


@ALL
def test_logits_alone_are_enough_or_the_loss_says_what_it_needs(entry: Entry):
    outputs = outputs_of(entry, ensemble_of(3, 10), 8, 10)
    try:
        loss_of(entry)(Outputs(outputs.logits, outputs.y))
    except ValueError as error:
        assert f"the loss '{entry.name}'" in str(error)  # noqa: PT017
        assert "needs Outputs with" in str(error)  # noqa: PT017
    else:
        assert not entry.facts.get("needs")


@ALL
def test_a_single_member_is_refused_where_members_are_compared(entry: Entry):
    params = entry.defaults()
    defenses.check(entry.name, params, 3, 10)
    if entry.facts.get("members", 1) > 1:
        with pytest.raises(UserError, match=f"defense '{entry.name}' compares members and needs at least 2"):
            defenses.check(entry.name, params, 1, 10)
    else:
        defenses.check(entry.name, params, 1, 10)


@ALL
def test_negative_weights_are_refused(entry: Entry):
    for param in entry.params:
        if param.annotation == "float":
            with pytest.raises(UserError, match=f"{param.name} -1 is out of range"):
                options.coerce(entry, param.name, "-1")


@pytest.mark.parametrize("entry", [e for e in defense if "paper" in e.facts], ids=lambda e: e.name)
def test_the_papers_recipe_can_be_trained_with(entry: Entry):
    for dataset in ("mnist", "cifar10", "something else"):
        recipe, params = trainspec.paper(entry.name, dataset)
        assert set(recipe) <= {"members", "epochs", "arch", "fusion", *trainspec.SETTABLE}
        assert {name: options.coerce(entry, name, value) for name, value in params.items()} == params
        trainspec.settings({k: v for k, v in recipe.items() if k in trainspec.SETTABLE})
        assert recipe.get("fusion", "mean-prob") in FUSIONS
        models.check(recipe.get("arch", "resnet20"))
        defenses.check(entry.name, {**entry.defaults(), **params}, recipe.get("members", 3), 10)
