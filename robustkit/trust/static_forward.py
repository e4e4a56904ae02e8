"""A pass of the model computes its answer, and does not work on its input first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from robustkit.attacks import spec
from robustkit.trust import Evidence, Finding, check, probe
from robustkit.trust._evidence import Bools
from robustkit.trust._stronger import stronger

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.trust._job import Job


@probe("forward", per="ensemble", rows="all", quick={"images": 4}, full={"images": 4})
def forward(job: Job) -> dict[str, Bools]:
    """Whether a pass of one image runs autograd, or loops over a weight a number of times that hangs on the image.

    The first four images pass one by one, each under less uniform noise, so that they differ much: the first is noise
    alone, the last is as it came. A dispatch mode of PyTorch sees the operators that this thread runs meanwhile, the
    backward ones among them; it puts nothing on the model, and sees nothing of the attacks in other threads.

    Loops are compared from the second pass on, since the first may fill caches, and a weight counts if a pass uses it
    twice or more: an early exit and a router skip weights, and are no loops. What passes all the same: fixed numbers of
    steps without autograd (their gradient is right, unless it is cut off), search by trial alone, forward-mode
    derivatives, what is computed outside PyTorch or in another thread, and a defence that is asleep on these images or
    wherever no gradient is asked for. What is doubted though its gradient may be right: unrolled defences, implicit
    layers, recurrent nets that halt by themselves, experts that one image calls several times over.
    """
    import torch

    count = min(job.params["images"], len(job.x))
    noise = job.draws.uniform(job.x.shape[1:])[:count]
    share = torch.linspace(1, 0, count).view(-1, 1, 1, 1)
    points = (share * noise + (1 - share) * job.x[:count]).to(job.run_options.device)
    seen = [_watched(job.ensemble, point[None]) for point in points]
    found = {name: np.zeros(len(job.x), bool) for name in ("looked", "autograd", "loops")}
    found["looked"][:count] = True
    found["autograd"][:count] = [backward for backward, _ in seen]
    found["loops"][1:count] = list(_loops([uses for _, uses in seen[1:]]))
    return found


def _watched(model: nn.Module, x: Tensor) -> tuple[bool, Counter[int] | None]:
    """Return whether a pass runs autograd, and how often it uses each weight, None if it fails."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    weights = list(model.parameters())  # their identities are their own as long as they are held
    numbers = {id(weight): number for number, weight in enumerate(weights)}
    uses: Counter[int] = Counter()
    backward = False

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # else PyTorch imports its compiler, to hide from it what is never compiled: two seconds

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
        ) -> Any:
            nonlocal backward
            if torch._C._current_graph_task_id() != -1:  # -1: the autograd engine is not at work here
                backward = True
            for arg in args:
                if id(arg) in numbers:
                    uses[numbers[id(arg)]] += 1
            return func(*args, **(kwargs or {}))

    done = False  # a model that fails is for the run to speak of, not for this probe
    with suppress(Exception), torch.no_grad(), Watch():  # type: ignore[no-untyped-call]
        model(x)
        done = True
    return backward, uses if done else None


def _loops(passes: Sequence[Counter[int] | None]) -> Iterator[bool]:
    """Yield for each pass whether it uses some weight twice or more, and more often than another pass does."""
    whole = [uses for uses in passes if uses is not None]
    for uses in passes:
        yield uses is not None and any(n > 1 and n > min(other[w] for other in whole) for w, n in uses.items())


@check("static-forward", source="Croce et al. 2022, arXiv:2202.13711")
def static_forward(evidence: Evidence) -> Finding | None:
    """No pass runs autograd, or loops over a weight as often as the image asks for; asked of gradient attacks."""
    probed = evidence.facts.get("forward")
    if probed is None or not evidence.gradient or not probed.of("looked").any():
        return None
    seen = (probed.of("autograd") | probed.of("loops"))[probed.of("looked")]
    remedy = (stronger(), spec("square"))
    advice = (
        "the model optimises its input in each pass, so that a gradient through it misleads: attack the model without "
        f"that step and transfer what is found, or the unrolled step (BPDA); run {evidence.advised(*remedy)}"
    )
    return Finding(float(seen.mean()), 0.0, advice, remedy)
