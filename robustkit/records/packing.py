"""Adversarial images as they lie in the store: what differs from the clean image, in few bytes and without loss.

An image that a sign attack made is the clean one moved by few different steps, so that each value is told by the number
of steps (a byte) and by how far the float that is stored lies from that, in units in the last place: 0 nearly
everywhere. Both are taken apart into planes of bytes and compressed by zlib. Whatever an attack made comes back bit for
bit; where it took arbitrary steps it takes more room. What a cell took over from a smaller budget is the image of that
cell, and takes none. Never imports torch.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from robustkit.records.samples import Floats

NAMES = ("packed", "packed_shape", "packed_step", "packed_parts", "packed_crc")  # of the arrays in place of the images
STEPS = 40  # of the smallest step to a budget: 10 steps of a tenth, 4 of a quarter, and half of each
MOST = 127  # steps that a byte holds to either side
PART = 2**18  # values at a time, so that packing takes no memory to speak of
WALK = 4  # such steps in a step of an attack that takes ten
FAR = 255  # what stands for a value that is further from what its steps say
STRATEGY = zlib.Z_RLE  # few distinct bytes in no order: repeats of one are all that there is to find
LEVEL = 1  # of zlib: what the others save is not worth their time


def pack(images: Floats, clean: Floats, reach: float | None) -> dict[str, npt.NDArray[Any]]:
    """Return arrays of which :func:`unpack` makes the images again, given the clean ones.

    Parameters
    ----------
    images, clean : (N, C, H, W) float32
        What an attack made, and of what.
    reach : float or None
        How far an attack may move a value, which its steps are parts of; None: as far as it did.
    """
    flat, origin = images.reshape(-1), clean.reshape(-1)
    with np.errstate(invalid="ignore", over="ignore"):
        furthest = [np.abs(flat[at] - origin[at]).max() for at in _parts(len(flat))] if reach is None else [reach]
    most = float(np.max(furthest, initial=0.0))
    step = np.float64(most / STEPS if most <= 1 else 0.0)  # further no value of an image can be moved
    parts = [_packed(flat[at], origin[at], step) for at in _parts(len(flat))]
    crc = zlib.crc32(np.ascontiguousarray(images).view(np.uint8).data)
    joined = np.frombuffer(b"".join(parts), np.uint8)
    values = (
        joined, np.array(images.shape, np.int64), np.array(step), np.array([*map(len, parts)], np.int64), np.array(crc)
    )  # fmt: skip
    return dict(zip(NAMES, values, strict=True))


def unpack(arrays: Mapping[str, npt.NDArray[Any]], clean: Floats) -> Floats:
    """Return the images that :func:`pack` was given; ValueError where they are not the same, bit for bit."""
    packed, shape, step, lengths, crc = (arrays[name] for name in NAMES)
    origin, data = clean.reshape(-1), packed
    made, start = np.empty(len(origin), np.float32), 0
    for at, length in zip(_parts(len(origin)), lengths.tolist(), strict=True):
        made[at] = _unpacked(data[start : start + length].tobytes(), origin[at], np.float64(step))
        start += length
    images: Floats = made.reshape(tuple(shape))
    if zlib.crc32(images.view(np.uint8).data) != int(crc):
        raise ValueError("the images are not those that were packed")
    return images


def _parts(count: int) -> Iterator[slice]:
    return (slice(at, at + PART) for at in range(0, count, PART))


def _packed(made: Floats, origin: Floats, step: np.float64) -> bytes:
    """Return some values as compressed planes: steps, what is left where that is little, and the rest byte by byte."""
    steps = np.zeros(len(made), np.int8)
    if step > 0:
        with np.errstate(invalid="ignore", over="ignore"):
            wanted = np.rint((made - origin) / np.float32(step))
        steps = np.nan_to_num(wanted, posinf=MOST, neginf=-MOST).clip(-MOST, MOST).astype(np.int8)
    ways = [made.view(np.int32) - _moved(origin, steps, step, all_the_way).view(np.int32) for all_the_way in (0, 1)]
    best = int(np.count_nonzero(ways[1]) < np.count_nonzero(ways[0]))
    left = ways[best]
    folded = ((left << 1) ^ (left >> 31)).view(np.uint32)  # near zero small, whichever the sign
    little = np.minimum(folded, FAR).astype(np.uint8)
    far = folded[little == FAR].view(np.uint8).reshape(-1, 4)
    return bytes([best]) + b"".join(map(_deflated, (steps.tobytes(), little.tobytes(), far.T.tobytes())))


def _deflated(plane: bytes) -> bytes:
    made = zlib.compressobj(LEVEL, zlib.DEFLATED, 15, 9, STRATEGY)
    data = made.compress(plane) + made.flush()
    return len(data).to_bytes(4, "little") + data


def _unpacked(data: bytes, origin: Floats, step: np.float64) -> Floats:
    planes, start = [], 1
    while start < len(data):
        end = start + 4 + int.from_bytes(data[start : start + 4], "little")
        planes.append(np.frombuffer(zlib.decompress(data[start + 4 : end]), np.uint8))
        start = end
    steps, little, far = planes
    folded = little.astype(np.uint32)
    folded[little == FAR] = np.ascontiguousarray(far.reshape(4, -1).T).view(np.uint32).reshape(-1)
    left = (folded >> np.uint32(1)).view(np.int32) ^ -(folded & np.uint32(1)).view(np.int32)
    moved: Floats = (_moved(origin, steps.view(np.int8), step, data[0]).view(np.int32) + left).view(np.float32)
    return moved


def _moved(origin: Floats, steps: npt.NDArray[np.int8], step: np.float64, all_the_way: int) -> Floats:
    """Return values moved by so many steps, within [0, 1], rounded as attacks round.

    What is short of the budget is a walk: each tenth of it is added by itself. The budget is one move, or, all the way,
    a walk as well, which its rounding may leave short of it.
    """
    moves = (np.arange(-128, 128) * step).astype(np.float32)  # by the number of steps
    moved: Floats = origin + moves[steps.astype(np.intp) + 128]
    size = np.abs(steps)
    walked = np.flatnonzero((size % WALK == 0) & (size > WALK) & (size < STEPS + all_the_way))
    if len(walked):
        point, count = origin[walked], size[walked] // WALK
        each = np.where(steps[walked] > 0, moves[128 + WALK], moves[128 - WALK])
        for turn in range(STEPS // WALK):
            point = np.where(turn < count, point + each, point)
        whole, end = count == STEPS // WALK, moved[walked]
        nearer = np.where(each > 0, np.minimum(point, end), np.maximum(point, end))
        moved[walked] = np.where(whole, nearer, point)
    return moved.clip(0.0, 1.0)
