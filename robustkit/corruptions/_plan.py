"""Which corruptions an evaluation runs, and their cells. Never imports torch by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from robustkit.base import options
from robustkit.base.errors import UserError, unknown
from robustkit.corruptions import SUITES, default_suite
from robustkit.corruptions import get as corruption_of
from robustkit.corruptions import suite as suite_of
from robustkit.records.cells import Cell, EnsembleRecord, Spec

if TYPE_CHECKING:
    from robustkit.corruptions._published import Published
    from robustkit.study.plan import Study

KIND = "corruption"
ALEXNET = "alexnet"  # the reference whose errors are built in


def chosen(names: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """Check the names of suites; None, for the one that fits the size of the images, stays None."""
    if names is None:
        return None
    found = options.names(names, kind="corruption suite")
    for name in found:
        suite_of(name)
    return found


def ask(
    names: tuple[str, ...] | None,
    shape: tuple[int, ...],
    textures: str | Path | None = None,
    published: Published | None = None,
) -> tuple[Spec, ...]:
    """Return a Spec for every corruption and severity; its kind is the suite.

    Parameters
    ----------
    shape : tuple of int
        ``(C, H, W)`` of the images, from which the suite follows where none is named.
    textures : path or None
        The folder of frost's photographs; a :class:`UserError` if they are too few or too small.
    published : Published or None
        A set whose images are read instead of made; what it lacks is left out.
    """
    side = min(shape[1:])
    if side < 8:
        raise UserError(f"images of {shape[1]}x{shape[2]} pixels cannot be corrupted; the least is 8x8.")
    specs = []
    for name in names or (default_suite(side),):
        for member in SUITES[name].members:
            own = {"textures": str(textures)} if textures and member.name == "frost" else {}
            for severity in member.severities:
                params = {**member.params, **own, "severity": severity}
                if published is not None:
                    if severity not in published.severities(member.name):
                        continue
                    params = {"severity": severity, "published": published.fingerprint(member.name, severity)}
                specs.append(Spec(name, member.name, params))
    if not specs:
        raise UserError(
            f"'{published.folder if published else ''}' holds none of the corruptions that were asked for; "
            "name some of its own with --corruptions."
        )
    _try_photographs(specs, shape)
    return tuple(specs)


def _try_photographs(specs: Iterable[Spec], shape: tuple[int, ...]) -> None:
    """Corrupt one blank image with the user's photographs: what is wrong with them is said before hours of work."""
    tried = next((spec for spec in specs if "textures" in spec.params), None)
    if tried is not None:
        import torch

        corruption_of(tried.name)(torch.zeros(1, *shape), **tried.params, generator=0)


def reference_of(name: str | None, ids: Sequence[str]) -> str:
    """Check by whose errors to divide, empty where nobody is named; a :class:`UserError` if it is not evaluated."""
    if name is not None and name not in (ALEXNET, *ids):
        raise unknown("reference of corruptions", name, [*ids, ALEXNET])
    return name or ""


def missing(study: Study, suite: str) -> list[str]:
    """Return the corruptions of a suite that a study lacks a severity of, because a published set is not whole."""
    planned = {(spec.name, spec.params["severity"]) for spec in study.corruptions if spec.kind == suite}
    return [m.name for m in SUITES[suite].members if any((m.name, s) not in planned for s in m.severities)]


def cell_of(study: Study, ensemble: EnsembleRecord, spec: Spec) -> Cell:
    """Return the cell of one corruption at one severity; two suites that agree share it."""
    return Cell(
        kind=KIND,
        ensemble=ensemble.key,
        data=study.dataset.sha256,
        attack=Spec(KIND, spec.name, spec.params),
        seed=study.seed,
        version=study.version,
    )


def cells(study: Study) -> Iterator[Cell]:
    """Yield every cell once."""
    asked = study.corruptions if "corruptions" in study.suites else ()
    found = {(cell := cell_of(study, ensemble, spec)).key: cell for ensemble in study.ensembles for spec in asked}
    yield from found.values()
