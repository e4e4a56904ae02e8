"""The folder in which the commands of a page run: what they name lies there, small and made in seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import safetensors.torch
import torch
from in_process import invoke

from robustkit import data
from robustkit.ensembles.checkpoint import WEIGHTS

CHECKPOINTS = (
    "DIR", "B", "adp", "baseline", "my-ensemble", "my-adp", "noisy", "adp-2-0", "adp-2-0.5", "darts", "edgenes",
    "darts-ensemble", "nets/one",
)  # fmt: skip
EVALUATIONS = ("robustkit-out", "OUT", "A", "audit")
FACTORY = """from robustkit.models.lenet import LeNet


def build(channels, classes, depth=0):
    return LeNet(channels, classes)
"""


def done(*words: object) -> str:
    """Run a command that has to succeed; return what it printed."""
    code, out, err = invoke(*words)
    assert code == 0, f"{words}: {err}"
    return out


def make(folder: Path) -> None:
    """Make everything, in the current folder."""
    common = ("--arch", "lenet", "--speed", "off")
    done("train", "--defense", "baseline", "--members", "2", "--epochs", "5", *common, "--out", folder / "DIR")
    for name in CHECKPOINTS[1:]:
        shutil.copytree(folder / "DIR", folder / name)
    for seed in (1, 2, 3):
        done(
            "train",
            "--defense",
            "baseline",
            "--members",
            "1",
            "--seed",
            seed,
            "--epochs",
            "1",
            *common,
            "--out",
            folder / "pool" / f"lenet-{seed}",
        )
    shutil.copytree(folder / "pool" / "lenet-1", folder / "nets" / "two")
    images(folder)
    files(folder)
    small = (
        "--n",
        "6",
        "--trust",
        "off",
        "--speed",
        "off",
        "--workers",
        "1",
        "--eps",
        "0.1,0.15",
        "--suites",
        "attacks",
        "--set",
        "pgd.steps=2",
    )
    train = ("--arch", "lenet", "--members", "2", "--epochs", "1")
    asked = ("evaluate", "--defense", "adp", "--attacks", "pgd,mim", "--set", "mim.steps=2", *train, *small)
    done(*asked, "--format", "html,csv,tex,md,figures", "--out", folder / "robustkit-out")
    for name in EVALUATIONS[1:]:
        shutil.copytree(folder / "robustkit-out", folder / name)
    for name in ("baseline", "adp", "gncl"):
        done(
            "evaluate", "--defense", name, "--no-baseline", "--attacks", "pgd", "--no-reference", *train, *small,
            "--format", "csv", "--out", folder / "runs" / name,
        )  # fmt: skip
    search = ("--set", "random.candidates=3", "--set", "random.width=4", "--members", "2", "--epochs", "1")
    done("search", "random", *search, "--workers", "1", "--out", folder / "found")
    shutil.copytree(folder / "found", folder / "eleven")


def images(folder: Path) -> None:
    """Write test images of digits as an npz, and as a folder of PNGs."""
    _, x, y = data.load("digits").split("test").batch(torch.arange(40))
    pixels = (x.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    for name in ("images", "test", "cifar", "third"):
        np.savez(folder / f"{name}.npz", x_test=pixels, y_test=y.numpy(), x_train=pixels, y_train=y.numpy())
    for at, (pixel, label) in enumerate(zip(pixels, y.tolist(), strict=True)):
        for part in ("train", "test"):
            place = folder / "photos" / part / str(label)
            place.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(pixel[:, :, 0]).save(place / f"{at}.png")


def files(folder: Path) -> None:
    """Write model files as others would: state dicts of LeNet, two of them in a folder, and a file with a factory."""
    weights = safetensors.torch.load_file(folder / "DIR" / WEIGHTS)
    first, second = (
        {key.removeprefix(start): value for key, value in weights.items() if key.startswith(start)}
        for start in ("members.0.network.", "members.1.network.")
    )
    (folder / "folder").mkdir()
    for name in ("model.th", "model.pt", "a.pt", "model_b.pth", "folder/a.pth"):
        torch.save(first, folder / name)
    torch.save(second, folder / "folder" / "b.pth")
    safetensors.torch.save_file(second, folder / "b.safetensors")
    (folder / "nets.py").write_text(FACTORY, "utf-8")
