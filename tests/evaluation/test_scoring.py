"""Images are scored where the ensemble is, a fusion rule with weights of its own included."""

from __future__ import annotations

import pytest
import torch
from accelerator import pretend_cuda
from torch import Tensor, nn

from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation import scoring
from robustkit.evaluation.scoring import SCORE_BATCH, score
from robustkit.functional import sending

CPU = torch.device("cpu")


class Elsewhere(Tensor):
    """A tensor on another device, as far as a test without one can tell: ``cpu()`` brings it back."""

    def cpu(self) -> Tensor:
        return self.as_subclass(Tensor)


class Away(nn.Module):
    """A member on that device."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1)).as_subclass(Elsewhere)


class Weighted(nn.Module):
    """A fusion rule with a weight for each member, which is where the members are."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([0.9, 0.1]))
        self.seen = 0

    def forward(self, z: Tensor) -> Tensor:
        assert isinstance(z, Elsewhere)
        self.seen += 1
        return (self.weights[:, None, None] * z.log_softmax(2)).sum(0)


def test_a_fusion_rule_with_weights_is_applied_on_the_device_of_the_members():
    torch.manual_seed(0)
    rule, x = Weighted(), torch.rand(SCORE_BATCH + 9, 1, 4, 4)
    ensemble = Ensemble([Away(), Away()], rule)
    scores = score(ensemble, x, x, CPU)
    assert type(scores.fused) is type(scores.member_logits) is Tensor
    assert rule.seen == 2  # once for each batch: no more than these are on the device at a time
    expected = 0.9 * scores.member_logits[0].log_softmax(1) + 0.1 * scores.member_logits[1].log_softmax(1)
    torch.testing.assert_close(scores.fused, expected)


def test_a_closure_over_tensors_is_applied_there_too():
    torch.manual_seed(0)
    weights = torch.tensor([0.25, 0.75]).as_subclass(Elsewhere)

    def rule(z: Tensor) -> Tensor:
        assert type(z) is type(weights)  # on one device, else torch refuses
        return (weights[:, None, None] * z.log_softmax(2)).sum(0)

    x = torch.rand(5, 1, 4, 4)
    scores = score(Ensemble([Away(), Away()], rule), x, x, CPU)
    assert scores.prediction.shape == (5,)


def test_a_gpu_is_waited_for_once_it_has_been_given_every_batch(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    ensemble = Ensemble([nn.Sequential(nn.Flatten(), nn.Linear(12, 4)) for _ in range(2)]).eval()
    x = torch.rand(3 * SCORE_BATCH, 3, 2, 2)
    expected = score(ensemble, x, x, torch.device("cpu"))
    waits: list[int] = []

    def counted(values: Tensor, device: torch.device) -> Tensor:
        waits.append(sum(gpu.waits.values()))
        return sending.sent(values, device)

    monkeypatch.setattr(scoring, "sent", counted)
    with pretend_cuda() as gpu:
        ensemble.to("cuda")
        gpu.clear()
        made = score(ensemble, x, x, torch.device("cuda"))
    assert waits == [0, 0, 0]
    assert torch.equal(made.member_logits, expected.member_logits)
    assert torch.equal(made.fused, expected.fused)
