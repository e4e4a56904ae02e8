"""A study in a file: what its keys mean, and everything that is wrong with it, each thing with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from robustkit.base.errors import UserError
from robustkit.cli import COMMANDS
from robustkit.commands.studies import CHECKS
from robustkit.study import file as studies
from robustkit.study import toml_lines
from robustkit.study.config import EvaluateConfig
from robustkit.study.problems import problems_of
from robustkit.study.schema import FILE

CONFIGS = {name: config for name, (config, _) in COMMANDS.items()}
LAYOUT = '''# a comment with [brackets] and = signs
title = "a # in a string"
"quoted key" = """two
lines with ] and " inside"""
list = [
  "pgd",  # first
  'mim', "with \\" quote",
]
a.b.c = 1
[table]
inline = { x = 1, y = [1,
  2] }
[table.sub]
deep = 2026-11-29 07:32:00
[[rows]]
v = 1
[[rows]]
v = 2
  [rows.below]
  w = 3
'''
PLACES = {
    ("title",): 2, ("quoted key",): 3, ("list",): 5, ("list", 0): 6, ("list", 1): 7, ("list", 2): 7,
    ("a", "b", "c"): 9, ("table",): 10, ("table", "inline"): 11, ("table", "inline", "x"): 11,
    ("table", "inline", "y"): 11, ("table", "inline", "y", 1): 12, ("table", "sub"): 13, ("table", "sub", "deep"): 14,
    ("rows", 0): 15, ("rows", 0, "v"): 16, ("rows", 1): 17, ("rows", 1, "v"): 18, ("rows", 1, "below", "w"): 20,
}  # fmt: skip


def paths(value: Any, above: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    """Return every path of a value that the standard reader gave."""
    inside = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    return {(*above, key) for key, _ in inside}.union(*(paths(one, (*above, key)) for key, one in inside))


def test_lines_of_every_key_and_value():
    found = toml_lines.lines_of(LAYOUT)
    assert {path: found.get(path) for path in PLACES} == PLACES
    assert set(found) == paths(toml_lines.parse(LAYOUT))  # neither more nor fewer than there are


@pytest.mark.parametrize(
    "text",
    ['k = """a""""\nl = 1', "k = '''it''''s'''\nl = 1".replace("''''", "''"), "k = ''\nl = 1", 'k = "\\\\"\nl = 1'],
)
def test_strings_end_where_they_end(text: str):
    toml_lines.parse(text)
    assert toml_lines.lines_of(text) == {("k",): 1, ("l",): 2}


def written(tmp_path: Path, text: str) -> studies.StudyFile:
    path = tmp_path / "study.toml"
    path.write_text(text, "utf-8")
    return studies.read(path, CONFIGS)


def wrong(tmp_path: Path, text: str) -> list[tuple[int, str]]:
    read = written(tmp_path, text)
    found = problems_of(read, CONFIGS[read.command], CHECKS.get(read.command)) if read.command else read.problems
    return [(problem.line, problem.sentence) for problem in found]


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path):
    found = wrong(
        tmp_path,
        """defence = "adp"
attacks = [
  "pgd", "mimm",
  "fgsmm",
]
arch = ["lenet", "resnt20"]
n = "100"
members = 0
eps = "8/255"
seeds = "0-2,2"
[set.pgd]
steps = 10
stepsize = 3
[set.train]
lr = "fast"
""",
    )
    expected = {
        1: "did you mean 'defense'?", 3: "unknown attack 'mimm'", 4: "unknown attack 'fgsmm'", 6: "'resnt20'",
        7: "n '100' is of type str", 8: "members 0 is out of range", 10: "name 2 twice",
        13: "no parameter 'stepsize'", 15: "train.lr 'fast' is not a number",
    }  # fmt: skip
    assert [line for line, _ in found] == list(expected)
    assert all(said in sentence for (_, sentence), said in zip(found, expected.values(), strict=True))


def test_syntax_command_and_what_is_missing(tmp_path: Path):
    assert wrong(tmp_path, "n = 1\nattacks = [\n")[0][0] >= 2
    assert "no TOML" in wrong(tmp_path, "n = = 1\n")[0][1]
    assert "did you mean 'audit'?" in wrong(tmp_path, 'n = 1\ncommand = "audti"\n')[0][1]
    assert [sentence.partition(";")[0] for _, sentence in wrong(tmp_path, 'command = "audit"\nn = 3\n')] == [
        "audit needs dataset", "audit needs models",
    ]  # fmt: skip
    assert wrong(tmp_path, "seed = [0, 1]\n") == [(1, "seed [0, 1] is several; give them to --seeds.")]
    assert wrong(tmp_path, "dataset = 5\n")[0][1].startswith("dataset 5 is of type int")


def test_options_that_exclude_each_other_are_blamed_on_the_later_line(tmp_path: Path):
    (line, sentence), *more = wrong(tmp_path, 'checkpoint = ["a"]\nn = 5\ndefense = "adp"\n')
    assert (line, more) == (3, [])
    assert "no effect beside --checkpoint" in sentence


def test_nothing_is_wrong_with_a_sound_study(tmp_path: Path):
    text = '"$schema" = "study.schema.json"\ndefense = ["adp", "gncl"]\nset = { pgd = { steps = 3 } }\nformat = "md"\n'
    read = written(tmp_path, text)
    assert problems_of(read, EvaluateConfig, CHECKS["evaluate"]) == []
    assert read.values == {"defense": ["adp", "gncl"], "settings": ["pgd.steps=3"], "formats": "md"}


def test_lists_make_a_grid_where_an_option_takes_one_value():
    values = {"dataset": ["digits", "mnist"], "arch": ["lenet", "resnet20"], "attacks": ["pgd", "mim"], "n": 5}
    grid = studies.combinations(EvaluateConfig, values)
    assert [(one["dataset"], one["arch"]) for one, _ in grid] == [
        ("digits", "lenet"), ("digits", "resnet20"), ("mnist", "lenet"), ("mnist", "resnet20"),
    ]  # fmt: skip
    assert all(one["attacks"] == ["pgd", "mim"] for one, _ in grid)  # of one evaluation
    assert [studies.folder(*pair) for pair in grid][:2] == ["digits-lenet", "digits-resnet20"]
    with pytest.raises(UserError, match="arch lists lenet twice"):
        studies.combinations(EvaluateConfig, {"arch": ["lenet", "lenet"]})


def test_the_schema_that_is_shipped_agrees_with_what_is_read(tmp_path: Path):
    schema = json.loads(FILE.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    sound = [
        '"$schema" = "x"\ndefense = ["adp", "gncl"]\nseeds = "0-4"\n[set.pgd]\nsteps = 3\n',
        'dataset = ["digits", "mnist"]\narch = "lenet"\nmembers = [2, 3]\neps = [0.1, 0.2]\nformat = ["md"]\n',
        'command = "audit"\nmodels = ["a.th"]\ndataset = "digits"\narch_args = { depth = 28 }\n',
        'command = "train"\ndefense = ["adp", "gncl"]\nepochs = 3\nseeds = [0, 1]\n',
    ]
    for text in sound:
        assert written(tmp_path, text).problems == ()
        assert list(validator.iter_errors(toml_lines.parse(text))) == []
    for text in ("defence = 'adp'\n", "n = '100'\n", "members = 0\n", "command = 'audit'\nn = 3\n", "command = 'x'\n"):
        assert list(validator.iter_errors(toml_lines.parse(text)))


def test_a_parameter_is_blamed_before_its_method(tmp_path: Path):
    text = 'attacks = ["pgd", "foo"]\nset.pgd.steps = 5\nset.pgd.stepss = 5\nset.train = { lr = "fast" }\n'
    found = wrong(tmp_path, text)
    assert [line for line, _ in found] == [1, 3, 4]
    assert "attack 'pgd' has no parameter 'stepss'" in found[1][1]


def test_an_option_that_is_given_under_two_keys_is_refused(tmp_path: Path):
    text = 'settings = ["pgd.steps=5"]\n[set.pgd]\nsteps = 50\n'
    assert wrong(tmp_path, text) == [(2, "set says the same as settings; leave one of the two out.")]
    assert wrong(tmp_path, 'data_dir = "x"\ndata-dir = "y"\n')[0][0] == 2


def test_a_value_of_a_wrong_type_is_not_missing(tmp_path: Path):
    assert [line for line, _ in wrong(tmp_path, 'command = "search"\nmethod = ["random", "darts"]\n')] == [2]
    assert "did you mean 'darts'" in wrong(tmp_path, 'command = "search"\nmethod = "dartss"\n')[0][1]


def test_syntax_has_a_line_and_a_mark_at_the_start_is_no_syntax(tmp_path: Path):
    assert wrong(tmp_path, "\N{ZERO WIDTH NO-BREAK SPACE}n = 10\r\n") == []
    assert wrong(tmp_path, 'n = "abc')[0][0] == 1
    assert wrong(tmp_path, "n = 1\nn = 2\n") == [(2, "this is no TOML: a key stands twice; leave one of them out.")]
    assert wrong(tmp_path, '"$schema" = 5\n')[0][1].startswith("$schema")


def test_values_that_are_spelled_alike_have_folders_of_their_own():
    grid = studies.combinations(EvaluateConfig, {"dataset": ["npz:a/b.npz", "npz:a-b.npz", "digits"]})
    assert studies.folders(grid) == ["npz-a-b.npz-1", "npz-a-b.npz-2", "digits"]
