"""``robustkit cache``. Never imports torch."""

from __future__ import annotations

from rich.console import Console
from rich.prompt import Confirm
from rich.table import Table

from robustkit.base import cache as store
from robustkit.base.errors import UserError
from robustkit.base.lines import spoken
from robustkit.base.paths import cache_dir
from robustkit.study.config import CacheConfig

DAY = 86400.0


def cache(config: CacheConfig) -> None:
    """Show where the cache lies, how large it is and what is in it, or clear it: all, or what is old.

    Example: robustkit cache --clear --older-than 30d
    """
    kinds = store.kinds_of(config.kind)
    oldest = store.seconds(config.older_than) if config.older_than is not None else 0.0
    found = store.entries(kinds, oldest)
    console = Console()
    print(f"cache: {cache_dir()}")
    console.print(_table(kinds, found))
    if others := store.unknown():
        console.print(
            f"Not known to be robustkit's, and left alone: {', '.join(others)}.", highlight=False, markup=False
        )
    if not config.clear or not found:
        return
    total = f"{len(found)} entries, {size(sum(one.size for one in found))}"
    if console.is_terminal and not config.yes and not Confirm.ask(f"Delete {total}?", console=console, default=False):
        print("nothing was deleted")
        return
    try:
        for one in found:
            one.remove()
    except OSError as error:
        # Cause: a file belongs to another user, or the disk is read-only.
        raise UserError(f"cannot delete '{error.filename}' ({error.strerror}); delete it by hand.") from None
    print(f"deleted: {total}")


def _table(kinds: tuple[str, ...], found: list[store.Entry]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading, justify in (("kind", "left"), ("entries", "right"), ("size", "right"), ("age", "right"), ("", "left")):
        table.add_column(heading, justify=justify, no_wrap=heading != "")  # type: ignore[arg-type]
    for kind in kinds:
        own = [one for one in found if one.kind == kind]
        ages = [one.age for one in own]
        between = "" if not own else f"{age(min(ages))} to {age(max(ages))}" if len(own) > 1 else age(ages[0])
        table.add_row(kind, str(len(own)), size(sum(one.size for one in own)), between, store.KINDS[kind])
    table.add_row("all", str(len(found)), size(sum(one.size for one in found)), "", "")
    return table


def size(number: float) -> str:
    """Return a number of bytes as people read it: ``12.3 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"


def age(seconds: float) -> str:
    """Return an age as people say it, in days from the second day on."""
    return f"{seconds / DAY:.0f} d" if seconds >= 2 * DAY else spoken(max(0.0, seconds))
