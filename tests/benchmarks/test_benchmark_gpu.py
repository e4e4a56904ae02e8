"""The benchmark of a GPU prints its table and writes its images wherever it runs; no speed is judged here."""

from __future__ import annotations

import io
import json
import os
import re
import runpy
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def run(*words: str) -> str:
    """Run the script in this process, which has torch loaded already; return what it prints."""
    out, script = io.StringIO(), ROOT / "benchmarks" / "gpu.py"
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.setattr(sys, "argv", [str(script), *words])
        patch.syspath_prepend(str(script.parent))
        runpy.run_path(str(script), run_name="__main__")
    return out.getvalue()


def test_images_per_second_and_their_share_of_the_peak(tmp_path: Path):
    text = run("--device", "cpu", "--arch", "lenet", "--batches", "1,2", "--json", str(tmp_path / "out.json"))
    found = json.loads((tmp_path / "out.json").read_text())
    assert list(found["rows"])[0] == "as it is"
    assert len(found["rows"]) == 6
    rate, share = re.findall(r"\| as it is \| ([\d,]+) \(([\d.]+)%\)", text)[0]
    expected = found["rows"]["as it is"][0]
    assert float(rate.replace(",", "")) == pytest.approx(expected, abs=0.51)
    assert float(share) / 100 == pytest.approx(expected * found["flops"] / found["peaks"]["float32"], abs=6e-4)


def test_the_images_are_the_digits_enlarged(tmp_path: Path):
    run("--data", str(tmp_path))
    everything, divided = np.load(tmp_path / "all.npz"), np.load(tmp_path / "divided.npz")
    assert everything["x"].shape == (1797, 32, 32, 3)
    assert sorted(divided.files) == ["x_test", "x_train", "x_val", "y_test", "y_train", "y_val"]
    assert sum(len(divided[name]) for name in ("y_train", "y_val", "y_test")) == len(everything["y"])


def test_the_script_refuses_a_machine_without_a_gpu(tmp_path: Path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = subprocess.run(
        ["bash", str(ROOT / "benchmarks" / "gpu.sh"), str(tmp_path / "out")], capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHON": sys.executable},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == ("error: torch sees no GPU here; bash benchmarks/gpu.sh --quick tries the script out.\n")
