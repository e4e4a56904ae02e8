"""What was asked, and the plan that follows from it: a list of independent cells. Never imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from robustkit.attacks import is_minimum, norm_for, works_in
from robustkit.base.budgets import together
from robustkit.records.cells import SURROGATE, Cell, DatasetRecord, EnsembleRecord, Spec
from robustkit.study.distortion import largest
from robustkit.study.reference import reference_for

FIELDS = {"further": "follow_ups", "asked": "suite_requests"}  # the stored study keeps the names that 0.1.0 gave them


@dataclass(frozen=True)
class FollowUp:
    """An attack that was run because a number was suspect: on which ensemble, at which budget, on whose advice."""

    ensemble: str
    eps: float
    norm: str
    attack: Spec
    because: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "ensemble": self.ensemble, "eps": self.eps, "norm": self.norm, "attack": self.attack.to_json(),
            "because": list(self.because),
        }  # fmt: skip

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FollowUp:
        """Read what :meth:`to_json` wrote."""
        return cls(**{**value, "attack": Spec.from_json(value["attack"]), "because": tuple(value["because"])})


@dataclass(frozen=True)
class Study:
    """One evaluation: ensembles x attacks x eps, and the transfer matrices.

    Attributes
    ----------
    attacks : tuple of Spec
        Whole configurations; one that holds ``eps`` (a list) is run at these budgets instead of the study's.
    eps : tuple of float
        Budgets of the white-box attacks, ascending, in ``norm``.
    transfer_eps : float
        Budget of the transfer matrices in ``norm``; in each of ``more_norms`` it is the largest.
    more_norms : mapping of str to tuple of float
        Budgets, ascending, by further norms: each is evaluated, and who withstands all of them (:meth:`unions`).
    attack_seed : int or None
        The seed of every attack; None: the training's, of an ensemble that says it, else ``seed``.
    target : str
        Whose rule names the target labels of the white-box attacks; empty: untargeted. Transfer runs both ways always.
    reference : bool
        Whether a stronger attack (:func:`reference_for`) runs beside the white-box attacks.
    trust : str
        How much the trust checks may cost: ``off``, ``quick`` or ``full``.
    follow_ups : tuple of FollowUp
        Attacks that followed on suspect numbers, in the order in which they were run.
    corruptions : tuple of Spec
        Corruptions at one severity each, of kind the suite (:mod:`robustkit.corruptions._plan`, which has their cells).
    eot : int
        Passes of the model over which what every attack is shown is averaged. Above 1, each eps is attacked by itself:
        a randomised model that one pass found broken at a smaller eps may well withstand another pass.
    suite_requests : mapping of str to mapping
        What further suites are asked for, by suite (:mod:`robustkit.suites`), as plain JSON.
    surrogates : tuple of EnsembleRecord
        Independent models: a row each in the transfer matrices of the ensembles, and not evaluated themselves.
    corruption_reference : str
        By whose errors those on corrupted images are divided: an ensemble's id, ``alexnet``, or empty: by the data.
    command, given : str
        The command line that asks for the same models and data, what an advice begins with, and that of its attacks.
    run : mapping
        How and when it was asked for (:class:`~robustkit.records.schema_run.RunRecord`); empty where nobody noted it.
    """

    ensembles: tuple[EnsembleRecord, ...]
    dataset: DatasetRecord
    attacks: tuple[Spec, ...]
    eps: tuple[float, ...]
    norm: str
    transfer_eps: float
    suites: tuple[str, ...] = ("attacks", "transfer")
    target: str = ""
    reference: bool = True
    seed: int = 0
    attack_seed: int | None = None
    version: str = ""
    trust: str = "quick"
    follow_ups: tuple[FollowUp, ...] = ()
    corruptions: tuple[Spec, ...] = ()
    eot: int = 1
    suite_requests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    surrogates: tuple[EnsembleRecord, ...] = ()
    corruption_reference: str = ""
    command: str = "robustkit evaluate"
    given: str = ""
    run: Mapping[str, Any] = field(default_factory=dict)
    more_norms: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def threats(self) -> dict[str, tuple[float, ...]]:
        """Budgets by norm, of every norm that is evaluated."""
        return {self.norm: self.eps, **self.more_norms}

    def unions(self) -> list[dict[str, float]]:
        """Return the budgets by norm that go together where several norms are evaluated; none where one is."""
        return together(self.threats) if self.more_norms else []

    def cells(self) -> Iterator[Cell]:
        """Yield every cell of the plan, cheap ones that others need first."""
        for ensemble in (*self.ensembles, *self.surrogates):
            yield self.clean(ensemble)
        for ensemble in self.ensembles:
            if "attacks" in self.suites:
                yield from self.white_box(ensemble)
                yield from (cell for _, cell in self.escalated(ensemble))
            if "transfer" in self.suites:
                for norm, spec in self.transferred():
                    for targeted in (False, True):
                        yield from self.transfer(ensemble, spec, targeted, norm)

    def chains(self) -> list[list[Cell]]:
        """Return the cells but the clean ones in pieces of work that need nothing of each other, the longest first.

        Within a chain each cell takes over what the one before it broke at a smaller eps.
        """
        found: dict[str, list[Cell]] = {}
        for cell in self.cells():
            if cell.kind != "clean":
                chain = found.pop(cell.after, [])
                found[cell.key] = [*chain, cell]
        return sorted(found.values(), key=lambda chain: -sum(steps_of(cell) for cell in chain))

    def clean(self, ensemble: EnsembleRecord) -> Cell:
        """Return the cell that scores the clean images."""
        return Cell("clean", ensemble.key, self.dataset.sha256, seed=self.seed, version=self.version)

    def seed_of(self, ensemble: EnsembleRecord) -> int:
        """Return the seed with which an ensemble is attacked."""
        trained = self.seed if ensemble.seed is None else ensemble.seed
        return trained if self.attack_seed is None else self.attack_seed

    def white_box(self, ensemble: EnsembleRecord) -> Iterator[Cell]:
        """Yield the attacks on the fused output, by norm, then by attack, then by ascending eps.

        Minimum-norm attacks run once in a norm; those that work in none of the study's, once in their own.
        """
        for norm, budgets in self.threats.items():
            asked = [(spec, self.target) for spec in self.attacks if self._runs_in(spec, norm)]
            if self.reference:
                own = (reference_for(ensemble.fusion, ensemble.members, norm), "")
                asked += [own] if not is_minimum(own[0].name) or own not in asked else []
            for spec, target in asked:
                if is_minimum(spec.name):
                    yield self._cell("attack", ensemble, spec, None, target, norm)
                else:
                    every = sorted(set(spec.params.get("eps", budgets)))
                    yield from self._swept(self._cell("attack", ensemble, spec, eps, target, norm) for eps in every)

    def escalated(self, ensemble: EnsembleRecord) -> Iterator[tuple[FollowUp, Cell]]:
        """Yield the attacks that followed on suspect numbers of an ensemble, from other starts than those before."""
        for more in self.follow_ups:
            if more.ensemble == ensemble.key:
                cell = self._cell("attack", ensemble, more.attack, more.eps, "", more.norm)
                yield more, replace(cell, norm=more.norm, seed=self.seed_of(ensemble) + 1)

    def transferred(self) -> tuple[tuple[str, Spec], ...]:
        """Return the norms and attacks that have transfer matrices.

        A smallest perturbation has none: it barely crosses one boundary.
        """
        bounded = [spec for spec in self.attacks if not is_minimum(spec.name)]
        return tuple((norm, spec) for norm in self.threats for spec in bounded if self._runs_in(spec, norm))

    def transfer(
        self, ensemble: EnsembleRecord, spec: Spec, targeted: bool, norm: str = ""
    ) -> Iterator[Cell]:  # fmt: skip
        """Yield the cells of one transfer matrix, a row each: every member, every surrogate, then the ensemble."""
        norm = norm or self.norm
        eps = self.transfer_eps if norm == self.norm else max(self.more_norms[norm])
        target = (self.target or "random") if targeted else ""
        members = [f"member-{i}" for i in range(ensemble.members)]
        for source in [*members, *(SURROGATE + other.key for other in self.surrogates), "ensemble"]:
            yield self._cell("transfer", ensemble, spec, eps, target, norm, source)

    def budgets(self, cell: Cell) -> tuple[float, ...]:
        """Return the eps at which a white-box cell is scored.

        A minimum-norm attack in a norm of the study is scored at every eps of that norm, one in another norm at the
        largest perturbation that there can be.
        """
        if cell.eps is not None:
            return (cell.eps,)
        return self.threats.get(cell.norm) or (largest(cell.norm, self.dataset.shape),)

    def _runs_in(self, spec: Spec, norm: str) -> bool:
        """Return whether an attack runs in a norm of the study; what works in none of them runs with the first."""
        if works_in(spec.name, norm):
            return True
        return norm == self.norm and not any(works_in(spec.name, other) for other in self.more_norms)

    def _swept(self, cells: Iterable[Cell]) -> Iterator[Cell]:
        return _chained(cells) if self.eot == 1 else iter(cells)

    def _cell(
        self, kind: str, ensemble: EnsembleRecord, spec: Spec, eps: float | None, target: str, norm: str,
        source: str = "ensemble",
    ) -> Cell:  # fmt: skip
        library = spec.name.rpartition(":")[0]
        return Cell(
            kind=kind,
            ensemble=ensemble.key,
            data=self.dataset.sha256,
            attack=Spec(spec.kind, spec.name, {k: v for k, v in spec.params.items() if k not in ("eps", "eot")}),
            eps=eps,
            norm=norm_for(spec.name, norm),
            target=target,
            source=source,
            seed=self.seed_of(ensemble),
            backend=library or "native",
            version=self.version,
            eot=spec.params.get("eot", self.eot),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the study as plain JSON."""
        more = {norm: list(eps) for norm, eps in self.more_norms.items()}
        return {
            **({"more_norms": more} if more else {}),  # a study of one norm is what it was before there was the field
            "ensembles": [e.to_json() for e in self.ensembles],
            "dataset": self.dataset.to_json(),
            "attacks": [a.to_json() for a in self.attacks],
            "eps": list(self.eps),
            "norm": self.norm,
            "transfer_eps": self.transfer_eps,
            "suites": list(self.suites),
            "target": self.target,
            "reference": self.reference,
            "seed": self.seed,
            "attack_seed": self.attack_seed,
            "version": self.version,
            "trust": self.trust,
            "further": [f.to_json() for f in self.follow_ups],
            "corruptions": [c.to_json() for c in self.corruptions],
            "eot": self.eot,
            "asked": {name: dict(asked) for name, asked in self.suite_requests.items()},
            "surrogates": [s.to_json() for s in self.surrogates],
            "corruption_reference": self.corruption_reference,
            "command": self.command,
            "given": self.given,
            "run": dict(self.run),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Study:
        """Read what :meth:`to_json` wrote."""
        return cls(
            **{
                **{FIELDS.get(name, name): part for name, part in value.items()},
                "ensembles": tuple(EnsembleRecord.from_json(e) for e in value["ensembles"]),
                "dataset": DatasetRecord.from_json(value["dataset"]),
                "attacks": tuple(Spec.from_json(a) for a in value["attacks"]),
                "eps": tuple(value["eps"]),
                "suites": tuple(value["suites"]),
                "follow_ups": tuple(FollowUp.from_json(f) for f in value["further"]),
                "corruptions": tuple(Spec.from_json(c) for c in value.get("corruptions", ())),
                "surrogates": tuple(EnsembleRecord.from_json(s) for s in value.get("surrogates", ())),
                "more_norms": {norm: tuple(eps) for norm, eps in value.get("more_norms", {}).items()},
            }
        )


def _chained(cells: Iterable[Cell]) -> Iterator[Cell]:
    """Yield the cells of one attack at ascending eps, each naming the one before it."""
    after = ""
    for cell in cells:
        linked = replace(cell, after=after)
        after = linked.key
        yield linked


def steps_of(cell: Cell) -> int:
    """Return how many steps, or queries, the attack of a cell takes at most, over all restarts."""
    params = cell.attack.params if cell.attack else {}
    return int(params.get("steps", params.get("queries", 1))) * int(params.get("restarts", 1))
