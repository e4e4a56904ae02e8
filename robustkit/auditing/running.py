"""The audit: read, fit, find out how to run it, evaluate, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from robustkit import api, data
from robustkit.auditing import fitting, independent, reading
from robustkit.auditing.adapting import Adapted
from robustkit.auditing.detecting import MOST, Detected, Given, detect
from robustkit.base import options
from robustkit.base.devices import find_device
from robustkit.base.errors import UserError
from robustkit.base.progress import Reporter
from robustkit.data import Dataset
from robustkit.data._split import source
from robustkit.ensembles.ensemble import Ensemble, fingerprint
from robustkit.models import is_code
from robustkit.pipeline.models_under_test import record_of
from robustkit.pipeline.request import Names
from robustkit.records.cells import digest
from robustkit.records.schema import Results

SAMPLES = 256
SUITES = ("attacks", "transfer", "corruptions", "detection", "calibration", "diversity")
FOR_MEMBERS = ("transfer", "diversity")  # suites that an ensemble of one has nothing to say to
TENSORS = "npz:tensors"  # what a dataset of the caller's own tensors is called
Model = nn.Module | str | Path


@dataclass(frozen=True)
class Member:
    """A network, where it comes from (as in :class:`~robustkit.records.schema_suites.AuditResult`), and its name."""

    network: nn.Module
    facts: Mapping[str, Any]
    arch: str


def audit(
    models: Model | Sequence[Model],
    dataset: str | tuple[Tensor, Tensor] | Dataset = "digits",
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    image_size: int | str | None = None,
    arch: str | None = None,
    arch_args: Mapping[str, Any] | None = None,
    given: Given | None = None,
    trust_pickle: bool = False,
    fusion: str | None = None,
    n: int | None = SAMPLES,
    suites: Sequence[str] | str | None = None,
    ood: Names | None = None,
    baseline: str | Path | None = None,
    device: str = "auto",
    out: str | Path = "robustkit-audit",
    reporter: Reporter | None = None,
    **asked: Any,
) -> Results:
    """Evaluate models that somebody else made, and report what was detected, assumed and not tested.

    Parameters
    ----------
    models : module, path, or a sequence of them
        Several are the members of one ensemble. A folder stands for the model files in it. No code in a file is run
        unless ``trust_pickle`` says so (:mod:`robustkit.auditing.reading`).
    dataset : str, (x, y) or Dataset
        As for :func:`robustkit.data.load`; or images (N, C, H, W), uint8 or float in [0, 1], and labels int64 (N,).
    arch, arch_args
        As for :func:`robustkit.auditing.fitting.fit`; None infers the architecture from the weights.
    given : Given
        What is known of the preprocessing; the rest is detected on clean images.
    n : int or None
        Images to evaluate on, the first of the test split; None: all.
    suites : sequence of str
        By default all that ask for nothing more.
    ood : str or sequence of str
        Out-of-distribution sets, as of :func:`robustkit.evaluate`; naming some turns the suite ``ood`` on.
    baseline : str or path
        An independent model: attacks are crafted on it and scored on the audited ensemble. ``train`` trains
        robustkit's plain ensemble on the training split, or takes it from the cache; else a folder that
        ``robustkit train`` wrote. None: there is none, and the report says so.
    **asked
        Further arguments of :func:`robustkit.evaluate`: attacks, eps, escalate, corruptions, seed, ...

    Returns
    -------
    Results
        What ``results.json`` holds; ``report.html`` lies beside it in ``out``.

    Raises
    ------
    UserError
        On a file, an architecture or data that cannot be used, before anything is evaluated.
    """
    reporter = reporter or Reporter()
    if baseline is not None:
        independent.check(baseline, suites)
    if isinstance(dataset, str):
        loaded = data.load(dataset, data_dir=data_dir, download=download, image_size=image_size)
    else:
        loaded = dataset if isinstance(dataset, Dataset) else own(*dataset)
    on = find_device(device)
    listed = [models] if isinstance(models, nn.Module | str | Path) else list(models)
    members = members_of(listed, loaded, arch, arch_args, trust_pickle)
    split = loaded.everything() if loaded.whole else loaded.split("test")
    _, x, y = split.take(MOST).batch(range(min(len(split), MOST)))
    name = members[0].facts["name"] if len(members) == 1 else "audited"
    adapted, audited = [], []
    with reporter.task("finding out how to run it", len(members)) as advance:
        for index, member in enumerate(members):
            found = detect(member.network.to(on), x.to(on), y.to(on), given)
            adapted.append(Adapted(member.network, found.how))
            audited.append({"ensemble": name, "member": index, **member.facts, **_told(found)})
            advance(1)
    ensemble = Ensemble(adapted, fusion or "mean-prob").eval()
    preprocessing = {f"member-{at}": module.how.to_json() for at, module in enumerate(adapted)}
    bare = record_of(name, "audited", preprocessing, [member.arch for member in members], ensemble)
    record = replace(bare, key=digest([bare.key, preprocessing]))  # the same weights run otherwise are another model
    others = [independent.baseline_of(baseline, loaded, on, asked, reporter)] if baseline is not None else []
    alone = [s for s in FOR_MEMBERS if len(members) == 1 and not (others and s == "transfer")]
    chosen = suites or [s for s in (*SUITES, *(("ood",) if ood else ())) if s not in alone]
    return api.evaluate(
        ensembles=[(record, ensemble)], audited=audited, dataset=loaded, data_dir=data_dir, download=download,
        suites=chosen, ood=ood, n=n, surrogates=others, device=device, out=out, reporter=reporter, **asked,
    )  # fmt: skip


def members_of(
    models: Sequence[Model], loaded: Dataset, arch: str | None, arch_args: Mapping[str, Any] | None, trust_pickle: bool
) -> list[Member]:
    """Return the networks of files and modules, in the order given."""
    members: list[Member] = []
    code = arch is not None and is_code(arch)  # other weights say themselves what they take
    known = {"channels": loaded.shape[0] if code else None, "classes": len(loaded.classes) if code else None}
    for model in models:
        if isinstance(model, nn.Module):
            members.append(_of_module(model, len(members)))
            continue
        for found in reading.read(model, trust_pickle=trust_pickle):
            fitted = fitting.fit(found, arch=arch, arch_args=arch_args, **known)
            facts = {
                "name": found.name, "path": found.path, "format": found.format, "where": found.where,
                "sha256": found.sha256, "arch": fitted.arch, "arch_args": dict(fitted.arch_args),
                "parameters": _parameters(fitted.network), "notes": [*found.notes, *fitted.notes],
            }  # fmt: skip
            members.append(Member(fitted.network, facts, fitted.arch))
    if not members:
        raise UserError("there is no model to audit; name at least one file.")
    return members


def own(x: Tensor, y: Tensor) -> Dataset:
    """Return a dataset of the caller's own images and labels, all of them evaluated."""
    facts = data.describe(TENSORS)
    pixels = x if x.dtype == torch.uint8 else x.float()
    if x.ndim != 4 or len(x) != len(y) or not len(y):
        raise UserError(
            f"images of shape {tuple(x.shape)} and {len(y)} labels are no dataset; give (N, C, H, W) and (N,)."
        )
    if pixels.is_floating_point() and not bool(((pixels >= 0) & (pixels <= 1)).all()):
        low, high = float(pixels.min()), float(pixels.max())
        raise UserError(f"pixels from {low:g} to {high:g} are outside [0, 1]; scale them, or give uint8.")
    classes = tuple(str(label) for label in range(int(y.max()) + 1))
    shape = cast("tuple[int, int, int]", tuple(x.shape[1:]))
    made = source({"everything": lambda: (pixels.cpu(), y.long().cpu())}, classes=classes, shape=shape)
    return Dataset(facts.name, facts.title, facts.threat, facts.flip, facts.recipe, made)


def _told(found: Detected) -> dict[str, Any]:
    return {
        "findings": [finding.to_json() for finding in found.findings],
        "trials": [trial.to_json() for trial in found.trials],
        "renaming": list(found.renaming) if found.renaming else None,
    }


def _of_module(module: nn.Module, index: int) -> Member:
    facts = {
        "name": f"{type(module).__name__}-{index}", "path": "", "format": "module in memory", "where": "",
        "sha256": fingerprint(module.state_dict()), "arch": type(module).__name__, "arch_args": {},
        "parameters": _parameters(module), "notes": [],
    }  # fmt: skip
    return Member(module, facts, type(module).__name__)


def _parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def arguments(items: Sequence[str]) -> dict[str, Any]:
    """Read ``["depth=28", "widen=10"]`` into keyword arguments: numbers, true and false, else text."""
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
