"""What a worker of Ray runs: pieces, with what it has loaded and prepared kept from one to the next."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from robustkit.base.errors import RunError, UserError
from robustkit.evaluation.executors import Recipe
from robustkit.evaluation.executors._travel import Packed, pack, unpack
from robustkit.evaluation.executors._worker import Once, Worker

KEPT = 16  # models and what was prepared of them that a process keeps, the last used
_ONCE = Once(KEPT)
met: dict[str, str] = {}  # the versions of the driver, once they were found to be those of this process


def run(payload: Packed, names: Sequence[str], values: Sequence[Packed]) -> tuple[str, Packed, float]:
    """Run a piece; return an outcome, what belongs to it, and the seconds.

    ``done``: its value. ``raised``: an error that every try would meet. ``broke``: what happened to this try alone, as
    far as anybody knows, in a sentence.

    Parameters
    ----------
    payload : Packed
        ``function``, ``arguments``, ``label``, and of the worker: ``device``, ``cpus``, ``halvings``, and ``kept``:
        the names of what a process keeps once it has it.
    names, values : sequences
        What is shared, as it travelled; a :class:`Recipe` is followed once.
    """
    os.environ["ROBUSTKIT_CACHE"] = os.path.join(tempfile.gettempdir(), f"robustkit-worker-{os.getpid()}")
    started = time.perf_counter()
    shared = dict(zip(names, values, strict=True))
    try:
        piece = unpack(payload)
        torch.set_num_threads(piece["cpus"])
        device = torch.device(piece["device"])
        worker = Worker(
            device, piece["cpus"] if device.type == "cpu" else 1,
            lambda name: _get(name, shared, worker, name in piece["kept"]), _ONCE, halvings=piece["halvings"],
        )  # fmt: skip
        value = pack(piece["function"](worker, **piece["arguments"]), piece["label"])
        return "done", value, time.perf_counter() - started
    except (UserError, RunError) as error:
        return "raised", pack((type(error) is UserError, str(error)), "an error"), time.perf_counter() - started
    except (MemoryError, torch.OutOfMemoryError) as error:  # as where the system ends the process: again, with less
        raise MemoryError(str(error)) from None
    except Exception as error:  # noqa: BLE001 - whatever it is, another node may be without it
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return "broke", pack(said, "an error"), time.perf_counter() - started


def _get(name: str, shared: Mapping[str, Packed], worker: Worker, kept: bool) -> Any:
    def make() -> Any:
        value = unpack(shared[name])
        if isinstance(value, Recipe):
            return value.function(worker, **value.arguments)
        return value.to(worker.device).eval() if isinstance(value, torch.nn.Module) else value

    return _ONCE(name, make) if kept else make()
