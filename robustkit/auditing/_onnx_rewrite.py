"""ONNX graphs said in other words, where onnx2torch lacks the exporter's: same values, other operators.

* ``auto_pad`` SAME_UPPER and SAME_LOWER, which exporters of TensorFlow and older ones write, become explicit pads;
* weights of types that numpy has only by ``ml_dtypes`` (INT4, BFLOAT16, 8-bit floats) become those that it has;
* ``DequantizeLinear`` of constants, which weight-only quantisation writes, becomes the floats that it gives;
* a version of the operators that only admits further types (21 has INT4) becomes an older one, with the same meaning.

Each returns a note of what it did, for the report.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from robustkit.auditing._limits import STATE_OVER_FILE, Damaged

Array = np.ndarray[Any, Any]
PADDED = ("Conv", "MaxPool", "AveragePool")
SIZED = "export the model for images of one size"
OLDEST = 13  # version of the operators that a newer one is turned to; before it, Softmax meant something else


def tensors(graph: Any) -> Iterator[Any]:
    """Yield every tensor that a graph holds: its initialisers, and its nodes' attributes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def widen(graph: Any, onnx: Any) -> list[str]:
    """Store every tensor of an unusual type as int8, uint8 or float32, whose values are the same."""
    kinds: dict[str, int] = {}
    for tensor in tensors(graph):
        if onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).isbuiltin == 1:
            continue
        name = onnx.TensorProto.DataType.Name(tensor.data_type)
        held = onnx.numpy_helper.to_array(tensor)
        wide = held.astype(np.uint8 if name.startswith("UINT") else np.int8 if name.startswith("INT") else np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(wide, tensor.name))
        kinds[name] = kinds.get(name, 0) + 1
    return [f"{count} tensors of the type {kind} were widened" for kind, count in kinds.items()]


def dequantise(graph: Any, onnx: Any, size: int) -> list[str]:
    """Replace every DequantizeLinear of constants by its result, a float32 initialiser.

    Parameters
    ----------
    size : int
        Bytes of the file, of which the results may take some multiple: many nodes may name one large tensor.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
    done, left = [], STATE_OVER_FILE * size + (1 << 16)
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or not all(name in constants for name in node.input if name):
            continue
        left -= 4 * math.prod(constants[node.input[0]].dims)
        if left < 0:
            # Cause: many operators name the same large tensor.
            raise Damaged("is an ONNX file whose quantised weights would take far more memory than it holds")
        x, scale, *zero = (onnx.numpy_helper.to_array(constants[name]) for name in node.input if name)
        said = {a.name: a.i for a in node.attribute}
        made = _dequantised(x, scale, zero[0] if zero else None, said.get("axis", 1), said.get("block_size", 0))
        graph.initializer.append(onnx.numpy_helper.from_array(made, node.output[0]))
        done.append(node)
    for node in done:
        graph.node.remove(node)
    return [f"{len(done)} quantised weights were computed as float32"] if done else []


def _dequantised(x: Array, scale: Array, zero: Array | None, axis: int, block: int) -> Array:
    """Return (x - zero) * scale, by tensor, by channel of ``axis``, or by blocks of ``block`` along it."""

    def along(values: Array) -> Array:
        if block and values.ndim == x.ndim:
            return values.repeat(block, axis).take(range(x.shape[axis]), axis)
        if values.size > 1 and values.ndim == 1:
            return values.reshape([-1 if at == axis % x.ndim else 1 for at in range(x.ndim)])
        return values.reshape(()) if values.size == 1 else values

    centred = x.astype(np.float32) - (0 if zero is None else along(zero).astype(np.float32))
    made: Array = (centred * along(scale).astype(np.float32)).astype(np.float32)
    if made.shape != x.shape:
        raise ValueError(f"scales of shape {scale.shape} do not fit weights of shape {x.shape}")
    return made


def explicit_pads(model: Any, onnx: Any) -> list[str]:
    """Write out the padding that SAME_UPPER and SAME_LOWER stand for.

    The output has ceil(size / stride) places, so that the padding depends on the size of the input where the stride is
    above one; it is that which the graph declares.
    """
    same = [node for node in model.graph.node if node.op_type in PADDED and _same(node)]
    if not same:
        return []
    shapes = _shapes(onnx.shape_inference.infer_shapes(model, data_prop=True).graph)
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for node in same:
        _write_pads(model, node, shapes.get(node.input[0], ()), weights, onnx)
    kinds = sorted({_same(node) for node in same})
    for node in same:
        _without(node, "auto_pad", "ceil_mode")
    return [f"the padding {' and '.join(kinds)} of {len(same)} operators was written out"]


def lower(model: Any, onnx: Any, known: Any) -> list[str]:
    """Declare the newest version of the operators in which onnx2torch knows all of them, if they mean the same there.

    Between two versions an operator means the same where the older one has all inputs and attributes that are used.

    Parameters
    ----------
    known : callable
        Whether there is a converter of an operator by name and version.
    """
    rows = [row for row in model.opset_import if row.domain in ("", "ai.onnx")]
    declared = rows[0].version if rows else 0

    def schema(node: Any, version: int) -> Any:
        return onnx.defs.get_schema(node.op_type, max_inclusive_version=version)

    def fits(node: Any, version: int) -> bool:
        older = schema(node, version)
        said = {a.name for a in node.attribute} <= set(older.attributes) and len(node.input) <= older.max_input
        return bool(
            known(node.op_type, older.since_version)
            and (said or older.since_version == schema(node, declared).since_version)
        )

    try:
        newest = onnx.defs.onnx_opset_version()  # what a version beyond it means, nobody here knows
        for version in range(declared if declared <= newest else 0, OLDEST - 1, -1):
            if all(fits(node, version) for node in model.graph.node):
                rows[0].version = version
                return [f"operators of version {declared} were read as of {version}"] if version < declared else []
    except onnx.defs.SchemaError:  # no such operator: the converter names it
        pass
    return []


def _same(node: Any) -> str:
    kind = next((a.s.decode("ascii", "replace") for a in node.attribute if a.name == "auto_pad"), "")
    return kind if kind in ("SAME_UPPER", "SAME_LOWER") else ""


def _shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of every value, 0 for what is left open."""
    rows = [*graph.input, *graph.value_info, *graph.output]
    found = {row.name: tuple(dim.dim_value for dim in row.type.tensor_type.shape.dim) for row in rows}
    return {**found, **{tensor.name: tuple(tensor.dims) for tensor in graph.initializer}}


def _write_pads(model: Any, node: Any, shape: Sequence[int], weights: dict[str, tuple[int, ...]], onnx: Any) -> None:
    said = {a.name: list(a.ints) for a in node.attribute}
    kernel = said.get("kernel_shape") or list(weights.get(node.input[1] if len(node.input) > 1 else "", ())[2:])
    rank = len(kernel)
    strides, dilations = said.get("strides") or [1] * rank, said.get("dilations") or [1] * rank
    sizes = list(shape[2:]) if len(shape) == rank + 2 else [0] * rank
    pads: tuple[list[int], list[int]] = [], []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        if stride != 1 and size < 1:
            raise Damaged(f"is an ONNX file whose padding {_same(node)} depends on a size that it leaves open", SIZED)
        steps = 0 if stride == 1 else (math.ceil(size / stride) - 1) * stride - size + 1
        total = max((k - 1) * dilation + steps, 0)
        less, more = total // 2, total - total // 2
        pads[0].append(less if _same(node) == "SAME_UPPER" else more)
        pads[1].append(more if _same(node) == "SAME_UPPER" else less)
    _without(node, "pads")
    if node.op_type == "AveragePool" and pads[0] != pads[1]:
        _pad_before_mean(model, node, pads, sizes, (kernel, strides), onnx)
    else:
        node.attribute.append(onnx.helper.make_attribute("pads", [*pads[0], *pads[1]]))


def _pad_before_mean(
    model: Any, node: Any, pads: tuple[list[int], list[int]], sizes: list[int],
    windows: tuple[list[int], list[int]], onnx: Any,
) -> None:  # fmt: skip
    """Write an average pooling of another padding before than behind as zeros around, mean, and a factor.

    onnx2torch has none. Where padding does not count, each mean is multiplied by the share of its window that does.
    """
    if min(sizes) < 1:
        raise Damaged(f"is an ONNX file whose padding {_same(node)} depends on a size that it leaves open", SIZED)
    graph, at = model.graph, list(model.graph.node).index(node)
    counts = next((a.i for a in node.attribute if a.name == "count_include_pad"), 0)
    padded, mean, result = f"{node.name}_padded", f"{node.name}_mean", node.output[0]
    amounts = [0, 0, *pads[0], 0, 0, *pads[1]]
    if max((row.version for row in model.opset_import if row.domain in ("", "ai.onnx")), default=1) < 11:
        pad = onnx.helper.make_node("Pad", [node.input[0]], [padded], pads=amounts, name=f"{node.name}_pad")
    else:
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(amounts, np.int64), f"{node.name}_amounts"))
        pad = onnx.helper.make_node("Pad", [node.input[0], f"{node.name}_amounts"], [padded], name=f"{node.name}_pad")
    node.input[0] = padded
    if not counts:
        share: Array = np.ones((1, 1, *[1] * len(sizes)), np.float32)
        for axis, (size, before, k, stride) in enumerate(zip(sizes, pads[0], *windows, strict=True)):
            starts = np.arange(math.ceil(size / stride)) * stride - before
            held = np.minimum(starts + k, size) - np.maximum(starts, 0)
            share = share * (k / held).reshape([-1 if at == axis + 2 else 1 for at in range(len(sizes) + 2)])
        graph.initializer.append(onnx.numpy_helper.from_array(share.astype(np.float32), f"{node.name}_share"))
        node.output[0] = mean
        factor = onnx.helper.make_node("Mul", [mean, f"{node.name}_share"], [result], name=f"{node.name}_factor")
        graph.node.insert(at + 1, factor)
    graph.node.insert(at, pad)


def _without(node: Any, *names: str) -> None:
    for attribute in [a for a in node.attribute if a.name in names]:
        node.attribute.remove(attribute)
