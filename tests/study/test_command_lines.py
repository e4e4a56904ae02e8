"""The command line of a configuration makes that configuration, and what an advice adds to it can be run."""

from __future__ import annotations

import inspect
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any, get_origin

import pytest
from cyclopts import Group
from in_process import parsed

from robustkit.attacks import spec
from robustkit.base.configuration import options_of
from robustkit.commands.options import _parameter
from robustkit.pipeline import request
from robustkit.pipeline.evaluate import _commands
from robustkit.study.config import AuditConfig, CorruptConfig, EvaluateConfig, ReproduceConfig, TrainConfig
from robustkit.trust import Scored
from robustkit.trust._evidence import Evidence

EVALUATIONS = {
    "plain": EvaluateConfig(),
    "lists": EvaluateConfig(attacks="pgd,mim,cw", eps=[0.01, 0.02], dataset="digits", suites=["attacks", "transfer"]),
    "lists of words": EvaluateConfig(attacks=["pgd", "apgd-ce"], eps="4/255,8/255", defense=["adp", "gncl"]),
    "spaces": EvaluateConfig(checkpoint=Path("my models/the best one"), out=Path("a folder/of results"), n=32),
    "quotes": EvaluateConfig(checkpoint="it's $HOME; rm \"x\"", out="out"),
    "switches": EvaluateConfig(reference=False, baseline=False, keep_examples=False),
    "settings": EvaluateConfig(attacks="pgd", settings=["pgd.steps=50", "pgd.loss=dlr", "train.lr=0.001"]),
    "mapping": EvaluateConfig(attacks="square", settings=["square.queries=100"], seed=7, eot=3),
    "off": EvaluateConfig(trust="off", attacks="fgsm"),
    "full": EvaluateConfig(trust="full", escalate=True, escalate_budget=2000.0, batch_size=16, workers=2, speed="off"),
    "checkpoints": EvaluateConfig(checkpoint=["one", "the other"], fusion="majority"),
    "pool": EvaluateConfig(pool=[Path("a b"), Path("c")], subset_size=2),
    "norm": EvaluateConfig(norm="l2", eps="0.5,1.0", attacks="pgd,cw", target="least-likely"),
    "preset": EvaluateConfig(preset="adp-table2", dataset="cifar10"),
    "backend": EvaluateConfig(backend="torchattacks", attacks="PGD"),
    "formats": EvaluateConfig(formats="csv,html", device="cpu", members=2, epochs=3, arch="lenet"),
    "imagefolder": EvaluateConfig(dataset="imagefolder:/data/my pictures", n=5),
    "audit": AuditConfig(models=["net.py:load"], dataset="npz:/tmp/x y.npz", n=100),
    "audit of several": AuditConfig(
        models=["a.pt", "b two.pt"], dataset="digits", suites="all", reference=False, attacks="pgd"
    ),
}  # fmt: skip
OTHERS: dict[str, Any] = {
    "train": TrainConfig(defense="gncl", members=4, epochs=2, settings=["gncl.alpha=0.5"], out="x y"),
    "corrupt": CorruptConfig("digits", "a copy", suites="cifar-c"),
    "reproduce": ReproduceConfig("adp-table2", dataset="digits", stands_for="mnist", n=2),
}


def same(a: Any, b: Any) -> bool:
    """Equal but for how a list and a path are written: ``pgd,mim`` is ``["pgd", "mim"]``, two folders are no word."""

    def plain(value: Any, repeatable: bool) -> Any:
        if repeatable and value is not None:
            return list(map(str, value)) if isinstance(value, list | tuple) else [str(value)]
        if isinstance(value, list | tuple):
            return ",".join(map(str, value))
        return str(value) if isinstance(value, Path) else value

    stated = [field for field in options_of(type(b)) if not field.option.python]
    repeatable = {field.name: get_origin(field.read) is list for field in stated}
    return isinstance(a, type(b)) and all(
        plain(getattr(a, name), several) == plain(getattr(b, name), several) for name, several in repeatable.items()
    )


@pytest.mark.parametrize("name", [*EVALUATIONS, *OTHERS])
def test_a_command_line_makes_the_configuration_again(name: str):
    config = {**EVALUATIONS, **OTHERS}[name]
    word = type(config).__name__.removesuffix("Config").lower()
    line = config.command(word)
    assert line.startswith(f"robustkit {word}")
    again = parsed(line)
    assert same(again, config), line
    assert again.command(word) == line


def test_what_is_at_its_default_is_not_said():
    assert EvaluateConfig().command("evaluate") == "robustkit evaluate"
    assert EvaluateConfig(seed=0, trust="quick").command("evaluate") == "robustkit evaluate"
    config = EvaluateConfig(attacks="pgd", n=3, out="my results")
    assert config.command("evaluate", without=("attacks", "n")) == "robustkit evaluate --out 'my results'"


def test_what_only_python_can_hold_is_an_ellipsis():
    line = AuditConfig(models=[lambda x: x], dataset="digits", n=3).command("audit")
    assert "..." in line
    assert "'...'" not in line
    assert "lambda" not in line


@pytest.mark.parametrize("name", EVALUATIONS)
def test_command_and_attacks_together_are_the_whole_command(name: str):
    config = EVALUATIONS[name]
    command, given = _commands(config)
    whole = parsed(f"{command} {given}")
    expected = replace(config, escalate=False, escalate_budget=EvaluateConfig().escalate_budget)
    said, wanted = (set(c.settings or ()) for c in (whole, expected))
    assert {s.split("=")[0] for s in said} == {s.split("=")[0] for s in wanted}
    trust = "quick" if config.trust == "off" else config.trust
    assert same(replace(whole, settings=None), replace(expected, settings=None, trust=trust))
    assert not {"--attacks", "--preset", "--backend", "--escalate"} & set(shlex.split(command))


RUNNABLE = sorted(
    set(EVALUATIONS)
    - {"backend", "imagefolder", "spaces", "quotes", "checkpoints", "pool", "audit", "audit of several"}  # of no file
)


@pytest.mark.parametrize("name", RUNNABLE)
def test_what_an_advice_says_can_be_run(name: str):
    """One with the attacks that are advised; and of a worst case the same command, escalating."""
    config = EVALUATIONS[name]
    command, given = _commands(config)
    common = {"siblings": (), "eps": 0.1, "norm": "linf", "command": command, "given": given}
    worst = parsed(Evidence(None, **common).advised(spec("quorum")))
    assert worst.escalate
    request.check(worst)
    one = parsed(Evidence(Scored(None, 0.1), **common).advised(spec("quorum", restarts=16), spec("mora")))
    assert (one.attacks, one.escalate) == ("quorum,mora", False)
    assert "quorum.restarts=16" in one.settings
    request.check(one)
    if config.eot > 1:  # what is averaged already is not advised to be
        return
    draws = parsed(Evidence(Scored(None, 0.1), **common).advised(spec("quorum", restarts=4, eot=20)))
    assert draws.eot == 20
    request.check(draws)


@pytest.mark.parametrize("config", [EvaluateConfig, AuditConfig, TrainConfig, ReproduceConfig, CorruptConfig])
def test_defaults_are_of_the_type_that_is_read(config: type):
    """Cyclopts holds them against it, too, wherever pydantic is loaded in the process, by Ray, say."""
    for field in options_of(config):
        if not field.option.python and field.read is str:
            groups = {field.group: Group(field.group)}
            default = _parameter(field, inspect.Parameter.KEYWORD_ONLY, groups).default
            assert isinstance(default, str | None) or default is inspect.Parameter.empty, field.name
