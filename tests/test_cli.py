"""The command line as a person meets it: the main job, a kill in the middle, and every way to get it wrong."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from in_process import invoke

import robustkit
from robustkit import api
from robustkit.ensembles.checkpoint import read_meta

UNKNOWN = f"unknown attack 'pgdd': did you mean 'pgd'? Known: {', '.join(robustkit.attacks.attack.names())}."
NET = f"{Path(__file__).with_name('networks.py')}:perceptron"
QUICK = ["--arch", NET, "--epochs", "8", "--members", "2", "--n", "30", "--eps", "0.1,0.2"]
# A process that has imported everything becomes, for each line that it reads, one of the command in a file of its own.
FORKING = """
import gc, json, os, signal, sys
import sklearn.datasets, sklearn.model_selection  # the digits do
import torch._dynamo  # an optimiser's first call does
import robustkit.api
import robustkit.cli
from robustkit import __main__

gc.freeze()
for line in sys.stdin:
    code, arguments, errors = json.loads(line)
    if not (child := os.fork()):
        # Where the tests run in the background of a shell, SIGINT is ignored, and a child would inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
        sys.argv[1:] = arguments
        exec(code)
        break
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
# The command, with a pause after each cell that it stores: so small a run would be done before it is stopped.
PAUSING = """
import time
from robustkit.records.store import Store

save = Store.save

def save_and_pause(self, run):
    save(self, run)
    time.sleep(0.1)

Store.save = save_and_pause
__main__.main()
"""
# The command, with a save after the first epoch, however short, and a second one that never ends: it must be killed.
SAVING = """
import time
from robustkit.training import loop

loop.BETWEEN_SAVES, epoch = 0.0, loop.Training.epoch

def first_only(self, *arguments):
    if self.history:
        time.sleep(600)
    epoch(self, *arguments)

loop.Training.epoch = first_only
__main__.main()
"""


def command(*arguments: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "robustkit", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **kwargs,
    )


def beside(arguments: Sequence[str]) -> list[str]:
    """Return what of QUICK goes with other arguments: no option twice, and none that a checkpoint makes useless."""
    pairs = zip(QUICK[::2], QUICK[1::2], strict=True)
    useless = {"--arch", "--epochs", "--members"} if "--checkpoint" in arguments else set()
    return [word for pair in pairs if pair[0] not in {*arguments, *useless} for word in pair]


def without_time(path: Path) -> dict[str, Any]:
    """results.json without what a clock or the command line decides."""
    results = json.loads((path / "results.json").read_text())
    assert results.pop("run")["finished"] is not None
    for evaluation in results["evaluations"]:
        assert evaluation.pop("seconds") >= 0
    return results


@pytest.fixture
def numbers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an evaluation in this process write results.json alone: drawing takes as long as all the attacks."""
    monkeypatch.setattr(api, "_formats", lambda formats: ())


@pytest.fixture(scope="module")
def done(shared_folder: Path) -> tuple[Path, str]:
    """One finished run of the main job, small, and what it printed; one for all workers of pytest-xdist."""
    out, printed = shared_folder / "main-job" / "out", shared_folder / "main-job.txt"
    with FileLock(shared_folder / "main-job.lock"):
        if not printed.is_file():
            job = ["evaluate", "--defense", "adp", "--attacks", "pgd,mim", *QUICK, "--out", str(out)]
            code, said, error = invoke(*job)
            assert code == 0, error
            printed.write_text(said)
    return out, printed.read_text()


def test_main_job_writes_what_it_promises(done: tuple[Path, str]):
    out, printed = done
    assert printed.strip().splitlines()[-1] == f"report: {out / 'report.html'}"
    results = json.loads((out / "results.json").read_text())
    assert [e["id"] for e in results["ensembles"]] == ["baseline", "adp"]
    # Two ensembles x (pgd, mim, the reference) x two eps.
    assert len(results["evaluations"]) == 12
    assert {(e["attack"], e["params"]["steps"]) for e in results["evaluations"]} == {
        ("pgd", 10),
        ("mim", 10),
        ("quorum", 24),
    }
    assert len(results["transfer"]) == 2 * 2 * 2 * 2
    assert all(len(t["matrix"]) == len(t["matrix"][0]) == 3 for t in results["transfer"])
    assert {w["eps"] for w in results["worst_case"]} == {0.1, 0.2}
    for row in results["worst_case"]:
        same = [e for e in results["evaluations"] if (e["ensemble"], e["eps"]) == (row["ensemble"], row["eps"])]
        assert row["robust_accuracy"] <= min(e["robust_accuracy"] for e in same)
    assert {p.name for p in out.iterdir()} == {
        "results.json", "samples.csv", "samples.npz", "study.resolved.toml", "report.html", "tables", "figures", "runs",
    }  # fmt: skip
    assert list((out / "figures").glob("*.png"))
    assert {p.suffix for p in (out / "tables").iterdir()} == {".md", ".csv", ".tex"}
    accuracy = results["evaluations"][0]["robust_accuracy"]
    assert f"{100 * accuracy:.1f}" in (out / "report.html").read_text()


def test_the_answer_is_the_end_of_what_is_printed_and_short(done: tuple[Path, str]):
    out, printed = done
    lines = printed.splitlines()
    results = json.loads((out / "results.json").read_text())
    end = lines[next(at for at, line in enumerate(lines) if line.startswith("adp keeps ")) :]
    assert len(end) <= 12
    for row in results["worst_case"]:
        assert any(f"{100 * row['robust_accuracy']:.1f}" in line for line in end if line.startswith(row["ensemble"]))
    finished = [line for line in lines if re.match(r"\[\d+/38\] (baseline|adp): .*, \d+ s(, .* left)?$", line)]
    assert len(finished) == 38  # off a terminal, a line for each cell


def test_verbose_and_quiet(done: tuple[Path, str], tmp_path: Path):
    report = ["report", done[0], "--format", "md", "--out", tmp_path]
    _, answer, _ = invoke(*report)
    _, everything, _ = invoke(*report, "-v")
    _, path, error = invoke(*report, "-q")
    assert (path, error) == (f"{tmp_path / 'tables'}\n", "")
    assert len(answer.splitlines()) <= 12
    assert everything.startswith(answer[: answer.index("report: ")])
    assert all(title in everything for title in ("Robust accuracy", "Worst case over all attacks", "Transfer between"))
    assert everything.splitlines()[-1] == answer.splitlines()[-1] == f"report: {tmp_path / 'tables'}"
    code, _, error = invoke(*report, "-q", "-v")
    assert code == 2
    assert "--quiet has no effect beside --verbose" in error


def test_a_quiet_evaluation_prints_one_line(done: tuple[Path, str], numbers_only: None):
    out, _ = done
    command = ("evaluate", "--defense", "adp", "--attacks", "pgd,mim", *QUICK, "--out", str(out))
    assert invoke(*command, "--quiet") == (0, f"{out / 'report.html'}\n", "")


def test_same_command_again_runs_nothing_and_says_the_same(done: tuple[Path, str], numbers_only: None):
    out, _ = done
    before = (out / "results.json").read_bytes()
    stamps = {p: p.stat().st_mtime_ns for p in (out / "runs").glob("*.npz")}
    code, printed, error = invoke("evaluate", "--defense", "adp", "--attacks", "pgd,mim", *QUICK, "--out", str(out))
    assert code == 0, error
    assert "38 of 38 cells were in the store already" in printed
    assert {p: p.stat().st_mtime_ns for p in (out / "runs").glob("*.npz")} == stamps
    assert (out / "results.json").read_bytes() == before


def test_batch_size_and_workers_change_no_number(done: tuple[Path, str], tmp_path: Path, numbers_only: None):
    out, _ = done  # all 30 samples at once, by one worker, since the process has one thread
    change = ("--batch-size", "13", "--workers", "3")
    code, _, error = invoke("evaluate", "--attacks", "pgd,mim", *QUICK, *change, "--out", str(tmp_path))
    assert code == 0, error
    first, second = without_time(out), without_time(tmp_path)
    for results in (first, second):  # rounding differs with the shape of a batch, in the seventh digit
        for evaluation in results["evaluations"]:
            for name in ("mean_l1", "mean_l2", "mean_linf"):
                evaluation[name] = pytest.approx(evaluation[name], rel=1e-5) if results is first else evaluation[name]
        for number in (*results["evaluations"], *results["worst_case"]):
            for check in number["checks"]:
                check["value"] = pytest.approx(check["value"], abs=1e-4) if results is first else check["value"]
    first["environment"].pop("threads")
    second["environment"].pop("threads")
    assert first == second


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., tuple[int, str]]]:
    """Start the command, send it a signal as soon as something is so; return exit code and stderr."""
    errors = tmp_path_factory.mktemp("stopped") / "stderr"
    with subprocess.Popen(
        [sys.executable, "-c", FORKING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as forking:

        def run(code: str, arguments: list[str], when: Callable[[], bool], how: signal.Signals) -> tuple[int, str]:
            errors.write_text("")
            forking.stdin.write(json.dumps([code, arguments, str(errors)]) + "\n")
            forking.stdin.flush()
            child = int(forking.stdout.readline())
            deadline = time.monotonic() + 240
            while not when() and time.monotonic() < deadline:
                if select.select([forking.stdout], [], [], 0.005)[0]:
                    pytest.fail(f"finished, with {forking.stdout.readline().strip()}, before it could be stopped")
            os.kill(child, how)
            if not (ended := bool(select.select([forking.stdout], [], [], 60)[0])):
                os.kill(child, signal.SIGKILL)
            exit_code = int(forking.stdout.readline())
            assert ended, "did not stop"
            assert time.monotonic() < deadline
            return exit_code, errors.read_text()

        yield run


def stored(runs: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in runs.glob("*.json") if p.name != "study.json"}


def test_stopped_in_the_middle_the_same_command_finishes_the_rest(
    done: tuple[Path, str], stopped: Callable[..., tuple[int, str]], tmp_path: Path, numbers_only: None
):
    out, _ = done
    arguments, runs = ["evaluate", "--attacks", "pgd,mim", *QUICK, "--out", str(tmp_path)], tmp_path / "runs"
    code, error = stopped(PAUSING, arguments, lambda: len(stored(runs)) >= 3, signal.SIGINT)
    assert code == 130
    assert "robustkit: interrupted; the same command resumes" in error
    assert "Traceback" not in error
    interrupted = stored(runs)
    code, _ = stopped(PAUSING, arguments, lambda: len(stored(runs)) >= len(interrupted) + 3, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert not (tmp_path / "results.json").exists()
    kept = stored(runs)
    assert interrupted.items() <= kept.items()
    assert 6 <= len(kept) < 38
    code, printed, error = invoke(*arguments)
    assert code == 0, error
    assert f"{len(kept)} of 38 cells were in the store already" in printed
    assert kept.items() <= stored(runs).items()
    assert without_time(tmp_path) == without_time(out)


def test_report_renders_again_from_the_store(done: tuple[Path, str], tmp_path: Path):
    out, _ = done
    code, printed, error = invoke("report", str(out), "--format", "csv,html", "--out", str(tmp_path))
    assert code == 0, error
    assert printed.strip().splitlines()[-1] == f"report: {tmp_path / 'report.html'}"
    assert (tmp_path / "results.json").read_bytes() == (out / "results.json").read_bytes()
    assert (tmp_path / "tables" / "robustness.csv").read_bytes() == (out / "tables" / "robustness.csv").read_bytes()
    assert not (tmp_path / "figures").exists()


def test_every_adversarial_example_comes_back(done: tuple[Path, str]):
    store = robustkit.load_runs(done[0])
    cells = [c for c in store.cells() if c.kind == "attack"]
    run = store.load(cells[0], examples=True)
    assert run.samples.examples.shape == (30, 1, 8, 8)
    assert abs(run.samples.linf.max() - cells[0].eps) < 1e-5


def test_train_then_evaluate_the_checkpoint(tmp_path: Path):
    folder = tmp_path / "ck"
    code, printed, error = invoke(
        "train", "--defense", "adp", "--epochs", "2", "--members", "2", "--set", "adp.alpha=1", "--out", str(folder)
    )
    assert code == 0, error
    assert printed.strip().splitlines()[-1] == f"checkpoint: {folder}"
    meta = json.loads((folder / "ensemble.json").read_text())
    assert meta["training"]["defense"] == {
        "kind": "defense",
        "name": "adp",
        "params": {"alpha": 1.0, "beta": 0.5, "temperature": 1.0},
    }
    assert len(meta["history"]) == 2
    assert 0 < meta["metrics"]["test_accuracy"] <= 1
    results = robustkit.evaluate(
        checkpoint=folder, attacks="fgsm", eps=0.1, suites="attacks", n=50, reference=False, formats=(),
        out=tmp_path / "out",
    )  # fmt: skip
    assert [(e["id"], e["defense"], e["members"]) for e in results["ensembles"]] == [("ck", "adp", 2)]
    ensemble = robustkit.load_ensemble(folder)
    _, x, y = robustkit.data.load("digits").split("test").batch(torch.arange(50))
    made = robustkit.attacks.get("fgsm")(ensemble, x, y, eps=0.1)
    accuracy = (ensemble(made).argmax(1) == y).double().mean().item()
    assert results["evaluations"][0]["robust_accuracy"] == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--defense", "apd"], "unknown defense 'apd': did you mean 'adp'?"),
        (["--attacks", "pgdd"], "unknown attack 'pgdd': did you mean 'pgd'?"),
        (["--attacks", ""], "the list of attacks is empty"),
        (["--attacks", ","], "the list of attacks is empty"),
        (["--dataset", "digit"], "unknown dataset 'digit': did you mean 'digits'?"),
        (["--eps", "-0.1"], "eps -0.1 is out of range; it must be in [0, 1]"),
        (["--eps", "2"], "eps 2 is out of range"),
        (["--eps", "8/0"], "'8/0' divides by zero"),
        (["--eps", "a lot"], "'a lot' is not a number"),
        (["--n", "0"], "n 0 is out of range; it must be at least 1"),
        (["--members", "0"], "members 0 is out of range"),
        (["--batch-size", "-1"], "batch size -1 is out of range"),
        (["--epochs", "0"], "epochs 0 is out of range"),
        (["--suites", "attack"], "unknown suite 'attack': did you mean 'attacks'?"),
        (["--norm", "l7"], "unknown norm 'l7'"),
        (["--fusion", "mean"], "unknown fusion rule 'mean'"),
        (["--set", "pgd.step=5"], "attack 'pgd' has no parameter 'step'"),
        (["--set", "pgd.steps=many"], "pgd.steps 'many' is not a number"),
        (["--set", "bim.steps=5"], "unknown method in --set 'bim'"),
        (["--set", "pgd.eps=0.1"], "decided by --eps"),
        (["--set", "train.momentun=1"], "unknown parameter in --set train 'momentun': did you mean 'momentum'"),
        (["--target", "12"], "target 12 is outside the classes; the labels are 0 to 9"),
        (["--target", "-1"], "target -1 is outside the classes"),
        (["--target", "wildly"], "unknown target 'wildly'"),
        (["--arch", "resnet2000"], "unknown architecture 'resnet2000'"),
        (["--arch", "nowhere:build"], "cannot import 'nowhere'"),
        (["--device", "cuda"], "torch sees 0 CUDA devices; use --device cpu"),
        (["--device", "abacus"], "device 'abacus' is unknown"),
        (["--dataset", "mnist", "--data-dir", "EMPTY"], "--download"),
        (["--dataset", "npz:EMPTY/none.npz"], "none.npz"),
        (["--dataset", "imagefolder:EMPTY"], "EMPTY"),
        (["--checkpoint", "EMPTY"], "is not a robustkit checkpoint"),
        (["--out", "FILE"], "cannot write to --out"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
):
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FILE").write_text("not a folder")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    code, _, error = invoke("evaluate", *beside(arguments), *arguments)
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) in (["EMPTY", "FILE"], ["EMPTY", "FILE", "robustkit-out"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((5, 8, 8)), "y": np.arange(4)}, "5 images in x but 4 labels in y"),
        ({"x": np.zeros((4, 3)), "y": np.arange(4)}, "shape"),
        ({"x": np.zeros((4, 8, 8)), "y": np.array([0, 1, 2, -1])}, "-1"),
        ({"x": np.zeros((4, 8, 8))}, "y"),
    ],
)
def test_bad_arrays(tmp_path: Path, arrays: dict[str, np.ndarray], message: str):
    np.savez(tmp_path / "data.npz", **arrays)
    code, _, error = invoke("evaluate", "--dataset", f"npz:{tmp_path / 'data.npz'}", "--out", str(tmp_path / "out"))
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_out(tmp_path: Path):
    tmp_path.chmod(0o500)
    result = command("evaluate", *QUICK, "--out", str(tmp_path / "out"))
    assert result.returncode == 2
    assert "cannot write to --out" in result.stderr


def test_labels_outside_the_checkpoints_classes_and_wrong_shapes(tmp_path: Path, lenets, digits):
    from robustkit.ensembles.checkpoint import save_ensemble

    save_ensemble(lenets, tmp_path / "ck", arch=["lenet"] * 3, classes=[str(i) for i in range(10)], shape=(1, 8, 8))
    _, x, y = digits.split("test").batch(torch.arange(40))
    np.savez(tmp_path / "wide.npz", x=np.repeat(x.numpy(), 2, 3), y=y.numpy())
    np.savez(tmp_path / "many.npz", x=x.numpy(), y=y.numpy() + 5)
    for name in ("wide", "many"):
        with pytest.raises(robustkit.base.errors.UserError, match="takes images of shape .* but dataset"):
            robustkit.evaluate(checkpoint=tmp_path / "ck", dataset=f"npz:{tmp_path / name}.npz", out=tmp_path / "out")


def test_a_file_that_a_checkpoint_never_saw_is_evaluated_whole(tmp_path: Path, lenets, digits):
    from robustkit.ensembles.checkpoint import save_ensemble

    save_ensemble(lenets, tmp_path / "ck", arch=["lenet"] * 3, classes=[str(i) for i in range(10)], shape=(1, 8, 8))
    _, x, y = digits.split("test").batch(torch.arange(40))
    np.savez(tmp_path / "own.npz", x=x.numpy(), y=y.numpy())
    results = robustkit.evaluate(
        checkpoint=[tmp_path / "ck"], dataset=f"npz:{tmp_path / 'own.npz'}", attacks=["fgsm"], eps=[0.1], formats=[],
        reference=False, out=tmp_path / "out",
    )  # fmt: skip
    assert (results["dataset"]["split"], results["dataset"]["n"]) == ("everything", 40)


def test_version_and_help_and_list():
    assert command("--version").stdout == f"robustkit {robustkit.__version__}\n"
    shown = command("--help")
    assert shown.returncode == 0
    assert all(word in shown.stdout for word in ("evaluate", "train", "report", "list"))
    listed = command("list", "attacks").stdout
    assert "steps: int = 10" in listed
    assert "arXiv:1706.06083" in listed
    assert invoke("list", "atacks")[0] == 2
    assert invoke("frobnicate")[0] == 2


@pytest.mark.parametrize("arguments", [("nowhere",), (".", "--format", "pdf")])
def test_report_of_nothing(arguments: tuple[str, ...]):
    code, _, error = invoke("report", *arguments)
    assert code == 2
    assert len(error.strip().splitlines()) == 1


def test_a_norm_without_standard_budgets_needs_eps():
    code, _, error = invoke("evaluate", "--norm", "l2")
    assert code == 2
    assert "no standard budgets for norm 'l2'; name them with --eps" in error


def test_bad_input_from_a_real_shell():
    result = command("evaluate", "--attacks", "pgdd")
    assert result.returncode == 2
    assert result.stderr == f"robustkit: {UNKNOWN}\n"
    assert result.stdout == ""


def test_a_killed_training_goes_on_and_refuses_other_options(stopped: Callable[..., tuple[int, str]], tmp_path: Path):
    out = tmp_path / "ensemble"
    asked = ["train", "--defense", "baseline", "--arch", NET, "--members", "1", "--epochs", "3", "--out", str(out)]
    code, _ = stopped(SAVING, asked, (out / "training.progress").is_file, signal.SIGKILL)
    assert code == -signal.SIGKILL
    code, _, error = invoke(*asked, "--set", "train.lr=1e-2")
    assert code == 2
    assert "differs in lr: 0.01, there 0.003; give the same options" in error
    assert (out / "training.progress").is_file()
    code, printed, error = invoke(*asked)
    assert code == 0, error
    assert "going on after epoch 1 of 3" in printed
    assert not (out / "training.progress").exists()
    assert len(read_meta(out)["history"]) == 3
    assert (out / "history.csv").read_text().count("\n") == 4
