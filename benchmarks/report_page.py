"""How long report.html takes: to render, beside another checkout in turns, and to open and to filter in a browser.

python benchmarks/report_page.py --out found                     # one ensemble, 10,000 samples x 12 cells
python benchmarks/report_page.py --out found --other ../before   # and the page of the checkout in that folder
python benchmarks/report_page.py --out found --ensembles 2       # 24 cells
python benchmarks/report_page.py --out found --evaluation robustkit-out   # one that is there: that of the README, say

The evaluation is made up: answers by chance, the more of them wrong the larger eps is; nothing is trained or attacked.
Rendering is counted in a process of its own, after everything is imported: the page alone (`html`), and the whole of
`robustkit report --format html`, which reads the store and computes every number as well. On a machine that others use
the seconds of the CPU say more than those of the clock; both are printed. The browser is a chromium
(--browser) that Playwright drives. Opening is from the address to the table of samples; a filter is from the change of
an input to the frame that shows it, in the page's own clock, and the slowest filter is the one whose median over all
openings is largest: one opening of many on a busy machine says nothing of the page. The machine's load is noted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustkit.attacks import spec
from robustkit.base.files import write_json
from robustkit.records import originals
from robustkit.records.cells import Cell, DatasetRecord, EnsembleRecord, Facts, Run
from robustkit.records.samples import Samples
from robustkit.records.store import STUDY, Store
from robustkit.study.plan import Study

ATTACKS, EPS, MEMBERS, SHAPE = ("fgsm", "pgd", "mim", "apgd-ce"), (2 / 255, 4 / 255, 8 / 255), 3, (3, 32, 32)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RESULTS = "results.json"
IMAGES = 256  # samples whose images are kept
MOST_OPEN, MOST_FILTER, MOST_SHARE = 2.0, 0.1, 0.5  # seconds, seconds, share of the other checkout's (issue 24)
ARGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
# Run in the other checkout as well: nothing here is newer than what is compared with.
RENDER = """
import json, sys, time
from pathlib import Path
from robustkit import api, reports
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
api.report(folder, out=out, formats=("html",))
cold = json.loads((out / "results.json").read_text())
start, cpu = time.perf_counter(), time.process_time()
reports.write(cold, out, ["html"])
page, page_cpu = time.perf_counter() - start, time.process_time() - cpu
start = time.perf_counter(); api.report(folder, out=out, formats=("html",)); whole = time.perf_counter() - start
print(json.dumps({"page": page, "page_cpu": page_cpu, "whole": whole, "bytes": (out / "report.html").stat().st_size}))
"""
# Each of them: what to change, to which value; the clock stops in the frame after the one that paints.
FILTERS = """async (changes) => {
  const painted = () => new Promise((done) => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = done;
    channel.port2.postMessage("");
  }));
  document.querySelector("details#samples").open = true;
  document.querySelector("details#samples").scrollIntoView();
  await painted();
  await painted();
  const seconds = [];
  for (const [what, value] of changes) {
    const start = performance.now();
    if (what.startsWith("click ")) document.querySelector(what.slice(6)).click();
    else {
      const input = document.querySelector(what);
      input.value = value;
      input.dispatchEvent(new Event("input", { bubbles: true }));
    }
    await painted();
    const count = document.querySelector("#explorer-count").textContent;
    seconds.push([`${what} ${value}`, (performance.now() - start) / 1000, count]);
    await painted();
  }
  return seconds;
}"""
CHANGES = (
    ("#explorer-search", "c"), ("#explorer-search", "ca"), ("#explorer-search", "cat"), ("#explorer-search", ""),
    ("#explorer-outcome", "broken"), ("#explorer-attack", "1"), ("#explorer-budget", "2"),
    ("#explorer-outcome", "withstood"), ("#explorer-label", "3"), ("#explorer-search", "cat fgsm"),
    ("click #explorer-reset", ""), ("click th[data-key='by 0'] button", ""), ("click th[data-key='after'] button", ""),
    ("click th[data-key='id'] button", ""), ("click #explorer-last", ""), ("#explorer-outcome", "attacked"),
)  # fmt: skip


def make(folder: Path, n: int, ensembles: int, seed: int = 0) -> Path:
    """Write an evaluation whose samples are by chance; nothing where it is there already."""
    if (folder / "runs" / STUDY).is_file():
        return folder
    random = np.random.default_rng(seed)
    names = ("baseline", "adp", "gal", "dverge", "trs", "mora-trained")[:ensembles]
    records = tuple(
        EnsembleRecord(
            name, hashlib.sha256(name.encode()).hexdigest(), name, {}, ("net",), MEMBERS, "mean-prob", "ab" * 32
        )
        for name in names
    )  # fmt: skip
    sha = hashlib.sha256(f"{n} {seed}".encode()).hexdigest()
    study = Study(
        records, DatasetRecord("cifar10", "test", n, CLASSES, sha, SHAPE), tuple(spec(name) for name in ATTACKS), EPS,
        "linf", EPS[-1], suites=("attacks",), reference=False, trust="off", version="0.1.0",
    )  # fmt: skip
    store = Store(folder / "runs")
    y, images = random.integers(0, 10, n), random.random((IMAGES, *SHAPE), np.float32)
    store.save_facts(Facts(originals.cell_of(sha, study.version), {"ids": np.arange(IMAGES), "images": images}))
    for at, record in enumerate(records):
        robust = random.random(n) + 0.05 * at  # a sample withstands what is weaker than it
        for cell in (study.clean(record), *study.white_box(record)):
            store.save(Run(cell, _samples(random, cell, y, robust, images)))
    write_json(folder / "runs" / STUDY, study.to_json())
    return folder


def _samples(random: np.random.Generator, cell: Cell, y: Any, robust: Any, images: Any) -> Samples:
    """Return answers by chance: wrong where an attack is stronger than a sample."""
    n, eps = len(y), cell.eps or 0.0
    strength = 0.06 + 14 * eps * (0.6 + 0.15 * (ATTACKS.index(cell.name) if cell.name else 0))
    logits = random.normal(size=(MEMBERS, n, len(CLASSES))).astype(np.float32)
    wrong = robust[None] + 0.1 * random.normal(size=(MEMBERS, n)) < strength
    said = np.where(wrong, (y + random.integers(1, 10, n)) % 10, y)
    np.put_along_axis(logits, said[:, :, None], 6.0, 2)
    logits -= np.log(np.exp(logits).sum(2, keepdims=True))
    fused = np.log(np.exp(logits).mean(0))
    sizes, counts = np.full(n, eps, np.float32), np.full(n, 10)
    change = eps * np.sign(random.normal(size=images.shape)).astype(np.float32)
    return Samples(
        ids=np.arange(n), y=y, target=np.full(n, -1), member_logits=logits, fused=fused, l0=sizes, l1=sizes, l2=sizes,
        linf=sizes, forwards=counts, backwards=counts, seconds=sizes, status=np.zeros(n, np.int64),
        carried=np.zeros(n, np.int64), history=np.zeros((0, 1), np.float32),
        examples=np.clip(images + change, 0, 1) if eps else images[:0],
    )  # fmt: skip


def rendered(checkout: Path, folder: Path, out: Path) -> dict[str, float]:
    """Return the seconds of the page alone and of the whole report, in a new process of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", RENDER, str(folder), str(out)], env=environment, check=True, capture_output=True,
        text=True, cwd=checkout,
    )  # fmt: skip
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


@dataclass(frozen=True)
class Opening:
    """One opening of a page: seconds of the clock and of the main thread, and what each change of a filter took."""

    seconds: float
    cpu: float
    filters: list[tuple[str, float]]
    filter_cpu: float  # of the main thread, mean


def browsed(page_file: Path, browser: str, times: int) -> Iterator[Opening]:
    """Open a page so often, and change its filters each time."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=list(ARGS))
        for _ in range(times):
            page = chromium.new_page(viewport={"width": 1300, "height": 900})
            tools = page.context.new_cdp_session(page)
            tools.send("Performance.enable", {"timeDomain": "threadTicks"})
            start = time.perf_counter()
            page.goto(page_file.resolve().as_uri())
            page.wait_for_selector("#explorer:not([hidden])", state="attached")
            seconds, cpu = time.perf_counter() - start, _busy(tools)
            filters = [(what, took) for what, took, _ in page.evaluate(FILTERS, [list(change) for change in CHANGES])]
            yield Opening(seconds, cpu, filters, (_busy(tools) - cpu) / len(CHANGES))
            page.close()
        chromium.close()


def _busy(tools: Any) -> float:
    """Return for how many seconds the main thread of a page has computed."""
    metrics = tools.send("Performance.getMetrics")["metrics"]
    return next(float(one["value"]) for one in metrics if one["name"] == "TaskDuration")


def in_browser(page_file: Path, browser: str, times: int) -> dict[str, Any]:
    """Open a page so often; print and return the medians of opening it and of its filters, and the slowest filter."""
    opened = list(browsed(page_file, browser, times))
    by: dict[str, list[float]] = {}
    for one in opened:
        for what, seconds in one.filters:
            by.setdefault(what.strip(), []).append(seconds)
    medians = {what: statistics.median(every) for what, every in by.items()}
    slowest = max(medians, key=medians.__getitem__)
    cpu = statistics.median(one.filter_cpu for one in opened)
    found: dict[str, Any] = {
        "open": statistics.median(one.seconds for one in opened),
        "open_cpu": statistics.median(one.cpu for one in opened),
        "filter": {
            "median": statistics.median(medians.values()), "most": medians[slowest], "of": slowest, "cpu": cpu,
        },
    }  # fmt: skip
    print(
        f"opens in {found['open']:.2f} s ({found['open_cpu']:.2f} s of the main thread); a filter takes "
        f"{1000 * found['filter']['median']:.0f} ms, the slowest {1000 * medians[slowest]:.0f} ms ({slowest}), "
        f"{1000 * cpu:.0f} ms of the main thread; medians of {times} openings"
    )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return 1 where a figure is not what issue 24 asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the evaluation and the pages")
    parser.add_argument("--other", type=Path, help="another checkout, rendered in turns with this one")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--ensembles", type=int, default=1)
    parser.add_argument(
        "--evaluation", type=Path, help="a folder of an evaluation that is there, instead of a made up one"
    )
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--openings", type=int, default=9, help="of the page in the browser")
    parser.add_argument("--browser", default="/usr/bin/chromium", help="empty: none is opened")
    given = parser.parse_args(arguments)
    folder = given.evaluation or make(given.out / f"evaluation-{given.n}-{given.ensembles}", given.n, given.ensembles)
    checkouts = {"this": Path(__file__).resolve().parents[1]}
    checkouts |= {"other": given.other.resolve()} if given.other else {}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    for _ in range(given.turns):
        for name, checkout in checkouts.items():
            found[name].append(rendered(checkout, folder.resolve(), (given.out / name).resolve()))
    median = {
        name: {what: statistics.median(one[what] for one in turns) for what in ("page", "page_cpu", "whole", "bytes")}
        for name, turns in found.items()
    }
    evaluated = json.loads((given.out / "this" / RESULTS).read_text("utf-8"))
    result: dict[str, Any] = {
        "n": evaluated["dataset"]["n"], "cells": len(evaluated["evaluations"]), "load": os.getloadavg()[0],
        "rendering": median,
    }  # fmt: skip
    print(f"{result['n']} samples x {result['cells']} cells, load {result['load']:.1f} on {os.cpu_count()} cores")
    passed = True
    for name, one in median.items():
        print(
            f"{name}: page {one['page']:.2f} s ({one['page_cpu']:.2f} s of the CPU), whole {one['whole']:.2f} s, "
            f"{one['bytes'] / 1e6:.2f} MB"
        )
    if given.other:
        result["share"] = {what: median["this"][what] / median["other"][what] for what in ("page", "page_cpu", "whole")}
        print("share: " + ", ".join(f"{what} {value:.2f}" for what, value in result["share"].items()))
        passed = result["share"]["page"] <= MOST_SHARE
    if given.browser:
        result |= in_browser(given.out / "this" / "report.html", given.browser, given.openings)
        passed &= result["open"] <= MOST_OPEN and result["filter"]["most"] <= MOST_FILTER
    write_json(given.out / "report_page.json", result)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
