"""Images of one channel lie in memory as all others do, however they were stored."""

from __future__ import annotations

import torch

from robustkit.data import Split
from robustkit.data._samples import in_order


def test_a_channel_that_was_stored_last_leaves_no_trace():
    for dtype in (torch.uint8, torch.float32):
        stored = torch.arange(2 * 8 * 8).view(2, 8, 8, 1).to(dtype)
        made = in_order(stored.permute(0, 3, 1, 2))
        assert made.stride() == torch.zeros(2, 1, 8, 8).stride()
        expected = stored.float().flatten() / (255 if dtype is torch.uint8 else 1)
        assert torch.equal(made.flatten(), expected)


def test_a_batch_of_a_split_lies_so_too():
    split = Split(torch.rand(4, 8, 8, 1).permute(0, 3, 1, 2), torch.zeros(4, dtype=torch.int64))
    assert split.batch(range(3))[1].stride() == (64, 64, 8, 1)
