"""The registry reads sources, imports late, refuses duplicates, and agrees with what an import would say."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from robustkit.base import names
from robustkit.base.errors import UserError
from robustkit.base.registry import REQUIRED, RUNTIME, Registry
from robustkit.commands.listing import REGISTRIES

ENTRIES = [(registry, entry) for registry in REGISTRIES.values() for entry in registry]


@pytest.mark.parametrize(("registry", "entry"), ENTRIES, ids=[f"{e.kind}-{e.name}" for _, e in ENTRIES])
def test_what_the_source_says_is_what_the_function_takes(registry: Registry, entry):
    function = registry.get(entry.name)
    signature = {
        p.name: REQUIRED if p.default is p.empty else p.default
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.name not in RUNTIME
    }
    assert {p.name: p.default for p in entry.params} == signature
    assert entry.summary == inspect.getdoc(function).split("\n")[0]
    assert entry.summary.endswith(".")


def test_aliases_are_what_they_stand_for():
    from robustkit.functional import losses, norms

    for alias, module in (("Loss", losses), ("Norm", norms)):
        values = typing.get_args(getattr(module, alias))
        assert names.ALIASES[alias] == f"Literal[{', '.join(repr(v) for v in values)}]"


def test_listing_and_validation_import_no_torch():
    code = (
        "import sys, robustkit, robustkit.cli, robustkit.commands.listing, robustkit.pipeline.request as r;"
        "from rich.console import Console; import io;"
        "robustkit.commands.listing.show(None, Console(file=io.StringIO()));"
        "from robustkit.study.config import EvaluateConfig;"
        "r.check(EvaluateConfig(defense='adp', attacks='pgd,mim', settings=['pgd.steps=50']));"
        "print([m for m in ('torch', 'numpy', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in out.stdout


def write_package(folder: Path, **modules: str) -> None:
    folder.mkdir()
    (folder / "__init__.py").write_text(
        f"from robustkit.base.registry import Registry\nthing = Registry('thing', '{folder.name}')\n"
    )
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(f"from {folder.name} import thing\n{source}\n")


def test_one_new_file_is_found_and_imported_only_when_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = (
        "@thing('good', size=3)\ndef good(x, *, n: int = 2, generator=None):\n"
        "    '''Do good.\n\n    More.'''\n    return x * n"
    )
    write_package(tmp_path / "things", good=source, _private="@thing('hidden')\ndef hidden(): ...", broken="1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    registry = __import__("things").thing
    assert registry.names() == ["good"]
    entry = registry.entry("good")
    assert (entry.summary, dict(entry.facts), entry.defaults()) == ("Do good.", {"size": 3}, {"n": 2})
    assert "things.good" not in sys.modules
    assert registry.get("good")(3) == 6


def test_duplicates_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_package(tmp_path / "twins", a="@thing('same')\ndef a(): ...", b="@thing('same')\ndef b(): ...")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="thing 'same' is registered twice, in twins.b too"):
        __import__("twins").thing.names()


def test_code_outside_the_package_registers_and_is_forgotten():
    attack = REGISTRIES["attacks"]

    @attack("mine", norms=("linf",))
    def mine(model, x, y, *, eps: float, boldness: int = 3):
        """Do nothing boldly."""
        return x

    try:
        assert attack.get("mine") is mine
        assert attack.entry("mine").defaults() == {"boldness": 3}
        with pytest.raises(ValueError, match="attack 'mine' is registered already"):
            attack("mine")(mine)
        with pytest.raises(ValueError, match="attack 'pgd' is registered already"):
            attack("pgd")(mine)
    finally:
        attack.remove("mine")
    with pytest.raises(UserError, match="unknown attack 'mine'.*Known: .*pgd"):
        attack.get("mine")
