"""Subnetworks of one elastic network (design-diversity paper, 4.2, listing 1 and Table ii)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from robustkit.base import options
from robustkit.base.errors import UserError
from robustkit.base.parallel import seeded
from robustkit.models._elastic import ElasticResNet, Lists, Space
from robustkit.search import _choosing, _nsga, method
from robustkit.search._elastic import largest, params, smallest
from robustkit.search._lab import Found, SearchLab, first_seed
from robustkit.search._sharing import CALIBRATION, Supernet, calibrated, complexity_of
from robustkit.search._shrinking import Recipe, Shrinking
from robustkit.training.samples import Samples

ARCH = "elastic-resnet"
PHASE = "subnetworks"
BATCH = 512  # validation images at a time
LEAST = {"population": 2, "sampled": 0, "batch_size": 2}  # batch norm cannot learn from one sample; of others 1


@method(
    "supernet",
    source="Rosales et al., design diversity, 4.2; Munoz et al. 2022 (BootstrapNAS); Cai et al., arXiv:1908.09791; "
    "Yu and Huang, arXiv:1903.05134",
)
def supernet(
    lab: SearchLab, *, pretraining: int = 20, epochs: int = 40, lr: float | None = None, shrinking_lr: float = 1e-3,
    batch_size: int = 64, weight_decay: float = 1e-4, shift: float = 0.1, sampled: int = 2, widths: str = "16,32,64",
    evaluations: int = 300, population: int = 50, subnetworks: int = 11, complexity: float = 0.4,
    tolerance: float = 0.1, complexities: str = "", measure: Literal["parameters", "flops"] = "parameters",
) -> list[Found]:  # fmt: skip
    """Subnetworks of one elastic ResNet with shared weights: progressive shrinking, then NSGA-II (extra `search`)."""
    _nsga.require()
    space, targets = Space(_widths(widths)), _targets(complexities)
    counts = {
        "evaluations": evaluations, "population": population, "pretraining": pretraining, "sampled": sampled,
        "subnetworks": len(targets) or subnetworks, "batch_size": batch_size,
    }  # fmt: skip
    _check(lab, space, counts, {"complexity": complexity, "tolerance": tolerance})
    net = _untrained(lab, space)
    recipe = Recipe(
        pretraining, epochs, lr or lab.data.recipe.lr, shrinking_lr, batch_size, weight_decay, shift, sampled
    )
    history = Shrinking(lab, net, recipe).run(lab.checkpoint("supernet"))
    judge = Judge.of(lab, net, measure)
    bar = lab.reporter.task("subnetworks", evaluations + (0 if targets else 3 * _choosing.TRIED))
    with lab.phase(PHASE), bar as advance:
        archive = _choosing.Archive(space, judge.error, judge.complexity, lab.checkpoint(PHASE), advance)
        _choosing.search(archive, evaluations, population, lab.seed)
        if targets:
            chosen = _choosing.of_complexities(archive, targets)
        else:
            chosen = _choosing.of_one_complexity(archive, subnetworks, complexity, tolerance)
        archive.save()
        ends = {"largest": judge.facts(largest(space)), "smallest": judge.facts(smallest(space))}
        found = [judge.found(name, one) for name, one in chosen.items()]
    for name, facts in ends.items():
        lab.reporter.say(
            f"  {name} subnetwork: validation accuracy {facts['validation_accuracy']:.3f}, "
            f"{facts['uncalibrated_accuracy']:.3f} before batch norm was calibrated"
        )
    lab.histories["supernet"] = history
    lab.histories["largest and smallest subnetwork"] = [
        {name: value for name, value in facts.items() if not isinstance(value, list)} for facts in ends.values()
    ]
    return found


@dataclass(frozen=True)
class Judge:
    """Scores subnetworks on validation data, with batch norm calibrated on training images."""

    lab: SearchLab
    net: Supernet
    measure: str
    images: torch.Tensor
    validation: Samples

    @classmethod
    def of(cls, lab: SearchLab, net: Supernet, measure: str) -> Judge:
        """Take the calibration images, drawn from the training split."""
        train = lab.data.split("train")
        rows = torch.randperm(len(train), generator=lab.generator(2))[:CALIBRATION]
        images = Samples.of(train.select(rows), lab.device)
        every = torch.arange(len(rows), device=lab.device)
        return cls(lab, net, measure, images.images(every), Samples.of(lab.validation, lab.device))

    def complexity(self, lists: Lists) -> float:
        """Return the number of parameters, or of floating-point operations for one image."""
        return complexity_of(self.net, lists, self.lab.shape, flops=self.measure == "flops")[self.measure]

    def network(self, lists: Lists) -> ElasticResNet:
        """Return a subnetwork of its own, calibrated."""
        self.lab.count(PHASE, forward=len(self.images))
        return calibrated(self.net.extracted(lists), self.images)

    def error(self, lists: Lists) -> float:
        """Return the share of validation images that a calibrated subnetwork has wrong."""
        return 1.0 - self._accuracy(self.network(lists))

    @torch.no_grad()
    def _accuracy(self, network: ElasticResNet) -> float:
        self.lab.count(PHASE, forward=len(self.validation.y))
        rows = torch.arange(len(self.validation.y), device=self.lab.device)
        right = sum(
            int((network(self.validation.images(some)).argmax(1) == self.validation.y[some]).sum())
            for some in torch.split(rows, BATCH)
        )
        return right / len(rows)

    def facts(self, lists: Lists) -> dict[str, Any]:
        """Return what is known of a subnetwork, plain JSON."""
        return {
            "depth": list(lists.depth), "width": list(lists.width), "expansion": list(lists.expansion),
            **complexity_of(self.net, lists, self.lab.shape, flops=True),
            "validation_accuracy": self._accuracy(self.network(lists)),
            "uncalibrated_accuracy": self._accuracy(self.net.extracted(lists)),
        }  # fmt: skip

    def found(self, name: str, one: _choosing.Scored) -> Found:
        """Return a subnetwork with its weights."""
        arch_params, facts = params(self.net.space, one.lists), self.facts(one.lists)
        said = ", ".join(f"{kind} {facts[kind]}" for kind in ("depth", "width", "expansion"))
        weights = self.network(one.lists).state_dict()
        return Found(
            name, ARCH, arch_params, {"architecture": f"{facts['parameters']} parameters, {said}", **facts}, weights
        )


def _untrained(lab: SearchLab, space: Space) -> Supernet:
    with seeded(first_seed(lab.seed)):
        return Supernet(space, lab.shape[0], lab.classes).to(lab.device)


def _check(lab: SearchLab, space: Space, counts: Mapping[str, int], shares: Mapping[str, float]) -> None:
    space.check(largest(space))
    least = 2 ** len(space.widths)
    if min(lab.shape[1:]) < least:
        raise UserError(
            f"images of {lab.shape[1]}x{lab.shape[2]} pixels are too small for {len(space.widths)} stages, which need "
            f"{least}x{least}; name fewer with --set supernet.widths."
        )
    for name, value in counts.items():
        options.at_least(f"supernet.{name}", value, LEAST.get(name, 1))
    for name, share in shares.items():
        if not 0 < share <= 1:
            raise UserError(f"supernet.{name} {share:g} is not a share of the largest network's; it must be in (0, 1].")
    if counts["subnetworks"] < lab.members:
        raise UserError(
            f"{counts['subnetworks']} subnetworks are fewer than {lab.members} members; raise supernet.subnetworks, "
            "name more supernet.complexities, or lower --members."
        )


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"supernet.widths '{text}' is not a list of channels; write it like 16,32,64.") from None


def _targets(text: str) -> list[float]:
    found = [options.number(part, "supernet.complexities") for part in text.split(",") if part.strip()]
    if any(not 0 < share <= 1 for share in found) or len(set(found)) < len(found):
        raise UserError(f"supernet.complexities '{text}' are not different shares in (0, 1]; write them like .3,.5,.7.")
    return found
