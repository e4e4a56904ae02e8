"""Images per second of every corruption, in batches, against references that take one image at a time.

python benchmarks/corruptions.py --threads 2 --json out.json --markdown tables.md    (the tables of docs/corruptions.md)
python benchmarks/corruptions.py --suites imagenet-c --sizes 224 --images 4 --device cuda

The references are those of the tests (NumPy, SciPy, OpenCV, Pillow): they need the packages of the extra ``test``.
Frost is cut from stand-ins for its photographs, which both sides keep in memory; "frost, grown" needs none.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "corruptions"))

import _corruption_tables as tables
import corruption_reference_bar  # noqa: F401 - fills REFERENCES
from corruption_constants import C32, C224
from corruption_reference import REFERENCES, levels, smooth
from corruption_tape import Tape
from corruption_textures import write_textures

from robustkit import corruptions
from robustkit.base import options
from robustkit.base.errors import UserError
from robustkit.base.files import write_json

SUITES = {224: "imagenet-c,imagenet-c-bar", 32: "cifar-c,cifar-c-bar"}
CONSTANTS = {224: ("imagenet", C224), 32: ("cifar", C32)}
TEXTURE = (600, 900)  # pixels of the stand-ins for the photographs of frost
Row = dict[str, Any]


class Ice(NamedTuple):
    """Photographs of frost: their folder, and what is in them."""

    folder: str
    photographs: list[np.ndarray]


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
    if args.markdown:
        args.markdown.write_text(tables.markdown(result), encoding="utf-8")
    for size in args.sizes:
        Console().print(tables.shown(result["rows"], size))
    print(tables.machine(result))
    return 0


def run(args: argparse.Namespace, console: Console) -> Row:
    """Time severities 1, 3 and 5 of every corruption; the fastest of ``--repeats`` rounds counts."""
    for label in ("images", "batch", "repeats"):
        options.at_least(label, getattr(args, label), 1)
    if args.threads:
        torch.set_num_threads(args.threads)
    load, started, rows = _load(), time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder:
        ice = Ice(folder, write_textures(Path(folder), *TEXTURE))
        for size in args.sizes:
            suites = [corruptions.suite(name) for name in options.names(args.suites or SUITES[size], kind="suite")]
            for suite, member in [(found.name, member.name) for found in suites for member in found.members]:
                rows.append(measure(suite, member, size, args, ice))
                if member == "frost":
                    rows.append(measure(suite, member, size, args, None))
                _say(rows[-2:] if member == "frost" else rows[-1:], console)
    return {
        "date": datetime.date.today().isoformat(), "device": args.device, "threads": torch.get_num_threads(),
        "cores": os.cpu_count(), "load": None if load is None else [load, _load()], "torch": torch.__version__,
        "seconds": time.perf_counter() - started, "repeats": args.repeats, "clock": args.clock, "rows": rows,
    }  # fmt: skip


def _load() -> float | None:
    """Return how many processes wanted a core in the last minute, where the platform counts."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def measure(suite: str, name: str, size: int, args: argparse.Namespace, ice: Ice | None) -> Row:
    """Return the seconds per image of one corruption, mean over three severities; None where there is no reference.

    Frost is cut from the photographs of ``ice``, or, without, grown.
    """
    table_name, constants = CONSTANTS[size]
    batch = args.batch or max(1, 64 * 32**2 // size**2) * (8 if size > 32 else 1)
    images = photographs(size, batch)
    x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255).to(args.device)
    grown = name == "frost" and ice is None
    more = {"textures": ice.folder} if ice and name == "frost" else {}
    ours, theirs = [], []
    for severity in (1, 3, 5):
        call = functools.partial(corruptions.get(name), x, severity, table=table_name, generator=0, **more)
        ours.append(fastest(call, args) / batch)
        if name in REFERENCES and name in constants and not grown:
            tape = Tape(0, args.images)
            corruptions.get(name)(x[: args.images].cpu(), severity, table=table_name, generator=tape, **more)
            each = [
                fastest(_reference(name, images[row], constants[name][severity - 1], tape, ice), args)
                for row in range(args.images)
            ]
            theirs.append(sum(each) / len(each))
    return {
        "suite": suite, "name": f"{name}, grown" if grown else name, "size": size, "batch": batch,
        "seconds": sum(ours) / 3, "reference": sum(theirs) / 3 if theirs else None,
    }  # fmt: skip


def _reference(name: str, image: np.ndarray, c: Any, tape: Tape, ice: Ice | None) -> Callable[[], Any]:
    """Return the reference with random numbers from NumPy.

    Two references of the tests are made for equality and not for speed; these do what the published code does.
    """
    random = np.random.RandomState(0)
    if name == "shot_noise":
        return lambda: levels(random.poisson(image / 255 * c) / c)
    if name == "glass_blur":
        return lambda: glass(image, c, random)
    if name == "frost" and ice:
        room = [int(side * (0.2 if len(image) == 32 else 1)) - len(image) for side in TEXTURE]
        return lambda: REFERENCES[name](image, c, iter([random.randint(n) for n in (5, *room)]), ice.photographs)
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


def fastest(call: Callable[[], Any], args: argparse.Namespace) -> float:
    """Return the least seconds of a call, after one that does not count."""
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    call()
    seconds = []
    for _ in range(args.repeats):
        _wait(args.device)
        started = clock()
        call()
        _wait(args.device)
        seconds.append(clock() - started)
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


def _say(rows: list[Row], console: Console) -> None:
    for row in rows:
        ours, theirs, times = tables.cells(row["seconds"], row["reference"])
        console.print(
            f"{row['size']} px {row['name']}: {ours} images/s, reference {theirs}, {times} times", highlight=False
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", choices=sorted(SUITES), default=[32, 224])
    parser.add_argument("--suites", default="", help="by default those that were published for the size")
    parser.add_argument("--images", type=int, default=2, help="that the references take; fewer than the batch")
    parser.add_argument("--batch", type=int, help="images of one call; by default 64 at 32 px, 8 at 224 px")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: seconds of all threads; for a busy machine"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path, help="write the tables as Markdown")
    return parser


if __name__ == "__main__":
    sys.exit(main())
