"""Models that a program has in memory: torch modules, and functions from images to logits."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustkit.auditing._batches import exported
from robustkit.auditing.entries import entries, first_tensor
from robustkit.base.errors import UserError
from robustkit.ensembles.ensemble import fingerprint
from robustkit.functional.precision import wide

ACCEPTED = "a torch module, a function from images (B, C, H, W) to logits (B, L), or the path of a file or folder"
NOTE = "is a function and has no weights to hash: its results are recognised by what it answers, to the last bit"
BATCH = 64  # images at once where a model's answers are hashed ...
FEW = 8  # ... and images whose gradients are


class CallError(UserError):
    """A function that stands for a model raised an error of its own."""


class Called(nn.Module):
    """A function from images (B, C, H, W) to logits (B, L) as a module.

    The function is called as it is and never copied; a copy of the module calls the same function. Its mode, device and
    weights are its owner's: a network behind it should be in eval mode. Logits that carry no gradient are passed on.

    Parameters
    ----------
    function : callable
        Returns a torch tensor, or what a network may return (:func:`robustkit.auditing.entries.first_tensor`).
    """

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    @property
    def name(self) -> str:
        """What the function is called where it was written, else its type."""
        inner = getattr(self.function, "func", self.function)  # of functools.partial
        return str(getattr(inner, "__name__", type(inner).__name__))

    def __deepcopy__(self, memo: dict[int, Any]) -> Called:
        return Called(self.function)

    def extra_repr(self) -> str:
        """Return the function's name."""
        return self.name

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """Return logits (B, L) on the images' device; of several rows for each image all, by name.

        Raises
        ------
        CallError
            If the function raises.
        UserError
            If it returns anything but a row of logits for each image.
        """
        shape = tuple(x.shape)
        try:
            output = self.function(x)
        except (UserError, torch.OutOfMemoryError, FloatingPointError):  # those who call know what to do
            raise
        except Exception as error:
            words = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise CallError(f"the function '{self.name}' fails on images of shape {shape} ({words}).") from error
        if isinstance(output, np.ndarray):
            raise self._refused(
                "a NumPy array", shape, "return a torch tensor, since attacks cannot follow gradients through NumPy"
            )
        if isinstance(output, Tensor) and output.shape == (len(x),):  # one number each, of two classes
            output = output[:, None]
        found = entries(output)
        if not found:
            raise self._refused(_described(output), shape, "return a row of logits for each image (B, L)")
        here = {name: rows.to(x.device) for name, rows in found.items() if len(rows) == len(x)}
        if not here:
            rows = f"a tensor of shape {tuple(next(iter(found.values())).shape)}"
            raise self._refused(rows, shape, f"return a row of logits for each of the {len(x)} images")
        return here if len(here) > 1 else next(iter(here.values()))

    def _refused(self, what: str, shape: tuple[int, ...], remedy: str) -> UserError:
        return UserError(f"the function '{self.name}' returns {what} for images of shape {shape}; {remedy}.")


def _described(output: object) -> str:
    if isinstance(output, Tensor):
        kind = "" if output.is_floating_point() else f" of {str(output.dtype).removeprefix('torch.')}"
        return f"a tensor{kind} of shape {tuple(output.shape)}"
    return "None" if output is None else f"a value of type {type(output).__name__}"


def as_module(model: object) -> tuple[nn.Module, list[str]]:
    """Return a model as a module, and what a report should say of that.

    A torch module is returned as it is, without notes, unless ``torch.export`` made it (it is given the batches that it
    takes, and modes do not reach it); another callable as :class:`Called`, with one note.

    Raises
    ------
    UserError
        If it is neither; the message names its type and what is accepted.
    """
    if isinstance(model, nn.Module):
        wrapped = exported(model)
        return (model, []) if wrapped is None else (wrapped, [*wrapped.notes(), "its mode is set by flags alone"])
    kind = type(model).__name__
    if isinstance(model, type):
        raise UserError(f"model {model.__name__} is a class; give an instance, e.g. {model.__name__}().")
    if isinstance(model, torch.export.ExportedProgram):
        raise UserError("the model is an ExportedProgram; give its module: program.module().")
    if isinstance(model, Mapping):
        raise UserError(f"the model is weights without a network ({kind}); build the network and load_state_dict them.")
    if not callable(model):
        raise UserError(f"a model of type {kind} cannot be used; give {ACCEPTED}.")
    called = Called(model)
    return called, [f"'{called.name}' {NOTE}"]


@contextlib.contextmanager
def lent(models: object) -> Iterator[None]:
    """Give modules that are moved to a device within the block back where they were; they are their owner's."""
    several = models if isinstance(models, list | tuple) else [models]
    places = [(one, {t.device for t in (*one.parameters(), *one.buffers())})
              for one in several if isinstance(one, nn.Module)]  # fmt: skip
    try:
        yield
    finally:
        for module, found in places:
            if len(found) == 1:  # one that is on several devices is moved by nobody, and fails
                module.to(next(iter(found)))


def in_float32(module: nn.Module, x: Tensor) -> tuple[nn.Module, list[str]]:
    """Return a module whose weights have another precision as a copy in float32, as files are read, and a note.

    One that takes float32 images as it is stays what it is: it casts them itself.

    Parameters
    ----------
    x : Tensor
        Some images (N, C, H, W), float32 in [0, 1].
    """
    tensors = [*module.parameters(), *module.buffers()]
    others = {tensor.dtype for tensor in tensors if tensor.is_floating_point()} - {torch.float32}
    if not others:
        return module, []
    try:
        converted = copy.deepcopy(module).eval()
        with torch.no_grad():
            converted(x[:1].to(tensors[0].device))
    except RuntimeError:
        kinds = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in others))
        return copy.deepcopy(module).float(), [f"weights were converted from {kinds} to float32, in a copy"]
    except Exception:  # noqa: BLE001 - a stranger's module may raise anything; what is wrong is said where it is run
        pass
    return module, []


def identity(module: nn.Module, x: Tensor) -> str:
    """Return what tells a model from all others: the fingerprint of its weights and of its behaviour.

    Weights alone do not: what a module does around them is code, which two of one class may have of their own. Where it
    cannot be run on such images, weights are all there is.

    Parameters
    ----------
    module : nn.Module
        Run as it is evaluated, in eval mode; its own mode is restored.
    x : Tensor
        Clean images (N, C, H, W) in [0, 1] on its device; always the same ones, e.g. the first 64 of the test split.
    """
    state = module.state_dict()
    weights = fingerprint(state)
    known = any(isinstance(one, Tensor) and one.numel() for one in state.values())
    modes = [(part, part.training) for part in module.modules()]
    try:
        with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):  # a random model is the same one each time
            torch.manual_seed(0)
            behaviour = behaviour_hash(module.eval(), x)
    except Exception:  # a stranger's module may raise anything; where it is run, that is told
        if not known:
            raise
        return weights
    finally:
        for part, training in modes:
            part.training = training
    return hashlib.sha256(f"{weights} {behaviour}".encode()).hexdigest() if known else behaviour


def behaviour_hash(module: nn.Module, x: Tensor) -> str:
    """Return the SHA-256 (hex) of a model's answers to images and to noise, and of some of its gradients.

    Answers count to the last bit of float32, on ``x`` and on as many images of seeded uniform noise, in batches of 64;
    gradients on the first 8 of each, since a model that hides them answers like one that does not. Rounding differs
    between devices and versions of torch, and a random model differs from itself: these have another hash each time,
    so that results are made anew and never taken for another model's.

    Parameters
    ----------
    module : nn.Module
        Maps images to logits (B, L); its mode and the gradients of its weights are left as they are.
    x : Tensor
        Images (N, C, H, W) in [0, 1], on the module's device.

    Raises
    ------
    UserError
        If the module returns no such logits.
    """
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x.device)
    sha = hashlib.sha256(f"{tuple(x.shape)}".encode())
    for images in (x.detach().float(), noise):
        with torch.no_grad():
            for batch in torch.split(images, BATCH):
                _add(sha, _all(module(batch.clone())))
        few = images[:FEW].clone().requires_grad_()
        with torch.enable_grad():
            logits = wide(_all(module(few + 0.0)))  # not a leaf: it may be changed in place
            weights = torch.linspace(1, 2, logits[0].numel(), dtype=logits.dtype, device=logits.device)
            there = logits.requires_grad
            [gradient] = torch.autograd.grad((logits * weights).sum(), few, allow_unused=True) if there else [None]
        if gradient is not None:
            _add(sha, gradient)
    return sha.hexdigest()


def _all(output: Any) -> Tensor:
    """Return all that a model answers, side by side; a :class:`UserError` where that is nothing."""
    found = list(entries(output).values())
    if len(found) < 2:
        return first_tensor(output)
    return torch.cat([rows.reshape(1, -1).to(found[0]) for rows in found], 1)


def _add(sha: Any, values: Tensor) -> None:
    sha.update(str(tuple(values.shape)).encode())
    sha.update(np.ascontiguousarray(values.detach().float().cpu().numpy(), dtype="<f4").tobytes())
