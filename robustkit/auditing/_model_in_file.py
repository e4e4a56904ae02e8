"""One network of a file: its weights as tensors, and all that was noticed on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor, nn

from robustkit.auditing._formats import Content
from robustkit.auditing._limits import Damaged, clean
from robustkit.auditing._peel import Part, first
from robustkit.auditing._unwrap import float32, plain

PIXELS = 2.0  # a normaliser with a larger mean or deviation is one of pixels in 0..255


@dataclass(frozen=True)
class ModelInFile:
    """One network in a file.

    Attributes
    ----------
    name : str
        Unique in what one call returns: the file's stem, with ``-model_I`` behind it where a file holds several.
    format : str
        ``torch state dict``, ``Lightning checkpoint``, ``safetensors``, ``TorchScript``, ``torch.export``, ``ONNX``,
        ``pickled module`` or ``robustkit``.
    where : str
        Where in the file, and the prefix that was stripped from its keys.
    state : mapping or None
        Weights by name, floats as float32, all finite.
    module : nn.Module or None
        A network that needs no architecture, in the mode in which it was saved.
    notes : tuple of str
        What was noticed and assumed, a sentence each.
    sha256 : str
        Of the file, hex.
    says : mapping
        Short scalars beside the weights (``arch``, ``epoch``); claims of the file, not facts.
    prefix, aside : str and mapping
        The file's own name of ``state[name]`` is ``prefix + name``; what lay beside the weights, by the file's names.
    normalize : str
        Mean and deviation of a normaliser in the file, in pixels of [0, 1], as ``0.5,0.5,0.5/0.2,0.2,0.2``, or "".
    version, averaged, versions : str, bool and tuple of ModelInFile
        Where the file holds several versions of these weights (``state_dict`` and ``state_dict_ema``): the name of this
        one, whether it is an average over training steps, and the others.
    extras : mapping
        What modules keep beside tensors (``get_extra_state``), by the file's names, where it is data alone.
    """

    name: str
    format: str
    where: str
    state: Mapping[str, Tensor] | None
    module: nn.Module | None
    notes: tuple[str, ...]
    sha256: str
    says: Mapping[str, str | int | float] = field(default_factory=dict)
    path: str = ""
    prefix: str = ""
    aside: Mapping[str, Tensor] = field(default_factory=dict)
    normalize: str = ""
    version: str = ""
    averaged: bool = False
    versions: tuple[ModelInFile, ...] = ()
    extras: Mapping[str, object] = field(default_factory=dict)


def network_of(path: Path, content: Content, part: Part, digest: str) -> ModelInFile:
    """Return one part of a file's content with its weights made, or raise :class:`Damaged`."""
    notes = [*content.notes, *part.notes]
    state: Mapping[str, Tensor] | None = None
    aside = content.tensors(part.aside)
    if part.state is not None:
        state, converted = float32(content.tensors(part.state))
        notes += converted
    elif part.module is not None and (own := _own(part.module)):
        _, converted = float32(own)
        if converted:
            part.module.float()
            notes += converted
    name = path.stem + (f"-model_{part.index}" if part.index is not None else "")
    where = part.where or "top level"
    versions = []
    for other in part.others:
        try:
            versions.append(network_of(path, content, replace(other, index=part.index), digest))
        except Damaged as error:
            notes.append(f"the version '{clean(other.version)}' {error}, and is left out")
    normalize = _normalize([aside[key] for key in part.normalizer or ()])
    if normalize:
        notes.append(
            f"the file has a normaliser ({first(part.normalizer or (), 2)}: {normalize}); used without --normalize"
        )
    if part.averaged and not versions:
        notes.append(f"these weights are an average over training steps ({part.version or 'by its counters'})")
    return ModelInFile(
        clean(name), content.format, clean(where), state, part.module, tuple(notes), digest, content.says, str(path),
        part.prefix, aside, normalize, part.version, part.averaged, tuple(versions),
        {name: value for name, value in part.extras.items() if plain(value)},
    )  # fmt: skip


def _normalize(pair: Sequence[Tensor]) -> str:
    """Return a normaliser's mean and deviation as text, in pixels of [0, 1]; "" where there is none to be used."""
    if len(pair) != 2 or not all(value.is_floating_point() and value.isfinite().all() for value in pair):
        return ""
    mean, std = (value.double().flatten() for value in pair)
    of_bytes = 255.0 if max(float(mean.max()), float(std.max())) > PIXELS else 1.0
    if not bool((std > 0).all()):
        return ""
    return "/".join(",".join(f"{v / of_bytes:.7g}" for v in part.expand(len(mean)).tolist()) for part in (mean, std))


def _own(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
