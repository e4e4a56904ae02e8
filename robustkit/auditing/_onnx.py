"""ONNX through onnx2torch, with every name in the graph replaced before a line of Python is generated from it.

onnx2torch makes a ``torch.fx`` graph, and torch.fx writes Python source with node names spliced into string literals
unescaped: a node named ``x") or ...`` runs code when the network is called (a test shows it). Names carry no meaning,
so all of them are replaced. Refused besides: external data (a path into the user's disk), subgraphs, local functions,
foreign operator domains, tensors whose declared shape disagrees with their bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from torch import nn

from robustkit.auditing._batches import InBatches, takes_any
from robustkit.auditing._limits import TENSORS, Damaged, clean
from robustkit.auditing._onnx_rewrite import dequantise, explicit_pads, lower, tensors, widen

NODES = 50_000
BITS = {"FLOAT": 32, "DOUBLE": 64, "BOOL": 8}  # of a number; the names of other types begin with them
FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def is_onnx(head: bytes, size: int) -> bool:
    """Return whether a file begins as a serialised ModelProto: ir_version, then fields of plausible lengths.

    Protocol buffers have no magic number; the first fields of ModelProto (numbers 1 to 8, small varints or strings
    that end inside the file) are recognised instead.
    """
    place, seen = 0, 0
    while place < len(head) - 1 and seen < 16:
        field, wire = head[place] >> 3, head[place] & 7
        if (wire, seen == 0) not in ((0, True), (0, False), (2, False)) or not 1 <= field <= 25 or head[place] > 127:
            return False
        if seen == 0 and (head[0] != 8 or not 3 <= head[1] <= 40):
            return False
        value, place = _varint(head, place + 1)
        if value is None:
            return False
        if wire == 2:
            if place + value > size:
                return field == 7 and seen > 0  # a graph that is cut off is still ONNX
            place += value
        seen += 1
    return seen > 1


def _varint(data: bytes, place: int) -> tuple[int | None, int]:
    value = 0
    for shift in range(0, 63, 7):
        if place >= len(data):
            return None, place
        value |= (data[place] & 127) << shift
        place += 1
        if data[place - 1] < 128:
            return value, place
    return None, place


def load(data: bytes) -> tuple[nn.Module, list[str]]:
    """Return the network of a serialised ONNX model, and what a report says of how it was read.

    ImportError where the extra ``onnx`` is not installed.
    """
    import onnx
    import onnx2torch
    from onnx2torch.node_converters import get_converter

    try:
        model = onnx.ModelProto.FromString(data)
    except Exception as error:  # google.protobuf's DecodeError, which has no public home
        # Cause: the download or the copy stopped early, or it is another protocol buffer.
        raise Damaged(f"is a damaged ONNX file ({clean(error)})") from None
    _check(model, onnx)
    _rename(model.graph)
    try:
        notes = [*widen(model.graph, onnx), *dequantise(model.graph, onnx, len(data)), *explicit_pads(model, onnx)]
        notes += lower(model, onnx, _known(get_converter))
        network: nn.Module = onnx2torch.convert(model)
    except Damaged:
        raise
    except Exception as error:  # NotImplementedError for an operator; KeyError, ValueError, ... for a broken graph
        if lacking := re.search(r"operation_type='(\w{1,60})', version=(\d{1,9})", str(error)):
            # Cause: the network is attacked as a PyTorch one, which onnx2torch makes of it, operator by operator.
            raise Damaged(
                f"is an ONNX file with the operator {lacking[1]}, version {lacking[2]}, which onnx2torch lacks",
                "export the model without it, with an older opset_version, or audit its PyTorch weights",
            ) from None
        why = f"{type(error).__name__}: {clean(error)}"
        # Cause: the graph uses an operator in a way that onnx2torch does not know, or is inconsistent.
        raise Damaged(f"is an ONNX file that onnx2torch cannot convert ({why})") from None
    network.eval()
    shape = _declared(model.graph)
    if not shape or shape[0] < 1 or (min(shape) > 0 and takes_any(network, shape)):
        return network, notes
    batched = InBatches(network, shape[0], shape[0])
    return batched, [*notes, *batched.notes()]


def _known(converter: Callable[[str, int], object]) -> Callable[[str, int], bool]:
    def known(operator: str, version: int) -> bool:
        try:
            return converter(operator, version) is not None
        except NotImplementedError:
            return False

    return known


def _declared(graph: Any) -> tuple[int, ...]:
    """Return the shape of the images that a graph takes, 0 for what is left open; () where it says nothing."""
    weights = {tensor.name for tensor in graph.initializer}
    images = next((row for row in graph.input if row.name not in weights), None)
    return tuple(dim.dim_value for dim in images.type.tensor_type.shape.dim) if images is not None else ()


def _check(model: Any, onnx: Any) -> None:
    graph = model.graph
    if model.functions or model.training_info or graph.sparse_initializer or graph.quantization_annotation:
        raise Damaged("is an ONNX file with functions, training steps, or sparse or quantised weights")
    if not graph.node or len(graph.node) > NODES or len(graph.initializer) > TENSORS:
        raise Damaged(f"is an ONNX file of {len(graph.node)} nodes, 1 to {NODES} are read")
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise Damaged(f"is an ONNX file with operators of the foreign domain '{clean(node.domain)}'")
        if any(a.HasField("g") or a.graphs or a.HasField("sparse_tensor") for a in node.attribute):
            # Cause: what a branch or loop does depends on the image; onnx2torch has none.
            raise Damaged("is an ONNX file with branches or loops")
    for tensor in tensors(graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            # Cause: an exporter puts weights above 2 GB, or all of them if asked, beside the graph.
            raise Damaged("is an ONNX file with its weights in other files", "save it with the weights inside")
        _check_tensor(tensor, onnx.TensorProto.DataType)


def _check_tensor(tensor: Any, types: Any) -> None:
    """Refuse a tensor of text or of an unknown type, and one that holds more or less than its shape says."""
    kind = types.Name(tensor.data_type) if tensor.data_type in types.values() else f"number {tensor.data_type}"
    if kind in ("UNDEFINED", "STRING") or kind.startswith("number"):
        raise Damaged(f"is an ONNX file with a tensor of the type {kind}, which is not read")
    count, digits = math.prod(tensor.dims), re.search(r"\d+", kind)
    bits = BITS.get(kind) or int(digits[0] if digits else 8)
    nbytes = -(-count * bits // 8)  # small numbers share bytes, those of 2 and 4 bits also in the fields
    held = max(len(getattr(tensor, field)) for field in FIELDS)
    expected = nbytes if bits in (2, 4) else 2 * count if kind.startswith("COMPLEX") else count
    if tensor.raw_data:
        held, expected = len(tensor.raw_data), nbytes
    if min([0, *tensor.dims]) < 0 or held != expected:
        # Cause: the file is damaged, or declares more numbers than it holds.
        raise Damaged("is an ONNX file with a tensor whose shape disagrees with its bytes")


def _rename(graph: Any) -> None:
    """Give every node and value a name of ours; the operators' own strings are left, none becomes source code."""
    names: dict[str, str] = {"": ""}

    def fresh(name: str) -> str:
        return names.setdefault(name, f"value_{len(names)}")

    for index, node in enumerate(graph.node):
        node.name = f"node_{index}"
        node.doc_string = ""
        for values in (node.input, node.output):
            values[:] = [fresh(name) for name in values]
    for rows in (graph.initializer, graph.input, graph.output, graph.value_info):
        for row in rows:
            row.name = fresh(row.name)
    graph.name = "graph"
