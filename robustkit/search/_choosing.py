"""Which subnetworks are taken out of a supernet: by NSGA-II, and in the families of the paper's Table ii."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustkit.base.errors import UserError
from robustkit.models._elastic import Lists, Space
from robustkit.search import _nsga
from robustkit.search._elastic import decoded, encoded, largest, limits, relatives, smallest

if TYPE_CHECKING:
    from robustkit.search._lab import Checkpoint

# The eleven of Figure A of the design-diversity paper, in an order of which the first few are of all families as well.
FAMILIES = ("B", "B", "n", "d", "w", "n", "w", "d", "n", "w", "n")
TRIED = 24  # relatives of one family that are scored, the nearest in complexity
BETWEEN_SAVES = 2.0  # seconds


@dataclass(frozen=True)
class Scored:
    """A subnetwork, its error on validation data, and its complexity as a share of the largest network's."""

    lists: Lists
    error: float
    share: float


class Archive:
    """Every subnetwork that was scored, each once; kept, so that a killed search asks for none again."""

    def __init__(
        self, space: Space, error: Callable[[Lists], float], complexity: Callable[[Lists], float], kept: Checkpoint,
        advance: Callable[[], object] = lambda: None,
    ) -> None:  # fmt: skip
        self.space, self.error, self.complexity, self.kept, self.advance = space, error, complexity, kept, advance
        self.whole = complexity(largest(space))
        state = kept.load()
        self.errors: dict[str, float] = dict(state["errors"]) if state else {}
        self.seen: dict[Lists, Scored] = {}
        self._saved = time.perf_counter()

    def share(self, lists: Lists) -> float:
        """Return the complexity of a subnetwork as a share of the largest network's."""
        return self.complexity(lists) / self.whole

    def score(self, lists: Lists) -> Scored:
        """Return a subnetwork with its error, from memory where it was scored before."""
        if lists not in self.seen:
            name = ",".join(map(str, encoded(lists)))
            if name not in self.errors:
                self.errors[name] = self.error(lists)
                if time.perf_counter() - self._saved > BETWEEN_SAVES:
                    self.save()
            self.seen[lists] = Scored(lists, self.errors[name], self.share(lists))
            self.advance()
        return self.seen[lists]

    def save(self) -> None:
        """Keep the errors."""
        self.kept.save({"errors": self.errors})
        self._saved = time.perf_counter()

    def front(self) -> list[Scored]:
        """Return the subnetworks that no other seen one beats in error or complexity without losing in the other."""
        seen = list(self.seen.values())
        return [seen[at] for at in _nsga.front([(one.error, one.share) for one in seen])]


def search(archive: Archive, evaluations: int, population: int, seed: int) -> None:
    """Let NSGA-II look for subnetworks of small error and small complexity; all that it sees is in the archive."""

    def objectives(numbers: Sequence[int]) -> tuple[float, float]:
        one = archive.score(decoded(archive.space, numbers))
        return one.error, one.share

    ends = [encoded(smallest(archive.space)), encoded(largest(archive.space))]
    _nsga.minimise(
        objectives, limits(archive.space), start=ends, evaluations=evaluations, population=population, seed=seed
    )
    archive.save()


def of_complexities(archive: Archive, targets: Sequence[float]) -> dict[str, Scored]:
    """Return for each share of the largest network's complexity the best of the front at or below it, each once."""
    front, chosen = archive.front(), dict[str, Scored]()
    for target in targets:
        left = _different(archive.space, front, chosen)
        if not left:
            raise UserError(
                f"{len(targets)} complexities, but the search found only {len(front)} subnetworks on its front; name "
                "fewer, or raise supernet.evaluations."
            )
        below = [one for one in left if one.share <= target]
        nearest = min(left, key=lambda one: abs(one.share - target))
        chosen[f"C_{target:g}"] = min(below, key=lambda one: (one.error, -one.share)) if below else nearest
    return chosen


def of_one_complexity(archive: Archive, count: int, target: float, tolerance: float) -> dict[str, Scored]:
    """Return subnetworks of about one complexity, named as in the paper's Table ii.

    ``B_0`` and ``B_1``: the most accurate that the search found within the tolerance. ``nB_...``: another expansion of
    a block or two of ``B_1``, ``dB_1...``: blocks in other stages, ``wB_1...``: other widths; of each family the most
    accurate ones of about the same complexity.
    """
    families = [FAMILIES[at % len(FAMILIES)] if at < len(FAMILIES) else "nwd"[at % 3] for at in range(count)]
    chosen: dict[str, Scored] = {}
    found = _near(archive, [one.lists for one in archive.seen.values()], target, tolerance, count)
    base = found[min(1, len(found) - 1)]
    of_family = {"B": found} | {
        family: _near(archive, relatives(archive.space, base.lists, family), base.share, tolerance, count)
        for family in "ndw"
    }
    for family in families:
        left = _different(archive.space, (*of_family[family], *found), chosen)
        if not left:
            raise UserError(
                f"{count} subnetworks, but the search saw only {len(chosen)} different ones; lower "
                "supernet.subnetworks, or raise supernet.evaluations."
            )
        number = sum(name.partition("_")[0] == _prefix(family) for name in chosen)
        chosen[f"{_prefix(family)}_{number if family in 'Bn' else f'1{_letters(number)}'}"] = left[0]
    order = ["B", "nB", "dB", "wB"]
    return dict(sorted(chosen.items(), key=lambda item: order.index(item[0].partition("_")[0])))


def _different(space: Space, these: Iterable[Scored], chosen: Mapping[str, Scored]) -> list[Scored]:
    """Return those that are not chosen, by what they are and not by what their lists say."""
    taken = [space.sizes(one.lists) for one in chosen.values()]
    return [one for one in these if space.sizes(one.lists) not in taken]


def _near(archive: Archive, lists: Iterable[Lists], target: float, tolerance: float, count: int) -> list[Scored]:
    """Score the nearest in complexity; return those within the tolerance by error, then the others by distance."""

    def distance(share: float) -> float:
        return abs(share / target - 1)

    networks: dict[tuple[tuple[str, int], ...], Lists] = {}
    for one in lists:  # of few channels, different lists can be rounded to one network
        networks.setdefault(tuple(archive.space.sizes(one).items()), one)
    nearest = sorted(networks.values(), key=lambda one: distance(archive.share(one)))
    scored = [archive.score(one) for one in nearest[: max(TRIED, count)]]
    within = [one for one in scored if distance(one.share) <= tolerance]
    beyond = [one for one in scored if distance(one.share) > tolerance]
    return [*sorted(within, key=lambda one: (one.error, distance(one.share))), *beyond]


def _prefix(family: str) -> str:
    return "B" if family == "B" else f"{family}B"


def _letters(number: int) -> str:
    return chr(ord("a") + number % 26) + (str(number // 26) if number >= 26 else "")
