"""JSMA's pairs among many candidates: samples together on a GPU, one after the other on a CPU, the same pairs."""

from __future__ import annotations

import pytest
import torch
from accelerator import pretend_cuda

from robustkit.attacks import _saliency


def test_samples_are_searched_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_saliency, "TOGETHER", 2)
    calls: list[int] = []
    whole = _saliency._search
    monkeypatch.setattr(_saliency, "_search", lambda u, v, known: calls.append(len(u)) or whole(u, v, known))
    angles = torch.rand(5, 300, generator=torch.Generator().manual_seed(0)) * torch.pi - torch.pi / 4
    gain, loss = angles.cos(), angles.sin()  # on a circle no feature beats another in both
    pairs, there = _saliency.best_pair(gain, loss)
    assert calls == [1] * 5
    calls.clear()
    with pretend_cuda():
        made, found = _saliency.best_pair(gain.to("cuda"), loss.to("cuda"))
        assert calls == [5]
        assert torch.equal(made.cpu(), pairs)
        assert torch.equal(found.cpu(), there)
