"""A mutant put in place of functions that are imported already: the code of the living ones is replaced."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType

from mutating import Mutant

CLASS_BODY = "__module__"  # among the names that the code of a class body stores
Key = tuple[str, int, str]


def key(code: CodeType) -> Key:
    """Return what tells a function of one file from every other: file, first line, name."""
    return code.co_filename, code.co_firstlineno, code.co_name


def living(folder: Path) -> dict[Key, list[FunctionType]]:
    """Return every function of the files below a folder that there is, by its key."""
    gc.unfreeze()
    found: dict[Key, list[FunctionType]] = {}
    for one in gc.get_objects():
        if type(one) is FunctionType and one.__code__.co_filename.startswith(str(folder)):
            found.setdefault(key(one.__code__), []).append(one)
    gc.freeze()  # no search for garbage in a child looks at, and so copies, what it has from here
    return found


def inner(code: CodeType) -> list[CodeType]:
    """Return the code of what is defined directly within."""
    return [one for one in code.co_consts if isinstance(one, CodeType)]


def own(code: CodeType) -> tuple[object, ...]:
    """Return all that a code does by itself, without what is defined within."""
    constants = [(type(one), repr(one)) for one in code.co_consts if not isinstance(one, CodeType)]
    return code.co_code, code.co_names, code.co_varnames, code.co_freevars, constants, len(inner(code))


def replaced(before: CodeType, after: CodeType, function: bool) -> Iterator[tuple[CodeType, CodeType]]:
    """Yield pairs of a function's code, before and after, that differ.

    Raises
    ------
    ValueError
        Where something else than a function differs: what is run at import cannot be replaced.
    """
    if own(before) != own(after):
        if not function:
            raise ValueError("it is run at import")
        yield before, after
        if len(inner(before)) != len(inner(after)):
            return
    for one, two in zip(inner(before), inner(after), strict=True):
        is_function = not (CLASS_BODY in one.co_names and not function)
        for pair in replaced(one, two, is_function):
            yield pair
            if is_function and function:  # what holds it makes it anew, too
                yield before, after


def swap(mutant: Mutant, functions: dict[Key, list[FunctionType]]) -> bool:
    """Put a mutant in place; return whether that can be done: not where it is run at import, or nothing lives."""
    path = str(mutant.path)
    before = compile(mutant.path.read_text("utf-8"), path, "exec", dont_inherit=True)
    after = compile(mutant.text, path, "exec", dont_inherit=True)
    try:
        pairs = dict.fromkeys(replaced(before, after, False))
        alive = [(one, two) for old, two in pairs for one in functions.get(key(old), ())]
        for function, code in alive:
            function.__code__ = code
    except ValueError:  # of import, or of other free variables
        return False
    return bool(alive)
