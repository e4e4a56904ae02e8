"""The table of samples for a page: columns one after the other as bytes, compressed, as text. Never imports torch."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from robustkit.records.outcomes import SampleOutcomes
from robustkit.records.schema import Results
from robustkit.reports._checks import runs_of
from robustkit.reports._labels import budget, budget_text, labeller
from robustkit.reports._sample_arrays import SampleTable, small
from robustkit.reports._samples import AT_ONCE, UNBROKEN, quoted, smallest

MOST_BYTES = 4 << 20  # of all columns before they are compressed; about 15 ensembles of 10,000 samples and 12 cells
KINDS = {"u1": "u1", "u2": "u2", "u4": "u4", "i8": "f8", "f8": "f8"}  # as JavaScript has them: no integers of 64 bits
Array = npt.NDArray[Any]


def packed(table: SampleTable, results: Results) -> dict[str, Any]:
    """Return the table as plain JSON.

    Returns
    -------
    dict
        ``classes``, ``attacks``, ``budgets`` (``eps``, ``norm``, ``text``), ``norms``: what the numbers below count in.
        ``data``: all columns, deflated (RFC 1950), in base64; a column is ``[kind, offset, length]``, little-endian.
        ``ensembles``: ``id``, ``kept``, ``members``, ``runs`` (``[attack, budget]``), ``strongest`` (a run, or None)
        and the columns of N samples and A runs: ``ids``, ``labels``, ``right`` ((1 + A) x N, how likely right: clean,
        then under each run), ``answers`` ((1 + A) x N), ``votes`` (members x N, clean), ``after`` (members x N, under
        the strongest run), ``by`` (norms x N: which run broke it first; A: none, A + 1: it is wrong without one).
        ``left_out``: ids of ensembles that would have made the page too large.
    """
    label, columns = labeller(results), _Columns()
    attacks = list(dict.fromkeys(label(e) for e in results["evaluations"]))
    budgets = sorted({budget(e) for e in results["evaluations"]}, key=lambda b: (b[1], b[0]))
    norms = sorted({norm for _, norm in budgets})
    ensembles: list[dict[str, Any]] = []
    left_out: list[str] = []
    for one in table.outcomes:
        if left_out or (ensembles and columns.size + _size(one) > MOST_BYTES):
            left_out.append(one.ensemble)
            continue
        runs = runs_of(results, one.ensemble)
        at = quoted(results, one.ensemble)
        said = one.answers
        none = np.zeros((0, len(one.ids)), np.uint8)
        ensembles.append({
            "id": one.ensemble, "kept": table.kept.get(one.ensemble, 0), "members": len(said[0].members) if said else 0,
            "runs": [[attacks.index(label(e)), budgets.index(budget(e))] for e in runs],
            "strongest": at if said else None,
            "ids": columns.add(one.ids), "labels": columns.add(one.labels),
            "right": columns.add(np.stack([one.clean, *one.attacked])),
            "answers": columns.add(np.stack([s.fused for s in said]) if said else one.predictions),
            "votes": columns.add(said[0].members if said else none),
            "after": columns.add(said[1 + at].members if said and at is not None else none),
            "by": columns.add(np.stack([_by(one, results, norm) for norm in norms]) if norms else none),
        })  # fmt: skip
    return {
        "classes": results["dataset"]["classes"], "attacks": attacks, "norms": norms,
        "budgets": [{"eps": eps, "norm": norm, "text": budget_text(eps, norm)} for eps, norm in budgets],
        "ensembles": ensembles, "left_out": left_out, "data": columns.text(),
    }  # fmt: skip


def _by(one: SampleOutcomes, results: Results, norm: str) -> Array:
    """Return which run broke each sample first, as a page has it."""
    runs = runs_of(results, one.ensemble)
    _, by = smallest(one, runs, norm)
    return np.select([by == UNBROKEN, by == AT_ONCE], [len(runs), len(runs) + 1], by)


def _size(one: SampleOutcomes) -> int:
    """Return about how many bytes the columns of an ensemble take."""
    members = len(one.answers[0].members) if one.answers else 0
    width = one.answers[0].fused.itemsize if one.answers else 1
    return len(one.ids) * ((1 + len(one.attacked)) * (1 + width) + 2 * width * members + 8)


class _Columns:
    """Arrays put one behind the other, equal ones once."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self.known: dict[bytes, list[Any]] = {}

    def add(self, values: Sequence[Any] | Array) -> list[Any]:
        """Add an array; return where a page finds it."""
        array = small(np.asarray(values).ravel())
        kind = KINDS.get(f"{array.dtype.kind}{array.dtype.itemsize}", "f8")
        content = array.astype(f"<{kind}").tobytes()
        key = kind.encode() + content
        if key not in self.known:
            fill = -self.size % 8
            self.parts += [bytes(fill), content]
            self.known[key] = [kind, self.size + fill, len(array)]
            self.size += fill + len(content)
        return self.known[key]

    def text(self) -> str:
        return base64.b64encode(zlib.compress(b"".join(self.parts))).decode()
