"""Bad input: one clear sentence, exit code 2, before torch is imported where it can be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from robustkit.__main__ import main
from robustkit.base.errors import UserError
from robustkit.reproduce._ask import Ask, check
from robustkit.study.config import ReproduceConfig


def asked(name: str, **keywords: Any) -> Ask:
    return check(ReproduceConfig(name, **keywords))


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "robustkit", "reproduce", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "adp-tabel1"}, "unknown reproduction 'adp-tabel1': did you mean 'adp-table1'"),
        (
            {"name": "adp-table4", "dataset": "mnist"},
            "has no numbers for dataset 'mnist', only for cifar10; .*--as cifar10",
        ),
        (
            {"name": "adp-table1", "dataset": "digits"},
            "no numbers for dataset 'digits', only for mnist, cifar10, cifar100",
        ),
        (
            {"name": "adp-table2", "dataset": "digits", "stands_for": "svhn"},
            "--as 'svhn': adp-table2 has numbers for mnist",
        ),
        ({"name": "adp-table1", "dataset": "mnits"}, "unknown dataset 'mnits': did you mean 'mnist'"),
        ({"name": "adp-table1", "scale": "large"}, "unknown scale 'large'.*paper, small"),
        ({"name": "adp-table1", "epochs": 0}, "epochs 0 is out of range"),
        ({"name": "adp-table1", "n": -1}, "n -1 is out of range"),
        ({"name": "adp-table1", "settings": ["pgd.steps=5"]}, "unknown method in --set 'pgd'.*adp, baseline, train"),
        ({"name": "adp-table2", "settings": ["adp.alpha"]}, "has no value"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        check(ReproduceConfig(**arguments))


def test_the_dataset_is_the_papers_first_or_the_one_it_stands_for():
    assert (asked("adp-table1").dataset, asked("adp-figure4").dataset) == ("mnist", "cifar10")
    other = asked("adp-table2", dataset="npz:images.npz", stands_for="cifar10")
    assert (other.dataset, other.stands_for, other.out.name) == ("npz:images.npz", "cifar10", "adp-table2-npz-small")


def test_the_command_can_be_pasted():
    other = asked(
        "adp-table1", dataset="npz:my images.npz", stands_for="mnist", n=9, settings=["train.lr=1e-3"], out="o"
    )
    assert other.command == (
        "robustkit reproduce adp-table1 --dataset 'npz:my images.npz' --as mnist --scale small --n 9 --seed 0 "
        "--set train.lr=1e-3 --out o"
    )


def test_exit_code_2_and_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    typed = command("adp-tabel1")
    assert typed.returncode == 2
    assert typed.stderr.count("\n") == 1
    assert "did you mean 'adp-table1'" in typed.stderr
    # This one gets as far as torch, which is imported here already.
    words = ["robustkit", "reproduce", "adp-table1", "--data-dir", str(tmp_path), "--out", str(tmp_path / "o")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"MNIST is missing or damaged in '{tmp_path}'" in error
    assert not list((tmp_path / "o").glob("ensembles/*"))


def test_help_and_checks_import_no_torch():
    code = (
        "import sys; from robustkit.cli import app; from robustkit.reproduce import _ask;"
        "from robustkit.study.config import ReproduceConfig;"
        "_ask.check(ReproduceConfig('adp-table2', dataset='digits', stands_for='mnist'));"
        "\ntry: app(['reproduce', '--help'])\nexcept SystemExit: pass\n"
        "print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "False False"
