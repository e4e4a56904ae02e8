"""What differs between stored evaluations beside their models: versions, data, attacks, settings, machines."""

from __future__ import annotations

from collections.abc import Sequence

from robustkit.base.options import budget_text
from robustkit.comparison.reading import StoredEvaluation
from robustkit.records.cells import Spec
from robustkit.reports import _format as f
from robustkit.reports._table import Table, cells

NAME = "differences-of-set-up"


def facts(evaluation: StoredEvaluation) -> dict[str, str]:
    """Return what an evaluation was, in words, by topic."""
    numbers, study = evaluation.numbers, evaluation.study
    data, environment = numbers["dataset"], numbers["environment"]
    followed = dict.fromkeys(spec_text(more.attack) for more in study.follow_ups)
    attacks = [spec_text(spec) for spec in study.attacks] if "attacks" in study.suites else []
    return {
        "robustkit": numbers["robustkit_version"],
        "data": f"{data['name']}, {data['split']}, n = {data['n']}, sha256 {data['sha256'][:12]}",
        "image size": data.get("image_size", "") or "as it is",
        "attacks": "; ".join(attacks) or "none",
        "followed on doubt": "; ".join(followed) or "nothing",
        "reference attack": "on" if study.reference else "off",
        "eps": ", ".join(budget_text(eps, norm) for norm, every in study.threats.items() for eps in every),
        "target": study.target or "none",
        "passes averaged (eot)": str(study.eot),
        "trust checks": study.trust,
        "seed": str(study.seed),
        "ensembles": "; ".join(f"{e.id}: {e.members} of {'+'.join(dict.fromkeys(e.arch))}" for e in study.ensembles),
        "fusion": ", ".join(dict.fromkeys(e.fusion for e in study.ensembles)),
        "weights": "; ".join(f"{e.id}: {e.weights_sha256[:12]}" for e in study.ensembles),
        **{f"machine: {key}": f.plain(environment[key]) for key in environment},
    }


def spec_text(spec: Spec) -> str:
    """Return an attack with its settings in one line."""
    return f"{spec.name} ({f.settings_text(dict(spec.params))})" if spec.params else spec.name


def table(evaluations: Sequence[StoredEvaluation]) -> Table:
    """Return what differs, a row a topic and a column an evaluation; the note says what is the same."""
    found = {evaluation.name: facts(evaluation) for evaluation in evaluations}
    topics = list(dict.fromkeys(topic for said in found.values() for topic in said))
    said = {topic: [own.get(topic, f.NONE) for own in found.values()] for topic in topics}
    differ = [topic for topic in topics if len(set(said[topic])) > 1]
    same = ", ".join(topic for topic in topics if topic not in differ)
    rows = [cells(topic, *said[topic]) for topic in differ]
    records = [dict(zip(("topic", *found), (topic, *said[topic]), strict=True)) for topic in topics]
    note = f"The same in all: {same}."
    return Table(NAME, "What differs", ["what", *found], "l" * (1 + len(found)), rows, note, records=records)
