"""The answer in a few lines, for a terminal: what is left under attack, whether to believe it, what would settle it."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, cast

from rich.console import Console
from rich.text import Text

from robustkit.base.budgets import union_text
from robustkit.records.schema import ORDER, Results, UnionCase, Verdict, WorstCase
from robustkit.records.schema_members import PoolResult
from robustkit.reports import _format as f
from robustkit.reports import _suites
from robustkit.reports._checks import WORST, failing, headline_budget
from robustkit.reports._labels import baseline_of, budget, budget_text, ordered
from robustkit.reports._suite_audit import concerns
from robustkit.reports._suite_certified import headline

MOST = 11  # lines, and the path of the report after them
ELSEWHERE = "in the report and with -v"  # where a terminal has what a page has below
ROWS = 3  # ensembles in the table of worst cases
SET_UP = "sound-set-up"  # the check of what no attack can find out
MEANING: dict[Verdict, str] = {
    "trusted": "Verdict: trusted.",
    "unchecked": "Verdict: unchecked, no check has looked at it.",
    "suspect": "Verdict: suspect, the truth is probably lower.",
    "invalid": "Verdict: invalid, do not quote it.",
}


def answer(results: Results, width: int = 80) -> list[str]:
    """Return the answer, at most :data:`MOST` lines of ``width`` characters; only the words of a command are longer."""
    shown, said = _over_seeds(results)[0], [textwrap.wrap(s, width, break_on_hyphens=False) for s in sentences(results)]
    counted, command = _trust(results, width)
    trust = textwrap.wrap(counted, width)
    table = _worst_cases(shown, width)
    while len(said) > 1 and sum(map(len, said)) + len(table) + len(trust) + len(command) > MOST:
        said.pop()
    lines = sum(said, [])
    if len(lines) + len(trust) + len(command) > MOST:  # a cut command would run something else
        trust, command = [*textwrap.wrap(counted.partition(" This ")[0], width), "What would settle most: see -v."], []
    room = MOST - len(lines) - len(trust) - len(command)
    if room < len(table):  # the sentence has the number to quote
        table = table[:room] if room > 1 else []
    return [*lines, *table, *trust, *command]


def show_answer(results: Results, console: Console) -> None:
    """Print the answer alone: what is left under attack, whether to believe it, and what would settle it."""
    for line in answer(results, console.width):
        console.print(Text(line), soft_wrap=True)


def sentences(results: Results) -> list[str]:
    """Return the answer in sentences, the first of them the answer itself."""
    shown, spread = _over_seeds(results)
    said = [*_sentences(shown)]
    return [*said[:1], *spread, *said[1:]]


def _over_seeds(results: Results) -> tuple[Results, list[str]]:
    """Return results with the mean over seeds in place of each seed's ensemble, and a sentence with the deviations.

    The verdict of a mean is the worst of its seeds'; without seeds they are as they were, and there is no sentence.
    """
    rows = [row for row in results.get("over_seeds", []) if row["metric"] == "worst_case"]
    if not rows:
        return results, []
    groups = {e["id"]: e.get("group", e["id"]) for e in results["ensembles"]}
    ensembles = {group: {**e, "id": group} for e in results["ensembles"] for group in [groups[e["id"]]]}
    for row in results.get("over_seeds", []):
        if row["metric"] == "accuracy":
            ensembles[row["group"]]["accuracy"] = row["mean"]
    worst = []
    for row in rows:
        own = [w for w in results["worst_case"] if w["ensemble"] in row["ensembles"] and budget(w) == budget(row)]
        verdict = max((w["verdict"] for w in own), key=ORDER.index)
        worst.append({**own[0], "ensemble": row["group"], "robust_accuracy": row["mean"], "ci95": row["ci95"],
                      "verdict": verdict})  # fmt: skip
    corrupted: dict[tuple[str, str], list[Any]] = {}
    for c in results.get("corruptions", []):
        corrupted.setdefault((c["suite"], groups[c["ensemble"]]), []).append(c)
    corruptions = [
        {**own[0], "ensemble": group, "accuracy": sum(c["accuracy"] for c in own) / len(own)}
        for (_, group), own in corrupted.items()
    ]
    at = headline_budget(results)
    deviations = [f"{row['group']} {100 * row['std']:.1f}" for row in rows if budget(row) == at]
    seeds = len(rows[0]["seeds"])
    said = f"Means over {seeds} seeds; standard deviations there, in points: {', '.join(deviations)}."
    return cast(
        Results, {**results, "ensembles": [*ensembles.values()], "worst_case": worst, "corruptions": corruptions}
    ), [said]


def _sentences(results: Results) -> Iterator[str]:
    """Yield the result in words: under attack where something was attacked, else on clean images; then concerns."""
    data, at = results["dataset"], headline_budget(results)
    images = f"{data['n']} {data['name']} {data['split']} images"
    worst = {w["ensemble"]: w for w in results["worst_case"] if budget(w) == at}
    if at is None or not worst:
        yield f"On {images}, without an attack: {_clean(results)} right."
    else:
        yield f"{_compared(results, worst)} of {images} against the worst of all attacks at eps {budget_text(*at)}" + (
            f". {_meaning([*worst.values()])}{headline(results, *at)}"
        )
    if united := results.get("union"):
        yield _robust_to_all(united)
    if found := concerns(results):
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        yield textwrap.shorten(f"A reason to doubt every number: {found[0]}", 130, placeholder=" ...") + more
    for c in results["corruptions"][:1]:
        yield f"Under the corruptions of {c['suite']}, {c['ensemble']} keeps {f.percent(c['accuracy'])} % on average."
    for pool in results["pools"][:1]:
        yield _best_of(pool)
    if not worst and (others := [name for name in _suites.SUITES if results.get(name)]):
        yield f"Measured: {', '.join(others)}; the tables are {ELSEWHERE}."


def _meaning(worst: Sequence[WorstCase]) -> str:
    """Return what the worst of some verdicts means; of a model that was run the wrong way the truth may be higher."""
    verdict = max((w["verdict"] for w in worst), key=ORDER.index)
    doubted = {c["name"] for w in worst if w["verdict"] == verdict for c in w["checks"] if not c["passed"]}
    if verdict == "suspect" and SET_UP in doubted:
        return "Verdict: suspect, the set-up itself is in doubt."
    return MEANING[verdict]


def _robust_to_all(united: Sequence[UnionCase]) -> str:
    """Return what withstands every norm, each ensemble at the largest of the budgets that go together."""
    last = {u["ensemble"]: u for u in united}
    at = next(iter(last.values()))["budgets"]
    own = [f"{name} {f.percent(u['robust_accuracy'])} %" for name, u in last.items()]
    verdict = max((u["verdict"] for u in last.values()), key=ORDER.index)
    return f"Robust to all of {union_text(at)}: {', '.join(own)} ({verdict})."


def _best_of(pool: PoolResult) -> str:
    """Return the subset of a pool that is right most often on its first validation set, and under which rule."""
    count = len(pool["subsets"])
    text = f"Pool of {len(pool['members'])} members: {count} subset{'s' * (count != 1)} of {pool['subset_size']}"
    scores = [(max(r["accuracy"]), r) for one in pool["sets"][:1] for r in one["rules"] if r["accuracy"]]
    if not scores:
        return f"{text}."
    share, rule = max(scores, key=lambda pair: pair[0])
    best = pool["subsets"][rule["accuracy"].index(share)]
    names = ", ".join(pool["members"][at]["id"] for at in best)
    return f"{text}; most often right on {pool['sets'][0]['name']}: {names} ({rule['rule']}), {f.percent(share)} %."


def _clean(results: Results) -> str:
    """Return clean accuracies: each where they are few, else from where to where."""
    own = [(e["id"], e["accuracy"]) for e in ordered(results)]
    if 0 < len(own) <= ROWS:
        return ", ".join(f"{name} {f.percent(share)} %" for name, share in own)
    shares = [share for _, share in own] or [0.0]
    return f"{len(own)} ensembles {f.percent(min(shares))} to {f.percent(max(shares))} %"


def _compared(results: Results, worst: dict[str, WorstCase]) -> str:
    """Return what the strongest keeps, beside the baseline and what it keeps without an attack."""
    base = baseline_of(results)
    others = [name for name in worst if name != base] or list(worst)
    best = max(others, key=lambda name: worst[name]["robust_accuracy"])
    clean = {e["id"]: e["accuracy"] for e in results["ensembles"]}
    text = f"{best} keeps {f.percent(worst[best]['robust_accuracy'])} % {f.interval(worst[best]['ci95'])}"
    if base in worst and best != base:
        return f"{text}, {base} {f.percent(worst[base]['robust_accuracy'])} %,"
    return f"{text}, of {f.percent(clean[best])} % without an attack," if best in clean else text


def _worst_cases(results: Results, width: int) -> list[str]:
    """Return the worst cases as a table of few lines: the baseline and the strongest, as many budgets as there fit."""
    found = {(w["ensemble"], *budget(w)): w for w in results["worst_case"]}
    at = headline_budget(results)
    if not found or at is None:
        return []
    budgets = sorted({key[1:] for key in found}, key=lambda b: (b[1], b[0]))
    ids = _shown(results, found, at)
    name_width = min(max(map(len, [*ids, "worst case %"])), 30)
    cells = {key: f"{f.percent(w['robust_accuracy'])} {f.MARKS[w['verdict']]}" for key, w in found.items()}
    column = max(8, *(len(budget_text(*b)) for b in budgets)) + 1
    fits = max(1, (width - name_width - 2) // column)
    kept = sorted(sorted(budgets, key=lambda b: (b != at, abs(budgets.index(b) - budgets.index(at))))[:fits])
    kept.sort(key=budgets.index)
    lines = [f"{'worst case %':<{name_width}}  " + "".join(f"{budget_text(*b):<{column}}" for b in kept)]
    for one in ids:
        row = "".join(f"{cells.get((one, *b), f.NONE):<{column}}" for b in kept)
        lines.append(f"{textwrap.shorten(one, name_width, placeholder='...') or one[:name_width]:<{name_width}}  {row}")
    more = len({key[0] for key in found}) - len(ids)
    left = [f"{more} more ensemble{'s' * (more > 1)}"] * (more > 0) + [f"{len(budgets) - len(kept)} more eps"] * (
        len(budgets) > len(kept)
    )
    return [line.rstrip() for line in lines] + ([f"({' and '.join(left)} in the report and with -v)"] if left else [])


def _shown(results: Results, found: dict[tuple[str, float, str], WorstCase], at: tuple[float, str]) -> list[str]:
    """Return the ensembles of the table in their order: the baseline, and those that keep most."""
    ids = [e["id"] for e in ordered(results) if any(key[0] == e["id"] for key in found)]
    base = baseline_of(results)
    kept = {i: found[i, at[0], at[1]]["robust_accuracy"] for i in ids if (i, at[0], at[1]) in found}
    best = sorted(ids, key=lambda i: (i != base, -kept.get(i, 0.0)))
    return [i for i in ids if i in best[:ROWS]]


def _trust(results: Results, width: int) -> tuple[str, list[str]]:
    """Return :func:`settling` in short, the command in lines fit to be copied."""
    text, command = settling(results, brief=True)
    return text, broken(command, width) if command else []


def settling(results: Results, brief: bool = False) -> tuple[str, str]:
    """Return how many numbers are not trusted, and the command that would settle most of them, if there is one.

    Where there is none, the text says what most of them fail, unless it has to be ``brief``.
    """
    numbers = [*results["worst_case"], *results["evaluations"]]
    count = Counter(number["verdict"] for number in numbers)
    doubtful = len(numbers) - count["trusted"]
    if not numbers:
        return "", ""
    if not doubtful:
        return f"All {len(numbers)} numbers are trusted.", ""
    kinds = ", ".join(f"{count[v]} {v} {f.MARKS[v]}" for v in ORDER if v != "trusted" and count[v])
    text = f"{doubtful} of {len(numbers)} numbers are not trusted ({kinds})."
    command, settled = settles_most(results)
    if command:
        return f"{text} This would settle {settled}:", command
    sure = results["worst_case"] and all(w["verdict"] == "trusted" for w in results["worst_case"])
    if sure:
        return f"{text} Quote the worst case, which is.", ""
    return text if brief else text + _commonest(results), ""


def _commonest(results: Results) -> str:
    """Return what most of the doubtful worst cases fail, else most of all numbers, where no command would settle it."""
    doubts = failing(results)
    reasons = Counter((x.check, x.advice) for x in [x for x in doubts if x.attack == WORST] or doubts if x.advice)
    (check, advice), times = next(iter(reasons.most_common(1)), (("", ""), 0))
    return f" The commonest reason ({check}, {times} times): {advice}." if times else ""


def settles_most(results: Results) -> tuple[str, int]:
    """Return the command that the checks of most numbers advise, and of how many; an empty text where none does."""
    numbers = defaultdict[str, set[tuple[str, str, str]]](set)
    for x in failing(results):
        if named := re.search(r"robustkit (evaluate|audit) .*", x.advice):
            numbers[re.split(r"; |, or |, and ", named[0])[0].rstrip(" .")].add((x.ensemble, x.budget, x.attack))
    if not numbers:
        return "", 0
    command = max(numbers, key=lambda c: len(numbers[c]))
    return command, len(numbers[command])


def broken(command: str, width: int) -> list[str]:
    """Return a command in lines that a shell puts together again, none longer than ``width`` unless a word is."""
    words = [shlex.quote(word) if word != "..." else word for word in shlex.split(command)]
    pieces: list[str] = []
    for word in words:  # an option stays beside its value
        if pieces and (len(pieces) == 1 or not word.startswith("-")) and " " not in pieces[-1]:
            pieces[-1] += f" {word}"
        else:
            pieces.append(word)
    lines = [f"  {pieces[0]}"]
    for piece in pieces[1:]:
        if len(lines[-1]) + len(piece) + 3 <= width:
            lines[-1] += f" {piece}"
        else:
            lines.append(f"    {piece}")
    return [line + " \\" for line in lines[:-1]] + lines[-1:]
