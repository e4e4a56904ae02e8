"""The audit: read, fit, find out how to run it, evaluate."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from robustkit import data
from robustkit.auditing import class_order, detecting, independent, matching, weighing
from robustkit.auditing.adapting import Adapted, Preprocessing
from robustkit.auditing.behaviour import Finding
from robustkit.auditing.choosing import Member, choose
from robustkit.auditing.detecting import MOST, Detected
from robustkit.auditing.in_memory import Called, lent
from robustkit.auditing.members import members_of
from robustkit.auditing.trials import Given
from robustkit.base.chances import check_members
from robustkit.base.devices import find_devices
from robustkit.base.errors import UserError
from robustkit.base.files import check_folder
from robustkit.base.progress import Reporter
from robustkit.data import Dataset
from robustkit.ensembles.ensemble import Ensemble, fingerprint
from robustkit.functional.precision import exactly
from robustkit.pipeline import evaluate as pipeline
from robustkit.pipeline.evaluate import RESULTS, Done
from robustkit.pipeline.models_under_test import ModelUnderTest, Surrogate, record_of
from robustkit.pipeline.request import check
from robustkit.pipeline.sources import OutsideModels
from robustkit.records.cells import digest
from robustkit.study.config import AuditConfig

SUITES = ("attacks", "transfer", "corruptions", "detection", "calibration", "diversity")
FOR_MEMBERS = ("transfer", "diversity")  # suites that an ensemble of one has nothing to say to


def audit(config: AuditConfig) -> Done:
    """Find out how to run the models, and evaluate them.

    ``config.dataset`` is a name or a loaded dataset. The options of the preprocessing count as known; what they do not
    say is detected on clean images.
    """
    with lent(config.models):
        return _audited(config, config.reporter or Reporter())


def _audited(config: AuditConfig, reporter: Reporter) -> Done:
    request = check(config, _default_suites(config))  # a typing error is answered before a file is read
    check_folder(Path(config.out), "--out", RESULTS, config.force)
    if config.surrogate is not None:
        independent.check(config.surrogate)
    loaded = config.dataset
    if isinstance(loaded, str):
        loaded = data.load(loaded, data_dir=config.data_dir, download=config.download, image_size=config.image_size)
    known_of(config, loaded.classes)  # a file that cannot be read is refused before a model is
    devices = find_devices(config.device)
    device = devices[0]
    split = loaded.everything() if loaded.whole else loaded.split("test")
    _, x, y = split.take(MOST).batch(range(min(len(split), MOST)))
    began = time.perf_counter()
    with exactly(device):
        members = members_of(config, loaded, x.to(device))
    if len(devices) > 1:
        _check_copies(config.device, members)
    check_members(config.fusion, len(members))
    modes = [(part, part.training) for member in members for part in member.network.modules()]
    name = members[0].facts["name"] if len(members) == 1 else "audited"
    request.foresee(config, [name])
    asked, config = config, replace(config, dataset=loaded)
    suites = _default_suites(config, alone=len(members) == 1 and config.suites is None)
    try:
        with exactly(device):  # TF32 alone would look like an output that depends on the batch
            members, found = _detected(config, members, x.to(device), y.to(device), loaded.classes, reporter)
        for one, member in zip(found, members, strict=True):
            if not config.force:
                matching.check(one, member.facts["name"], loaded)
        others = []
        planned = reporter.planned is not None  # of a plan neither a surrogate nor several ways to run it are a part
        # A surrogate may be trained for hours: what else is asked for has to fit before.
        if config.surrogate is not None and not planned:
            model = _model(config, name, members, [one.how for one in found])
            pipeline.checked(config, OutsideModels([model], _facts(name, members, found, loaded)), suites)
            others = [independent.surrogate_of(config, loaded, device, reporter)]
        if not planned:
            found = _settled(
                config, suites, name, members, found, x.to(device), y.to(device), loaded.classes, others, reporter
            )
        model = _model(config, name, members, [one.how for one in found])
        facts, spent = _facts(name, members, found, loaded), time.perf_counter() - began
        return pipeline.evaluate(config, OutsideModels([model], facts, others, asked, spent), suites)
    finally:
        for part, training in modes:  # a model in memory is its owner's
            part.training = training


def _check_copies(device: str, members: Sequence[Member]) -> None:
    """Raise a :class:`UserError` where a model cannot be copied to several GPUs."""
    if any(isinstance(part, Called) for member in members for part in member.network.modules()):
        raise UserError(
            f"device '{device}' copies a model to each of several GPUs, and a function cannot be copied; give a torch "
            "module, or one GPU, like cuda:0."
        )


def _default_suites(config: AuditConfig, alone: bool = False) -> list[str]:
    """Return the suites that run where none is named; some have nothing to say to a single member."""
    mute = [name for name in FOR_MEMBERS if alone and not (config.surrogate is not None and name == "transfer")]
    return [name for name in SUITES if name not in mute]


def _detected(
    config: AuditConfig, members: Sequence[Member], x: Tensor, y: Tensor, classes: Sequence[str], reporter: Reporter
) -> tuple[list[Member], list[Detected]]:
    """Return of each member the version that is meant, what it needs to take images in [0, 1], and what was found."""
    chosen, found, known = [], [], known_of(config, classes)
    with reporter.task("finding out how to run it", len(members)) as advance:
        for member in members:
            one, detected = choose(member, x, y, known, classes)
            chosen.append(one)
            found.append(detected)
            advance(1)
    return chosen, found


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
    # The same weights run otherwise are another model, and so are those with other code around them.
    return replace(bare, key=digest([bare.key, preprocessing, *identities])), ensemble


def known_of(config: AuditConfig, classes: Sequence[str] = ()) -> Given:
    """Return what the user says of the preprocessing, and of the order of the data's classes."""
    size, order = config.input_size, config.class_order
    return Given(
        normalize=config.normalize, scale=float(config.pixel_range) if config.pixel_range else None,
        order=config.channel_order, size=(size, size) if size else None, outputs=config.outputs,
        columns=class_order.read(order, classes) if order else (), reorder=str(order) == class_order.AUTO,
    )  # fmt: skip


def _facts(name: str, members: Sequence[Member], found: Sequence[Detected], loaded: Dataset) -> list[dict[str, Any]]:
    """Return what is known of each member, where it comes from and how it is run, for the report."""
    equal = _equal(members)
    labels = [Finding("labels", "read", "detected", note) for note in loaded.source.notes]
    return [
        {
            "ensemble": name, "member": index, **member.facts,
            "findings": [f.to_json() for f in (*equal.get(index, ()), *member.findings, *one.findings, *labels)],
            "trials": [trial.to_json() for trial in one.trials],
            "renaming": list(one.renaming) if one.renaming else None,
        }
        for index, (member, one) in enumerate(zip(members, found, strict=True))
    ]  # fmt: skip


def _equal(members: Sequence[Member]) -> dict[int, list[Finding]]:
    """Say of every member whose weights are another's: such an ensemble has fewer opinions than members."""
    seen: dict[str, int] = {}
    said: dict[int, list[Finding]] = {}
    for index, member in enumerate(members):
        state = member.network.state_dict()
        if not state or any(isinstance(part, Called) for part in member.network.modules()):  # weights do not tell it
            continue
        first = seen.setdefault(fingerprint(state), index)
        if first != index:
            evidence = "every weight is the same: the two are one model, and no second opinion"
            said[index] = [Finding("equal members", f"as {members[first].facts['name']}", "detected", evidence, True)]
    return said
