"""Functions as models: what they answer, how they are told apart in the store, and every refusal's sentence."""

from __future__ import annotations

import copy
import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import robustkit
from robustkit.auditing.adapting import Adapted
from robustkit.auditing.detecting import detect
from robustkit.auditing.in_memory import NOTE, Called, CallError, as_module, behaviour_hash, identity
from robustkit.base.errors import UserError
from robustkit.ensembles.ensemble import Normalize, fingerprint

X = torch.rand(20, 1, 4, 5, generator=torch.Generator().manual_seed(1))
W = torch.randn(20, 3, generator=torch.Generator().manual_seed(2))
QUICK = {"attacks": "fgsm", "eps": "0.1", "reference": False, "trust": "off", "workers": 1, "formats": ()}


def linear(weights, bias=0.0):
    def model(x):
        return x.flatten(1) @ weights + bias

    return model


def scaled(x, by):
    return linear(W)(x) * by


class Adder:
    def __call__(self, x):
        return linear(W, 1.0)(x)


@pytest.mark.parametrize(
    ("function", "expected", "name"),
    [
        (linear(W), X.flatten(1) @ W, "model"),
        (lambda x: x.flatten(1) @ W, X.flatten(1) @ W, "<lambda>"),
        (functools.partial(scaled, by=2), X.flatten(1) @ W * 2, "scaled"),
        (Adder(), X.flatten(1) @ W + 1, "Adder"),
        (lambda x: {"logits": linear(W)(x)}, X.flatten(1) @ W, "<lambda>"),
        (lambda x: SimpleNamespace(logits=linear(W)(x)), X.flatten(1) @ W, "<lambda>"),
    ],
)
def test_a_function_is_a_module_with_one_note(function, expected, name):
    module, notes = as_module(function)
    assert torch.equal(module(X), expected)
    assert (module.name, notes) == (name, [f"'{name}' {NOTE}"])
    assert list(module.parameters()) == []
    assert torch.equal(copy.deepcopy(module)(X), expected)
    assert copy.deepcopy(module).function is module.function


def test_a_module_is_returned_as_it_is():
    module = nn.Sequential(nn.Flatten(), nn.Linear(20, 3))
    assert as_module(module) == (module, [])
    called, notes = as_module(module.forward)  # a function, all the same
    assert torch.equal(called(X), module(X))
    assert len(notes) == 1


def test_gradients_go_through_and_may_be_missing():
    x = X.clone().requires_grad_()
    Called(linear(W))(x)[:, 1].sum().backward()
    torch.testing.assert_close(x.grad.flatten(1), W[:, 1].expand(20, -1))
    assert not Called(lambda x: linear(W)(x).detach())(x).requires_grad


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear, "model Linear is a class; give an instance, e.g. Linear()."),
        (nn.Linear(2, 3).state_dict(),
         "the model is weights without a network (OrderedDict); build the network and load_state_dict them."),
        (3, "a model of type int cannot be used; give a torch module, a function from images (B, C, H, W) to logits "
         "(B, L), or the path of a file or folder."),
        (W, "a model of type Tensor cannot be used; give a torch module, a function from images (B, C, H, W) to logits "
         "(B, L), or the path of a file or folder."),
    ],
)  # fmt: skip
def test_what_is_no_model(model, message):
    with pytest.raises(UserError) as error:
        as_module(model)
    assert str(error.value) == message


def test_an_exported_program_is_no_model():
    program = torch.export.export(nn.Linear(5, 3), (X[0],))  # not among the above: it takes seconds to collect
    with pytest.raises(UserError) as error:
        as_module(program)
    assert str(error.value) == "the model is an ExportedProgram; give its module: program.module()."


def fails(x):
    raise RuntimeError("expected 3 channels,\nbut got 1")


ROWS = "return a row of logits for each image (B, L)."


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            lambda x: x.flatten(1).numpy(),
            "a NumPy array for images of shape (20, 1, 4, 5); return a torch tensor, since "
            "attacks cannot follow gradients through NumPy.",
        ),
        (lambda x: x.flatten(1)[:2, 0], f"a tensor of shape (2,) for images of shape (20, 1, 4, 5); {ROWS}"),
        (lambda x: x, f"a tensor of shape (20, 1, 4, 5) for images of shape (20, 1, 4, 5); {ROWS}"),
        (
            lambda x: x.flatten(1).argmax(1, keepdim=True),
            f"a tensor of int64 of shape (20, 1) for images of shape (20, 1, 4, 5); {ROWS}",
        ),
        (
            lambda x: x.flatten(1)[:1],
            "a tensor of shape (1, 20) for images of shape (20, 1, 4, 5); return a row of logits "
            "for each of the 20 images.",
        ),
        (lambda x: None, f"None for images of shape (20, 1, 4, 5); {ROWS}"),
        (lambda x: "cat", f"a value of type str for images of shape (20, 1, 4, 5); {ROWS}"),
        (lambda x: x.flatten(1).tolist(), f"a value of type list for images of shape (20, 1, 4, 5); {ROWS}"),
    ],
)
def test_what_is_no_answer(answer, message):
    with pytest.raises(UserError) as error:
        Called(answer)(X)
    assert str(error.value) == f"the function '<lambda>' returns {message}"


def test_a_number_for_each_image_is_a_column():
    assert torch.equal(Called(lambda x: x[:, 0, 0, 0])(X), X[:, 0, 0, :1])


def test_what_a_function_raises():
    with pytest.raises(CallError) as error:
        Called(fails)(X)
    words = "(RuntimeError: expected 3 channels, but got 1)"
    assert str(error.value) == f"the function 'fails' fails on images of shape (20, 1, 4, 5) {words}."
    with pytest.raises(
        UserError, match=r"cannot be run on images of 1x4x5 \(RuntimeError: expected 3 channels, but got"
    ):
        detect(Called(fails), X, torch.zeros(20, dtype=torch.int64))

    def full(x):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):  # so that the batch is halved
        Called(full)(X)


def test_a_function_that_takes_another_size_is_resized_to():
    inner = linear(torch.randn(28 * 28, 3, generator=torch.Generator().manual_seed(3)))
    x = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    assert detect(Called(inner), x, torch.zeros(20, dtype=torch.int64)).how.size == (28, 28)


class Straight(torch.autograd.Function):
    """The identity, with a gradient of zero."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return torch.zeros_like(gradient)


@pytest.mark.parametrize(
    "other",
    [
        linear(W.clone().index_fill_(0, torch.tensor(7), 0.0)),
        linear(W * (1 + 2**-20)),
        linear(W, 1e-3),
        lambda x: linear(W)(x).detach(),
        lambda x: linear(W)(Straight.apply(x)),
        lambda x: linear(W)(x).where((x.flatten(1).amax(1, keepdim=True) < 0.999), 0.0),  # differs on noise, not on X
    ],
)
def test_different_functions_are_told_apart(other):
    x = X.clamp(max=0.99)
    assert behaviour_hash(Called(linear(W)), x) != behaviour_hash(Called(other), x)
    assert identity(Called(linear(W)), x) != identity(Called(other), x)


def test_the_same_function_is_recognised():
    first = identity(Called(linear(W)), X)
    assert first == identity(Called(linear(W.clone())), X)
    assert first == identity(Called(lambda x: linear(W)(x).double()), X)
    assert first != identity(Called(linear(W)), X[:10])
    assert len(first) == 64


class Around(nn.Module):
    """A linear layer, and a function around it that its state dict does not show."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.function = nn.Linear(20, 3), function

    def forward(self, x):
        return self.function(self.layer(x.flatten(1)))


def test_what_a_module_does_around_its_weights_tells_it_from_others():
    plain, rolled = Around(lambda z: z), Around(lambda z: z.roll(1, 1))
    assert fingerprint(plain.state_dict()) == fingerprint(rolled.state_dict())
    assert identity(plain, X) != identity(rolled, X)
    assert identity(plain, X) == identity(Around(lambda z: z + 0), X)


def test_a_random_module_and_one_in_training_mode_are_recognised_and_left_as_they_are():
    noisy = Around(lambda z: z + torch.randn_like(z))
    assert identity(noisy, X) == identity(noisy, X)
    trained = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(20), nn.Linear(20, 3), nn.Dropout(0.5)).train()
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    assert identity(trained, X) == identity(trained, X)
    assert all(part.training for part in trained.modules())
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())


def test_a_module_that_such_images_do_not_fit_is_known_by_its_weights():
    module = nn.Sequential(nn.Flatten(), nn.Linear(7, 3))
    assert identity(module, X) == fingerprint(module.state_dict())


def test_a_function_is_known_by_what_it_answers():

    class Closure(nn.Module):
        def __init__(self, weights):
            super().__init__()
            self.function = linear(weights)

        def forward(self, x):
            return self.function(x)

    assert identity(Closure(W), X) == behaviour_hash(Called(linear(W)), X)
    assert identity(Closure(W), X) != identity(Closure(-W), X)
    behind = [nn.Sequential(Normalize([0.5], [0.2]), Called(linear(w))) for w in (W, -W)]  # both have two buffers
    assert fingerprint(behind[0].state_dict()) == fingerprint(behind[1].state_dict())
    assert identity(behind[0], X) != identity(behind[1], X)


def test_hashing_leaves_everything_as_it_was():
    module = nn.Sequential(nn.Flatten(), nn.Linear(20, 3), nn.Dropout(0.0)).train()
    x, state = X.clone(), torch.get_rng_state()
    with torch.no_grad():
        behaviour_hash(module, x)
    behaviour_hash(Called(lambda x: x.mul_(2).flatten(1)), x)
    assert torch.equal(x, X)
    assert module.training
    assert all(p.grad is None for p in module.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_an_audit_of_a_function_is_that_of_its_module(trained, test_images, tmp_path):
    member = trained.members[0]
    found = []
    for model in (member, as_module(lambda x: member(x))[0]):
        results = robustkit.audit(model, test_images, n=40, suites="attacks", out=tmp_path / str(len(found)), **QUICK)
        found.append((results["ensembles"][0]["accuracy"], results["evaluations"][0]["robust_accuracy"]))
    assert found[0] == pytest.approx(found[1])
    assert found[0][1] < found[0][0]


def test_in_an_adapter_a_refusal_is_the_same_sentence():
    how = detect(Called(linear(W)), X, torch.zeros(20, dtype=torch.int64)).how
    with pytest.raises(UserError, match="the function '<lambda>' returns None for images of shape"):
        Adapted(Called(lambda x: None), how)(X)
    assert np.isfinite(Adapted(Called(linear(W)), how)(X).numpy()).all()
