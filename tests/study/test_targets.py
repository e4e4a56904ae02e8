"""Target labels: each rule by hand."""

from __future__ import annotations

import torch

from robustkit.functional.sampling import random_targets
from robustkit.study.targets import target_labels

FUSED = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.2, 0.7, 0.1]]).log()
IDS, Y = torch.tensor([4, 5, 6]), torch.tensor([0, 1, 2])


def test_rules_by_hand():
    assert target_labels("next-best", 0, IDS, Y, FUSED).tolist() == [1, 2, 1]
    assert target_labels("least-likely", 0, IDS, Y, FUSED).tolist() == [2, 0, 0]
    assert target_labels("1", 0, IDS, Y, FUSED).tolist() == [1, -1, 1]
    assert torch.equal(target_labels("random", 3, IDS, Y, FUSED), random_targets(3, IDS, Y, 3))
