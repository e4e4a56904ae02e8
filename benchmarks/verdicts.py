"""How often does a number that robustkit trusts fall to somebody else's attacks?

Each ensemble is evaluated as a user would (PGD, the reference, the checks, ``--escalate``). At the eps whose worst
case is nearest to a half it is then attacked by an outside battery: torchattacks' AutoAttack of 100 steps, foolbox's
FMN and PGD, ART's AutoPGD on two losses (where adversarial-robustness-toolbox and six are installed), PGD with restarts
on three losses, five runs of MORA, and our own AutoAttack, whose passes are counted.

python benchmarks/verdicts.py runs/adp runs/adp:majority runs/sdde --n 100 --json out.json
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from robustkit import api, attacks, data
from robustkit.base.errors import UserError
from robustkit.base.files import write_json
from robustkit.base.progress import Reporter
from robustkit.ensembles.checkpoint import load_ensemble, read_meta
from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.norms import project
from robustkit.functional.trace import Trace
from robustkit.records.schema import WorstCase
from robustkit.records.store import Store
from robustkit.study.plan import Study
from robustkit.trust._escalate import Known

LOSSES = ("ce", "margin", "dlr")


@dataclass
class Row:
    """What became of one ensemble: shares left standing, and what finding them took, a sample and in seconds."""

    ensemble: str
    eps: float
    n: int
    worst_case: float
    verdict: str
    failing: list[str]
    escalated: bool
    forwards: float
    seconds: float
    left: dict[str, float]
    autoattack_forwards: float
    autoattack_seconds: float
    outside: float

    @property
    def fall(self) -> float:
        """By how much the battery lowered the number."""
        return self.worst_case - self.outside


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0: no trusted number fell by more than a point, 1: one did, 2: bad usage."""
    args = _parser().parse_args(argv)
    console = Console()
    try:
        rows = [measure(case, args, console) for case in args.cases]
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console.print(table(rows))
    if args.json:
        write_json(args.json, [{**asdict(row), "fall": row.fall} for row in rows])
    return int(any(row.verdict == "trusted" and row.fall > 0.01 + 1e-9 for row in rows))


def measure(case: str, args: argparse.Namespace, console: Console) -> Row:
    """Evaluate one ensemble, ``FOLDER`` or ``FOLDER:FUSION``, then attack it from outside."""
    folder, _, fusion = case.partition(":")
    dataset = read_meta(Path(folder))["data"]["name"]
    with tempfile.TemporaryDirectory() as out:
        results = api.evaluate(
            checkpoint=folder, dataset=dataset, fusion=fusion or None, n=args.n, attacks="pgd", suites="attacks",
            escalate=True, eps=args.eps, out=out, data_dir=args.data_dir, formats=(), keep_examples=False,
            reporter=Reporter(console),
        )  # fmt: skip
        worst = min(results["worst_case"], key=lambda w: abs(w["robust_accuracy"] - 0.5))
        standing = _standing(Path(out), worst)
    eps = worst["eps"]
    runs = [e for e in results["evaluations"] if e["eps"] == eps]
    ensemble = load_ensemble(Path(folder))
    ensemble = Ensemble(list(ensemble.members), fusion or ensemble.fusion).eval().requires_grad_(False)
    split = data.load(dataset, data_dir=args.data_dir).split("test").take(args.n)
    _, x, y = split.batch(torch.arange(len(split)))
    left, cost = battery(ensemble, x, y, standing, eps, args)
    row = Row(
        ensemble=f"{Path(folder).name}, {ensemble.fusion}", eps=eps, n=len(y), worst_case=worst["robust_accuracy"],
        verdict=worst["verdict"], failing=[c["name"] for c in worst["checks"] if not c["passed"]],
        escalated=any(e["eps"] == eps for e in results["escalation"]),
        forwards=sum(e["forwards"] * e["clean_accuracy"] for e in runs), seconds=sum(e["seconds"] for e in runs),
        left=left, autoattack_forwards=cost[0], autoattack_seconds=cost[1],
        outside=left["everything"],
    )  # fmt: skip
    console.print(f"{row.ensemble} at {eps:g}: {100 * row.worst_case:.1f} {row.verdict}, then {left}")
    return row


def _standing(out: Path, worst: WorstCase) -> Tensor:
    """Return which samples a worst case counts as robust, bool (n,)."""
    (path,) = out.rglob("study.json")
    study = Study.from_json(json.loads(path.read_text(encoding="utf-8")))
    known = Known.of(study, Store(path.parent), study.ensembles[0])
    return torch.from_numpy(known.worst(worst["norm"], worst["eps"]).standing.copy())


def battery(
    ensemble: Ensemble, x: Tensor, y: Tensor, standing: Tensor, eps: float, args: argparse.Namespace
) -> tuple[dict[str, float], tuple[float, float]]:
    """Return what each attack leaves, and what everything leaves of ``standing``, with AutoAttack's passes and seconds.

    ``standing`` is what stands of the number itself, bool (B,); passes are forwards a sample.
    """
    with torch.no_grad():
        right = ensemble(x).argmax(1) == y
    standing = standing & right
    left: dict[str, float] = {}

    def run(name: str, rows: Tensor, craft: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Attack the samples at rows, project what comes back into the ball, and score it."""
        made = project(craft(x[rows], y[rows]).detach(), x[rows], eps, "linf")
        with torch.no_grad():
            stands = ensemble(made).argmax(1) == y[rows]
        own = right.clone()
        own[rows] = stands
        left[name] = float(own.double().mean())
        standing[rows] &= stands

    everyone = torch.nonzero(right).squeeze(1)
    trace, started = Trace(len(everyone)), time.perf_counter()
    run("autoattack", everyone, lambda x, y: attacks.get("autoattack")(ensemble, x, y, eps=eps, trace=trace))
    cost = float(trace.forwards.sum()) / len(y), time.perf_counter() - started
    run("mora", everyone, lambda x, y: attacks.get("mora")(ensemble, x, y, eps=eps))
    run("torchattacks", everyone, _torchattacks(ensemble, eps))
    run("foolbox", everyone, _foolbox(ensemble, eps))
    if importlib.util.find_spec("art"):
        run("art", everyone, _art(ensemble, eps))
    for loss in LOSSES:  # on what still stands: the last word, not a number of its own
        rows = torch.nonzero(standing).squeeze(1)
        if len(rows):
            run("pgd", rows, _pgd(ensemble, eps, loss, args))
            left.pop("pgd")
    left["everything"] = float(standing.double().mean())
    return left, cost


def _pgd(ensemble: Ensemble, eps: float, loss: str, args: argparse.Namespace) -> Callable[[Tensor, Tensor], Tensor]:
    settings = {"steps": args.steps, "step_size": eps / 40, "restarts": args.restarts, "loss": loss}
    return lambda x, y: attacks.get("pgd")(ensemble, x, y, eps=eps, **settings)


def _torchattacks(ensemble: Ensemble, eps: float) -> Callable[[Tensor, Tensor], Tensor]:
    def craft(x: Tensor, y: Tensor) -> Tensor:
        from torchattacks import APGD, APGDT, FAB, MultiAttack, Square

        classes = ensemble(x[:1]).shape[1]
        common: dict[str, Any] = {"eps": eps, "norm": "Linf"}
        return MultiAttack([
            APGD(ensemble, steps=100, loss="ce", n_restarts=1, **common),
            APGDT(ensemble, steps=100, n_classes=classes, n_restarts=1, **common),
            FAB(ensemble, steps=100, n_classes=classes, multi_targeted=True, n_restarts=1, **common),
            Square(ensemble, n_queries=5000, n_restarts=1, **common),
        ])(x, y)  # fmt: skip

    return craft


def _foolbox(ensemble: Ensemble, eps: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Return foolbox's nearest example by FMN where it is in the ball, else that of its PGD of 100 steps."""

    def craft(x: Tensor, y: Tensor) -> Tensor:
        import foolbox

        model = foolbox.PyTorchModel(ensemble, bounds=(0, 1))
        _, walked, _ = foolbox.attacks.LinfPGD(steps=100, rel_stepsize=0.025)(model, x, y, epsilons=eps)
        _, found, broken = foolbox.attacks.LInfFMNAttack(steps=200)(model, x, y, epsilons=eps)
        return torch.where(broken[:, None, None, None], found, walked)

    return craft


def _art(ensemble: Ensemble, eps: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what ART's AutoPGD of 100 steps finds on cross-entropy, else on the ratio of logits."""

    def craft(x: Tensor, y: Tensor) -> Tensor:
        from art.attacks.evasion import AutoProjectedGradientDescent
        from art.estimators.classification import PyTorchClassifier

        classes, shape = ensemble(x[:1]).shape[1], tuple(x.shape[1:])
        loss = torch.nn.CrossEntropyLoss()
        classifier = PyTorchClassifier(ensemble, loss, shape, classes, clip_values=(0.0, 1.0), device_type="cpu")
        made = x
        for kind in ("cross_entropy", "difference_logits_ratio"):
            attack = AutoProjectedGradientDescent(
                classifier, norm="inf", eps=eps, eps_step=2 * eps, max_iter=100, nb_random_init=1, batch_size=64,
                loss_type=kind, verbose=False,
            )  # fmt: skip
            found = torch.from_numpy(attack.generate(x.numpy(), y.numpy()))
            with torch.no_grad():
                stands = ensemble(made).argmax(1) == y
            made = torch.where(stands[:, None, None, None], found, made)
        return made

    return craft


def table(rows: Sequence[Row]) -> Table:
    """Return the rows as a table; accuracies in %."""
    made = Table(title="Numbers of robustkit under outside attacks")
    columns = ("ensemble", "eps", "worst case", "verdict", "forwards", "s", "AutoAttack", "forwards", "s",
               "torchattacks", "foolbox", "ART", "MORA x 5", "everything", "fall")  # fmt: skip
    for column in columns:
        made.add_column(column, justify="left" if column in ("ensemble", "verdict") else "right")
    for r in rows:
        made.add_row(
            r.ensemble, f"{r.eps:g}", _percent(r.worst_case), r.verdict, f"{r.forwards:.0f}", f"{r.seconds:.1f}",
            _percent(r.left["autoattack"]), f"{r.autoattack_forwards:.0f}", f"{r.autoattack_seconds:.1f}",
            *(_percent(r.left[name]) if name in r.left else "-" for name in ("torchattacks", "foolbox", "art", "mora")),
             _percent(r.outside), f"{100 * r.fall:.1f}",
        )  # fmt: skip
    return made


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", metavar="FOLDER[:FUSION]")
    parser.add_argument("--data-dir")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument(
        "--eps", type=lambda given: [float(eps) for eps in given.split(",")], help="default: the data's"
    )
    parser.add_argument("--steps", type=int, default=500, help="of the outside PGD")
    parser.add_argument("--restarts", type=int, default=10, help="of the outside PGD, for each of three losses")
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
