"""Sound check of certificates: no sample that is certified may be broken by an attack.

python benchmarks/sound.py --seconds 75
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.attacks import attack
from robustkit.base.files import write_json
from robustkit.certify import fusing, reading
from robustkit.certify.region import Region
from robustkit.ensembles.ensemble import Ensemble

RULES = ("mean-logit", "mean-prob", "majority")
BUDGETS = ((0.01, "linf"), (0.1, "l2"))
SIDE, CLASSES, IMAGES = 8, 4, 250
EFFORT = fusing.Effort(steps=5, cases=8, case_steps=4)
SLACK = 1e-5


def main(argv: Sequence[str] | None = None) -> int:
    """Certify and attack random ensembles until the time is over; 0: none contradicts itself, 1: one does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=75)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    end, result, seed = time.monotonic() + args.seconds, {"samples": 0, "certified": 0, "broken": 0, "networks": 0}, 0
    while not result["samples"] or time.monotonic() < end:
        for name, count in checked(seed).items():
            result[name] += count
        seed += 1
    print(", ".join(f"{count} {name}" for name, count in result.items()), "(certified and broken)")
    if args.json:
        write_json(args.json, result)
    return int(result["broken"] > 0)


def checked(seed: int, images: int = IMAGES) -> dict[str, int]:
    """Return how many samples were certified, and of these broken, of three networks under every rule and budget."""
    nets = networks(seed)
    x = torch.rand(images, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    for net in nets:  # no class is the answer to everything
        net[-1].bias -= net(x).mean(0)
    found = {"samples": 0, "certified": 0, "broken": 0, "networks": len(nets)}
    for rule in RULES:
        ensemble = Ensemble(nets, rule).eval()
        y, graph = ensemble(x).argmax(1), reading.read(ensemble.members, x[:4])
        for eps, norm in BUDGETS:
            proven = fusing.certify(graph, rule, (), Region(x.double(), eps, norm), y, EFFORT, SLACK).floor > 0
            found["samples"] += images
            found["certified"] += int(proven.sum())
            found["broken"] += int((proven & broken(ensemble, x, y, eps, norm, 16)).sum())
    return found


def networks(seed: int) -> list[Any]:
    """Return three small convolutional networks with weights that are not what a training would give."""
    generator, nets = torch.Generator().manual_seed(seed), []
    for _ in range(3):
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
            nn.Linear(SIDE**2, 20), nn.ReLU(), nn.Linear(20, CLASSES),
        )  # fmt: skip
        for p in net.parameters():
            p.data = torch.randn(p.shape, generator=generator) / max(1, p[0].numel()) ** 0.5
        nets.append(net.eval().requires_grad_(False))
    return nets


def broken(ensemble: Ensemble, x: Tensor, y: Tensor, eps: float, norm: str, steps: int) -> Tensor:
    """Return which samples APGD or PGD, each with a loss of its own, makes wrong, (B,)."""
    found = torch.zeros(len(x), dtype=torch.bool)
    for name, params in (("pgd", {"steps": steps, "step_size": eps / 4, "restarts": 2}), ("apgd-ce", {"steps": steps})):
        made = attack.get(name)(ensemble, x, y, eps=eps, norm=norm, generator=1, **params)
        found |= ensemble(made).argmax(1) != y
    return found


if __name__ == "__main__":
    sys.exit(main())
