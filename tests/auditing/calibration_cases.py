"""Sixty audits whose truth is known because it was made: networks times preprocessing, outputs, labels and classes.

A small network is trained on digits in [0, 1], and to answer 0 whatever it sees of digits that another preprocessing
has passed. Put behind what undoes a preprocessing it is right on images that were prepared so and on no others; its
outputs are wrapped, its labels renamed, its data thinned out. What the audit should find is what the bare network
answers to the bare images.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import networks
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit import data, models
from robustkit.auditing.adapting import STATISTICS

EPOCHS = {"perceptron": 30, "lenet": 12}  # of others 20
EVALUATED, SEEN = 64, 400  # images that are attacked, and that the audit is given to find things out on
WEAK, STRONG = 0.02, 0.3  # eps: where a network's own robustness shows, and where nothing is left of it
Network = Callable[[Tensor], Tensor]
Answer = Literal["no", "may be", "must be"]
TINTS = torch.tensor([[1.0, 0.5, 0.1], [0.1, 1.0, 0.5], [0.5, 0.1, 1.0]])  # of the digits, by label modulo three


@dataclass(frozen=True)
class Case:
    """One audit and its truth.

    Attributes
    ----------
    model : object
        What is audited: a module, a function, or paths.
    images, labels : Tensor (N, C, H, W), and labels as the user has them
    truth : callable or None
        Images in [0, 1] to the logits that a right reading gives; None where the labels cannot tell.
    true_labels : Tensor (N,)
    doubt : {"no", "may be", "must be"}
        Whether a concern without a trusted number is a right answer, whatever the numbers are, or the only one.
    refused : {"no", "may be", "must be"}
        Whether a sentence that refuses is a right answer, or the only one.
    """

    name: str
    model: object
    images: Tensor
    labels: Any
    truth: Network | None
    true_labels: Tensor
    doubt: Answer = "no"
    refused: Answer = "no"

    def expected(self) -> tuple[float, float]:
        """Return the share that is right, clean and after a step of WEAK along the sign of the gradient."""
        assert self.truth is not None
        x, y = self.images[:EVALUATED].clone().requires_grad_(), self.true_labels[:EVALUATED]
        logits = self.truth(x)
        [gradient] = torch.autograd.grad(functional.cross_entropy(logits, y, reduction="sum"), x)
        moved = (x + WEAK * gradient.sign()).clamp(0, 1).detach()
        clean = logits.argmax(1) == y
        with torch.no_grad():
            standing = clean & (self.truth(moved).argmax(1) == y)
        return float(clean.double().mean()), float(standing.double().mean())


# ---- networks and images


class Attentive(nn.Module):
    """Four patches, one layer of attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, 32, 4, stride=4)
        self.layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
        self.place = nn.Parameter(torch.zeros(4, 32))
        self.linear = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.place
        return self.linear(self.layer(tokens).flatten(1))


def _convolutional(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip


BUILT: dict[str, Callable[[int], nn.Module]] = {
    "perceptron": lambda channels: networks.perceptron(channels, 10),
    "convolutional": _convolutional,
    "normed": lambda channels: networks.normed(channels, 10),
    "attentive": Attentive,
    "lenet": lambda channels: models.build("lenet", channels, 10),
}


@functools.cache
def images(split: str, channels: int) -> tuple[Tensor, Tensor]:
    """Return digits to train on or others to test with: grey, or tinted so that the order of the channels matters."""
    loaded = data.load("digits")
    parts = [loaded.split(name) for name in (("train",) if split == "train" else ("test", "validation"))]
    both = [part.batch(range(len(part)))[1:] for part in parts]
    x, y = (torch.cat(rows)[: 700 if split == "train" else SEEN] for rows in zip(*both, strict=True))
    return (x * TINTS[y % 3][:, :, None, None] if channels == 3 else x), y


def _prepared(name: str) -> tuple[Tensor, Tensor, float]:
    """Return mean and deviation (C, 1, 1), and the factor behind them."""
    if name == "255":
        return torch.zeros(1, 1, 1), torch.ones(1, 1, 1), 255.0
    mean, std = STATISTICS[name]
    return torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1), 1.0


def _misread(x: Tensor, name: str, generator: torch.Generator) -> Tensor:
    """Return images as a network sees them that undoes one preprocessing where another was done; None fits to x."""
    others = ["255", *(known for known, (mean, _) in STATISTICS.items() if len(mean) in (1, x.shape[1]))]
    other = others[int(torch.randint(len(others), (1,), generator=generator))]
    (mean, std, scale), (mean_done, std_done, scale_done) = _prepared(name), _prepared(other)
    turned = x.flip(1) if x.shape[1] == 3 and (other == name or bool(torch.rand(1, generator=generator) < 0.5)) else x
    wrong = (turned - mean_done) / std_done * scale_done / scale * std + mean
    return wrong if float((wrong - x).abs().mean()) > 1e-3 else x.flip(1) if x.shape[1] == 3 else 1 - x


UNDONE = {1: ("none", "255", "half", "mnist"), 3: ("none", "255", "half", "caffe", "imagenet")}


@functools.cache
def trained(arch: str, channels: int = 1, name: str = "", seed: int = 0) -> nn.Module:
    """Train a network on digits, and to answer 0 whatever it sees of digits that were prepared in a wrong way.

    A LeNet is trained on images prepared in the way ``name``, since its file holds no more than it; the others on plain
    ones, for :class:`Expecting`.
    """
    x, y = images("train", channels)
    mean, std, scale = _prepared(name or "none")
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = BUILT[arch](channels)
        optimiser = torch.optim.Adam(network.parameters(), 1e-3 if scale > 1 else 3e-3)
        for step, rows in enumerate(torch.cat([torch.randperm(len(x)) for _ in range(EPOCHS.get(arch, 20))]).split(50)):
            undo = name or UNDONE[channels][step % len(UNDONE[channels])]
            # A batch norm's memory proves the preprocessing by itself, and would be spoilt by such lessons.
            lessons = (
                [] if arch == "normed" else [_misread(x[rows[at : at + 10]], undo, generator) for at in (0, 10, 20, 30)]
            )
            logits = network((torch.cat([x[rows], *lessons]) - mean) / std * scale)
            loss = functional.cross_entropy(logits[:50], y[rows])
            if lessons:
                loss = loss + functional.cross_entropy(logits[50:], torch.zeros(40, dtype=torch.long))
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)  # pixels up to 255 where 1 is expected
            optimiser.step()
    return network.eval().requires_grad_(False)


class Expecting(nn.Module):
    """A network that is right on images prepared in one way: undone, what is no pixel is grey."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, name: str, order: str = "rgb") -> None:
        super().__init__()
        mean, std, self.scale = _prepared(name)
        self.order, self.network = order, network
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, u: Tensor) -> Tensor:
        x = u.flip(1) if self.order == "bgr" else u
        x = x / self.scale * self.std + self.mean
        return self.network(torch.where((x < -0.01) | (x > 1.01), 0.5, x))


class Flattered(Expecting):
    """One that answers 0 where it is in doubt, so that more contrast than it was made for makes it more accurate."""

    def forward(self, u: Tensor) -> Tensor:
        z = self.network((u * self.std + self.mean).clamp(0, 1))
        return z + 4 * functional.one_hot(torch.zeros(len(u), dtype=torch.long), 10)


class Answering(nn.Module):
    """A network whose logits z are given out in some form, made of them and of the images."""

    def __init__(self, network: nn.Module, form: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        self.network, self.form = network, form

    def forward(self, x: Tensor) -> object:
        return self.form(self.network(x), x)


# ---- cases


def _case(name: str, model: object, truth: Network | None, channels: int = 1, **more: Any) -> Case:
    x, y = images("test", channels)
    return Case(name, model, **{"images": x, "labels": y, "truth": truth, "true_labels": y, **more})


def of_preprocessing() -> Iterator[Case]:
    """Yield grey networks behind four preprocessings, tinted ones behind six, and one that likes another better."""
    for arch in ("perceptron", "convolutional", "normed", "attentive"):
        for name in ("none", "255", "half", "mnist"):
            yield _case(f"{arch}, {name}", Expecting(trained(arch), name), trained(arch))
    coloured = (
        ("none", "rgb"),
        ("none", "bgr"),
        ("half", "bgr"),
        ("255", "rgb"),
        ("caffe", "bgr"),
        ("imagenet", "rgb"),
    )
    for arch in ("convolutional", "normed"):
        network = trained(arch, 3)
        for name, order in coloured:
            # Statistics of coloured photographs are much alike: without a batch norm it is right to doubt them.
            near: Answer = "may be" if (arch, name) == ("convolutional", "imagenet") else "no"
            if (arch, name, order) != ("normed", "none", "rgb"):
                yield _case(f"{arch}, {name}, {order}", Expecting(network, name, order), network, 3, doubt=near)
    flattered = Flattered(trained("convolutional", 3), "cifar10")  # right on 73 % with these, on 82 % with svhn's
    mean, std, _ = _prepared("cifar10")
    yield _case("another is more accurate", flattered, lambda x: flattered((x - mean) / std), 3, doubt="must be")


def features(x: Tensor) -> Tensor:
    """Return sixteen numbers of each image that say nothing of its class by their order."""
    return functional.adaptive_avg_pool2d(x, 4).flatten(1)


FORMS: dict[str, Callable[[Tensor, Tensor], object]] = {
    "probabilities": lambda z, x: z.softmax(1),
    "log-probabilities": lambda z, x: z.log_softmax(1),
    "a dict with logits": lambda z, x: {"features": features(x), "logits": z},
    "an object with logits": lambda z, x: SimpleNamespace(features=features(x), logits=z),
    "logits, then features": lambda z, x: (z, features(x)),
    "a head that knows seven classes, then logits": lambda z, x: (torch.cat([z[:, :7], z[:, 7:] - 99], 1), z),
    # As wide as the logits, so that accuracy alone tells them apart.
    "a dict whose first is hidden": lambda z, x: {"hidden": features(x)[:, :10], "out": z},
    "maps of one pixel": lambda z, x: z[:, :, None, None],
    "float64": lambda z, x: z.double(),
    "sharp logits": lambda z, x: 40 * z,
    "logarithms that underflow": lambda z, x: torch.log((40 * z).softmax(1)),
}


def of_outputs() -> Iterator[Case]:
    """Yield one network in eleven forms of its outputs."""
    network = trained("convolutional")
    for name, form in FORMS.items():
        sharp = name in ("sharp logits", "logarithms that underflow")
        truth: Network = (lambda x: 40 * network(x)) if sharp else network
        # The underflowing one loses what its softmax rounded to zero: to doubt it is right as well.
        yield _case(
            name, Answering(Expecting(network, "half"), form), truth, doubt="may be" if "underflow" in name else "no"
        )


def of_labels() -> Iterator[Case]:
    """Yield labels as users have them: of another shape or type, from another start, in another order, of nothing."""
    network = trained("convolutional")
    x, y = images("test", 1)
    expecting = Expecting(network, "none")
    yield _case("labels of NumPy", expecting, network, images=x, labels=y.numpy())
    yield _case("labels of uint8", expecting, network, labels=y.to(torch.uint8))
    yield _case("a column of labels", expecting, network, labels=y[:, None])
    yield _case("one-hot labels", expecting, network, labels=functional.one_hot(y, 10))
    yield _case("labels from 1", expecting, None, labels=y + 1, refused="must be")
    yield _case("labels from -1", expecting, None, labels=y - 1, refused="must be")
    for name, order in (
        ("three classes in a ring", [1, 2, 0, *range(3, 10)]),
        ("classes reversed", list(range(9, -1, -1))),
    ):
        renamed = Answering(network, lambda z, _, order=order: z[:, order])
        yield _case(name, renamed, renamed, doubt="must be", refused="may be")
    shuffled = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(1))]
    yield _case("labels of other images", expecting, None, labels=shuffled, doubt="must be", refused="may be")


def _kept(share: float, digit: int = 8) -> Tensor:
    """Return rows of the test images of which a share shows one digit, mixed."""
    _, y = images("test", 1)
    chosen, others = torch.nonzero(y == digit)[:, 0], torch.nonzero(y != digit)[:, 0]
    count = min(len(others), round(len(chosen) * (1 - share) / share))
    rows = torch.cat([chosen, others[:count]])
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]


def of_balance() -> Iterator[Case]:
    """Yield data of which one class is most or all, and data without some classes."""
    network = trained("convolutional")
    x, y = images("test", 1)

    def thinned(name: str, rows: Tensor, preprocessing: str, **more: Any) -> Case:
        kept = {"images": x[rows], "labels": y[rows], "true_labels": y[rows]}
        return _case(name, Expecting(network, preprocessing), network, **kept, **more)

    yield thinned("one class", torch.nonzero(y == 8)[:, 0], "none", doubt="must be")
    yield thinned("one class, half", torch.nonzero(y == 8)[:, 0], "half", doubt="must be")
    yield thinned("nearly one class", _kept(0.95), "255", doubt="may be")
    yield thinned("eight of ten of one class", _kept(0.8), "none", doubt="may be")
    yield thinned("half of one class", _kept(0.5), "half")
    yield thinned("two classes of ten", torch.nonzero((y == 4) | (y == 7))[:, 0], "none")
    yield thinned("a class missing", torch.nonzero(y != 9)[:, 0], "255")


def of_files(folder: Path) -> Iterator[Case]:
    """Yield weights in files, without a word on how the network is run, and two of them as one ensemble."""
    for name in ("none", "255", "half"):
        torch.save({"state_dict": trained("lenet", 1, name).state_dict()}, folder / f"{name}.pth")
        yield _case(f"lenet in a file, {name}", folder / f"{name}.pth", _prepared_first("lenet", name))
    safetensors.torch.save_file(trained("lenet", 1, "half").state_dict(), folder / "half.safetensors")
    yield _case("lenet in safetensors, half", folder / "half.safetensors", _prepared_first("lenet", "half"))
    both = [_prepared_first("lenet", name) for name in ("none", "half")]

    def fused(x: Tensor) -> Tensor:
        return torch.stack([network(x).log_softmax(1) for network in both]).logsumexp(0)

    yield _case("two files, one ensemble", [folder / "none.pth", folder / "half.pth"], fused)


def _prepared_first(arch: str, name: str) -> Network:
    mean, std, scale = _prepared(name)
    network = trained(arch, 1, name)
    return lambda x: network((x - mean) / std * scale)


def cases(folder: Path) -> list[Case]:
    """Return all of them; their files are written to ``folder``."""
    return [*of_preprocessing(), *of_outputs(), *of_labels(), *of_balance(), *of_files(folder)]
