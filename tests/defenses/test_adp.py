"""ADP against its paper: the definition by hand, equation 7, Theorem 2 and Corollary 1."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from accelerator import pretend_cuda

from robustkit import defenses
from robustkit.base.errors import UserError
from robustkit.defenses import Outputs
from robustkit.defenses._terms import ensemble_entropy, log_ensemble_diversity, summed_cross_entropy
from robustkit.defenses.adp import adp
from robustkit.defenses.baseline import baseline


def test_log_ensemble_diversity_by_hand():
    # One sample, two members, three classes, true class 1: the others are (.6, .2) and (.1, .5).
    p = torch.tensor([[[0.6, 0.2, 0.2]], [[0.1, 0.4, 0.5]]], dtype=torch.float64)
    a, b = (0.6, 0.2), (0.1, 0.5)
    cosine = (a[0] * b[0] + a[1] * b[1]) / (math.hypot(*a) * math.hypot(*b))
    expected = math.log((1 + 1e-6) ** 2 - cosine**2)
    assert log_ensemble_diversity(p, torch.tensor([1])).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("members", "classes"), [(2, 3), (3, 10), (5, 10), (5, 100)])
def test_log_ensemble_diversity_against_numpy(members: int, classes: int):
    logits = 3 * torch.randn((members, 7, classes), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p, y = logits.softmax(2), torch.arange(7) % classes
    for index, value in enumerate(log_ensemble_diversity(p, y).tolist()):
        rest = np.delete(p[:, index].numpy(), int(y[index]), axis=1).T  # columns as in the paper
        rest /= np.linalg.norm(rest, axis=0)
        sign, expected = np.linalg.slogdet(rest.T @ rest + 1e-6 * np.eye(members))
        assert sign == 1
        assert value == pytest.approx(expected, rel=1e-9)
    single = log_ensemble_diversity(p.float(), y)
    torch.testing.assert_close(single.double(), log_ensemble_diversity(p, y), rtol=1e-3, atol=1e-3)


def test_cross_entropy_of_own_batches_and_smoothed_labels_by_hand():
    logits = torch.tensor([[[0.0, 0.0], [math.log(3), 0.0]], [[0.0, math.log(4)], [0.0, 0.0]]], dtype=torch.float64)
    y = torch.tensor([[0, 0], [1, 0]])  # probabilities of the labels: 1/2, 3/4; 4/5, 1/2
    expected = -(math.log(1 / 2) + math.log(3 / 4) + math.log(4 / 5) + math.log(1 / 2)) / 2
    assert summed_cross_entropy(logits, y, 0.0).item() == pytest.approx(expected)
    assert summed_cross_entropy(logits, y[0], 0.0).item() == pytest.approx(
        -(math.log(1 / 2) + math.log(3 / 4) + math.log(1 / 5) + math.log(1 / 2)) / 2
    )
    # Smoothing 0.2 with two classes: the label counts .9, the other class .1.
    others = -(math.log(1 / 2) + math.log(1 / 4) + math.log(1 / 5) + math.log(1 / 2)) / 2
    assert summed_cross_entropy(logits, y, 0.2).item() == pytest.approx(0.9 * expected + 0.1 * others)


def test_more_members_than_wrong_classes_are_refused():
    defenses.check("adp", {"alpha": 2.0, "beta": 0.5}, 9, 10)
    with pytest.raises(
        UserError, match="cannot have 10 members on 10 classes: .* linearly dependent .* at most 9 memb"
    ):
        defenses.check("adp", {"alpha": 2.0, "beta": 0.5}, 10, 10)
    with pytest.raises(UserError, match="cannot have 2 members on 2 classes: .* is 0; use --set adp.beta=0"):
        defenses.check("adp", {}, 2, 2)
    defenses.check("adp", {"alpha": 2.0, "beta": 0.0}, 10, 10)
    # What would have been trained: the determinant is 0 but for the 1e-6.
    p = torch.rand((10, 1, 10), generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(2)
    assert log_ensemble_diversity(p, torch.tensor([0])).item() < math.log(1e-5)


@pytest.mark.parametrize("true_class", [0, 2, 4])
def test_orthogonal_wrong_predictions_have_diversity_one_and_equal_ones_none(true_class: int):
    others = [i for i in range(5) if i != true_class]
    p = torch.zeros(2, 1, 5, dtype=torch.float64)
    p[:, 0, true_class] = 0.6
    p[0, 0, others[:2]] = 0.2
    p[1, 0, others[2:]] = 0.2
    y = torch.tensor([true_class])
    assert log_ensemble_diversity(p, y).item() == pytest.approx(0, abs=1e-5)
    assert log_ensemble_diversity(p[:1].repeat(2, 1, 1), y).item() == pytest.approx(math.log(2e-6), abs=1e-3)


def test_loss_is_the_sum_of_its_parts():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((3, 8, 10), generator=generator, dtype=torch.float32)
    y = torch.randint(0, 10, (8,), generator=generator)
    p = logits.softmax(2)
    ce = -p.log()[:, torch.arange(8), y].sum(0).mean()
    torch.testing.assert_close(baseline(Outputs(logits, y)).total, ce)
    expected = ce - 2 * ensemble_entropy(p).mean() - 0.5 * log_ensemble_diversity(p, y).mean()
    torch.testing.assert_close(adp(Outputs(logits, y)).total, expected)
    torch.testing.assert_close(adp(Outputs(logits, y), alpha=0, beta=0).total, ce)
    torch.testing.assert_close(adp(Outputs(logits, y), temperature=2.0).total, adp(Outputs(logits / 2, y)).total)


def optimum(alpha: float, beta: float, members: int, classes: int) -> torch.Tensor:
    """Minimise the loss over free predictions of one sample of class 0; return them, (members, classes)."""
    generator = torch.Generator().manual_seed(1)
    logits = (0.1 * torch.randn((members, 1, classes), generator=generator)).double().requires_grad_()
    optimiser = torch.optim.LBFGS([logits], lr=0.5, max_iter=2000, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = adp(Outputs(logits, torch.tensor([0])), alpha=alpha, beta=beta).total
        loss.backward()
        return loss

    optimiser.step(closure)
    return logits.detach().softmax(2)[:, 0]


def equation_7(alpha: float, members: int, classes: int) -> float:
    """Solve 1 / F_y = (alpha / K) log(F_y (L - 1) / (1 - F_y)) by bisection."""
    low, high = 1.0 / classes, 1 - 1e-12
    for _ in range(200):
        middle = (low + high) / 2
        right = alpha / members * math.log(middle * (classes - 1) / (1 - middle))
        low, high = (middle, high) if 1 / middle > right else (low, middle)
    return low


def test_equation_7_gives_the_papers_alpha():
    # K = 5, L = 1000, F_y = 0.9 (section 3.3): alpha about 0.61.
    assert 5 / (0.9 * math.log(0.9 * 999 / 0.1)) == pytest.approx(0.61, abs=0.005)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_theorem_2_entropy_alone(alpha: float):
    predictions = optimum(alpha, 0.0, 3, 10)
    assert predictions[:, 0].tolist() == pytest.approx([equation_7(alpha, 3, 10)] * 3, abs=1e-3)
    assert predictions.mean(0)[1:].tolist() == pytest.approx([(1 - equation_7(alpha, 3, 10)) / 9] * 9, abs=1e-3)


def test_theorem_2_reached_with_the_papers_numbers():
    predictions = optimum(0.61, 0.0, 5, 1000)
    assert predictions[:, 0].tolist() == pytest.approx([0.9] * 5, abs=5e-3)
    assert predictions[:, 0].tolist() == pytest.approx([equation_7(0.61, 5, 1000)] * 5, abs=1e-3)


def test_corollary_1_wrong_predictions_become_orthogonal():
    predictions = optimum(2.0, 0.5, 3, 10)  # 3 divides 9
    y = equation_7(2.0, 3, 10)
    assert predictions[:, 0].tolist() == pytest.approx([y] * 3, abs=5e-3)
    rest = predictions[:, 1:]
    gram = torch.nn.functional.normalize(rest, dim=1) @ torch.nn.functional.normalize(rest, dim=1).T
    assert (gram - torch.eye(3)).abs().max() < 0.02
    assert sorted((rest > (1 - y) / 9).sum(1).tolist()) == [3, 3, 3]  # each member owns L-1 / K classes
    assert rest.max(1).values.tolist() == pytest.approx([3 * (1 - y) / 9] * 3, abs=0.01)


def test_the_diversity_is_not_computed_in_tf32():
    """Which ``set_float32_matmul_precision("high")`` allows: cosines near 1 would lose the digits that count."""
    torch.manual_seed(0)
    members = (torch.rand(1, 64, 10) + 0.01 * torch.rand(3, 64, 10)).softmax(2)
    y = torch.zeros(64, dtype=torch.int64)
    expected = log_ensemble_diversity(members, y)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with pretend_cuda(rounds=True):
            rows = members.to("cuda")[:, :, 1:].transpose(0, 1)
            rows = rows / rows.norm(dim=2, keepdim=True)
            rough = torch.logdet(rows @ rows.mT + 1e-6 * torch.eye(3, device="cuda")).cpu()
            assert float((rough - expected).abs().nan_to_num(9.0).max()) > 0.01, "it would be"
            made = log_ensemble_diversity(members.to("cuda"), y.to("cuda")).cpu()
        assert torch.equal(made, expected)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
