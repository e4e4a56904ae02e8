"""The audit: read, fit, find out how to run it, evaluate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from robustkit import data
from robustkit.auditing import class_order, detecting, fitting, independent, matching, reading, weighing
from robustkit.auditing.adapting import Adapted, Preprocessing
from robustkit.auditing.behaviour import Finding
from robustkit.auditing.detecting import MOST, Detected
from robustkit.auditing.in_memory import Called, as_module, identity
from robustkit.auditing.trials import Given
from robustkit.base import options
from robustkit.base.chances import check_members
from robustkit.base.devices import find_device
from robustkit.base.errors import UserError
from robustkit.base.progress import Reporter
from robustkit.data import Dataset
from robustkit.ensembles.ensemble import Ensemble, fingerprint
from robustkit.models import is_code
from robustkit.pipeline import evaluate as pipeline
from robustkit.pipeline.evaluate import OutsideModels
from robustkit.pipeline.models_under_test import ModelUnderTest, Surrogate, record_of
from robustkit.pipeline.request import check
from robustkit.records.cells import digest
from robustkit.study.config import AuditConfig

SUITES = ("attacks", "transfer", "corruptions", "detection", "calibration", "diversity")
FOR_MEMBERS = ("transfer", "diversity")  # suites that an ensemble of one has nothing to say to
IDENTIFYING = 64  # images whose answers tell a function without weights from another


@dataclass(frozen=True)
class Member:
    """A network, where it comes from (as in :class:`~robustkit.records.schema_suites.AuditResult`), and its name."""

    network: nn.Module
    facts: Mapping[str, Any]
    arch: str
    identity: str = ""  # of a function without weights: what it answers, hashed


def audit(config: AuditConfig) -> Path:
    """Find out how to run the models, evaluate them, and return the folder whose ``runs/`` hold what was found.

    ``config.dataset`` is a name or a loaded dataset. The options of the preprocessing count as known; what they do not
    say is detected on clean images.
    """
    reporter = config.reporter or Reporter()
    check(config, _default_suites(config))  # a typing error is answered before a file is read
    if config.surrogate is not None:
        independent.check(config.surrogate)
    loaded = config.dataset
    if isinstance(loaded, str):
        loaded = data.load(loaded, data_dir=config.data_dir, download=config.download, image_size=config.image_size)
    known_of(config, loaded.classes)  # a file that cannot be read is refused before a model is
    device = find_device(config.device)
    split = loaded.everything() if loaded.whole else loaded.split("test")
    _, x, y = split.take(MOST).batch(range(min(len(split), MOST)))
    members = members_of(config, loaded, x.to(device))
    check_members(config.fusion, len(members))
    modes = [(part, part.training) for member in members for part in member.network.modules()]
    name = members[0].facts["name"] if len(members) == 1 else "audited"
    config = replace(config, dataset=loaded)
    suites = _default_suites(config, alone=len(members) == 1 and config.suites is None)
    try:
        found = _detected(config, members, x.to(device), y.to(device), loaded.classes, reporter)
        for one, member in zip(found, members, strict=True):
            if not config.force:
                matching.check(one, member.facts["name"], loaded)
        others = [independent.surrogate_of(config, loaded, device, reporter)] if config.surrogate is not None else []
        found = _settled(
            config, suites, name, members, found, x.to(device), y.to(device), loaded.classes, others, reporter
        )
        facts = [
            {"ensemble": name, "member": index, **member.facts, **_detection(one, loaded.source.notes)}
            for index, (member, one) in enumerate(zip(members, found, strict=True))
        ]
        model = _model(config, name, members, [one.how for one in found])
        return pipeline.evaluate(config, OutsideModels([model], facts, others), suites)
    finally:
        for part, training in modes:  # a model in memory is its owner's
            part.training = training


def _default_suites(config: AuditConfig, alone: bool = False) -> list[str]:
    """Return the suites that run where none is named; some have nothing to say to a single member."""
    mute = [name for name in FOR_MEMBERS if alone and not (config.surrogate is not None and name == "transfer")]
    return [name for name in SUITES if name not in mute]


def _detected(
    config: AuditConfig, members: Sequence[Member], x: Tensor, y: Tensor, classes: Sequence[str], reporter: Reporter
) -> list[Detected]:
    """Return of each network what it needs to take images in [0, 1], and what else was found out about it."""
    found = []
    with reporter.task("finding out how to run it", len(members)) as advance:
        for member in members:
            found.append(detecting.detect(member.network.to(x.device), x, y, known_of(config, classes), classes))
            advance(1)
    return found


def _settled(
    config: AuditConfig, suites: Sequence[str], name: str, members: Sequence[Member], found: Sequence[Detected],
    x: Tensor, y: Tensor, classes: Sequence[str], others: Sequence[Surrogate], reporter: Reporter,
) -> list[Detected]:  # fmt: skip
    """Return what was detected with the candidates taken under which the ensemble does worst; as it is, if unattacked.

    What clean images cannot prove is settled by the attacks, to the worse: nobody is told a number that is too good.
    """
    choices = weighing.choices_of(found)
    if not choices or "attacks" not in check(config, suites).suites:
        return list(found)
    models = [
        _model(config, f"{name}{weighing.AS}{label}", members, weighing.hows_of(found, trials))
        for label, trials in choices
    ]
    chosen, why = weighing.weigh(config, suites, models, others, reporter)
    known = known_of(config, classes)
    return [
        detecting.taken(one, trial, why, member.network, x, y, known, classes) if len(one.candidates) > 1 else one
        for one, trial, member in zip(found, choices[chosen][1], members, strict=True)
    ]


def _model(config: AuditConfig, name: str, members: Sequence[Member], hows: Sequence[Preprocessing]) -> ModelUnderTest:
    """Return the ensemble of the members, each run in its way, with its record."""
    adapted = [Adapted(member.network, how) for member, how in zip(members, hows, strict=True)]
    ensemble = Ensemble(adapted, config.fusion or "mean-prob").eval()
    preprocessing = {f"member-{at}": how.to_json() for at, how in enumerate(hows)}
    bare = record_of(name, "audited", preprocessing, [member.arch for member in members], ensemble)
    identities = [member.identity for member in members if member.identity]
    # The same weights run otherwise are another model, and so is another function that has no weights.
    return replace(bare, key=digest([bare.key, preprocessing, *identities])), ensemble


def known_of(config: AuditConfig, classes: Sequence[str] = ()) -> Given:
    """Return what the user says of the preprocessing, and of the order of the data's classes."""
    size, order = config.input_size, config.class_order
    return Given(
        normalize=config.normalize, scale=float(config.pixel_range) if config.pixel_range else None,
        order=config.channel_order, size=(size, size) if size else None, outputs=config.outputs,
        columns=class_order.read(order, classes) if order else (), reorder=str(order) == class_order.AUTO,
    )  # fmt: skip


def members_of(config: AuditConfig, loaded: Dataset, images: Tensor) -> list[Member]:
    """Return the networks of files, folders and models in memory, in the order given."""
    members: list[Member] = []
    code = config.arch is not None and is_code(config.arch)  # other weights say themselves what they take
    known = {"channels": loaded.shape[0] if code else None, "classes": len(loaded.classes) if code else None}
    arch_args = arguments(config.arch_args or ())
    models: Any = config.models
    several = isinstance(models, Iterable) and not isinstance(models, str | nn.Module | Mapping)
    for model in models if several else [models]:
        if not isinstance(model, str | Path):
            _refuse_for_memory(config)
            members.append(_in_memory(model, len(members), images))
            continue
        for found in reading.read(model, trust_pickle=config.trust_pickle):
            fitted = fitting.fit(found, arch=config.arch, arch_args=arch_args, **known)
            facts = {
                "name": found.name, "path": found.path, "format": found.format, "where": found.where,
                "sha256": found.sha256, "arch": fitted.arch, "arch_args": dict(fitted.arch_args),
                "parameters": _parameters(fitted.network), "notes": [*found.notes, *fitted.notes],
            }  # fmt: skip
            members.append(Member(fitted.network, facts, fitted.arch))
    if not members:
        raise UserError("there is no model to audit; name at least one file.")
    return members


def _detection(found: Detected, notes: Sequence[str] = ()) -> dict[str, Any]:
    labels = [Finding("labels", "read", "detected", note) for note in notes]
    return {
        "findings": [finding.to_json() for finding in (*found.findings, *labels)],
        "trials": [trial.to_json() for trial in found.trials],
        "renaming": list(found.renaming) if found.renaming else None,
    }


def _refuse_for_memory(config: AuditConfig) -> None:
    for field in config.given():
        if field.name in ("arch", "arch_args", "trust_pickle"):
            said = field.said(getattr(config, field.name))
            raise UserError(f"{said} is about files and has no effect on a model in memory; leave {field.name} out.")


def _in_memory(model: object, index: int, images: Tensor) -> Member:
    module, notes = as_module(model)
    name = module.name if isinstance(module, Called) else type(module).__name__
    sha256 = identity(module.to(images.device), images[:IDENTIFYING])
    facts = {
        "name": f"{name}-{index}", "path": "", "format": "module in memory", "where": "", "sha256": sha256,
        "arch": name, "arch_args": {}, "parameters": _parameters(module), "notes": notes,
    }  # fmt: skip
    return Member(module, facts, name, "" if sha256 == fingerprint(module.state_dict()) else sha256)


def _parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def arguments(items: Iterable[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Read ``["depth=28", "widen=10"]`` into keyword arguments: numbers, true and false, else text; a mapping stays."""
    if isinstance(items, Mapping):
        return dict(items)
    found: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key.strip().isidentifier():
            raise UserError(f"--arch-args '{item}' is not of the form name=value.")
        found[key.strip()] = _value(value.strip())
    return found


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        number = options.number(text)
    except UserError:
        return text
    return int(number) if number == int(number) and "." not in text else number
