"""``robustkit list``: tables made from the registries. Never imports torch."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from robustkit.attacks import OWN_OPTION, attack
from robustkit.base.errors import unknown
from robustkit.base.registry import REQUIRED, Entry, Registry
from robustkit.corruptions import corruption
from robustkit.data import dataset
from robustkit.defenses import defense
from robustkit.models import model
from robustkit.ood import ood_set
from robustkit.reports import report
from robustkit.reproduce import reproduction
from robustkit.search import method
from robustkit.training import spec as trainspec
from robustkit.training.recipes import RECIPES
from robustkit.trust import check

INTERNAL = ("chances", "check", "companion", "fresh", "paper_own")  # between a method and what runs it
REGISTRIES: dict[str, Registry] = {
    "attacks": attack,
    "corruptions": corruption,
    "defenses": defense,
    "models": model,
    "datasets": dataset,
    "ood-sets": ood_set,
    "reports": report,
    "checks": check,
    "reproductions": reproduction,
    "searches": method,
}


def show(name: str | None = None, console: Console | None = None) -> None:
    """Print names and what they do, of every kind; or a kind in full; or one entry.

    Raises
    ------
    UserError
        If there is neither such a kind nor such an entry; the nearest is suggested.
    """
    console = console or Console()
    if name is None:
        for kind, registry in REGISTRIES.items():
            console.print(overview(kind, registry))
        console.print("One in full: robustkit list NAME (a kind, like attacks, or an entry, like pgd).", style="dim")
    elif name in REGISTRIES:
        console.print(table(name, REGISTRIES[name]))
    else:
        for entry in entries(name):
            console.print(page(entry))


def entries(name: str) -> list[Entry]:
    """Return every entry of a name, whatever its kind; a :class:`UserError` suggests the nearest."""
    found = [registry.entry(name) for registry in REGISTRIES.values() if name in registry]
    if found:
        return found
    if ":" in name:  # an attack of another library
        return [attack.entry(name)]
    if "+" in name:  # a composed defence
        return [defense.entry(name)]
    raise unknown("kind", name, REGISTRIES, [entry.name for registry in REGISTRIES.values() for entry in registry])


def overview(title: str, registry: Registry) -> Table:
    """Return names and first lines of a registry, a line each."""
    rows = Table(title=title, title_justify="left", box=None, show_header=False, padding=(0, 2, 0, 0))
    rows.add_column("name", no_wrap=True, style="bold", min_width=max(len(entry.name) for entry in registry))
    rows.add_column("what it does", no_wrap=True, overflow="ellipsis")
    for entry in registry:
        rows.add_row(entry.name, escape(entry.summary))
    return rows


def page(entry: Entry) -> Table:
    """Return one entry in full: what it does, parameters with types and defaults, facts, and where it is written."""
    rows = Table(title=f"{entry.kind} {entry.name}", title_justify="left", box=None, show_header=False)
    rows.add_column("", no_wrap=True, style="dim")
    rows.add_column("", overflow="fold")
    rows.add_row("", escape(entry.summary))
    prefix = "" if "+" in entry.name else f"{entry.name}."  # the parameters of a composed one bear their part's name
    for line in parameters(entry):
        rows.add_row("--set", escape(prefix + line))
    for line in facts(entry):
        rows.add_row("", escape(line))
    if entry.module:
        rows.add_row("in", f"{entry.module}.{entry.attribute}")
    return rows


def table(title: str, registry: Registry) -> Table:
    """Return a table of a registry: name, what it does and where it comes from, parameters with types and defaults."""
    rows = Table(title=title, title_justify="left", show_lines=True)
    rows.add_column("name", no_wrap=True)
    rows.add_column("what it does", overflow="fold", ratio=3)
    rows.add_column("parameters (--set NAME.PARAMETER=VALUE)", overflow="fold", ratio=3)
    for entry in registry:
        what = "\n".join([entry.summary, *(f"[dim]{escape(line)}[/dim]" for line in facts(entry))])
        rows.add_row(entry.name, what, escape("\n".join(parameters(entry))))
    return rows


def parameters(entry: Entry) -> list[str]:
    """Return ``name: type = default`` for each parameter that ``--set`` takes."""
    if entry.kind == "corruption":  # a suite decides
        return []
    own = (
        set(OWN_OPTION)
        if entry.kind == "attack"
        else {"path", "data_dir", "download", "image_size", "channels", "classes"}
    )
    return [
        f"{p.name}: {p.annotation}" + ("" if p.default is REQUIRED else f" = {p.default}")
        for p in entry.params
        if p.name not in own
    ]


def facts(entry: Entry) -> list[str]:
    """Return ``fact: value`` for each fact of the decorator that a user has something of."""
    lines = []
    for name, value in entry.facts.items():
        if name == "paper":
            lines += [f"paper's recipe, {dataset}: {_recipe(entry, dataset)}" for dataset in RECIPES[value]]
        elif name not in INTERNAL:
            lines.append(f"{name}: {', '.join(f'{i}' for i in value) if isinstance(value, tuple) else value}")
    return lines


def _recipe(entry: Entry, dataset: str) -> str:
    fields, own = trainspec.paper(entry.name, dataset)
    return ", ".join(f"{name} {value}" for name, value in {**fields, **own}.items())


def markdown() -> str:
    """Return ``docs/methods.md``: every registered method, made from the registries."""
    lines = [
        "# Methods",
        "",
        "Made from the registries by `python -m robustkit.commands.listing > docs/methods.md`; a test checks it.",
    ]
    for title, registry in REGISTRIES.items():
        lines += [
            "",
            f"## {title.capitalize()}",
            "",
            "| name | what it does | parameters | facts |",
            "|---|---|---|---|",
        ]
        for entry in registry:
            cells = (entry.name, entry.summary, _lines(parameters(entry)), _lines(facts(entry)))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _lines(items: list[str]) -> str:
    return "<br>".join(f"`{item}`" if " = " in item else item for item in items)


if __name__ == "__main__":
    print(markdown(), end="")
