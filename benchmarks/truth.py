"""Does an audit end where the truth is? Models whose robust accuracy a complete verifier brackets.

python benchmarks/truth.py TRUTH          # the two networks of alpha-beta-CROWN, in a folder with their images
python benchmarks/truth.py --model M --arch net.py:net --data images.npz --eps 0.3 --low 0.76 --high 0.765
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from robustkit import api
from robustkit.base.errors import UserError
from robustkit.base.files import write_json
from robustkit.base.progress import Reporter

CNN_A = f"{Path(__file__).with_name('_cnn_a.py')}:cnn_a"
CIFAR = "0.491373,0.482353,0.446667/0.247059,0.243529,0.261569"  # 125.3, 123.0, 113.9 and 63.0, 62.1, 66.7 of 255
HALF = 0.005  # a point by which a number may be above its bracket, halved


@dataclass(frozen=True)
class Case:
    """A model, its images, and between what its robust accuracy is known to be: verified, and broken by an attack."""

    model: Path
    arch: str
    data: Path
    eps: float
    low: float
    high: float
    normalize: str = "none"


@dataclass
class Row:
    """What an audit says of a case, after how many forwards a sample."""

    name: str
    eps: float
    low: float
    high: float
    attack: str
    worst_case: float
    verdict: str
    forwards: float

    @property
    def inside(self) -> bool:
        """Whether the number is within half a point of the bracket; below it, the verifier or the judge is wrong."""
        return self.low - 1e-9 <= self.worst_case <= self.high + HALF + 1e-9


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0: every default audit ends within half a point of the bracket, 1: one does not, 2: bad usage."""
    args = _parser().parse_args(argv)
    try:
        rows = [measure(case, attack, args.escalate) for case in _cases(args) for attack in args.attacks.split(";")]
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    Console().print(table(rows))
    if args.json:
        write_json(args.json, [{**asdict(row), "inside": row.inside} for row in rows])
    return int(not all(row.inside for row in rows))


def measure(case: Case, attack: str, escalate: bool) -> Row:
    """Audit a model as a user would; the forwards of all runs count."""
    with tempfile.TemporaryDirectory() as out:
        results = api.audit(
            case.model, arch=case.arch, dataset=f"npz:{case.data}", normalize=case.normalize, eps=case.eps, n=None,
            norm="linf", attacks=attack, suites="attacks", escalate=escalate, out=out, formats=(), keep_examples=False,
            reporter=Reporter(),
        )  # fmt: skip
    (worst,) = results["worst_case"]
    forwards = sum(e["forwards"] * e["clean_accuracy"] for e in results["evaluations"])
    return Row(
        case.model.stem, case.eps, case.low, case.high, attack, worst["robust_accuracy"], worst["verdict"], forwards
    )


def table(rows: Sequence[Row]) -> Table:
    """Return the rows as a table; accuracies in %."""
    made = Table(title="Audits of models whose truth is known")
    for column in ("model", "eps", "truth %", "attacks", "worst case %", "verdict", "forwards a sample", "inside"):
        made.add_column(column)
    for r in rows:
        made.add_row(
            r.name, f"{r.eps:.4g}", f"{100 * r.low:.1f} to {100 * r.high:.1f}", r.attack + " + reference",
            f"{100 * r.worst_case:.1f}", r.verdict, f"{r.forwards:.0f}", "yes" if r.inside else "NO",
        )  # fmt: skip
    return made


def _cases(args: argparse.Namespace) -> list[Case]:
    if args.folder:
        return [
            Case(args.folder / "mnist_cnn_a_adv.model", CNN_A, args.folder / "mnist_sdp.npz", 0.3, 0.76, 0.765),
            Case(
                args.folder / "cifar_cnn_a_adv.model", CNN_A, args.folder / "cifar_sdp.npz", 2 / 255, 0.485, 0.5, CIFAR
            ),
        ]
    missing = [f"--{name}" for name in ("model", "arch", "data", "eps", "low", "high") if getattr(args, name) is None]
    if missing:
        raise UserError(f"give a folder, or a model with its bracket; {', '.join(missing)} missing.")
    return [Case(args.model, args.arch, args.data, args.eps, args.low, args.high, args.normalize)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="with cnn_a's models and images")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--arch")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--eps", type=float)
    parser.add_argument("--low", type=float)
    parser.add_argument("--high", type=float)
    parser.add_argument("--normalize", default="none", help="as for robustkit audit")
    parser.add_argument("--attacks", default="pgd;quorum", help="lists of attacks, each beside the reference")
    parser.add_argument("--escalate", action="store_true")
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
