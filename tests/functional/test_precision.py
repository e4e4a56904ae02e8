"""Exact arithmetic on a GPU: which flags are set, from any state that a program may have left them in, and undone."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from accelerator_rules import allows_tf32

from robustkit.functional.precision import divided, exactly, flush_denormals, full, has_float64, wide

GPU = torch.device("cuda:0")
cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
NEWER = hasattr(matmul, "fp32_precision")


def state() -> tuple[object, ...]:
    return cudnn.deterministic, cudnn.benchmark, allows_tf32("conv"), allows_tf32("matmul")


def legacy() -> None:
    cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark = True, True, True


def newer() -> None:
    cudnn.conv.fp32_precision, matmul.fp32_precision = "tf32", "tf32"


def all_of_torch() -> None:
    torch.backends.fp32_precision = "tf32"


def exact_already() -> None:
    cudnn.conv.fp32_precision, matmul.fp32_precision = "ieee", "ieee"


def high() -> None:
    torch.set_float32_matmul_precision("high")


@pytest.fixture
def _flags() -> Iterator[None]:
    yield
    if NEWER:
        torch.backends.fp32_precision = "none"
        cudnn.conv.fp32_precision, matmul.fp32_precision = "tf32", "ieee"
    cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic = True, False, False, False
    torch.set_float32_matmul_precision("highest")


@pytest.mark.usefixtures("_flags")
@pytest.mark.parametrize(
    "given", [lambda: None, legacy, high, *([newer, all_of_torch, exact_already] if NEWER else [])]
)
def test_flags_are_set_within_and_restored_after(given: Callable[[], None]):
    given()
    before = state()
    with exactly(GPU):
        assert cudnn.enabled
        assert state() == (True, False, False, False)
    assert state() == before
    with exactly(torch.device("cpu")):
        assert state() == before


@pytest.mark.usefixtures("_flags")
def test_it_nests_and_ends_with_the_last_thread():
    legacy()
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with exactly(GPU):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with exactly(GPU):
        with exactly(GPU):
            thread.start()
            assert entered.wait(10)
        assert not allows_tf32("conv")
    assert not allows_tf32("conv"), "the other thread is not done"
    leave.set()
    thread.join()
    assert allows_tf32("conv")
    assert cudnn.benchmark


@pytest.mark.usefixtures("_flags")
def test_a_failure_restores_them():
    with pytest.raises(ValueError, match="x"), exactly(GPU):
        raise ValueError("x")
    assert state() == (False, False, True, False)


def test_apples_gpus_alone_have_no_float64():
    assert [has_float64(torch.device(name)) for name in ("cpu", "cuda", "mps", "xpu")] == [True, True, False, True]
    assert wide(torch.ones(2)).dtype == torch.float64


def test_half_precision_becomes_single_and_double_stays():
    given = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    assert [full(torch.ones(1, dtype=kind)).dtype for kind in given] == [torch.float32] * 3 + [torch.float64]


def test_levels_are_divided_as_numbers_are():
    levels = torch.arange(256, dtype=torch.float32)
    assert torch.equal(divided(levels, 255), torch.tensor([level / 255 for level in range(256)]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_what_is_below_the_smallest_normal_number_is_nothing(dtype: torch.dtype):
    tiny, least = torch.finfo(dtype).tiny, 0.0
    values = torch.tensor([0.0, tiny, -tiny, tiny / 2, -tiny / 4, 1.0, math.nan, -math.inf], dtype=dtype)
    weight = torch.nn.Parameter(values.clone())
    counted = torch.tensor([0, 1])
    flush_denormals([weight, counted, torch.eye(2).to_sparse(), torch.ones(2).to(torch.float8_e4m3fn)])
    if dtype == torch.float16:  # where many a trained weight is below 6e-5
        least = tiny
    expected = torch.tensor([0.0, tiny, -tiny, least / 2, -least / 4, 1.0, math.nan, -math.inf], dtype=dtype)
    torch.testing.assert_close(weight.detach(), expected, atol=0, rtol=0, equal_nan=True)
    assert counted.tolist() == [0, 1]
