"""What the user asked for, checked as far as it can be before torch is imported: names, numbers, ``--set``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robustkit import backends, data, models
from robustkit.attacks import OWN_OPTION, attack
from robustkit.base import options
from robustkit.base.budgets import Budgets
from robustkit.base.chances import RANDOM, check_members, is_random
from robustkit.base.errors import UserError, unknown
from robustkit.base.names import ALL, DEFAULT_SUITES, PROOFS, SUITES, TARGETS
from robustkit.base.registry import Registry
from robustkit.base.types import Names
from robustkit.corruptions._plan import chosen
from robustkit.data import Facts
from robustkit.defenses import defense
from robustkit.evaluation import executors
from robustkit.ood import chosen as chosen_sets
from robustkit.pipeline.threat import budgets_of, check_attacks, default_attacks, norms_of
from robustkit.records.cells import Spec
from robustkit.study import presets, requirements
from robustkit.study.config import EvaluateConfig, Evaluation, TrainConfig
from robustkit.training import spec as trainspec

Table = Mapping[str, Mapping[str, Any]]  # of --set: method, parameter, value


@dataclass(frozen=True)
class Request:
    """A checked evaluation: methods with their whole configuration, budgets, suites."""

    defenses: tuple[Spec, ...]
    attacks: tuple[Spec, ...]
    dataset: Facts
    budgets: Budgets
    suites: tuple[str, ...]
    corruptions: tuple[str, ...] | None
    training: Mapping[str, Any]

    def foresee(self, config: Evaluation, ensembles: Sequence[str] = ()) -> None:
        """Refuse what is required of numbers that there will not be; of any ensemble where none is known yet."""
        attacks = self.attacks if "attacks" in self.suites else ()
        requirements.foresee(config, attacks, self.budgets, ensembles)

    @property
    def norm(self) -> str:
        """The first norm."""
        return next(iter(self.budgets))

    @property
    def eps(self) -> tuple[float, ...]:
        """Budgets of the first norm, ascending."""
        return self.budgets[self.norm]


@dataclass(frozen=True)
class TrainingRequest:
    """A checked training: the defence, fields of the training's spec that were asked for, and those of its paper."""

    defense: Spec
    fields: Mapping[str, Any]
    recipe: Mapping[str, Any]


def check(config: Evaluation, default_suites: Sequence[str] = DEFAULT_SUITES) -> Request:
    """Check names, budgets and settings; a :class:`UserError` names the first that is wrong and what is accepted.

    Parameters
    ----------
    default_suites : sequence of str
        What runs where ``config`` names no suites, beside those that its other options are for.
    """
    executors.check(config.executor)
    dataset = name_of(config.dataset)
    facts, corruptions = data.describe(dataset), chosen(config.corruptions)
    suites = _suites(config, default_suites)
    norms = norms_of(config, facts)
    if len(norms) > 1 and config.preset:
        raise UserError(f"--preset {config.preset} is a grid of one norm; leave it or --norms out.")
    rows: presets.Grid = presets.grid(config.preset, dataset) if config.preset else ()
    if config.attacks is not None or not config.preset:
        named = default_attacks(norms) if config.attacks is None else config.attacks
        rows += tuple((name, {}) for name in options.names(named, attack))
    table = options.assignments(config.settings)
    attacks = _attacks(rows, table, config.backend)
    budgets = budgets_of(config, facts, norms, _own_eps(rows))
    check_attacks(attacks, norms)
    names = _defenses(config)
    if isinstance(config, EvaluateConfig) and config.seeds is not None:
        options.seeds(config.seeds)
    if names:
        check_members(config.fusion, getattr(config, "members", None) or trainspec.TrainSpec.members)
    _check_methods(table, [name for name, _ in rows], _parts(names), config)
    _check_verdicts(config)
    request = Request(
        defenses=tuple(defended(name, table) for name in names),
        attacks=attacks,
        dataset=facts,
        budgets=budgets,
        suites=suites,
        corruptions=corruptions,
        training=trainspec.settings(table.get("train", {})),
    )
    request.foresee(config)
    return request


def check_training(config: TrainConfig) -> TrainingRequest:
    """Check a training; a :class:`UserError` names the first thing that is wrong and what is accepted."""
    executors.check(config.executor)
    if config.executor != executors.LOCAL and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            f"--executor {config.executor} trains in processes of Ray, but torchrun has started its own; leave one out."
        )
    names = options.names(config.defense, defense)
    if len(names) != 1:
        raise UserError(f"train takes one defence, not {len(names)}; run it once for each.")
    if config.arch is not None:
        models.check(config.arch)
    if config.seeds is not None:
        options.seeds(config.seeds)
    dataset = data.describe(name_of(config.dataset)).name
    recipe, own = trainspec.paper(names[0], dataset) if config.recipe == "paper" else ({}, {})
    table = options.assignments(config.settings)
    running = [*_parts(names), "train"]
    for method in table:
        if method not in running:
            raise unknown("method in --set", method, running)
    fields = {name: getattr(config, name) for name in ("arch", "members", "epochs", "fusion")}
    check_members(config.fusion, config.members or recipe.get("members", trainspec.TrainSpec.members))
    return TrainingRequest(
        defended(names[0], table, own), {**trainspec.settings(table.get("train", {})), **fields}, recipe
    )


def name_of(dataset: str | Any) -> str:
    """Return the name of a dataset, loaded or not."""
    return dataset if isinstance(dataset, str) else str(dataset.name)


def _defenses(config: Evaluation) -> tuple[str, ...]:
    """Return the defences to train; what is evaluated instead of one is refused options that would have no effect."""
    if not isinstance(config, EvaluateConfig):
        return ()
    stored = next((name for name in ("checkpoint", "pool") if getattr(config, name)), None)
    if stored is None:
        if config.arch is not None:
            models.check(config.arch)
        return options.names("adp" if config.defense is None else config.defense, defense)
    if config.arch is not None and not models.is_code(config.arch):
        raise UserError(
            f"--arch {config.arch} has no effect beside --{stored}, whose record names the architecture; leave it out "
            "(module:factory is consent to run that code)."
        )
    return ()


def _parts(defenses: Iterable[str]) -> list[str]:
    return [part.strip() for name in defenses for part in name.split("+")]


def _attacks(rows: presets.Grid, table: Table, backend: str) -> tuple[Spec, ...]:
    specs = [configured(attack, name, table, given) for name, given in rows]
    if options.choice(backend, "backend", ("native", *backends.backend.names())) != "native":
        specs = [_abroad(spec, backend) for spec in specs]
    return tuple(specs)


def _check_methods(table: Table, attacks: Sequence[str], parts: Sequence[str], config: Evaluation) -> None:
    trains = bool(parts) or getattr(config, "surrogate", None) == "train"
    running = [*attacks, *parts, *(["train"] if trains else [])]
    for method, params in table.items():
        if method == "train" and not trains:
            first = next(iter(params))
            raise UserError(f"--set train.{first} has no effect, because nothing is trained; leave it out.")
        if method not in running:
            raise unknown("method in --set", method, running)


def configured(registry: Registry, name: str, table: Table, preset: Mapping[str, Any] | None = None) -> Spec:
    """Return the Spec of a registered method: its defaults, what a preset and what ``--set`` say of it, checked."""
    given = table.get(name, {})
    fixed = dict(preset or {})
    own_eps = {"eps": list(fixed.pop("eps"))} if "eps" in fixed else {}
    for parameter in given:
        if parameter in OWN_OPTION:
            raise UserError(f"--set {name}.{parameter} is decided by {OWN_OPTION[parameter]}; leave it out of --set.")
    params = options.resolve(registry.entry(name), {**fixed, **given})
    return Spec(registry.kind, name, {**{k: v for k, v in params.items() if k not in OWN_OPTION}, **own_eps})


def defended(name: str, table: Table, own: Mapping[str, Any] | None = None) -> Spec:
    """Return the Spec of a defence, composed or not; ``own`` are parameters that ``--set`` overrides."""
    entry = defense.entry(name)
    given = dict(own or {})
    for part in name.split("+"):
        prefix = f"{part.strip()}." if "+" in name else ""
        given |= {prefix + key: value for key, value in table.get(part.strip(), {}).items()}
    return Spec("defense", entry.name, options.resolve(entry, given))


def _abroad(spec: Spec, library: str) -> Spec:
    """Return the same attack of another library; one that names its library already stays as it is."""
    if ":" in spec.name:
        return spec
    name, params = backends.translate(spec.name, spec.params, library)
    moved = configured(attack, name, {}, params)
    own_eps = {"eps": spec.params["eps"]} if "eps" in spec.params else {}
    return Spec(moved.kind, moved.name, {**moved.params, **own_eps})


def check_fusions(attacks: Iterable[Spec], fusions: Mapping[str, str]) -> None:
    """Raise a :class:`UserError` if an attack is for members that are drawn, and those of an ensemble are not.

    Parameters
    ----------
    fusions : mapping of str to str
        The fusion rule of each ensemble.
    """
    for spec in attacks:
        if not attack.entry(spec.name).facts.get("randomised"):
            continue
        for ensemble, fusion in fusions.items():
            if not is_random(fusion):
                raise UserError(
                    f"attack '{spec.name}' is for an ensemble whose members are drawn, but the fusion rule of "
                    f"'{ensemble}' is {fusion}; add --fusion {RANDOM}, or leave {spec.name} out."
                )


def _own_eps(rows: presets.Grid) -> tuple[float, ...]:
    """Return every budget that a preset names, for the reference beside its attacks."""
    return tuple(sorted({eps for _, given in rows for eps in given.get("eps", ())}))


def target(rule: str | int, classes: int) -> str:
    """Check what targeted attacks aim at: a rule's name, or the number of one of the classes; empty stays empty."""
    rule = str(rule)
    if rule in ("", *TARGETS):
        return rule
    if not rule.lstrip("-").isdigit():
        raise unknown("target", rule, [*TARGETS, "the number of a class"])
    if not 0 <= int(rule) < classes:
        raise UserError(f"target {rule} is outside the classes; the labels are 0 to {classes - 1}.")
    return str(int(rule))


def _check_verdicts(config: Evaluation) -> None:
    if config.escalate and config.trust == "off":
        raise UserError("escalate needs the trust checks, but trust is 'off'; leave out --trust off.")
    if not config.escalate_budget > 0:
        raise UserError(f"escalate budget {config.escalate_budget} is out of range; it must be above 0.")


def beside_baseline(defenses: tuple[Spec, ...]) -> tuple[Spec, ...]:
    """Return the defences with the plain ensemble in front, if it is not among them."""
    if "baseline" in [one.name for one in defenses]:
        return defenses
    return (Spec("defense", "baseline", {}), *defenses)


def _suites(config: Evaluation, default: Sequence[str]) -> tuple[str, ...]:
    """Return the suites that run; options for others are refused, since nobody would see that they did nothing."""
    pooled = bool(getattr(config, "pool", None))
    wanted = _named(config.suites)
    if wanted is None:
        turned_on = [suite for suite, given in (("corruptions", config.corruptions), ("ood", config.ood)) if given]
        wanted = [] if pooled else [*default, *turned_on]
    served = {*wanted, *(("corruptions",) if pooled else ())}  # a pool has validation sets of corrupted images
    chosen_sets(config.ood)
    for field in config.given():
        if field.option.suites and not served & set(field.option.suites):
            which = " or ".join(field.option.suites)
            raise UserError(
                f"{field.said(getattr(config, field.name))} serves the suite {which}, which does not run; "
                "name it with --suites."
            )
    return tuple(suite for suite in SUITES if suite in wanted)


def _named(suites: Names | None) -> list[str] | None:
    if suites is None:
        return None
    named = options.names(suites, kind="suite")
    for suite in named:
        options.choice(suite, "suite", (*SUITES, ALL))
    return [s for s in SUITES if s in named or s not in PROOFS] if ALL in named else [*named]
