"""What the user asked for, checked as far as it can be before torch is imported: names, numbers, ``--set``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from robustkit import backends, data
from robustkit.attacks import OWN_OPTION, attack, is_minimum
from robustkit.base import options
from robustkit.base.errors import UserError, unknown
from robustkit.base.names import ALL, DEFAULT_SUITES, ESCALATION, FUSIONS, NORMS, SUITES, TARGETS, TRUST
from robustkit.base.registry import Registry
from robustkit.corruptions._plan import chosen
from robustkit.data import Facts
from robustkit.defenses import defense
from robustkit.ood import chosen as chosen_sets
from robustkit.records.cells import Spec
from robustkit.study import presets
from robustkit.training import spec as trainspec

Settings = Iterable[str] | Mapping[str, Any] | None
Names = str | Iterable[str]

DEFAULT_ATTACKS = "pgd,mim"


@dataclass(frozen=True)
class Request:
    """A checked evaluation request: methods with their whole configuration, budgets, suites."""

    defenses: tuple[Spec, ...]
    attacks: tuple[Spec, ...]
    dataset: Facts
    eps: tuple[float, ...]
    norm: str
    suites: tuple[str, ...]
    corruptions: tuple[str, ...] | None
    fusion: str | None
    training: Mapping[str, Any]
    recipe: Mapping[str, Any]


def check(
    *,
    defenses: Names,
    attacks: Names | None,
    dataset: str,
    preset: str | None = None,
    backend: str = "native",
    eps: Any = None,
    norm: str | None = None,
    suites: Names | None = None,
    corruptions: Names | None = None,
    ood: Names | None = None,
    fusion: str | None = None,
    settings: Settings = None,
    paper: bool = False,
) -> Request:
    """Check names, budgets and settings; a :class:`UserError` names the first that is wrong and what is accepted.

    ``paper`` takes the recipe and the parameters of the (one) defence from its paper, where --set says nothing.
    """
    facts = data.describe(dataset)
    corruption_suites, ood_sets = chosen(corruptions), chosen_sets(ood)
    named = [suite for suite, given in (("corruptions", corruption_suites), ("ood", ood_sets)) if given]
    if suites is None and named:
        suites = (*DEFAULT_SUITES, *named)
    chosen_norm = options.choice(norm or facts.threat.norm, "norm", NORMS)
    budgets = options.eps_list(eps)
    if budgets is None and chosen_norm != facts.threat.norm:
        raise UserError(f"{dataset} has no standard budgets for norm '{chosen_norm}'; name them with --eps.")
    rows: presets.Grid = presets.grid(preset, dataset) if preset else ()
    if attacks is not None or not preset:
        rows += tuple((name, {}) for name in options.names(DEFAULT_ATTACKS if attacks is None else attacks, attack))
    table = options.assignments(settings)
    specs = [configured(attack, name, table, given) for name, given in rows]
    if options.choice(backend, "backend", ("native", *backends.backend.names())) != "native":
        specs = [_abroad(spec, backend) for spec in specs]
    defense_names = options.names(defenses, defense) if defenses else ()
    recipe, own = trainspec.paper(defense_names[0], dataset) if paper else ({}, {})
    parts = [part.strip() for name in defense_names for part in name.split("+")]
    for method in table:
        if method not in (running := (*(name for name, _ in rows), *parts, "train")):
            raise unknown("method in --set", method, running)
    for name in dict.fromkeys(spec.name for spec in specs):
        supported = attack.entry(name).facts.get("norms", ())
        if chosen_norm not in supported and not is_minimum(name):
            raise UserError(f"attack '{name}' has no norm '{chosen_norm}'; it supports {', '.join(supported)}.")
    return Request(
        defenses=tuple(defended(name, table, own) for name in defense_names),
        attacks=tuple(specs),
        dataset=facts,
        eps=budgets or _own_eps(rows) or facts.threat.eps,
        norm=chosen_norm,
        suites=tuple(s for s in SUITES if s in _suites(suites)),
        corruptions=corruption_suites,
        fusion=options.choice(fusion, "fusion rule", FUSIONS) if fusion else None,
        training=trainspec.settings(table.get("train", {})),
        recipe=recipe,
    )


def configured(
    registry: Registry, name: str, table: Mapping[str, Mapping[str, Any]], preset: Mapping[str, Any] | None = None
) -> Spec:
    """Return the Spec of a registered method: its defaults, what a preset and what ``--set`` say of it, checked."""
    given = table.get(name, {})
    fixed = dict(preset or {})
    own_eps = {"eps": list(fixed.pop("eps"))} if "eps" in fixed else {}
    for parameter in given:
        if parameter in OWN_OPTION:
            raise UserError(f"--set {name}.{parameter} is decided by {OWN_OPTION[parameter]}; leave it out of --set.")
    params = options.resolve(registry.entry(name), {**fixed, **given})
    return Spec(registry.kind, name, {**{k: v for k, v in params.items() if k not in OWN_OPTION}, **own_eps})


def defended(name: str, table: Mapping[str, Mapping[str, Any]], own: Mapping[str, Any] | None = None) -> Spec:
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


def verdicts(trust: str, escalate: bool, budget: float = ESCALATION) -> None:
    """Check what is asked of the trust checks: their cost, whether to escalate, and what that may cost."""
    options.choice(trust, "trust", TRUST)
    if escalate and trust == "off":
        raise UserError("escalate needs the trust checks, but trust is 'off'; leave out --trust off.")
    if not budget > 0:
        raise UserError(f"escalate budget {budget} is out of range; it must be above 0.")


def beside_baseline(defenses: tuple[Spec, ...]) -> tuple[Spec, ...]:
    """Return the defences with the plain ensemble in front, if it is not among them."""
    if "baseline" in [one.name for one in defenses]:
        return defenses
    return (Spec("defense", "baseline", {}), *defenses)


def _suites(suites: Names | None) -> tuple[str, ...]:
    if suites is None:
        return DEFAULT_SUITES
    chosen = options.names(suites, kind="suite")
    for suite in chosen:
        options.choice(suite, "suite", (*SUITES, ALL))
    return SUITES if ALL in chosen else chosen
