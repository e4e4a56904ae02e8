"""A pool of members in a report: gains of its subsets, what they go with, the best of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from robustkit.records.schema import Results
from robustkit.records.schema_members import PoolResult, PoolRule, PoolSet
from robustkit.reports import _format as f
from robustkit.reports import _pool_scatter
from robustkit.reports._drawing import Drawing
from robustkit.reports._table import Table, cells

BEST = 10  # subsets of a validation set that are shown
BY = "mean-prob"  # whose accuracy says which are the best
SHOWN = ("label_disagreement", "attribution_variance_normalised", "member_accuracy")  # as in the paper's Figure 7


def tables(results: Results) -> Iterator[Table]:
    """Yield gains by validation set and fusion rule, their correlations with each measure, and the best subsets."""
    for pool in results["pools"]:
        yield summary(pool)
        yield correlations(pool)
        yield best(pool)
        yield members(pool)


def summary(pool: PoolResult) -> Table:
    """Return a row for each validation set and fusion rule; the records have one for each subset."""
    rows = []
    for one in pool["sets"]:
        mean = [v for v in one["measures"]["member_accuracy"] if v is not None]
        for rule in one["rules"]:
            at = max(range(len(rule["accuracy"])), key=rule["accuracy"].__getitem__)
            rows.append(cells(
                one["name"], rule["rule"], f.percent(sum(mean) / len(mean)), f.percent(max(one["member_accuracy"])),
                f.percent(sum(rule["accuracy"]) / len(rule["accuracy"])), f.percent(rule["accuracy"][at]),
                f.points(rule["mean_gain"]), f.percent(rule["gained"]),
                *(_number(_pearson(one, rule["rule"], measure)) for measure in SHOWN),
            ))  # fmt: skip
    columns = [
        "validation set", "consensus", "members %", "best member %", "subsets %", "best subset %", "gain", "gain > 0 %",
        *(f"r, {measure.replace('_', ' ')}" for measure in SHOWN),
    ]  # fmt: skip
    count, size = len(pool["subsets"]), pool["subset_size"]
    title = f"Pool of {len(pool['members'])} members: {count} subset{'s' * (count != 1)} of {size}"
    note = (
        "Gain: accuracy of a subset minus that of its best member, in points, mean over subsets; r: its Pearson "
        "correlation with a measure over the subsets. The best member is that of the whole pool."
    )
    strengths = ["Corruptions are at the middle one of their severities."] if len(pool["sets"]) > 1 else []
    note = " ".join([note, *strengths, *_left_out(pool), *pool["notes"]])
    return Table("pools", title, columns, "ll" + "r" * (len(columns) - 2), rows, note, 2, True, records(pool))


def correlations(pool: PoolResult) -> Table:
    """Return a row for each validation set and measure: correlations of the gain under every fusion rule."""
    rows = []
    for one in pool["sets"]:
        found = {(c["measure"], c["rule"]): c for c in one["correlations"]}
        rules = [rule["rule"] for rule in one["rules"]]
        for measure in one["measures"]:
            pairs = [found[measure, rule] for rule in rules]
            texts = [f"{_number(c['pearson'])} / {_number(c['spearman'])}" for c in pairs]
            rows.append(cells(one["name"], measure.replace("_", " "), *texts))
    columns = ["validation set", "measure", *(rule["rule"] for rule in pool["sets"][0]["rules"])]
    note = (
        "Pearson / Spearman correlation of the gain over the best member with each measure, over the subsets. Subsets "
        "share members: they are not independent, and no significance follows from their number."
    )
    long = [{"set": one["name"], **c} for one in pool["sets"] for c in one["correlations"]]
    align = "ll" + "r" * (len(columns) - 2)
    return Table("pools-correlation", "Gain and diversity", columns, align, rows, note, 2, True, long)


def best(pool: PoolResult) -> Table:
    """Return the most accurate subsets on each validation set."""
    rows = []
    for one in pool["sets"]:
        rules = {rule["rule"]: rule for rule in one["rules"]}
        order = sorted(range(len(pool["subsets"])), key=lambda at: -rules[BY]["accuracy"][at])
        for at in order[:BEST]:
            shares = [_share(rules[rule], at) for rule in (BY, "mean-logit", "majority")]
            measures = [f.number(one["measures"][measure][at]) for measure in SHOWN[:2]]
            own = [f.percent(one["best_member"][at]), f.percent(one["measures"]["member_accuracy"][at] or 0.0)]
            rows.append(cells(one["name"], _subset(pool, at), *shares, *own, *measures))
    columns = [
        "validation set", "members", "mean-prob % (gain)", "mean-logit % (gain)", "majority % (gain)",
        "its best member %", "its members %", *(measure.replace("_", " ") for measure in SHOWN[:2]),
    ]  # fmt: skip
    note = f"The {BEST} most accurate with {BY} on each set; gain in points. They were chosen on the samples they show."
    align = "ll" + "r" * (len(columns) - 2)
    return Table("pools-best", "Best subsets", columns, align, rows, note, 2, True)


def members(pool: PoolResult) -> Table:
    """Return the pool's members with their accuracy on each validation set."""
    rows = []
    for at, member in enumerate(pool["members"]):
        own = [f.percent(one["member_accuracy"][at]) for one in pool["sets"]]
        rows.append(cells(member["id"], member["arch"], f"{member['parameters']:,}", *own))
    columns = ["member", "arch", "parameters", *(f"{one['name']} %" for one in pool["sets"])]
    return Table("pools-members", "Members of the pool", columns, "ll" + "r" * (len(columns) - 2), rows)


def records(pool: PoolResult) -> list[dict[str, Any]]:
    """Return one record per validation set and subset."""
    return [
        {"set": one["name"], "subset": _subset(pool, at), "best_member": one["best_member"][at],
         **{f"accuracy_{rule['rule']}": rule["accuracy"][at] for rule in one["rules"]},
         **{f"gain_{rule['rule']}": rule["gain"][at] for rule in one["rules"]},
         **{name: values[at] for name, values in one["measures"].items()}}
        for one in pool["sets"] for at in range(len(pool["subsets"]))
    ]  # fmt: skip


def drawings(results: Results) -> Iterator[Drawing]:
    """Yield a figure for each validation set: gain against every measure."""
    for pool in results["pools"]:
        for one in pool["sets"]:
            alt = f"{one['name']}: gain of a subset over its best member against each measure of diversity."
            yield Drawing(f.slug("pools", one["name"]), alt, _pool_scatter.scatter(one), "pools")


def _left_out(pool: PoolResult) -> Iterator[str]:
    for one in pool["sets"]:
        if one["left_out"]:
            yield f"{one['name']}: {one['left_out']} samples left out, on which a member's output is not finite."


def _subset(pool: PoolResult, at: int) -> str:
    return " + ".join(pool["members"][member]["id"] for member in pool["subsets"][at])


def _share(rule: PoolRule, at: int) -> str:
    return f"{f.percent(rule['accuracy'][at])} ({f.points(rule['gain'][at])})"


def _pearson(one: PoolSet, rule: str, measure: str) -> float | None:
    return next(c["pearson"] for c in one["correlations"] if (c["rule"], c["measure"]) == (rule, measure))


def _number(value: float | None) -> str:
    return f.NONE if value is None else f"{value:+.2f}"
