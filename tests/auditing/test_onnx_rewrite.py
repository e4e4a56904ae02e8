"""What onnx2torch lacks is said in other words, and every word is held against a second implementation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from robustkit.auditing.reading import ModelInFile, read
from robustkit.base.errors import UserError

onnx = pytest.importorskip("onnx")
reference = pytest.importorskip("onnx.reference")
pytest.importorskip("onnx2torch")
helper, kind = onnx.helper, onnx.TensorProto


def written(path: Path, nodes: list[Any], held: list[Any], shape: Sequence[Any], opset: int = 13) -> Path:
    """Write a graph from x of some shape to y, with a weight of one where it has none."""
    if not held:
        nodes = [helper.make_node("Mul", ["x", "one"], ["once"]), *nodes]
        nodes[1].input[0] = "once"
        held = [onnx.numpy_helper.from_array(np.ones(1, np.float32), "one")]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", kind.FLOAT, shape)],
        [helper.make_tensor_value_info("y", kind.FLOAT, None)], held,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def answer(found: ModelInFile, x: Tensor) -> Tensor:
    with torch.no_grad():
        return found.module(x)


def padded(x: Tensor, windows: Sequence[tuple[int, int, int]], kind: str, value: float) -> Tensor:
    """Pad the last two axes as TensorFlow's SAME does, by its definition: ceil(size / stride) places."""
    amounts: list[int] = []
    for size, (k, stride, dilation) in reversed(list(zip(x.shape[2:], windows, strict=True))):
        total = max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        amounts += [total // 2, total - total // 2] if kind == "SAME_UPPER" else [total - total // 2, total // 2]
    return functional.pad(x, amounts, value=value)


WINDOWS = [  # (kernel, stride, dilation) of rows and of columns
    ((3, 1, 1), (3, 1, 1)), ((2, 1, 1), (4, 1, 1)), ((3, 2, 1), (2, 2, 1)), ((2, 3, 1), (1, 2, 1)),
    ((3, 2, 2), (3, 1, 2)),
]  # fmt: skip


@pytest.mark.parametrize("opset", [10, 13])
@pytest.mark.parametrize("same", ["SAME_UPPER", "SAME_LOWER"])
def test_same_padding_is_written_out(same: str, opset: int, tmp_path: Path):
    generator = torch.Generator().manual_seed(0)
    for size, windows in itertools.product([(8, 8), (7, 9)], WINDOWS):
        x = torch.randn(2, 3, *size, generator=generator)
        kernel, strides, dilations = (list(values) for values in zip(*windows, strict=True))
        said: dict[str, Any] = {"auto_pad": same, "strides": strides}
        weight = torch.randn(4, 3, *kernel, generator=generator)
        held = [onnx.numpy_helper.from_array(weight.numpy(), "w")]
        conv = helper.make_node("Conv", ["x", "w"], ["y"], dilations=dilations, **said)  # without kernel_shape
        expected = functional.conv2d(padded(x, windows, same, 0.0), weight, stride=strides, dilation=dilations)
        cases = [(conv, held, expected)]
        flat = [(k, stride, 1) for k, stride, _ in windows]
        highest = functional.max_pool2d(padded(x, flat, same, -torch.inf), kernel, strides)
        cases.append((helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=kernel, **said), [], highest))
        zeros, inside = (padded(v, flat, same, 0.0) for v in (x, torch.ones_like(x)))
        mean, share = (functional.avg_pool2d(v, kernel, strides) for v in (zeros, inside))
        for counts, average in ((1, mean), (0, mean / share)):
            node = helper.make_node(
                "AveragePool", ["x"], ["y"], kernel_shape=kernel, count_include_pad=counts, ceil_mode=0, **said
            )
            if opset == 10:  # which has no ceil_mode that is not zero
                node.attribute.remove(next(a for a in node.attribute if a.name == "ceil_mode"))
            cases.append((node, [], average))
        for node, tensors, want in cases:
            path = written(tmp_path / "m.onnx", [node], tensors, ["b", 3, *size], opset)
            (found,) = read(path)
            torch.testing.assert_close(answer(found, x), want, rtol=1e-5, atol=1e-5)
            assert f"the padding {same} of 1 operators was written out" in found.notes
            if node.op_type == "Conv":  # the one whose padding the reference implements for every window
                other = reference.ReferenceEvaluator(str(path)).run(None, {"x": x.numpy()})[0]
                torch.testing.assert_close(torch.from_numpy(other), want, rtol=1e-5, atol=1e-5)


def test_same_padding_follows_the_shapes_through_the_graph(tmp_path: Path):
    """The second convolution sees 4x4 of 7x7: its padding is another than that of the first."""
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(3, 3, 3, 3, generator=generator) for _ in range(2)]
    held = [onnx.numpy_helper.from_array(w.numpy(), f"w{i}") for i, w in enumerate(weights)]
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["y"], auto_pad="SAME_LOWER", strides=[2, 2]),
    ]
    (found,) = read(written(tmp_path / "m.onnx", nodes, held, ["b", 3, 7, 7]))
    x = torch.randn(2, 3, 7, 7, generator=generator)
    same = ((3, 2, 1),) * 2
    first = functional.conv2d(padded(x, same, "SAME_UPPER", 0.0), weights[0], stride=2).relu()
    second = functional.conv2d(padded(first, same, "SAME_LOWER", 0.0), weights[1], stride=2)
    torch.testing.assert_close(answer(found, x), second, rtol=1e-5, atol=1e-5)
    assert "the padding SAME_LOWER and SAME_UPPER of 2 operators was written out" in found.notes


def test_an_open_size_is_refused_only_where_the_padding_depends_on_it(tmp_path: Path):
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(2))
    held = [onnx.numpy_helper.from_array(weight.numpy(), "w")]
    node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER")
    (found,) = read(written(tmp_path / "m.onnx", [node], held, ["b", 3, "h", "w"]))
    x = torch.rand(2, 3, 6, 5)
    torch.testing.assert_close(answer(found, x), functional.conv2d(x, weight, padding=1), rtol=1e-5, atol=1e-5)
    node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2])
    with pytest.raises(UserError, match=r"padding SAME_UPPER depends on a size that it leaves open; export the model"):
        read(written(tmp_path / "m.onnx", [node], held, ["b", 3, "h", "w"]))


def packed(name: str, codes: np.ndarray, raw: bool) -> Any:
    """Return four-bit numbers as the standard lays them out: two a byte, the first in the lower half."""
    low = [int(code) & 15 for code in codes.ravel()]
    low += [0] * (len(low) % 2)
    data = [a | b << 4 for a, b in zip(low[::2], low[1::2], strict=True)]
    tensor = onnx.TensorProto(name=name, data_type=kind.INT4, dims=codes.shape)
    if raw:
        tensor.raw_data = bytes(data)
    else:
        tensor.int32_data.extend(data)
    return tensor


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "field"])
@pytest.mark.parametrize(("axis", "block"), [(None, 0), (0, 0), (1, 0), (0, 3), (1, 2)])
def test_weights_of_four_bits_are_the_floats_that_they_stand_for(axis, block: int, raw: bool, tmp_path: Path):
    generator = np.random.default_rng(0)
    codes = generator.integers(-8, 8, (5, 3)).astype(np.int8)  # fifteen numbers: the last byte is half empty
    shape: tuple[int, ...] = () if axis is None else (codes.shape[axis],)
    if block:
        shape = tuple(-(-n // block) if at == axis else n for at, n in enumerate(codes.shape))
    scale = np.asarray(generator.uniform(0.5, 2, shape), np.float32)
    zero = np.asarray(generator.integers(-3, 4, shape), np.int8)
    said: dict[str, Any] = {} if axis is None else {"axis": axis}
    if block:
        said["block_size"] = block
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], **said),
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    held = [packed("q", codes, raw), onnx.numpy_helper.from_array(scale, "s"), packed("z", zero, raw)]
    (found,) = read(written(tmp_path / "m.onnx", nodes, held, ["b", 5], 21))
    wide = [np.repeat(v, block, axis)[tuple(slice(n) for n in codes.shape)] if block else v for v in (scale, zero)]
    if axis == 0 and not block:
        wide = [v[:, None] for v in wide]
    expected = (codes - wide[1].astype(np.float32)) * wide[0]
    x = torch.rand(4, 5)
    torch.testing.assert_close(answer(found, x), x @ torch.from_numpy(expected), rtol=1e-5, atol=1e-5)
    assert "2 tensors of the type INT4 were widened" in found.notes
    assert "1 quantised weights were computed as float32" in found.notes


def test_bfloat16_and_eight_bit_weights_are_widened(tmp_path: Path):
    values = [1.5, -2.0, 0.25, 3.0]
    for name, opset in (("BFLOAT16", 13), ("FLOAT16", 13), ("FLOAT8E4M3FN", 19)):
        weight = helper.make_tensor("w", getattr(kind, name), [2, 2], values)
        cast = helper.make_node("Cast", ["w"], ["v"], to=kind.FLOAT)
        (found,) = read(
            written(
                tmp_path / "m.onnx", [cast, helper.make_node("MatMul", ["x", "v"], ["y"])], [weight], ["b", 2], opset
            )
        )
        x = torch.rand(3, 2)
        torch.testing.assert_close(answer(found, x), x @ torch.tensor(values).reshape(2, 2))


def test_a_packed_tensor_of_another_length_is_refused(tmp_path: Path):
    codes = np.arange(-4, 5, dtype=np.int8).reshape(3, 3)
    nodes = [helper.make_node("DequantizeLinear", ["q", "s"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])]
    scale = onnx.numpy_helper.from_array(np.float32(1), "s")
    for raw in (True, False):
        tensor = packed("q", codes, raw)
        tensor.dims[0] = 4  # six bytes' worth of twelve, of which five are there
        with pytest.raises(UserError, match="whose shape disagrees with its bytes"):
            read(written(tmp_path / "m.onnx", nodes, [tensor, scale], ["b", 3], 21))


def test_scales_that_do_not_fit_are_refused(tmp_path: Path):
    nodes = [helper.make_node("DequantizeLinear", ["q", "s"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])]
    held = [packed("q", np.zeros((3, 3), np.int8), True), onnx.numpy_helper.from_array(np.ones(2, np.float32), "s")]
    with pytest.raises(UserError, match="onnx2torch cannot convert") as caught:
        read(written(tmp_path / "m.onnx", nodes, held, ["b", 3], 21))
    assert "\n" not in str(caught.value)


def test_many_results_of_one_large_tensor_are_refused_unmade(tmp_path: Path):
    nodes = [helper.make_node("DequantizeLinear", ["q", "s"], [f"w{i}"]) for i in range(200)]
    nodes.append(helper.make_node("MatMul", ["x", "w0"], ["y"]))
    held = [packed("q", np.zeros((300, 300), np.int8), True), onnx.numpy_helper.from_array(np.float32(1), "s")]
    with pytest.raises(UserError, match="would take far more memory"):
        read(written(tmp_path / "m.onnx", nodes, held, ["b", 300], 21))


def test_operators_of_a_newer_version_are_read_as_of_an_older_one(tmp_path: Path):
    weight = torch.randn(10, 4 * 6 * 6, generator=torch.Generator().manual_seed(3))
    kernel = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(4))
    held = [onnx.numpy_helper.from_array(v.numpy(), name) for v, name in ((kernel, "k"), (weight, "v"))]
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["a"], auto_pad="SAME_UPPER"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "v"], ["d"], transB=1),
        helper.make_node("Softmax", ["d"], ["y"], axis=-1),
    ]
    (found,) = read(written(tmp_path / "m.onnx", nodes, held, ["b", 3, 6, 6], 22))
    x = torch.rand(2, 3, 6, 6)
    expected = (functional.conv2d(x, kernel, padding=1).relu().flatten(1) @ weight.T).softmax(1)
    torch.testing.assert_close(answer(found, x), expected, rtol=1e-4, atol=1e-5)
    assert any(note.startswith("operators of version 22 were read as of ") for note in found.notes)


def test_an_operator_that_nobody_converts_is_named(tmp_path: Path):
    held = [onnx.numpy_helper.from_array(np.ones(3, np.float32), "w")]
    node = helper.make_node("Det", ["x"], ["y"])
    with pytest.raises(UserError, match="with the operator Det, version 11, which onnx2torch lacks; export the model"):
        read(written(tmp_path / "m.onnx", [node, helper.make_node("Add", ["y", "w"], ["z"])], held, [3, 3], 13))
