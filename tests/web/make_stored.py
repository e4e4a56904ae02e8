"""Make the stored results that the browser tests show: ``python tests/web/make_stored.py`` (half a minute).

Real runs of tiny networks on few digits, so that every suite has something to say. Made again where the records change
in a way that the pages show; what an older version stored stays readable, so that is seldom.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
from pathlib import Path
from typing import Any

import robustkit
from robustkit.ensembles.checkpoint import load_ensemble

HERE = Path(__file__).parent
NET = f"{HERE.parent / 'networks.py'}:perceptron"
SUITES = ("attacks", "transfer", "corruptions", "detection", "ood", "calibration", "diversity")
QUICK: dict[str, Any] = {"n": 24, "attacks": ["pgd"], "eps": [0.1, 0.2], "settings": {"pgd.steps": 2}, "formats": ()}


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
        robustkit.evaluate(pool=made, subset_size=2, arch=NET, n=24, out=folder / "pool", formats=())
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
        for kind in ("main", "suites", "audit", "pool", "seeds"):
            text = (folder / kind / "results.json").read_bytes()
            (HERE / "stored" / f"{kind}.json.gz").write_bytes(
                gzip.compress(text.replace(name.encode(), b"/tmp"), mtime=0)
            )


if __name__ == "__main__":
    sys.exit(main())
