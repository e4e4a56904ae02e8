#!/usr/bin/env bash
# foolbox's L0FMNAttack ends in an IndexError where one image of a batch keeps its class until the attack's budget, which
# grows by at least one value a step, has reached all values of the image: the budget is an index into the sorted
# values. What was found for every other image of the batch is lost. Ordinary images meet it where a model is robust at
# one of them, and the sooner the more steps the attack is given.
#
# Versions: foolbox 3.3.4, torch 2.14.1 (CPU). Seen, images of 16 values, three near the boundary and one far from it:
#   three near ones, 10 steps: 3 of 3 broken
#   three near ones, 20 steps: 3 of 3 broken
#   and the far one, 10 steps: 3 of 4 broken
#   and the far one, 20 steps: IndexError: index 16 is out of bounds for dimension 1 with size 16
#
# Exit code 0: still so. 1: it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "foolbox==3.3.4" "torch==2.14.1" "numpy<3"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import foolbox
import torch
from foolbox.criteria import Misclassification


class Weighted(torch.nn.Module):
    """Says class 1 where a weighted mean of the values is above .97."""

    def forward(self, x):
        weights = torch.linspace(1, 2, 16)
        mean = (x.flatten(1) * weights).sum(1) / weights.sum()
        return torch.stack([torch.full_like(mean, 0.97), mean], 1)


def outcome(images, steps):
    labels = network(images).argmax(1)
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    try:
        made = foolbox.attacks.L0FMNAttack(steps=steps).run(model, images, Misclassification(labels))
    except IndexError as error:
        return f"IndexError: {error}"
    return f"{int((network(made).argmax(1) != labels).sum())} of {len(images)} broken"


network = Weighted().eval()
near = torch.full((3, 1, 4, 4), 0.95)
far = torch.cat([near, torch.zeros(1, 1, 4, 4)])
print("foolbox", foolbox.__version__, "torch", torch.__version__)
found = []
for name, images in (("three near ones", near), ("and the far one", far)):
    for steps in (10, 20):
        found.append(outcome(images, steps))
        print(f"{name}, {steps} steps: {found[-1]}")
same = found[:3] == ["3 of 3 broken", "3 of 3 broken", "3 of 4 broken"] and found[3].startswith("IndexError")
print("still so" if same else "this has changed")
sys.exit(not same)
PYTHON
