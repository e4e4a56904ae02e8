#!/usr/bin/env bash
# On the CPU, torch's batch norm returns a wrong gradient of its input, without a word, where the input and the incoming
# gradient are both in the channels-last layout and the scale (weight) is a strided view, such as a column of a matrix
# that holds the scales of several layers. The forward pass, and every other pair of layouts, is right: so a network
# whose parameters lie together in one tensor trains, or is attacked, along a wrong direction as soon as somebody
# switches it to channels-last for speed.
#
# Version: torch 2.14.1 (CPU). Seen:
#   forward, all layouts: equal
#   gradient, input contiguous    , gradient contiguous    : largest difference 0.00
#   gradient, input channels-last , gradient contiguous    : largest difference 0.00
#   gradient, input contiguous    , gradient channels-last : largest difference 0.00
#   gradient, input channels-last , gradient channels-last : largest difference 3.15
#
# Exit code 0: still so. 1: it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "numpy<3"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
from torch.nn.functional import batch_norm

draws = torch.Generator().manual_seed(0)
images, incoming = (torch.randn(8, 4, 6, 6, generator=draws) for _ in range(2))
scales = torch.randn(4, 2, generator=draws)
strided, dense = scales[:, 0], scales[:, 0].contiguous()
last, plain = torch.channels_last, torch.contiguous_format


def passes(scale, of_images, of_incoming):
    x = images.contiguous(memory_format=of_images).requires_grad_()
    out = batch_norm(x, torch.zeros(4), torch.ones(4), scale, torch.zeros(4), training=True)
    return out.detach(), torch.autograd.grad(out, x, incoming.contiguous(memory_format=of_incoming))[0]


print("torch", torch.__version__)
wrong = {}
for of_incoming in (plain, last):
    for of_images in (plain, last):
        both = [passes(scale, of_images, of_incoming) for scale in (strided, dense)]
        assert torch.allclose(both[0][0], both[1][0], atol=1e-6), "the forward pass differs, too"
        wrong[of_images, of_incoming] = float((both[0][1] - both[1][1]).abs().max())
        words = ["channels-last" if layout is last else "contiguous" for layout in (of_images, of_incoming)]
        print(f"gradient, input {words[0]:<14}, gradient {words[1]:<14}: {wrong[of_images, of_incoming]:.2f}")
only = wrong.pop((last, last)) > 0.1 and all(value < 1e-5 for value in wrong.values())
print("still so" if only else "this has changed")
sys.exit(not only)
PYTHON
