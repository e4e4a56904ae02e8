"""What is compared: the rows of the benchmark, in the words of robustkit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

SMALL = 0.01  # the ADP paper's smallest budget on CIFAR-10
LARGE = 8 / 255
LR, INITIAL_C, CONFIDENCE, BETA = 0.01, 0.1, 0.0, 0.01
THETA, GAMMA = 0.1, 0.05
QUICK = 20  # what --quick divides steps and queries by
SEARCHES = ("cw", "ead")
FEWEST = {name: 10 for name in SEARCHES}  # adv-lib divides by max_iterations // 10


@dataclass(frozen=True)
class Workload:
    """One row: an attack with its whole configuration, the same for every implementation.

    Attributes
    ----------
    norm : {"linf", "l2", "en", "count"}
        The ball, or what a minimum-norm attack makes small: "en" is |d|_2^2 + beta |d|_1, "count" changed features.
    steps : int
        Iterations of a run, or queries. JSMA has none: its length follows from ``gamma``.
    pair : bool
        JSMA with two features a step.
    transfer : bool
        From every member and from the ensemble, scored on every member and on the ensemble.
    """

    name: str
    title: str
    attack: str
    norm: Literal["linf", "l2", "en", "count"]
    eps: float | None = None
    steps: int = 0
    restarts: int = 1
    search_steps: int = 1
    gamma: float = GAMMA
    pair: bool = False
    transfer: bool = False

    @property
    def minimum(self) -> bool:
        """Whether the smallest perturbation is looked for."""
        return self.eps is None

    @property
    def step_size(self) -> float:
        """The step of the attacks that have a fixed one, in pixel units."""
        return (self.eps or 0.0) / 10

    def passes(self, features: int) -> int:
        """Return how many passes of all images the floor consists of, for images of so many features.

        Square asks for outputs only, so its pass is a forward pass; all others' is forward and input gradient. A
        transfer matrix attacks every member, together one pass of the ensemble, and the ensemble. For JSMA it is the
        steps in which every feature that may change is changed once.
        """
        if self.attack == "jsma":
            return max(1, int(self.gamma * features) // (2 if self.pair else 1))
        return self.steps * self.restarts * self.search_steps * (2 if self.transfer else 1)

    def quick(self) -> Workload:
        """Return the row with its steps divided by 20: for trying the benchmark out, not for any number."""
        return replace(self, steps=max(self.steps // QUICK, FEWEST.get(self.attack, 2)))

    def warm_up(self, features: int) -> Workload:
        """Return the shortest version of the row, of the same shapes."""
        steps = min(self.steps, FEWEST.get(self.attack, 2))
        return replace(self, steps=steps, restarts=1, search_steps=1, gamma=min(1.0, 2.5 / features))

    def params(self) -> dict[str, Any]:
        """Return what robustkit's attack is given besides eps, norm and aim."""
        step = {"steps": self.steps, "step_size": self.step_size}
        search = {"steps": self.steps, "search_steps": self.search_steps, "initial_c": INITIAL_C, "lr": LR}
        chosen: dict[str, dict[str, Any]] = {
            "pgd": {**step, "restarts": self.restarts},
            "mim": {**step, "decay": 1.0},
            "bim": step,
            "apgd-ce": {"steps": self.steps},
            "square": {"queries": self.steps},
            "cw": {**search, "confidence": CONFIDENCE},
            "ead": {**search, "confidence": CONFIDENCE, "beta": BETA},
            "jsma": {"theta": THETA, "gamma": self.gamma, "pair": self.pair},
        }
        return chosen[self.attack]


WORKLOADS = (
    Workload("pgd-10", "PGD, 10 steps, eps .01", "pgd", "linf", SMALL, 10),
    Workload("mim-10", "MIM, 10 steps, eps .01", "mim", "linf", SMALL, 10),
    Workload("bim-10", "BIM, 10 steps, eps .01", "bim", "linf", SMALL, 10),
    Workload("pgd-50", "PGD, 50 steps, eps .01", "pgd", "linf", SMALL, 50),
    Workload("pgd-50-large", "PGD, 50 steps, eps 8/255", "pgd", "linf", LARGE, 50),
    Workload("pgd-50-restarts", "PGD, 50 steps, 5 restarts, eps .01", "pgd", "linf", SMALL, 50, restarts=5),
    Workload("apgd-ce-100", "APGD-CE, 100 steps, eps .01", "apgd-ce", "linf", SMALL, 100),
    Workload("square-1000", "Square, 1,000 queries, eps 8/255", "square", "linf", LARGE, 1000),
    Workload("cw", "C&W, 5 x 200 steps", "cw", "l2", None, 200, search_steps=5),
    Workload("ead", "EAD, 5 x 200 steps, beta .01", "ead", "en", None, 200, search_steps=5),
    Workload("jsma", "JSMA, single feature, gamma .05", "jsma", "count"),
    Workload("jsma-pair", "JSMA, pairs, gamma .05", "jsma", "count", pair=True),
    Workload("transfer", "transfer matrix, PGD-10, eps .01", "pgd", "linf", SMALL, 10, transfer=True),
)
