"""What a file does not say is found on networks made so that the answer is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from shared_data import LOSSLESS, PUBLIC, TRUTH
from torch import Tensor, nn

from robustkit.auditing import comparing
from robustkit.auditing.adapting import STATISTICS, Adapted, Preprocessing
from robustkit.auditing.behaviour import kind_of
from robustkit.auditing.detecting import Detected, detect
from robustkit.auditing.entries import first_tensor
from robustkit.auditing.trials import Given, statistics, trial
from robustkit.base.errors import UserError

CENTRES = torch.tensor([[0.2, 0.5, 0.8], [0.8, 0.5, 0.2], [0.5, 0.9, 0.5], [0.5, 0.2, 0.5], [0.3, 0.3, 0.3]])

NOISE = 0.1  # of an image's colour: those of two classes hardly overlap


class Nearest(nn.Module):
    """Answers by the nearest mean colour, in the units that it was made for: right only if it is run so."""

    def __init__(self, how: Preprocessing, order: tuple[int, ...] = (0, 1, 2, 3, 4)) -> None:
        super().__init__()
        self.look = nn.Conv2d(3, 3, 1, bias=False)  # what says how many channels it takes
        self.look.weight.data = torch.eye(3)[:, :, None, None]
        seen = Recorder()
        Adapted(seen, how)(CENTRES[:, :, None, None])
        self.register_buffer("centres", seen.x[:, :, 0, 0][torch.tensor(order)])
        self.sharpness = float((torch.tensor(how.std).mean() / how.scale) ** 2) / (2 * NOISE**2)

    def forward(self, x: Tensor) -> Tensor:
        colour = self.look(x).mean((2, 3))
        return -self.sharpness * ((colour[:, None] - self.centres) ** 2).sum(2)


class Recorder(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return x.mean((2, 3))


@pytest.fixture(scope="module")
def coloured() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(200) % 5
    colour = CENTRES[y] + NOISE * torch.randn(200, 3, generator=generator)
    return colour[:, :, None, None].expand(-1, -1, 6, 6).contiguous(), y


def value(found: Detected, what: str) -> str:
    return next(f.value for f in found.findings if f.what == what)


def how_of(name: str, order: str = "rgb", scale: float = 1.0) -> Preprocessing:
    mean, std = STATISTICS[name]
    turn = slice(None, None, -1 if order == "bgr" else 1)
    return Preprocessing(mean[turn], std[turn], scale, order)


@pytest.mark.parametrize(
    ("name", "order", "scale"),
    [
        ("none", "rgb", 1.0),
        ("imagenet", "rgb", 1.0),
        ("half", "bgr", 1.0),
        ("none", "rgb", 255.0),
        ("caffe", "bgr", 1.0),
    ],
)
def test_normalisation_range_and_order_are_found(coloured, name: str, order: str, scale: float):
    found = detect(Nearest(how_of(name, order, scale)), *coloured)
    assert (found.trials[0].normalize, found.how.order, found.how.scale) == (name, order, scale)
    assert found.trials[0].accuracy > 0.9
    assert value(found, "pixel range") == ("0..255" if scale == 255 or name == "caffe" else "0..1")
    assert found.renaming is None
    assert found.candidates[0] is found.trials[0]
    # These images hardly refute statistics that are nearly the same, and that is a concern.
    unproven = ["normalisation"] * (len(found.candidates) > 1)
    assert [f.what for f in found.findings if f.concern] == unproven


class Hesitant(Nearest):
    """Answers with the first class where it is in doubt, so that more contrast makes it more accurate."""

    def forward(self, x: Tensor) -> Tensor:
        z = super().forward(x.clamp(-2.6, 2.6))
        return z + 4 * torch.nn.functional.one_hot(torch.zeros(len(x), dtype=torch.long), 5) * self.sharpness


def test_contrast_alone_refutes_nothing(coloured):
    network = Hesitant(how_of("cifar10"))
    found = detect(network, *coloured, Given(order="rgb"))
    score = {t.label: t.score for t in found.trials}
    right = {t.label: t.right for t in found.trials}
    assert score["cifar10-0.2"] > score["cifar10"] + 0.04
    assert comparing.better(right["cifar10-0.2"], right["cifar10"]) < 0.01 / len(found.trials)  # proven, and yet ...
    assert {"cifar10", "cifar10-0.2", "cifar100"} <= {t.label for t in found.candidates}
    assert {"none", "half", "none 0..255"}.isdisjoint(t.label for t in found.candidates)
    finding = next(f for f in found.findings if f.what == "normalisation")
    assert (finding.how, finding.concern) == ("assumed", True)
    assert "contrast alone, 0.8 and 1.25 times, gives" in finding.evidence
    assert f"cifar10 ({score['cifar10']:.3f})" in finding.evidence
    given = detect(network, *coloured, Given(normalize="cifar10", order="rgb"))
    assert [t.label for t in given.candidates] == ["cifar10"]
    assert not [f for f in given.findings if f.concern]


def test_a_network_trained_to_resist_keeps_its_own_statistics_among_the_candidates():
    if not TRUTH.is_dir():
        pytest.skip("the networks of known truth are not at hand")
    network = nn.Sequential(
        nn.Conv2d(3, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(2048, 100), nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip
    weights = torch.load(TRUTH / "cifar_cnn_a_adv.model", weights_only=True)
    network.load_state_dict(weights["state_dict"][0] if "state_dict" in weights else weights)
    with np.load(TRUTH / "cifar_sdp.npz") as arrays:
        x, y = torch.from_numpy(arrays["x"]).permute(0, 3, 1, 2).float(), torch.from_numpy(arrays["y"]).long()
    found = detect(network, x, y)
    accuracy = {t.label: t.accuracy for t in found.candidates}
    assert (accuracy["cifar10"], accuracy["cifar10-0.2"]) == pytest.approx((0.7, 0.745))
    assert [f.what for f in found.findings if f.concern] == ["normalisation"]


def test_what_is_given_is_not_tried(coloured):
    found = detect(Nearest(how_of("imagenet")), *coloured, Given(normalize="imagenet", order="rgb", outputs="logits"))
    assert len(found.trials) == 1
    assert {f.how for f in found.findings if f.what in ("normalisation", "channel order", "outputs")} == {"given"}
    own = detect(Nearest(how_of("half")), *coloured, Given(normalize="0.5,0.5,0.5/0.5,0.5,0.5"))
    assert own.how.mean == (0.5, 0.5, 0.5)
    assert own.trials[0].accuracy > 0.9


def test_another_order_of_classes_is_reported_and_not_applied(coloured):
    found = detect(Nearest(how_of("imagenet"), order=(1, 2, 0, 3, 4)), *coloured)
    assert found.renaming == (2, 0, 1, 3, 4)
    assert found.trials[0].normalize == "imagenet"
    assert found.trials[0].accuracy < 0.5 < 0.9 < found.trials[0].renamed_accuracy
    [finding] = [f for f in found.findings if f.what == "class order"]
    assert finding.concern
    assert "nothing was renamed" in finding.evidence


def mostly(coloured: tuple[Tensor, Tensor], label: int, others: int, noise: float = 0.0) -> tuple[Tensor, Tensor]:
    """Images of one label, and so many others."""
    x, y = coloured
    ours, theirs = torch.nonzero(y == label).flatten(), torch.nonzero(y != label).flatten()
    rows = torch.cat([ours, theirs[:others]])
    generator = torch.Generator().manual_seed(1)
    return x[rows] + noise * torch.randn(len(rows), 3, 1, 1, generator=generator), y[rows]


@pytest.mark.parametrize("label", [0, 3])
@pytest.mark.parametrize("others", [0, 2])
def test_labels_that_cannot_tell_leave_plain_pixels_assumed(coloured, label: int, others: int):
    x, y = mostly(coloured, label, others, noise=0.2)  # right on some 70 %, a constant answer on 95 to 100 %
    network = Nearest(how_of("none"))
    found = detect(network, x, y)
    assert (found.trials[0].normalize, found.how.scale, found.how.order, found.renaming) == ("none", 1.0, "rgb", None)
    finding = next(f for f in found.findings if f.what == "normalisation")
    assert (finding.value, finding.how, finding.concern) == ("none", "assumed", True)
    assert "the labels cannot tell" in finding.evidence
    assert "plain pixels are assumed" in finding.evidence
    given = detect(network, x, y, Given(normalize="half"))
    assert next((f.value, f.how) for f in given.findings if f.what == "normalisation") == ("half", "given")


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_a_constant_answer_is_no_accuracy(coloured, scale: float):
    x, y = mostly(coloured, 2, 10)  # of 50, 40 are of one label
    found = detect(Nearest(how_of("none", scale=scale)), x, y)
    assert (found.trials[0].normalize, found.how.scale, found.renaming) == ("none", scale, None)
    assert found.trials[0].n == 20  # as many of the common label as there are others
    assert value(found, "normalisation") == "none"


def test_a_renaming_counts_on_images_that_it_was_not_fitted_to():
    y = torch.arange(60) // 2 % 30  # 30 classes of two images: any renaming of random answers fits half of them
    answers = torch.nn.functional.one_hot(torch.randperm(60, generator=torch.Generator().manual_seed(0)) // 2, 30)

    class Told(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return answers[: len(x)].float() * 9

    found = trial(Told(), "none", Preprocessing(channels=1), torch.rand(60, 1, 2, 2), y)
    assert found.renamed_accuracy > 0.4 > found.score
    assert not found.renamed


def test_a_model_that_knows_nothing_is_a_concern(coloured):
    x, y = coloured
    found = detect(Nearest(how_of("none")), x[torch.randperm(len(x), generator=torch.Generator().manual_seed(1))], y)
    assert next(f for f in found.findings if f.what == "normalisation").concern


@pytest.mark.parametrize(
    ("wrap", "kind"),
    [
        (lambda z: z, "logits"),
        (lambda z: z.softmax(1), "probabilities"),
        (lambda z: z.log_softmax(1), "log-probabilities"),
        (lambda z: {"aux": z * 0, "logits": z}, "logits"),
        (lambda z: (z, None), "logits"),
    ],
)
def test_kinds_of_outputs(coloured, wrap: Callable[[Tensor], object], kind: str):
    inner = Nearest(how_of("none"))

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> object:
            return wrap(self.inner(x))

    x, y = coloured
    found = detect(Wrapped(), x, y, Given(normalize="none", order="rgb", scale=1.0))
    assert found.how.outputs == kind
    ours = Adapted(Wrapped(), found.how)(x).softmax(1)
    torch.testing.assert_close(ours, inner(x).softmax(1), rtol=1e-4, atol=1e-6)


def test_kind_of_rows():
    assert kind_of(torch.tensor([[0.25, 0.75], [1.0, 0.0]])) == "probabilities"
    assert kind_of(torch.tensor([[0.25, 0.75], [1.0, 0.5]])) == "logits"
    assert kind_of(torch.tensor([[0.5, 0.5]]).log()) == "log-probabilities"
    assert kind_of(torch.tensor([[float("nan"), 0.5]])) == "logits"


class Odd(nn.Module):
    """A model with one habit that makes its numbers doubtful."""

    def __init__(self, habit: str) -> None:
        super().__init__()
        self.habit, self.inner = habit, Nearest(how_of("none"))
        self.norm = nn.BatchNorm1d(5, track_running_stats=False)
        self.drop = nn.Dropout(0.5)

    def train(self, mode: bool = True) -> Odd:
        super().train(mode)
        if self.habit == "training":
            self.drop.training = True
        return self

    def forward(self, x: Tensor) -> Tensor:
        z = self.inner(x)
        if self.habit == "batch":
            return self.norm(z) if len(z) > 1 else z
        if self.habit == "training":
            return z + 0 * self.drop(z)
        return z + torch.randn_like(z) if self.habit == "random" else z / 0 if self.habit == "nan" else z


@pytest.mark.parametrize(
    ("habit", "what"),
    [
        ("batch", "dependence on the batch"),
        ("training", "training mode"),
        ("random", "randomness"),
        ("nan", "finite outputs"),
    ],
)
def test_doubtful_habits_are_concerns(coloured, habit: str, what: str):
    found = detect(Odd(habit), *coloured, Given(normalize="none", order="rgb", scale=1.0))
    assert what in [f.what for f in found.findings if f.concern]
    calm = detect(Odd("none"), *coloured, Given(normalize="none", order="rgb", scale=1.0))
    assert not [f for f in calm.findings if f.concern]


def test_grey_and_colour_and_size():
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)
            self.head = nn.Linear(2 * 26 * 26, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).flatten(1))

    torch.manual_seed(0)
    found = detect(Sized(), torch.rand(60, 3, 32, 32), torch.arange(60) % 2)
    assert (found.how.channels, found.how.size) == (1, (28, 28))
    assert value(found, "input size") == "28x28"
    assert "turned to grey" in next(f.evidence for f in found.findings if f.what == "channels")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(7, 5)), "cannot be run on images of 3x6x6"),
        (nn.Conv2d(3, 5, 1), "returns a tensor of shape"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)), "has 4 outputs"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(coloured, network: nn.Module, message: str):
    with pytest.raises(UserError, match=message) as caught:
        detect(network, *coloured)
    assert "\n" not in str(caught.value)


def test_statistics_are_read_and_refused():
    assert statistics("0.1/0.2", 3) == ((0.1,), (0.2,))
    for text in ("imagnet", "1,2/3", "0.5/0", "0.1,0.2/0.1,0.2", "a/b"):
        with pytest.raises(UserError, match="is not known; write one of none, imagenet"):
            statistics(text, 3)


def test_what_is_no_row_of_logits_is_refused():
    with pytest.raises(UserError, match="returns str"):
        first_tensor("text")


def test_the_public_resnet20_takes_imagenets_statistics():
    file, images = PUBLIC, LOSSLESS
    if not file.is_file() or not images.is_file():
        pytest.skip("the public checkpoint is not at hand")
    from robustkit import models

    network = models.build("resnet20", 3, 10)
    state = torch.load(file, weights_only=True, map_location="cpu")["state_dict"]
    network.load_state_dict({key.removeprefix("module."): tensor for key, tensor in state.items()})
    with np.load(images) as arrays:
        x = torch.from_numpy(arrays["x"][:256]).permute(0, 3, 1, 2) / 255
        y = torch.from_numpy(arrays["y"][:256]).long()
    found = detect(network, x, y)
    assert (found.trials[0].normalize, found.how.order, found.how.scale, found.how.outputs) == (
        "imagenet",
        "rgb",
        1.0,
        "logits",
    )
    assert found.trials[0].accuracy > 0.9
    assert not [f for f in found.findings if f.concern]


def test_named_statistics_mean_pixels_in_0_1_unless_images_prove_otherwise():
    class Sure(nn.Module):
        """Right whatever the range of the pixels, and surer the larger they are."""

        def forward(self, images: Tensor) -> Tensor:
            return torch.stack([0.5 * images.amax((1, 2, 3)), images[:, 0, 0, 0]], 1)

    generator = torch.Generator().manual_seed(0)
    y = torch.arange(40) % 2
    x = 0.5 * torch.rand((40, 1, 8, 8), generator=generator)
    x[:, 0, 0, 0] = y.float()
    found = detect(Sure(), x, y, Given(normalize="none"))
    assert (found.trials[0].accuracy, found.how.scale, len(found.candidates)) == (1.0, 1.0, 1)
    assert len(detect(Sure(), x, y).candidates) > 1  # where nothing is named, nothing is known
