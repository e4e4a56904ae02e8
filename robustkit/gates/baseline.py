"""What an earlier evaluation got right on each image, in one small file, and whether a number fell since."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustkit.base.errors import UserError
from robustkit.base.files import write_json
from robustkit.base.options import budget_text
from robustkit.comparison.differing import spec_text
from robustkit.comparison.reading import StoredEvaluation
from robustkit.gates.judging import Gate
from robustkit.pipeline.outcomes import adjust, compared
from robustkit.records.outcomes import Doubles, SampleOutcomes
from robustkit.records.schema_comparison import Comparison
from robustkit.reports import _comparisons
from robustkit.reports import _format as f

VERSION = 1
LEVEL = 0.05
Key = tuple[str, str, float | None, str]  # ensemble, clean or worst_case, eps, norm


@dataclass(frozen=True)
class Baseline:
    """How likely each sample was right, (N,), by number; the data, the attacks and the version behind it."""

    path: Path
    version: str
    dataset: Mapping[str, Any]
    attacks: tuple[str, ...]
    right: Mapping[Key, Doubles]


def write(path: Path, evaluation: StoredEvaluation) -> Path:
    """Write the clean and worst-case outcomes of an evaluation on each sample."""
    numbers = [
        {"ensemble": id, "number": number, "eps": eps, "norm": norm, "accuracy": float(right.mean()),
         "right": _packed(right)}
        for (id, number, eps, norm), right in _numbers(evaluation.outcomes)
    ]  # fmt: skip
    data = evaluation.numbers["dataset"]
    kept = {"name": data["name"], "split": data["split"], "n": data["n"], "sha256": data["sha256"]}
    value = {
        "baseline_version": VERSION, "robustkit_version": evaluation.numbers["robustkit_version"], "dataset": kept,
        "attacks": _attacks(evaluation), "numbers": numbers,
    }  # fmt: skip
    write_json(path, value)
    return path


def read(path: Path | str) -> Baseline:
    """Read what :func:`write` wrote; a :class:`UserError` says what is wrong with another file."""
    try:
        value = json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise UserError(
            f"cannot read baseline '{path}' ({error.strerror}); make it with `robustkit check OUT --write-baseline "
            "FILE`."
        ) from None
    except ValueError as error:
        raise UserError(f"'{path}' is not a baseline: {error}; make it with --write-baseline.") from None
    version = value.get("baseline_version") if isinstance(value, dict) else None
    if version is None:
        raise UserError(f"'{path}' is not a baseline: it has no baseline_version; make it with --write-baseline.")
    if version != VERSION:
        raise UserError(
            f"'{path}' has baseline_version {version}; this robustkit reads {VERSION}: make it again with "
            "--write-baseline."
        )
    try:
        right = {(r["ensemble"], r["number"], r["eps"], r["norm"]): _unpacked(r["right"]) for r in value["numbers"]}
        data = value["dataset"]
        if any(len(samples) != data["n"] for samples in right.values()):
            raise ValueError("it has not as many outcomes as samples")
        return Baseline(Path(path), value["robustkit_version"], data, tuple(value["attacks"]), right)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"'{path}' is not a baseline: {error!r}; make it with --write-baseline.") from None


def gates(baseline: Baseline, evaluation: StoredEvaluation) -> tuple[list[Gate], tuple[str, ...]]:
    """Return a gate for each number of the baseline, and what else is not as it was.

    A number fell where it is lower, and McNemar's test, with all numbers in mind by Holm, is below 5 %.

    Raises
    ------
    UserError
        If the images are others, or a number of the baseline is not there.
    """
    data, then = evaluation.numbers["dataset"], baseline.dataset
    if data["sha256"] != then["sha256"]:
        raise UserError(
            f"baseline '{baseline.path}' is of other test images ({then['name']}, n = {then['n']}) than these results "
            f"({data['name']}, n = {data['n']}); evaluate on the same, or write a new one with --write-baseline."
        )
    now = dict(_numbers(evaluation.outcomes))
    renamed = _renamed(baseline, now)
    rows: list[Comparison] = []
    for (id, number, eps, norm), before in baseline.right.items():
        key = (renamed.get(id, id), number, eps, norm)
        if key not in now:
            there = dict.fromkeys(_named(k) for k in now if k[1] == number)
            raise UserError(
                f"baseline '{baseline.path}' has {_named((id, number, eps, norm))}, which was not run; there is "
                f"{', '.join(there) or 'none'}: run the same, or write a new one with --write-baseline."
            )
        rows.append(compared(key[0], now[key], "baseline", before, number, eps, norm))
    adjust(rows)
    return [_gate(row) for row in rows], tuple(_notes(baseline, evaluation))


def _gate(row: Comparison) -> Gate:
    fell = row["difference"] < 0 and row["p_holm"] < LEVEL
    what = _comparisons.NUMBERS[row["number"]]
    if row["eps"] is not None:
        what += f" at {budget_text(row['eps'], row['norm'])}"
    low, high = (f.points(end) for end in row["ci95"])
    p = _comparisons.p_said(row)
    change = f"{'fell' if row['difference'] < 0 else 'rose'} by {100 * abs(row['difference']):.1f} points"
    said = (
        f"{row['ensemble']}: {what} {change if row['difference'] else 'is the same'} "
        f"({f.percent(row['reference_accuracy'])} to {f.percent(row['accuracy'])} %, [{low}, {high}], {p})"
    )
    return Gate("baseline", "no fall since the baseline", row["ensemble"], what, not fell, said)


def _notes(baseline: Baseline, evaluation: StoredEvaluation) -> Iterator[str]:
    attacks, version = _attacks(evaluation), evaluation.numbers["robustkit_version"]
    gone, new = [a for a in baseline.attacks if a not in attacks], [a for a in attacks if a not in baseline.attacks]
    if gone or new:
        said = [f"{word} {'; '.join(names)}" for word, names in (("without", gone), ("with", new)) if names]
        yield f"The attacks are not those of the baseline: now {', '.join(said)}."
    if version != baseline.version:
        yield f"The baseline is of robustkit {baseline.version}, these results are of {version}."


def _renamed(baseline: Baseline, now: Mapping[Key, Doubles]) -> dict[str, str]:
    """Return the new name of a model that was the only one and is the only one still."""
    before, after = {key[0] for key in baseline.right}, {key[0] for key in now}
    return {before.pop(): after.pop()} if len(before) == len(after) == 1 else {}


def _numbers(outcomes: Mapping[str, SampleOutcomes]) -> Iterator[tuple[Key, Doubles]]:
    for id, own in outcomes.items():
        yield (id, "clean", None, ""), own.clean
        for (norm, eps), right in own.worst.items():
            yield (id, "worst_case", eps, norm), right


def _attacks(evaluation: StoredEvaluation) -> list[str]:
    study = evaluation.study
    named = [spec_text(spec) for spec in study.attacks] if "attacks" in study.suites else []
    followed = (spec_text(more.attack) for more in study.follow_ups)
    return list(dict.fromkeys([*named, *followed, *(["the reference"] if study.reference and named else [])]))


def _named(key: Key) -> str:
    return f"'{key[0]}' " + ("on clean images" if key[2] is None else f"at {budget_text(key[2], key[3])}")


def _packed(right: Doubles) -> str | list[float]:
    """Return outcomes as a digit a sample, or, where answers are drawn, as chances."""
    if np.isin(right, (0, 1)).all():
        return "".join("1" if one else "0" for one in right)
    return [round(float(one), 7) for one in right]


def _unpacked(value: str | list[float]) -> Doubles:
    return np.array([float(one) for one in value], np.float64)
