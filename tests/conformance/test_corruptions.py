"""Every registered corruption keeps every promise: nobody has to tell this suite about a new one."""

from __future__ import annotations

import ast
import inspect
import textwrap

import pytest
import torch
from torch import Tensor

from robustkit import corruptions
from robustkit.base.errors import UserError
from robustkit.base.registry import Entry
from robustkit.corruptions import corruption
from robustkit.functional.sampling import SampleGenerator

ENTRIES = list(corruption)
each = pytest.mark.parametrize("entry", ENTRIES, ids=[entry.name for entry in ENTRIES])
# More of these does not mean further from the image: saturation is lowered first and raised then, and the constants of
# these were tuned by how many images a model gets wrong.
NOT_BY_DISTANCE = {"saturate", "elastic_transform", "spatter", "defocus_blur", "glass_blur", "caustic_refraction"}


def images(batch: int = 5, channels: int = 3, height: int = 20, width: int = 20, seed: int = 0) -> Tensor:
    """Smooth images with dark and bright corners, at 8-bit levels."""
    small = SampleGenerator(seed, torch.arange(batch), "images").uniform((channels, 4, 4))
    x = torch.nn.functional.interpolate(small, (height, width), mode="bilinear", align_corners=True)
    return ((1.4 * x - 0.2).clamp(0, 1) * 255).round() / 255


def reads_its_generator(entry: Entry) -> bool:
    """Whether the code uses the parameter; a corruption that draws nothing takes it for the signature alone."""
    [function] = ast.parse(textwrap.dedent(inspect.getsource(corruption.get(entry.name)))).body
    return any(isinstance(node, ast.Name) and node.id == "generator" for node in ast.walk(function))


def draw(rows: Tensor) -> SampleGenerator:
    return SampleGenerator(3, rows, "conformance")


@each
@pytest.mark.parametrize("shape", [(20, 20), (8, 8), (9, 13), (32, 17)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_range_levels_and_input(entry: Entry, shape: tuple[int, int], channels: int):
    x = images(2, channels, *shape)
    before = x.clone()
    for severity in (1, 5):
        made = corruption.get(entry.name)(x, severity, generator=0)
        assert made.shape == x.shape
        assert made.dtype == x.dtype
        assert float(made.min()) >= 0
        assert float(made.max()) <= 1
        assert torch.equal((made * 255).round() / 255, made), "not at 8-bit levels"
    assert torch.equal(x, before), "the input was changed"


@each
def test_a_sample_is_the_same_alone_and_in_a_batch_of_64(entry: Entry):
    x, rows = images(64, height=16, width=16), torch.arange(64) * 7
    function = corruption.get(entry.name)
    together = function(x, 4, generator=draw(rows))
    for row in (0, 5, 63):
        alone = function(x[row : row + 1], 4, generator=draw(rows[row : row + 1]))
        apart = (alone - together[row : row + 1]).abs() * 255
        assert float(apart.max()) <= 1.001  # sums of other shapes round otherwise: a level may change, rarely
        assert float((apart > 0.5).float().mean()) < 0.01


@each
def test_the_generator_decides_and_nothing_else(entry: Entry):
    x = images(4)
    function = corruption.get(entry.name)
    state = torch.get_rng_state()
    first, second, other = (function(x, 3, generator=seed) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"
    assert torch.equal(first, other) == (not reads_its_generator(entry))


@each
def test_severity_moves_images_further(entry: Entry):
    x = images(24, height=32, width=32)
    function = corruption.get(entry.name)
    away = [float((function(x, severity, generator=0) - x).abs().mean()) for severity in (1, 2, 3, 4, 5)]
    assert min(away) > 1e-3, away
    if entry.name not in NOT_BY_DISTANCE:
        assert away[4] > 1.1 * away[0], away


@each
def test_gradient_where_it_is_promised(entry: Entry):
    """The directional derivative is the difference quotient, in double precision, away from the ends of the range."""
    grain = SampleGenerator(8, torch.arange(2)).uniform((3, 16, 16))  # no two pixels are equal: a maximum has one place
    x = (0.3 + 0.35 * images(2, height=16, width=16) + 0.05 * grain).double().requires_grad_()
    function = corruption.get(entry.name)

    def value(at: Tensor) -> Tensor:
        return (function(at, 1, quantize=False, generator=0) * weights).sum()

    weights = draw(torch.arange(2)).uniform((3, 16, 16)).double()
    if not entry.facts["differentiable"]:
        assert not function(x, 1, quantize=False, generator=0).requires_grad
        return
    (gradient,) = torch.autograd.grad(value(x), x)
    direction = SampleGenerator(9, torch.arange(2)).normal((3, 16, 16)).double()
    step = 1e-5
    with torch.no_grad():
        quotient = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    assert float(gradient.abs().max()) > 0
    assert float((gradient * direction).sum()) == pytest.approx(float(quotient), rel=0.02, abs=0.02)


@each
def test_bad_input(entry: Entry):
    function, x = corruption.get(entry.name), images(1)
    for severity in (0, 6, -1, 2.5, True):
        with pytest.raises(UserError, match=f"severity {severity} is out of range"):
            function(x, severity, generator=0)
    with pytest.raises(UserError, match=r"torch.uint8 cannot be corrupted; give floats"):
        function((x * 255).to(torch.uint8), 1, generator=0)
    with pytest.raises(
        UserError, match=r"torch.float16 cannot be corrupted; give floats in \[0, 1\], like x.float\(\)\."
    ):
        function(x.half(), 1, generator=0)
    with pytest.raises(UserError, match=r"pixels from 0 to 255 are outside \[0, 1\]"):
        function(torch.tensor([0.0, 255.0]).repeat(600).view(1, 3, 20, 20), 1, generator=0)
    with pytest.raises(UserError, match="pixels from nan to nan are outside"):
        function(x * float("nan"), 1, generator=0)
    with pytest.raises(UserError, match="7x20 pixels are too small"):
        function(x[:, :, :7], 1, generator=0)
    with pytest.raises(UserError, match=r"shape \(1, 2, 20, 20\) cannot be corrupted"):
        function(x[:, :2], 1, generator=0)
    with pytest.raises(UserError, match="table 'mnist' is unknown"):
        function(x, 1, table="mnist", generator=0)


@each
def test_facts_are_complete(entry: Entry):
    assert entry.facts["fidelity"] in ("exact", "near", "distribution")
    assert entry.facts["family"] in ("noise", "blur", "weather", "digital", "obscure", "distortion")
    assert entry.facts["source"]
    assert {"table", "quantize"} <= {param.name for param in entry.params}


def test_every_corruption_is_in_a_suite_and_the_counts_are_those_published():
    names = {suite.name: [member.name for member in suite.members] for suite in corruptions.SUITES.values()}
    without = set(corruption.names()) - {name for members in names.values() for name in members}
    assert not without, f"in no suite of robustkit/corruptions/__init__.py, so that no command runs them: {without}"
    assert len(names["imagenet-c"]) == len(names["cifar-c"]) == 15
    assert len(names["imagenet-c-bar"]) == len(names["cifar-c-bar"]) == 10
    assert len({*names["imagenet-c-bar"], *names["cifar-c-bar"]}) == 15
    assert len(names["imagenet-c-extra"]) == 4
    fixed = {m.name: m.params["strength"] for m in corruptions.SUITES["design-diversity"].members}
    assert fixed == {"plasma_noise": 4.0, "checkerboard_cutout": 4.0, "water_drop": 7.0, "lines": 1.6}
