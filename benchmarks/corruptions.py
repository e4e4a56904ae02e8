"""Images per second of every corruption, in batches, against references that take one image at a time.

python benchmarks/corruptions.py --json out.json
python benchmarks/corruptions.py --suites imagenet-c --sizes 224 --images 4 --device cuda

The references are those of the tests (NumPy, SciPy, OpenCV, Pillow): they need the packages of ``robustkit[test]``.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "corruptions"))

import corruption_reference_bar  # noqa: F401 - fills REFERENCES
from corruption_constants import C32, C224
from corruption_reference import REFERENCES, levels, smooth
from corruption_tape import Tape

from robustkit import corruptions, options
from robustkit.errors import UserError
from robustkit.files import write_json

SUITES = {224: "imagenet-c,imagenet-c-bar", 32: "cifar-c,cifar-c-bar"}
CONSTANTS = {224: ("imagenet", C224), 32: ("cifar", C32)}
Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0: done, 2: bad usage."""
    args = _parser().parse_args(argv)
    try:
        result = run(args, Console(stderr=True))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.json:
        write_json(args.json, result)
    for size in args.sizes:
        Console().print(table(result["rows"], size))
    return 0


def run(args: argparse.Namespace, console: Console) -> Row:
    """Time severities 1, 3 and 5 of every corruption; the fastest of ``--repeats`` rounds counts."""
    options.at_least_one({"images": args.images, "batch": args.batch, "repeats": args.repeats})
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = []
    for size in args.sizes:
        suites = [corruptions.suite(name) for name in options.names(args.suites or SUITES[size], kind="suite")]
        for suite in suites:
            for member in suite.members:
                rows.append(measure(suite.name, member.name, size, args))
                console.print(f"{size} px {member.name}: {_text(rows[-1])}", highlight=False)
    return {"device": args.device, "threads": torch.get_num_threads(), "torch": torch.__version__, "rows": rows}


def measure(suite: str, name: str, size: int, args: argparse.Namespace) -> Row:
    """Return the seconds per image of one corruption, mean over three severities; None where there is no reference."""
    table_name, constants = CONSTANTS[size]
    batch = args.batch or max(1, 64 * 32**2 // size**2) * (8 if size > 32 else 1)
    images = photographs(size, batch)
    x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255).to(args.device)
    ours, theirs = [], []
    for severity in (1, 3, 5):
        call = functools.partial(corruptions.get(name), x, severity, table=table_name, generator=0)
        ours.append(fastest(call, args.repeats, args.device) / batch)
        if name in REFERENCES and name in constants:
            tape = Tape(0, args.images)
            corruptions.get(name)(x[: args.images].cpu(), severity, table=table_name, generator=tape)
            each = [
                fastest(_reference(name, images[row], constants[name][severity - 1], tape), args.repeats)
                for row in range(args.images)
            ]
            theirs.append(sum(each) / len(each))
    return {
        "suite": suite, "name": name, "size": size, "batch": batch,
        "seconds": sum(ours) / 3, "reference": sum(theirs) / 3 if theirs else None,
    }  # fmt: skip


def _reference(name: str, image: np.ndarray, c: Any, tape: Tape) -> Callable[[], Any]:
    """Return the reference with random numbers from NumPy.

    Two references of the tests are made for equality and not for speed; these do what the published code does.
    """
    random = np.random.RandomState(0)
    if name == "shot_noise":
        return lambda: levels(random.poisson(image / 255 * c) / c)
    if name == "glass_blur":
        return lambda: glass(image, c, random)
    return lambda: REFERENCES[name](image, c, _fresh(tape, random))


def _fresh(tape: Tape, random: np.random.RandomState) -> Iterator[Any]:
    """Draw again what a corruption has drawn for one image, by NumPy."""
    for name, args in tape.calls:
        if name == "normal":
            yield random.standard_normal(args[0])
        elif name == "uniform":
            yield random.uniform(*(args[1:] or (0.0, 1.0)), args[0])
        elif name == "integers":
            yield random.randint(0, args[0], args[1])
        else:
            yield random.randint(0, 2**62, args[0])


def glass(image: np.ndarray, c: tuple[float, int, int], random: np.random.RandomState) -> np.ndarray:
    """Glass blur with two random offsets drawn at each pixel."""
    sigma, reach, iterations = c
    x = levels(smooth(image / 255, sigma))
    for _ in range(iterations):
        for h in range(len(x) - reach, reach, -1):
            for w in range(len(x) - reach, reach, -1):
                right, down = random.randint(-reach, reach, size=(2,))
                x[h, w] = x[h + down, w + right]
    return levels(smooth(x / 255, sigma))


def fastest(call: Callable[[], Any], repeats: int, device: str = "cpu") -> float:
    """Return the least seconds of a call, after one that does not count."""
    call()
    seconds = []
    for _ in range(repeats):
        _wait(device)
        started = time.perf_counter()
        call()
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def photographs(size: int, n: int) -> np.ndarray:
    """Return n crops (n, size, size, 3) of scikit-learn's two sample images."""
    from sklearn.datasets import load_sample_images

    images = load_sample_images().images
    shifts = [(images[i % 2], 7 * i % (427 - size), 11 * i % (640 - size)) for i in range(n)]
    return np.stack([image[top : top + size, left : left + size] for image, top, left in shifts])


def table(rows: list[Row], size: int) -> Table:
    """Return what was measured at one size, and the sums over each suite."""
    shown = Table(title=f"{size} px", title_justify="left")
    for column in ("corruption", "images/s", "reference images/s", "times"):
        shown.add_column(column, justify="left" if column == "corruption" else "right")
    here = [row for row in rows if row["size"] == size]
    for suite in dict.fromkeys(row["suite"] for row in here):
        group = [row for row in here if row["suite"] == suite]
        for row in group:
            shown.add_row(row["name"], *_cells(row["seconds"], row["reference"]))
        both = [row for row in group if row["reference"]]
        sums = [sum(row[key] for row in both) for key in ("seconds", "reference")]
        shown.add_row(f"{suite}: {len(both)} of {len(group)}, one after the other", *_cells(*sums), end_section=True)
    return shown


def _cells(seconds: float, reference: float | None) -> tuple[str, str, str]:
    if not reference:
        return f"{1 / seconds:.1f}", "-", "-"
    return f"{1 / seconds:.1f}", f"{1 / reference:.1f}", f"{reference / seconds:.1f}"


def _text(row: Row) -> str:
    ours, theirs, times = _cells(row["seconds"], row["reference"])
    return f"{ours} images/s, reference {theirs}, {times} times"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", choices=sorted(SUITES), default=[32, 224])
    parser.add_argument("--suites", default="", help="by default those that were published for the size")
    parser.add_argument("--images", type=int, default=2, help="that the references take; fewer than the batch")
    parser.add_argument("--batch", type=int, help="images of one call; by default 64 at 32 px, 8 at 224 px")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
