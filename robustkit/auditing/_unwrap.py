"""Find the state dicts in what a file holds, strip the prefixes that wrappers leave, make the weights float32."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.auditing._limits import NESTING, Damaged, clean
from robustkit.auditing._pickle import Thing
from robustkit.auditing._tensors import TensorRef

WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "net_state_dict", "weights", "params",
    "ema_state_dict", "ema", "model_ema",
)  # fmt: skip
LISTS = ("members", "models", "nets")
NUMBERED = re.compile(r"(?:model|member|net)_?(\d{1,3})")
LISTED = re.compile(r"(?:(?:models|members|nets)\.|(?:model|member|net)_)(\d{1,3})\.")
PREFIXES = ("module.", "_orig_mod.", "backbone.", "model.", "net.", "network.")
VISITS, NETWORKS = 5000, 100


@dataclass
class Part:
    """One network's weights as declared, or a network; where in the file it lies, what was noticed."""

    where: str
    state: dict[str, TensorRef | Tensor] | None
    module: nn.Module | None = None
    index: int | None = None
    notes: list[str] = field(default_factory=list)


def parts(tree: Any) -> list[Part]:
    """Return every network in what a file holds; :class:`Damaged` says what it holds instead."""
    found = _find(tree, "", 0, [VISITS])
    if len(found) > NETWORKS:
        raise Damaged(f"holds {len(found)} networks, {NETWORKS} at most are read")
    if not found:
        raise Damaged(f"holds no state dict but {_describe(tree)}")
    split = [piece for part in found for piece in _split(part)]
    for part in split:
        if part.state is not None:
            _strip(part, lightning=isinstance(tree, dict) and "pytorch-lightning_version" in tree)
    if len(split) > 1:
        for index, part in enumerate(split):
            part.index = index if part.index is None else part.index
    return split


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


def _find(node: Any, where: str, depth: int, left: list[int]) -> list[Part]:
    left[0] -= 1  # lists of one shared list multiply: a thousand bytes can name 10**24 places
    if isinstance(node, nn.Module):
        return [Part(where, None, node)]
    if depth > NESTING or left[0] < 0:
        return []
    if isinstance(node, list | tuple) and len(node) <= 1000:
        found = [_find(item, f"{where}[{index}]", depth + 1, left) for index, item in enumerate(node)]
        return [part for group in found for part in group] if all(found) else []
    if not isinstance(node, dict):
        return []
    below = f"{where}." if where else ""
    numbered = sorted((int(m[1]), key) for key in node if (m := NUMBERED.fullmatch(str(key))))
    inside = [(number, _find(node[key], f"{below}{key}", depth + 1, left)) for number, key in numbered]
    if inside and all(len(group) == 1 for _, group in inside):
        for number, group in inside:
            group[0].index = number
        return [group[0] for _, group in inside]
    holders = [key for key in (*WRAPPERS, *LISTS) if isinstance(node.get(key), dict | list | tuple | nn.Module)]
    for key in holders:
        if found_here := _find(node[key], f"{below}{key}", depth + 1, left):
            others = [name for name in holders if name != key]
            for part in found_here if others else ():
                part.notes.append(f"the file also holds {', '.join(others)}; {below}{key} is used")
            return found_here
    tensors = {key: value for key, value in node.items() if _is_tensor(value)}
    rest = [key for key in node if key not in tensors]
    if not tensors or any(isinstance(node[key], dict | list | tuple) and node[key] for key in rest):
        return []
    part = Part(where, tensors)
    if rest:
        part.notes.append(f"{len(rest)} entries that are no tensors were left out ({_first(rest)})")
    return [part]


def _split(part: Part) -> list[Part]:
    """Split a state dict of a ModuleList (``members.0.conv1.weight``) into its networks."""
    groups: dict[int, dict[str, TensorRef | Tensor]] = {}
    for key, value in (part.state or {}).items():
        match = LISTED.match(_bare(key))
        if not match:
            return [part]
        groups.setdefault(int(match[1]), {})[_bare(key)[match.end() :]] = value
    if not groups:
        return [part]
    note = f"{len(groups)} networks lie in one state dict"
    return [Part(part.where, group, None, number, [*part.notes, note]) for number, group in sorted(groups.items())]


def _bare(key: str) -> str:
    while key.startswith(("module.", "_orig_mod.")):
        key = key.removeprefix("module.").removeprefix("_orig_mod.")
    return key


def _strip(part: Part, *, lightning: bool) -> None:
    state, stripped = part.state or {}, ""
    while prefix := next(
        (p for p in PREFIXES if state and all(len(k) > len(p) and k.startswith(p) for k in state)), ""
    ):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
        stripped += prefix
    if lightning and not stripped:
        held = [p for p in PREFIXES if sum(key.startswith(p) for key in state) > 1]
        if len(held) == 1:
            rest = [key for key in state if not key.startswith(held[0])]
            state = {key.removeprefix(held[0]): value for key, value in state.items() if key.startswith(held[0])}
            stripped = held[0]
            part.notes.append(f"{len(rest)} tensors outside '{stripped}' were left out ({_first(rest)})")
    part.state = state
    if stripped:
        part.notes.append(f"the prefix '{stripped}' was stripped from every key")
        part.where = f"{part.where or 'top level'}, prefix {stripped}"


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


def _first(keys: Sequence[object], count: int = 3) -> str:
    return ", ".join(clean(key, 40) for key in keys[:count]) + (", ..." if len(keys) > count else "")


def _describe(tree: Any) -> str:
    if isinstance(tree, dict):
        return f"a dict with the keys {_first(list(tree), 5)}" if tree else "an empty dict"
    if isinstance(tree, list | tuple):
        return f"a {type(tree).__name__} of {len(tree)} items"
    if isinstance(tree, Thing):
        return f"an object of '{clean(tree.maker)}'"
    return "one tensor" if _is_tensor(tree) else f"an object of type {type(tree).__name__}"
