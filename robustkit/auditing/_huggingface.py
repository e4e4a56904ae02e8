"""ResNet and ViT under the names of Hugging Face's transformers, in whatever order their file has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.auditing._infer import WithoutData
from robustkit.auditing._limits import JSON_BYTES, Damaged, parse_json

State = dict[str, Tensor]
RESNET = (
    (r"(?:resnet\.)?embedder\.embedder\.convolution\.", "conv1."),
    (r"(?:resnet\.)?embedder\.embedder\.normalization\.", "bn1."),
    (r"(?:resnet\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.convolution\.", r"layer\1.\2.downsample.0."),
    (r"(?:resnet\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.normalization\.", r"layer\1.\2.downsample.1."),
    (r"(?:resnet\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.convolution\.", r"layer\1.\2.conv\3."),
    (r"(?:resnet\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.normalization\.", r"layer\1.\2.bn\3."),
    (r"classifier\.1\.", "fc."),
)
LAYER, OURS = r"(?:vit\.)?encoder\.layer\.(\d+)\.", r"encoder.layers.encoder_layer_\1."
VIT = (
    (r"(?:vit\.)?embeddings\.cls_token", "class_token"),
    (r"(?:vit\.)?embeddings\.position_embeddings", "encoder.pos_embedding"),
    (r"(?:vit\.)?embeddings\.patch_embeddings\.projection\.", "conv_proj."),
    (LAYER + r"attention\.output\.dense\.", OURS + "self_attention.out_proj."),
    (LAYER + r"layernorm_before\.", OURS + "ln_1."),
    (LAYER + r"layernorm_after\.", OURS + "ln_2."),
    (LAYER + r"intermediate\.dense\.", OURS + "mlp.0."),
    (LAYER + r"output\.dense\.", OURS + "mlp.3."),
    (r"(?:vit\.)?layernorm\.", "encoder.ln."),
    (r"classifier\.", "heads.head."),
)  # fmt: skip
ATTENTION = re.compile(r"(?:vit\.)?encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)")
POOLER = re.compile(r"(?:vit\.)?pooler\.dense\.")  # of a ViT without a head, never used by a classifier
HEADS = {1280: 16}  # of the attention by width; any other has heads of 64
DEEP = 64  # layers, at most
EPSILON = 1e-12  # of the layer norms, as ViTConfig has it


def resnet(state: Mapping[str, Tensor]) -> State | None:
    """Return a ResNet's weights under torchvision's names, or None."""
    found = _renamed(state, RESNET)
    if found is None or "conv1.weight" not in found or "fc.weight" not in found:
        return None
    counted = {name: _counted(name) for name in found}  # theirs count from 0
    return {counted[name]: value for name, value in found.items()}


def _counted(name: str) -> str:
    match = re.match(r"layer(\d+)\.(\d+)\.(?:(conv|bn)(\d+)|downsample\.\d)\.", name)
    if not match:
        return name
    rest = name[match.end() :]
    stage = f"layer{int(match[1]) + 1}.{match[2]}"
    return f"{stage}.{match[3]}{int(match[4]) + 1}.{rest}" if match[3] else f"{stage}.{name.split('.', 2)[2]}"


def vit(state: Mapping[str, Tensor], folder: Path | None = None) -> tuple[nn.Module, int, int, str] | None:
    """Return a ViT with these weights, its numbers of classes and channels, and what was assumed of it, or None.

    Size of the images, patches, width, depth and hidden width are read from the shapes; heads and the norms' epsilon
    from the ``config.json`` of the folder, else heads of 64 and 1e-12, the configuration's defaults, are assumed.
    """
    plain = {name: value for name, value in state.items() if not ATTENTION.fullmatch(name) and not POOLER.match(name)}
    found = _renamed(plain, VIT)
    if found is None or not {"class_token", "encoder.pos_embedding", "conv_proj.weight", "heads.head.weight"} <= set(
        found
    ):
        return None
    parts: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name, value in state.items():
        if match := ATTENTION.fullmatch(name):
            parts.setdefault((match[1], match[3]), {})[match[2]] = value
    for (layer, leaf), three in parts.items():
        if set(three) != {"query", "key", "value"} or len({tuple(one.shape) for one in three.values()}) > 1:
            return None
        if not three["query"].ndim:
            return None
        joined = torch.cat([three[name] for name in ("query", "key", "value")])
        found[f"encoder.layers.encoder_layer_{layer}.self_attention.in_proj_{leaf}"] = joined
    return _transformer(found, _configuration(folder))


def _configuration(folder: Path | None) -> Mapping[str, Any]:
    """Return what the folder's ``config.json`` says, of whatever types; {} where there is none to be read."""
    file = folder / "config.json" if folder else None
    if file is None or not file.is_file() or file.stat().st_size > JSON_BYTES:
        return {}
    try:
        found = parse_json(file.read_bytes())
    except (Damaged, OSError):
        return {}
    return found if isinstance(found, dict) else {}


def _transformer(found: State, config: Mapping[str, Any]) -> tuple[nn.Module, int, int, str] | None:
    from torchvision.models import VisionTransformer

    if found["conv_proj.weight"].ndim != 4 or found["encoder.pos_embedding"].ndim != 3:
        return None
    width, channels, patch, _ = found["conv_proj.weight"].shape
    side = round(max(0, found["encoder.pos_embedding"].shape[1] - 1) ** 0.5)
    layers = len({name.split(".")[2] for name in found if name.startswith("encoder.layers.")})
    hidden = found.get("encoder.layers.encoder_layer_0.mlp.0.weight")
    said_heads, said_epsilon = config.get("num_attention_heads"), config.get("layer_norm_eps")
    known = isinstance(said_heads, int) and 0 < said_heads <= width
    heads = int(said_heads) if known and said_heads else HEADS.get(width, max(1, width // 64))
    epsilon = float(said_epsilon) if isinstance(said_epsilon, float) and 0 < said_epsilon < 1 else EPSILON
    if hidden is None or width % heads or not 0 < layers <= DEEP or not found["heads.head.weight"].ndim:
        return None
    with torch.random.fork_rng(devices=[]), WithoutData():  # its memory is the file's: a name alone costs nothing
        network = VisionTransformer(
            image_size=side * patch, patch_size=patch, num_layers=layers, num_heads=heads, hidden_dim=width,
            mlp_dim=hidden.shape[0], num_classes=found["heads.head.weight"].shape[0],
            norm_layer=partial(nn.LayerNorm, eps=epsilon),
        )  # fmt: skip
        network.conv_proj = nn.Conv2d(channels, width, patch, patch)
    try:
        network.load_state_dict({name: value.clone() for name, value in found.items()}, assign=True)
    except RuntimeError:  # it is laid out otherwise
        return None
    how = "are config.json's" if known else "are assumed, as its configuration has them unless told otherwise"
    note = (
        f"a ViT under transformers' names: images of {side * patch}x{side * patch} in patches of {patch}, "
        f"{layers} layers of width {width}; {heads} heads and an epsilon of {epsilon:g} {how}"
    )
    return network.eval(), len(found["heads.head.weight"]), channels, note


def _renamed(state: Mapping[str, Tensor], rules: tuple[tuple[str, str], ...]) -> State | None:
    """Return the weights renamed by the first rule that begins each name, or None where one has none."""
    done: State = {}
    for name, value in state.items():
        for rule, ours in rules:
            renamed, count = re.subn(f"^{rule}", ours, name)
            if count:
                done[renamed] = value
                break
        else:
            return None
    return done
