"""Find the state dicts in what a file holds, strip the prefixes that wrappers leave, make the weights float32."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.auditing._limits import NESTING, Damaged, NoNetwork, clean
from robustkit.auditing._peel import AVERAGED, VERSIONS, Part, complete, first, peel, positional
from robustkit.auditing._pickle import Thing
from robustkit.auditing._tensors import TensorRef

WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "net_state_dict", "weights", "params",
    "module", "current_model_state", "online_model", "student",
)  # fmt: skip
LISTS = ("members", "models", "nets")
NUMBERED = re.compile(r"(?:model|member|net)_?(\d{1,3})")
EXTRA = "_extra_state"  # what modules keep beside tensors
VISITS, NETWORKS = 5000, 100


def parts(tree: Any) -> list[Part]:
    """Return every network in what a file holds; :class:`Damaged` says what it holds instead."""
    lightning = isinstance(tree, dict) and "pytorch-lightning_version" in tree
    if lightning:
        tree = {**tree, **_of_callbacks(tree.get("callbacks"))}
    found = _find(tree, "", 0, [VISITS], lightning)
    if len(found) > NETWORKS:
        raise Damaged(f"holds {len(found)} networks, {NETWORKS} at most are read")
    if not found and isinstance(tree, dict) and "param_groups" in tree:
        raise NoNetwork("holds an optimiser's state and no weights", "name the file of the weights")
    if not found:
        raise Damaged(f"holds no state dict but {_describe(tree)}")
    if len(found) > 1:
        for index, part in enumerate(found):
            part.index = index if part.index is None else part.index
    return found


def _of_callbacks(callbacks: Any) -> dict[str, Any]:
    """Return the averaged weights that a Lightning callback keeps, by where they lie."""
    each = callbacks.items() if isinstance(callbacks, dict) else ()
    return {
        f"callbacks.{name}.{key}": value
        for name, state in each if isinstance(state, dict)
        for key, value in state.items() if isinstance(key, str) and _averaged(key, value)
    }  # fmt: skip


def says(tree: Any) -> dict[str, str | int | float]:
    """Return the short scalars that lie beside the weights (``arch``, ``epoch``, ``best_prec1``), for the report."""
    found: dict[str, str | int | float] = {}
    for group in (tree, tree.get("hyper_parameters")) if isinstance(tree, dict) else ():
        for key, value in group.items() if isinstance(group, dict) else ():
            if isinstance(value, str | int | float) and not isinstance(value, bool) and len(found) < 20:
                found[clean(key, 40)] = clean(value) if isinstance(value, str) or abs(value) > 1e15 else value
    return found


def _is_tensor(node: Any) -> bool:
    return isinstance(node, TensorRef | Tensor)


def _find(node: Any, where: str, depth: int, left: list[int], lightning: bool) -> list[Part]:
    left[0] -= 1  # lists of one shared list multiply: a thousand bytes can name 10**24 places
    if isinstance(node, nn.Module):
        return [Part(where, None, node)]
    if depth > NESTING or left[0] < 0:
        return []
    if isinstance(node, list | tuple) and len(node) <= 1000:
        found = [_find(item, f"{where}[{index}]", depth + 1, left, lightning) for index, item in enumerate(node)]
        return [part for group in found for part in group] if all(found) else []
    if not isinstance(node, dict):
        return []
    below = f"{where}." if where else ""
    numbered = sorted((int(m[1]), key) for key in node if (m := NUMBERED.fullmatch(str(key))))
    inside = [(number, _find(node[key], f"{below}{key}", depth + 1, left, lightning)) for number, key in numbered]
    if inside and all(len(group) == 1 for _, group in inside):
        for number, group in inside:
            group[0].index = number
        return [group[0] for _, group in inside]
    holders = [key for key in (*WRAPPERS, *LISTS) if isinstance(node.get(key), dict | list | tuple | nn.Module)]
    holders += [key for key in node if key not in holders and isinstance(key, str) and _averaged(key, node[key])]
    held = [(key, _find(node[key], f"{below}{key}", depth + 1, left, lightning)) for key in holders]
    if found_here := _versions(node, held):
        return found_here
    tensors = {key: value for key, value in node.items() if _is_tensor(value)}
    rest = [key for key in node if key not in tensors]
    packed = [key for key in rest if isinstance(key, str) and key.endswith("_packed_params")]
    if packed and tensors:
        raise Damaged(
            f"holds the packed weights of quantised layers ('{clean(packed[0])}')",
            "name the weights from before quantisation, or the model as TorchScript, torch.export or ONNX",
        )
    extras = {key: node[key] for key in rest if isinstance(key, str) and key.endswith(EXTRA)}
    rest = [key for key in rest if key not in extras]
    if not tensors or any(isinstance(node[key], dict | list | tuple) and node[key] for key in rest):
        return []
    part = Part(where, tensors, extras=extras)
    if rest:
        part.notes.append(f"{len(rest)} entries that are no tensors were left out ({first(rest)})")
    return peel(part, lightning=lightning)


def _averaged(key: str, value: Any) -> bool:
    return AVERAGED.search(key) is not None and isinstance(value, dict | list | tuple | nn.Module)


def _versions(node: Mapping[str, Any], held: Sequence[tuple[str, list[Part]]]) -> list[Part]:
    """Return the networks below the first entry that holds some; the same ones below others become their versions."""
    filled = [(key, found) for key, found in held if found]
    if not filled:
        return []
    chosen, networks = filled[0]
    averaging = "averaging_state" in node  # as Lightning's WeightAveraging lays it out: the state dict is the average
    same: list[str] = []
    others: list[str] = []
    for key, found in held:
        for part in found:
            part.averaged = part.averaged or bool(AVERAGED.search(key)) or (averaging and key == "state_dict")
            part.version = f"{key}.{part.version}" if part.version else key
        if key == chosen:
            continue
        listed = _positional(node[key], networks[0]) if len(networks) == 1 and not found else None
        versions = found or ([replace(listed, averaged=True, version=key)] if listed else [])
        paired = len(versions) == len(networks) and len(same) < VERSIONS
        if paired and all(complete(b, a) for a, b in zip(networks, versions, strict=True)):
            same.append(key)
            for network, version in zip(networks, versions, strict=True):
                network.others += [version, *version.others]
        else:
            others.append(key)
    for part in networks if others else ():
        part.notes.append(f"the file also holds {', '.join(others)}; {part.where or chosen} is used")
    return networks


def _positional(node: Any, network: Part) -> Part | None:
    """Return an average kept as a list of the parameters, as torch_ema does it (``shadow_params``), or None."""
    values = node.get("shadow_params") if isinstance(node, dict) else node
    if not isinstance(values, list | tuple) or not values or not all(_is_tensor(value) for value in values):
        return None
    return positional(values, network)


def plain(value: Any, depth: int = 0) -> bool:
    """Return whether a value is data alone, so that a network's ``set_extra_state`` may be given it."""
    if isinstance(value, dict):
        return depth < NESTING and all(isinstance(key, str) and plain(inner, depth + 1) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return depth < NESTING and all(plain(inner, depth + 1) for inner in value)
    return value is None or isinstance(value, bool | int | float | str | bytes)


def float32(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return the state with every float as float32, integers as they are, and a note for what was converted.

    Raises
    ------
    Damaged
        If a weight is NaN or infinite, complex, or the state has no float at all.
    """
    done: dict[str, Tensor] = {}
    converted: dict[str, int] = {}
    for name, tensor in state.items():
        if tensor.is_complex() or tensor.layout is not torch.strided or tensor.is_quantized:
            raise Damaged(f"holds a tensor '{clean(name)}' that is complex, sparse or quantised")
        if tensor.is_floating_point():
            if tensor.dtype != torch.float32:
                kind = str(tensor.dtype).removeprefix("torch.")
                converted[kind] = converted.get(kind, 0) + 1
            value = tensor.detach().to(torch.float32)
            if not bool(torch.isfinite(value).all()):
                bad = int((~torch.isfinite(value)).sum())
                raise Damaged(
                    f"holds {bad} weights that are NaN or infinite, the first in '{clean(name)}'",
                    "name a checkpoint from before training diverged",
                )
            done[name] = value
        else:
            done[name] = tensor.detach()
    if not any(value.is_floating_point() and value.numel() for value in done.values()):
        raise Damaged("holds no floating-point weights")
    return done, [f"{count} tensors were converted from {kind} to float32" for kind, count in converted.items()]


def _describe(tree: Any) -> str:
    if isinstance(tree, dict):
        return f"a dict with the keys {first(list(tree), 5)}" if tree else "an empty dict"
    if isinstance(tree, list | tuple):
        return f"a {type(tree).__name__} of {len(tree)} items"
    if isinstance(tree, Thing):
        return f"an object of '{clean(tree.maker)}'"
    return "one tensor" if _is_tensor(tree) else f"an object of type {type(tree).__name__}"
