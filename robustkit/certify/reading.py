"""Networks to graphs: which operations one forward pass calls, seen as it runs.

Observed (``TorchFunctionMode``, which is the calling thread's own), not traced symbolically: ``torch.fx`` patches
``nn.Module.__call__`` for the whole process while it traces. What a pass decides by the pixels' values cannot be read,
and is refused; that the graph is the network is checked on further images.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustkit.base.errors import UserError
from robustkit.certify.builders import BUILDERS
from robustkit.certify.graph import Graph, joined
from robustkit.certify.recording import Recorder, Unbounded
from robustkit.ensembles.folding import close_logits

TRIED = 2  # images that are looked at: a constant that differs between samples shows


def read(members: nn.ModuleList | list[nn.Module], x: Tensor) -> Graph:
    """Return the graph of an ensemble's members, in float64.

    Parameters
    ----------
    x : Tensor
        Images (B, C, H, W) in [0, 1] of which two are looked at, and on all of which graph and members must agree.

    Raises
    ------
    UserError
        If a member does something that has no bound here, naming it.
    """
    return joined([_read(member, at, x) for at, member in enumerate(members)])


@torch.no_grad()
def _read(member: nn.Module, at: int, x: Tensor) -> Graph:
    few = x[:1].expand(TRIED, *x.shape[1:]).clone()
    few[1:] = (few[1:] + 0.37) % 1
    recorder = Recorder(few, BUILDERS)
    with recorder:
        try:
            out = member(few)
        except Unbounded as error:
            raise UserError(f"member {at} cannot be certified: {error}") from None
    if not recorder.follows(out):
        raise UserError(f"member {at} cannot be certified: how its output comes from the images cannot be followed.")
    graph = Graph(tuple(recorder.nodes), (recorder.node(out),)).to(torch.float64)
    both = torch.cat([few, x])
    if not close_logits(graph.forward(both.double())[0].to(out.dtype), member(both)):
        raise UserError(f"member {at} cannot be certified: it does not answer as one pass of it did.")
    return graph
