"""Make what the browser tests show: ``python tests/web/make_stored.py`` (a minute on two quiet cores).

Real runs of tiny networks on few digits, so that every suite has something to say, with the samples and their images.
Made again where the records change in a way that the pages show; what an older version stored stays readable, so that
is seldom.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
from pathlib import Path
from typing import Any

import robustkit
from robustkit import api
from robustkit.ensembles.checkpoint import load_ensemble

HERE = Path(__file__).parent
NET = f"{HERE.parent / 'networks.py'}:perceptron"
SUITES = ("attacks", "transfer", "corruptions", "detection", "ood", "calibration", "diversity")
QUICK: dict[str, Any] = {
    "n": 24, "attacks": ["pgd"], "eps": [0.1, 0.2], "settings": {"pgd.steps": 2}, "formats": ("html",),
}  # fmt: skip
SMALL = {f"darts-ensemble.{key}": value for key, value in {"batch_size": 64, "width": 4, "nodes": 5}.items()}


def main() -> None:
    """Run everything in a folder that goes away, and keep the results."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = [folder / f"seed-{seed}" for seed in (0, 1)]
        for seed, place in enumerate(made):
            robustkit.train(defense="baseline", arch=NET, members=2, epochs=3, seed=seed, speed="off", out=place)
        robustkit.evaluate(
            defense="adp", arch=NET, epochs=3, speed="off", out=folder / "main", **{**QUICK, "attacks": ["pgd", "mim"]}
        )
        robustkit.evaluate(
            checkpoint=made, arch=NET, suites=SUITES, corruptions="design-diversity", out=folder / "suites", **QUICK
        )
        robustkit.audit(
            next(iter(load_ensemble(made[0], arch=NET).members)), "digits", out=folder / "audit", force=True,
            suites=("attacks", "calibration"), **{**QUICK, "attacks": ["pgd", "deepfool"]},
        )  # fmt: skip
        robustkit.evaluate(pool=made, subset_size=2, arch=NET, n=24, out=folder / "pool", formats=("html",))
        robustkit.evaluate(
            defense="adp",
            arch=NET,
            epochs=3,
            speed="off",
            seeds="0,1",
            out=folder / "seeds",
            suites=("attacks",),
            **QUICK,
        )
        api.search(
            "darts-ensemble", dataset="digits", members=2, search_epochs=2, epochs=2, speed="off", workers=1,
            out=folder / "search", settings={**SMALL, "darts-ensemble.candidates": 3},
        )  # fmt: skip
        for kind in ("main", "suites", "audit", "pool", "seeds", "search"):
            keep(kind, folder / kind, name)


def keep(kind: str, made: Path, temporary: str) -> None:
    """Keep the record of a run, its samples where it has some, and the drawings of cells of a search."""
    record = "search.json" if kind == "search" else "results.json"
    text = (made / record).read_bytes().replace(temporary.encode(), b"/tmp")
    (HERE / "stored" / f"{kind}.json.gz").write_bytes(gzip.compress(text, mtime=0))
    if (made / "samples.npz").is_file():
        (HERE / "stored" / f"{kind}.npz").write_bytes((made / "samples.npz").read_bytes())


if __name__ == "__main__":
    sys.exit(main())
