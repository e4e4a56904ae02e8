"""Which output of a model stands for which class of the data, where their orders differ: read, completed, explained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from robustkit.base.errors import UserError

AUTO = "auto"  # rather than a file: what is found is applied
WANTED = (
    "write for each class of the data the number of its output, one a line, or the names of the model's outputs in "
    "their order"
)


def read(source: str | Path, classes: Sequence[str]) -> tuple[int, ...]:
    """Return the output of each class (L,), read from a file; the empty tuple of ``auto``.

    The file holds numbers of outputs, for label 0 first, or the names of all outputs, for output 0 first: a line each,
    or one JSON list.

    Raises
    ------
    UserError
        If the file cannot be read, has no output for a class, or the same for two.
    """
    if str(source) == AUTO:
        return ()
    file = Path(source).expanduser()
    try:
        text = file.read_text("utf-8")
        held = json.loads(text) if text.lstrip().startswith("[") else text.splitlines()
    except (OSError, ValueError) as error:
        why = "does not exist" if not file.exists() else f"cannot be read ({type(error).__name__})"
        raise UserError(f"class order file '{file}' {why}; {WANTED}, or say auto.") from None
    entries = [str(one).strip() for one in held if str(one).strip()]
    if entries and all(one.isdecimal() for one in entries):
        order = tuple(map(int, entries))
        if len(order) != len(classes):
            raise UserError(f"class order file '{file}' has {len(order)} numbers for {len(classes)} classes; {WANTED}.")
    else:
        if lacking := [name for name in classes if name not in entries]:
            raise UserError(f"class order file '{file}' does not name the class '{lacking[0]}'; {WANTED}.")
        order = tuple(entries.index(name) for name in classes)
        entries = [one for one in entries if one in classes]
    if len(set(entries)) != len(entries):
        twice = next(one for one in entries if entries.count(one) > 1)
        raise UserError(f"class order file '{file}' has '{twice}' twice; {WANTED}.")
    return order


def whole(renaming: Sequence[int], classes: int, outputs: int) -> tuple[int, ...]:
    """Return a renaming of the first labels completed to all classes: a further one keeps its output, if it is free."""
    order, left = list(renaming[:classes]), [one for one in range(outputs) if one not in set(renaming[:classes])]
    for label in range(len(order), classes):
        order.append(label if label in left else left[0])
        left.remove(order[-1])
    return tuple(order)


def cause(renaming: Sequence[int], labels: Sequence[int], classes: Sequence[str] = ()) -> str:
    """Return the likely cause of a renaming, judged by the labels that occur; empty, where none is known."""
    seen = sorted(set(labels))
    if all(renaming[label] == label - 1 for label in seen):
        return "the labels seem to count from 1"
    if classes and all(name.isdecimal() for name in classes):
        numeric = sorted(classes, key=int)
        if [*classes] != numeric and all(renaming[label] == numeric.index(classes[label]) for label in seen):
            shown = ", ".join(classes[:3])
            return f"the folders are numbers, read in alphabetical order ({shown}, ...), the outputs in numeric order"
    moved = [label for label in seen if renaming[label] != label]
    if moved and all(renaming[label] == label + (label >= moved[0]) for label in seen):
        return f"the data seem to lack the class of output {moved[0]}, so that all labels after it are one too low"
    return ""
