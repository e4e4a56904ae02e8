"""The lists of an elastic network: ends, draws, neighbours, and the stages in which it shrinks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from robustkit.models._elastic import Lists, Space

# Inner over outer channels of a basic block. Once-for-All and the paper have .2, .25 and .35 of the bottleneck's outer
# channels, whose usual share is .25; that of a basic block is 1.
EXPANSIONS = (0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Stage:
    """How far the network may shrink in a part of the training, and that part's share of the epochs.

    ``removed``: blocks that a stage may lack (``depth_indicator``); ``narrower``: of how many widths, the widest first,
    one is drawn (``width_indicator``). Where ``reorganise``, channels are put in the order of their importance before.
    """

    removed: int
    narrower: int
    share: float
    reorganise: bool = False


# Listing 1 of the design-diversity paper: 25, 40, 50 and 50 epochs of an ImageNet-trained ResNet-50.
LISTING_1 = (
    Stage(1, 1, 25 / 165),
    Stage(2, 1, 40 / 165),
    Stage(2, 2, 50 / 165, reorganise=True),
    Stage(2, 3, 50 / 165, reorganise=True),
)


def largest(space: Space) -> Lists:
    """Return the lists of the whole network."""
    stages, widest = len(space.widths), len(space.multipliers) - 1
    blocks = stages * (space.deepest + 1)
    return Lists((space.deepest,) * stages, (widest,) * (stages + 1), (EXPANSIONS[-1],) * blocks)


def smallest(space: Space, stage: Stage = LISTING_1[-1]) -> Lists:
    """Return the lists of the smallest network that a stage allows; by default the smallest of the space."""
    whole = largest(space)
    depth = tuple(max(0, d - stage.removed) for d in whole.depth)
    width = tuple(max(0, w - stage.narrower + 1) for w in whole.width)
    narrowest = EXPANSIONS[-min(stage.narrower, len(EXPANSIONS))]
    return canonical(space, Lists(depth, width, (narrowest,) * len(whole.expansion)))


def drawn(space: Space, stage: Stage, numbers: random.Random) -> Lists:
    """Draw depth, widths and expansions, each by itself and evenly, from what a stage allows."""
    low = smallest(space, stage)
    expansions = EXPANSIONS[-min(stage.narrower, len(EXPANSIONS)) :]
    return canonical(
        space,
        Lists(
            tuple(numbers.randint(d, space.deepest) for d in low.depth),
            tuple(numbers.randint(w, len(space.multipliers) - 1) for w in low.width),
            tuple(numbers.choice(expansions) for _ in low.expansion),
        ),
    )


def canonical(space: Space, lists: Lists) -> Lists:
    """Return the one name of a network: the expansions of blocks that are not there are the largest."""
    there = _there(space, lists.depth)
    kept = tuple(e if is_there else EXPANSIONS[-1] for e, is_there in zip(lists.expansion, there, strict=True))
    return replace(lists, expansion=kept)


def encoded(lists: Lists) -> list[int]:
    """Return a network as whole numbers: depth, width, and the indices of the expansions."""
    return [*lists.depth, *lists.width, *(EXPANSIONS.index(e) for e in lists.expansion)]


def decoded(space: Space, numbers: Sequence[int]) -> Lists:
    """Return the network that :func:`encoded` made into whole numbers."""
    stages = len(space.widths)
    depth, width, rest = numbers[:stages], numbers[stages : 2 * stages + 1], numbers[2 * stages + 1 :]
    whole = [tuple(int(n) for n in part) for part in (depth, width, rest)]
    return canonical(space, Lists(whole[0], whole[1], tuple(EXPANSIONS[i] for i in whole[2])))


def limits(space: Space) -> list[int]:
    """Return the largest value of each of these numbers; the smallest is 0."""
    stages = len(space.widths)
    return [
        *[space.deepest] * stages,
        *[len(space.multipliers) - 1] * (stages + 1),
        *[len(EXPANSIONS) - 1] * (stages * (space.deepest + 1)),
    ]


def relatives(space: Space, of: Lists, family: str) -> Iterator[Lists]:
    """Yield the networks of a family of Table ii: what differs from one network in one kind of list.

    ``n``: the expansion of one or two blocks; ``d``: where the blocks are; ``w``: the widths.
    """
    if family == "n":
        there = [i for i, is_there in enumerate(_there(space, of.depth)) if is_there]
        for count in (1, 2):
            for places in itertools.combinations(there, count):
                for values in itertools.product(EXPANSIONS, repeat=count):
                    changed = list(of.expansion)
                    for place, value in zip(places, values, strict=True):
                        changed[place] = value
                    if all(changed[place] != of.expansion[place] for place in places):
                        yield replace(of, expansion=tuple(changed))
    elif family == "d":
        for depth in itertools.product(range(space.deepest + 1), repeat=len(space.widths)):
            if depth != of.depth:
                yield canonical(space, replace(of, depth=depth))
    else:
        for width in itertools.product(range(len(space.multipliers)), repeat=len(space.widths) + 1):
            if width != of.width:
                yield replace(of, width=width)


def params(space: Space, lists: Lists) -> dict[str, Any]:
    """Return the arguments with which ``elastic-resnet`` builds the network, as plain JSON."""
    return {
        "depth": list(lists.depth), "width": list(lists.width), "expansion": list(lists.expansion),
        "widths": list(space.widths), "multipliers": list(space.multipliers),
    }  # fmt: skip


def _there(space: Space, depth: Sequence[int]) -> list[bool]:
    return [block <= depth[stage] for stage in range(len(space.widths)) for block in range(space.deepest + 1)]
