"""What was asked, and the plan that follows from it: a list of independent cells. Never imports torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from robustkit.attacks import attack
from robustkit.records import Cell, DatasetRecord, EnsembleRecord, Spec

REFERENCE_STEPS = 100  # the longer PGD that stands beside every number ...
REFERENCE_DIVISOR = 20  # ... with steps of eps over this


@dataclass(frozen=True)
class Study:
    """One evaluation: ensembles x attacks x eps, and the transfer matrices.

    Attributes
    ----------
    attacks : tuple of Spec
        Whole configurations, without eps.
    eps : tuple of float
        Budgets of the white-box attacks, ascending.
    transfer_eps : float
        Budget of the transfer matrices.
    targeted : bool
        Whether the white-box attacks aim at seeded random labels. Transfer runs both ways always.
    reference : bool
        Whether a longer PGD (100 steps of eps / 20) runs beside the white-box attacks.
    """

    ensembles: tuple[EnsembleRecord, ...]
    dataset: DatasetRecord
    attacks: tuple[Spec, ...]
    eps: tuple[float, ...]
    norm: str
    transfer_eps: float
    suites: tuple[str, ...] = ("attacks", "transfer")
    targeted: bool = False
    reference: bool = True
    seed: int = 0
    version: str = ""

    def cells(self) -> Iterator[Cell]:
        """Yield every cell of the plan, cheap ones that others need first."""
        for ensemble in self.ensembles:
            yield self.clean(ensemble)
        for ensemble in self.ensembles:
            if "attacks" in self.suites:
                yield from self.white_box(ensemble)
            if "transfer" in self.suites:
                for spec in self.attacks:
                    for targeted in (False, True):
                        yield from self.transfer(ensemble, spec, targeted)

    def clean(self, ensemble: EnsembleRecord) -> Cell:
        """Return the cell that scores the clean images."""
        return Cell("clean", ensemble.key, self.dataset.sha256, seed=self.seed, version=self.version)

    def white_box(self, ensemble: EnsembleRecord) -> Iterator[Cell]:
        """Yield the attacks on the fused output, by attack, then by eps."""
        for spec in self.attacks:
            for eps in self.eps:
                yield self._cell("attack", ensemble, self._at(spec, eps), self.targeted)
        if self.reference:
            for eps in self.eps:
                cell = self._cell("attack", ensemble, self._at(self._longer(eps), eps), False)
                yield cell

    def transfer(self, ensemble: EnsembleRecord, spec: Spec, targeted: bool) -> Iterator[Cell]:
        """Yield the cells of one transfer matrix, a row each: every member, then the ensemble."""
        for source in [*(f"member-{i}" for i in range(ensemble.members)), "ensemble"]:
            yield self._cell("transfer", ensemble, self._at(spec, self.transfer_eps), targeted, source)

    def _longer(self, eps: float) -> Spec:
        params = attack.entry("pgd").defaults()
        return Spec("attack", "pgd", {**params, "steps": REFERENCE_STEPS, "step_size": eps / REFERENCE_DIVISOR})

    def _at(self, spec: Spec, eps: float) -> Spec:
        return Spec("attack", spec.name, {**spec.params, "eps": eps, "norm": self.norm})

    def _cell(self, kind: str, ensemble: EnsembleRecord, spec: Spec, targeted: bool, source: str = "ensemble") -> Cell:
        # A transfer attack uses all its steps: the first success on the source is the weakest one on the others.
        params = {k: v for k, v in spec.params.items() if k not in ("targeted", "stop_early")}
        spec = Spec(spec.kind, spec.name, {**params, "stop_early": kind != "transfer"})
        return Cell(
            kind, ensemble.key, self.dataset.sha256, spec, targeted, source, self.seed, "native", self.version
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return the study as plain JSON."""
        return {
            "ensembles": [e.to_json() for e in self.ensembles],
            "dataset": self.dataset.to_json(),
            "attacks": [a.to_json() for a in self.attacks],
            "eps": list(self.eps),
            "norm": self.norm,
            "transfer_eps": self.transfer_eps,
            "suites": list(self.suites),
            "targeted": self.targeted,
            "reference": self.reference,
            "seed": self.seed,
            "version": self.version,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Study:
        """Read what :meth:`to_json` wrote."""
        return cls(
            **{
                **value,
                "ensembles": tuple(EnsembleRecord.from_json(e) for e in value["ensembles"]),
                "dataset": DatasetRecord.from_json(value["dataset"]),
                "attacks": tuple(Spec.from_json(a) for a in value["attacks"]),
                "eps": tuple(value["eps"]),
                "suites": tuple(value["suites"]),
            }
        )
