"""Why do these weights not fit: the keys that differ, and the reasons a practitioner would look for first."""

from __future__ import annotations

from collections.abc import Sequence

from robustkit.auditing._infer import COUNTED, Shapes, head, references, stem
from robustkit.auditing._limits import clean

OTHER_TASKS = {
    "a detection model": ("rpn.", "roi_heads", "anchor", "bbox", "class_embed", "head.regression", "model.22.dfl"),
    "a recurrent model": ("weight_ih_l", "weight_hh_l"),
    "a language model": (
        "word_embeddings",
        "embed_tokens",
        "wte.weight",
        "lm_head",
        "embedding.weight",
        "embed.weight",
    ),
    "a segmentation model": ("decode_head", "up_conv", "aux_classifier", "segmentation_head"),
    "an optimiser's state": ("exp_avg", "momentum_buffer"),
}


def difference(held: Shapes, reference: Shapes) -> str:
    """Return missing, unexpected and mis-shaped keys, the first few of each with their number, or ""."""
    missing = [n for n in reference if n not in held and not f".{n}".endswith(COUNTED)]
    unexpected = [n for n in held if n not in reference and not f".{n}".endswith(COUNTED)]
    shaped = [
        f"{clean(n, 60)} {held[n]} for {s}"
        for n, s in reference.items()
        if n in held and held[n] != s and not f".{n}".endswith(COUNTED)
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("mis-shaped", shaped))
    return ", ".join(f"{len(keys)} {kind} ({_first(keys)})" for kind, keys in kinds if keys)


def reasons(held: Shapes, reference: Shapes, arch: str) -> list[str]:
    """Return what would explain a difference: classes, stem, channels, shortcuts, batch-norm statistics."""
    found = []
    ours = stem(reference)
    theirs = ours if len(held.get(ours, ())) == 4 else stem(held)
    if ours and theirs:
        (_, channels, *kernel), (_, their_channels, *their_kernel) = reference[ours], held[theirs]
        if kernel != their_kernel:
            named = {7: "the ImageNet stem", 3: "the CIFAR stem"}
            found.append(
                f"its first convolution is {_by(their_kernel)} ({named.get(their_kernel[0], 'another stem')}), "
                f"{arch}'s is {_by(kernel)} ({named.get(kernel[0], 'another stem')})"
            )
        if channels != their_channels:
            found.append(f"its first convolution takes {their_channels} channels, not {channels}")
    ours = head(reference)
    theirs = ours if ours in held else head(held)
    if ours and theirs and reference[ours][1:] == held[theirs][1:] and reference[ours][0] != held[theirs][0]:
        found.append(f"its last layer has {held[theirs][0]} classes, not {reference[ours][0]}")
    projects, expected = (any("shortcut" in n or "downsample" in n for n in known) for known in (held, reference))
    if projects != expected:
        found.append("its shortcuts are projections (type B)" if projects else "its shortcuts have no weights (type A)")
    if _normalised(reference) and not _normalised(held):
        found.append("it has no batch-norm statistics (running_mean, running_var)")
    return found


def other_task(held: Shapes) -> str:
    """Return what else these weights are by their names (``a detection model``), or ""."""
    text = " ".join(held)
    return next((task for task, words in OTHER_TASKS.items() if any(word in text for word in words)), "")


def nearest(held: Shapes) -> tuple[str, Shapes] | None:
    """Return the architecture that shares most names and shapes with the file, if that is a third or more."""
    best, score = None, 1 / 3
    for arch, _, reference in references(held):
        same = sum(n in held and len(held[n]) == len(s) for n, s in reference.items())
        shaped = sum(n in held and held[n] == s for n, s in reference.items())
        share = (same + shaped) / (len(held) + len(reference))
        if share > score:
            best, score = (arch, reference), share
    return best


def _normalised(known: Shapes) -> bool:
    return any(name.endswith("running_mean") for name in known)


def _by(kernel: Sequence[int]) -> str:
    return "x".join(map(str, kernel))


def _first(keys: Sequence[str], count: int = 3) -> str:
    return ", ".join(clean(key, 100) for key in keys[:count]) + (", ..." if len(keys) > count else "")
