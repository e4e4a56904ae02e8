"""One option, stated once: commands, functions, docstrings and pages agree, and bad values are refused."""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_process import invoke

import robustkit
from robustkit import api
from robustkit.base.configuration import json_schema, options_of
from robustkit.base.errors import UserError
from robustkit.cli import COMMANDS, app
from robustkit.corruptions import _copy
from robustkit.pipeline import request
from robustkit.reproduce import runner
from robustkit.study import schema
from robustkit.study.config import AuditConfig, EvaluateConfig, TrainConfig

ROOT = Path(__file__).parents[2]
FUNCTIONS = {
    "evaluate": api.evaluate, "audit": api.audit, "train": api.train, "report": api.report, "corrupt": _copy.corrupt,
    "reproduce": runner.reproduce, "check": api.check, "compare": api.compare,
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_command_and_configuration_agree(name: str):
    arguments = {a.parameter.name[0]: a for a in app[name].assemble_argument_collection() if a.parameter.name}
    for field in options_of(COMMANDS[name][0]):
        if field.option.positional or field.option.python:
            assert field.flag not in arguments
            continue
        assert field.option.help in arguments[field.flag].parameter.help
        assert arguments[field.flag].parameter.group[0].name == field.group


@pytest.mark.parametrize("name", FUNCTIONS)
def test_keywords_docstring_and_configuration_agree(name: str):
    function = FUNCTIONS[name]
    fields = [field for field in options_of(COMMANDS[name][0]) if not field.option.command]
    parameters = inspect.signature(function).parameters
    assert set(parameters) == {field.name for field in fields}
    doc = inspect.getdoc(function) or ""
    assert doc.count("Parameters\n----------\n") == 1
    for field in fields:
        default = parameters[field.name].default
        assert default is inspect.Parameter.empty if field.required else default == field.default
        assert parameters[field.name].annotation == field.type
        assert f"\n{field.name} : " in doc
        assert field.option.help.split()[0] in doc


def test_pages_are_current():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import make_options
    finally:
        sys.path.pop(0)
    assert (ROOT / "docs" / "options.md").read_text("utf-8") == make_options.page()
    assert (ROOT / "docs" / "options.schema.json").read_text("utf-8") == make_options.schema()
    assert schema.FILE.read_text("utf-8") == make_options.studies()


def test_schema_says_types_choices_and_bounds():
    schema = json_schema(EvaluateConfig)
    properties = schema["properties"]
    assert properties["trust"]["enum"] == ["quick", "full", "off"]
    assert (properties["n"]["type"], properties["n"]["minimum"]) == ("integer", 1)
    assert {"type": "array", "items": {"type": "string"}} in properties["attacks"]["anyOf"]
    assert properties["escalate"]["type"] == "boolean"
    assert "reporter" not in properties
    assert json.loads(json.dumps(schema)) == schema


def test_audit_takes_what_evaluate_takes_for_models_that_exist():
    shared = {field.name for field in options_of(EvaluateConfig)} & {field.name for field in options_of(AuditConfig)}
    assert shared >= {
        "eot", "escalate_budget", "backend", "preset", "targeted", "target", "reference", "batch_size", "speed",
        "keep_examples", "formats", "fusion", "image_size", "seed", "workers",
    }  # fmt: skip


def test_one_word_has_one_meaning():
    said: dict[str, set[tuple[str, Any]]] = {}
    for config, _ in COMMANDS.values():
        for field in options_of(config):
            if not field.option.python:
                said.setdefault(field.flag, set()).add((field.name, str(field.read)))
    assert {flag: names for flag, names in said.items() if len({name for name, _ in names}) > 1} == {}
    assert {"--preset", "--recipe", "--scale", "--surrogate", "--baseline"} <= set(said)
    assert "--budget" not in said


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"attackz": "pgd"}, "unknown keyword of evaluate 'attackz': did you mean 'attacks'"),
        ({"n": "12"}, "n '12' is of type str; it must be a whole number or None"),
        ({"n": True}, "n True is of type bool"),
        ({"n": 0}, "n 0 is out of range; it must be at least 1"),
        ({"eps": {"linf": 0.1}}, "eps {'linf': 0.1} is of type dict; it must be text, a number, a list of"),
        ({"attacks": 3}, "attacks 3 is of type int; it must be text, a list of text or None"),
        ({"attacks": (name for name in ("pgd",))}, "is of type generator"),
        ({"seed": -1}, "^seed -1 is out of range; it must be at least 0"),
        ({"attack_seed": -1}, "attack seed -1 is out of range; it must be at least 0"),
        ({"seed": 0.5}, "seed 0.5 is of type float; it must be a whole number"),
        ({"escalate": "yes"}, "escalate 'yes' is of type str; it must be true or false"),
        ({"norm": "l7"}, "unknown norm 'l7': did you mean 'l2'"),
        ({"trust": "fast"}, "unknown trust 'fast'"),
        ({"fusion": "mean"}, "unknown fusion rule 'mean'"),
        ({"formats": "pdf"}, "unknown report 'pdf'"),
        ({"reporter": print}, "reporter .* is of type builtin_function_or_method"),
        ({"members": 3, "checkpoint": "a"}, "--members 3 has no effect beside --checkpoint"),
        ({"epochs": 3, "pool": "a"}, "--epochs 3 has no effect beside --pool"),
        ({"defense": "adp", "checkpoint": "a"}, "--defense adp has no effect beside --checkpoint"),
        ({"arch": "lenet", "checkpoint": "a"}, "--arch lenet has no effect beside --checkpoint"),
        ({"baseline": False, "checkpoint": "a"}, "--no-baseline has no effect beside --checkpoint"),
        ({"checkpoint": "a", "pool": "b"}, "--checkpoint a has no effect beside --pool"),
        ({"subset_size": 2}, "--subset-size 2 has no effect without --pool"),
        ({"escalate_budget": 10.0}, r"--escalate-budget 10\.0 has no effect without --escalate"),
        ({"escalate": True, "trust": "off"}, "escalate needs the trust checks"),
        ({"corruption_dir": "c"}, "--corruption-dir c serves the suite corruptions, which does not run"),
        ({"frost_dir": "f", "corruptions": "cifar-c", "suites": "attacks"}, "serves the suite corruptions"),
        ({"ood": "noise", "suites": ["attacks"]}, "--ood noise serves the suite ood, which does not run"),
        ({"attacks": "pgd", "suites": "calibration"}, "--attacks pgd serves the suite attacks or"),
        ({"settings": ["train.lr=0.1"], "checkpoint": "a"}, r"--set train\.lr has no effect, because"),
        ({"eps": torch.tensor(0.1)}, "eps .* is of type Tensor; it must be text, a number, a list of"),
        ({"settings": {5: 5}}, "settings {5: 5} is of type dict"),
        ({"settings": ["pgd.steps=1", "pgd.steps=2"]}, r"--set pgd\.steps is given twice, as 1 and 2"),
        ({"out": ""}, "out is empty; give text or a path, or leave --out out"),
        ({"defense": ""}, "the list of defenses is empty"),
        ({"targeted": True, "target": 3}, "--targeted has no effect beside --target"),
        ({"checkpoint": torch.nn.Sequential(*[torch.nn.Linear(2, 2)] * 9)}, r"checkpoint Sequential.* \.\.\. is of"),
        ({"image_size": 32, "dataset": (torch.zeros(4, 1, 8, 8), torch.arange(4))}, "image size 32 cannot be set"),
        ({"dataset": 7}, "data of type int cannot be used"),
        ({"dataset": np.zeros((4, 1, 8, 8))}, "data of type ndarray cannot be used; give an .images, labels. pair"),
    ],
)  # fmt: skip
def test_evaluate_refuses_in_one_sentence(keywords: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message) as caught:
        robustkit.evaluate(**keywords)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--attackz", "pgd"], "--attackz. Did you mean --attacks?"),
        (["evaluate", "pgd"], "'pgd' belongs to no option"),
        (["evaluate", "--eps", "0.1", "0.2"], "'0.2' belongs to no option; write a list as one word, like 0.1,0.2"),
        (["evaluate", "--eps", "0.1", "--eps", "0.2"], "--eps is given twice; leave one of them out"),
        (["evaluate", "--n"], "--n requires an argument; see --help"),
        (["evaluate", "--n", "many"], "--n 'many' is not a whole number"),
        (["evaluate", "--n", "1.5"], "--n '1.5' is not a whole number"),
        (["evaluate", "--escalate", "--escalate-budget", "much"], "--escalate-budget 'much' is not a number"),
        (["reproduce", "adp-table1", "--arch", "foo"], "unknown architecture 'foo'"),
        (["evaluate", "--no-download"], "--no-download"),
        (["evaluat"], 'Did you mean "evaluate"?'),
        (["audit"], "MODELS requires an argument"),
        (["audit", "a.pt"], "--dataset requires an argument: digits, mnist, cifar10"),
        (["evaluate", "--checkpoint", "a", "--members", "3"], "--members 3 has no effect beside --checkpoint"),
        (["audit", "a.pt", "--dataset", "digits", "--escalate", "--trust", "off"], "escalate needs the trust checks"),
        (["train", "--recipe", "papr"], "unknown recipe 'papr': did you mean 'paper'"),
        (["list", "pgdd"], "unknown kind 'pgdd': did you mean 'pgd'"),
    ],
)
def test_the_command_refuses_in_one_sentence(arguments: list[str], message: str):
    code, printed, error = invoke(*arguments)
    assert (code, printed) == (2, "")
    assert message in error
    assert error.startswith("robustkit: ")
    assert error.count("\n") == 1


def test_what_is_missing_or_in_the_wrong_place_is_named():
    with pytest.raises(UserError, match="evaluate takes nothing without a keyword; name the others, like defense="):
        robustkit.evaluate("adp")
    with pytest.raises(UserError, match="audit takes only models, dataset without a keyword"):
        robustkit.audit("a.pt", "digits", "pgd")
    with pytest.raises(UserError, match="audit needs models; give models="):
        robustkit.audit()


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize("name", COMMANDS)
def test_no_name_is_cut_in_the_help(name: str, columns: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    _, printed, _ = invoke(name, "--help")
    for field in options_of(COMMANDS[name][0]):
        if not field.option.positional and not field.option.python:
            assert re.search(rf"{field.flag}(?![-\w])", printed), field.flag


def test_files_alone_have_an_architecture_to_be_named():
    with pytest.raises(UserError, match="--arch resnet20 is about files and has no effect on a model in memory"):
        robustkit.audit(torch.nn.Linear(2, 2), (torch.zeros(4, 1, 8, 8), torch.arange(4)), arch="resnet20")
    with pytest.raises(UserError, match="weights without a network"):
        robustkit.audit(torch.nn.Linear(2, 2).state_dict(), (torch.zeros(4, 1, 8, 8), torch.arange(4)))


def test_a_model_in_memory_is_audited_and_not_evaluated():
    with pytest.raises(UserError, match="checkpoint Linear.* is of type Linear"):
        robustkit.evaluate(checkpoint=torch.nn.Linear(2, 2))
    with pytest.raises(UserError, match="a model of type int cannot be used"):
        robustkit.audit([3], (torch.zeros(4, 1, 8, 8), torch.arange(4)))


def test_what_differs_from_the_default_is_what_is_asked_for():
    assert EvaluateConfig().keywords() == {}
    kinds = EvaluateConfig(n=np.int64(3), seed=np.int32(1), escalate=True, escalate_budget=np.float32(8)).keywords()
    assert {name: type(value) for name, value in kinds.items()} == {
        "n": int, "seed": int, "escalate": bool, "escalate_budget": float,
    }  # fmt: skip
    assert EvaluateConfig(n=3, baseline=False, dataset="digits").keywords() == {"n": 3, "baseline": False}
    x = torch.zeros(2, 1, 8, 8)
    assert EvaluateConfig(dataset=(x, torch.arange(2))).keywords()["dataset"][0] is x
    assert AuditConfig("a.pt", "mnist").keywords() == {"models": "a.pt", "dataset": "mnist"}


def test_a_training_takes_one_defence():
    with pytest.raises(UserError, match="train takes one defence, not 2"):
        request.check_training(TrainConfig(defense="adp,baseline"))


def test_an_editor_sees_the_signature():
    """What a type checker infers is asked of mypy by the gate; at run time it is the dataclass's."""
    assert str(inspect.signature(robustkit.audit)).startswith("(models: ")
    kinds = {name: p.kind for name, p in inspect.signature(robustkit.audit).parameters.items()}
    assert [name for name, kind in kinds.items() if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD] == [
        "models",
        "dataset",
    ]
