import subprocess
import sys
from pathlib import Path

import pytest

from robustkit import data
from robustkit.base import paths
from robustkit.base.errors import UserError

LINF = {  # norm is linf everywhere: eps, transfer eps, flip
    "digits": ((0.05, 0.1, 0.15, 0.2), 0.1, False),
    "mnist": ((0.05, 0.1, 0.15, 0.2, 0.3), 0.15, False),
    "fashionmnist": ((0.02, 0.05, 0.1), 0.05, True),
    "cifar10": ((0.01, 0.02, 8 / 255), 0.05, True),
    "cifar100": ((0.005, 0.01, 8 / 255), 0.05, True),
    "svhn": ((0.01, 0.02, 8 / 255), 0.05, False),
    "notmnist": ((0.05, 0.1, 0.15, 0.2, 0.3), 0.15, False),
    "idx:x": ((0.05, 0.1, 0.15, 0.2, 0.3), 0.15, False),
    "imagefolder:x": ((1 / 255, 2 / 255, 4 / 255, 8 / 255), 8 / 255, True),
    "npz:x": ((1 / 255, 2 / 255, 4 / 255, 8 / 255), 8 / 255, False),
}


def test_facts_of_all_datasets():
    assert data.dataset.names() == sorted(name.partition(":")[0] for name in LINF)
    for name, (eps, transfer_eps, flip) in LINF.items():
        assert data.threat(name) == data.Threat("linf", eps, transfer_eps)
        facts = data.describe(name)
        assert (facts.name, facts.flip) == (name, flip)
        assert facts.summary.endswith(".")


def test_names_are_checked_without_torch_or_sklearn():
    code = (
        "import sys, robustkit.data as d; d.threat('cifar10'); d.describe('npz:x.npz')\n"
        "try: d.load('minst')\n"
        "except d.UserError as e: print(e)\n"
        "print({'torch', 'numpy', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    message, loaded = done.stdout.splitlines()
    assert message.startswith("unknown dataset 'minst': did you mean 'mnist'?")
    assert message.endswith("idx:PATH, imagefolder:PATH, mnist, notmnist, npz:PATH, svhn.")
    assert loaded == "set()"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("npz", "dataset 'npz' has no path; write npz:PATH."),
        ("imagefolder:", "dataset 'imagefolder:' has no path; write imagefolder:PATH."),
        ("mnist:/data", "dataset 'mnist:/data' takes no path; write mnist, and --data-dir"),
        ("", "unknown dataset ''"),
        ("imagefoldr:/data", "unknown dataset 'imagefoldr': did you mean 'imagefolder:PATH'?"),
    ],
)
def test_wrong_names(name, message):
    with pytest.raises(UserError) as error:
        data.load(name)
    assert str(error.value).startswith(message)


def test_image_size_only_where_it_means_something():
    with pytest.raises(UserError, match="image size 16 cannot be set for dataset 'digits'; leave --image-size out"):
        data.load("digits", image_size=16)
    with pytest.raises(UserError, match="image size '0' is out of range"):
        data.load("imagefolder:x", image_size=0)


def test_code_outside_the_package_can_add_a_dataset():
    facts = {"norm": "l2", "eps": (1.0,), "transfer_eps": 1.0, "flip": False, "arch": "lenet", "epochs": 3}

    @data.dataset("two-digits", title="Two", **facts)
    def two() -> data.Source:
        """Zeros and ones."""
        digits = data.load("digits")
        return data.Source(("0", "1"), digits.shape, digits.split)

    try:
        loaded = data.load("two-digits")
        assert loaded.threat == data.Threat("l2", (1.0,), 1.0)
        assert len(loaded.split("test")) == 500
    finally:
        data.dataset.remove("two-digits")


def test_a_dataset_without_a_threat_model_is_a_programming_error():
    data.dataset("bare", title="Bare")(lambda: None)
    try:
        with pytest.raises(ValueError, match="without norm, eps, transfer_eps, flip, arch, epochs"):
            data.describe("bare")
    finally:
        data.dataset.remove("bare")


def test_paths(monkeypatch):
    monkeypatch.delenv("ROBUSTKIT_CACHE", raising=False)
    assert paths.cache_dir() == Path.home() / ".cache" / "robustkit"
    monkeypatch.setenv("ROBUSTKIT_CACHE", "~/elsewhere")
    assert paths.data_dir() == Path.home() / "elsewhere" / "data"
