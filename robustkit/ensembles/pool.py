"""A pool of members, taken from any number of trained ensembles: what of it is asked for (the suite ``pools``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustkit.base.errors import UserError
from robustkit.base.files import listed
from robustkit.base.options import at_least
from robustkit.ensembles.checkpoint import CANDIDATES, META, WEIGHTS, read_meta
from robustkit.ensembles.ensemble import fingerprint
from robustkit.records.cells import EnsembleRecord, Spec

if TYPE_CHECKING:
    from robustkit.ensembles.ensemble import Ensemble

SIZE = 3  # members of a subset, as in the design-diversity paper
IMAGES = 200  # of each validation set, of which attribution maps are compared


@dataclass(frozen=True)
class Pool:
    """Which members, and what to do with them.

    Attributes
    ----------
    folders : tuple of Path
        The checkpoints, each once.
    doubles : tuple of str
        What was named twice, a sentence each.
    size : int
        Members of a subset, at least 2.
    images : int
        Of each validation set, of which saliency maps are compared; 0: none.
    """

    folders: tuple[Path, ...]
    doubles: tuple[str, ...]
    size: int
    images: int


def find(folders: str | Path | Iterable[str | Path], size: int | None = None, images: int = IMAGES) -> Pool:
    """Return the pool of all members of the checkpoints in some folders.

    Parameters
    ----------
    folders : path or iterable of paths
        Each is a folder that ``robustkit train`` wrote, or a folder of such folders; of one that ``robustkit search``
        wrote, its candidates join the pool.

    Raises
    ------
    UserError
        If a folder holds no checkpoint, checkpoints differ in classes or in the shape of their images, or there are
        fewer members than a subset has.
    """
    size = SIZE if size is None else size
    at_least("subset size", size, 2)
    at_least("pool attribution", images, 0)
    found: dict[Path, Mapping[str, Any]] = {}
    doubles = []
    for path in (path for folder in listed(folders) for path in _checkpoints(folder)):
        meta = read_meta(path)
        equal = next((p for p, m in found.items() if p == path or _identity(m) == _identity(meta)), None)
        if equal is None:
            found[path] = meta
        else:
            again = "named twice" if equal == path else f"the same as '{equal.name}'"
            doubles.append(f"checkpoint '{path.name}' is {again} and counts once")
    _check_alike(found)
    members = sum(len(meta["members"]) for meta in found.values())
    _check_size(size, members)
    return Pool(tuple(found), tuple(doubles), size, images)


def ask(
    pool: Pool, models: Sequence[tuple[EnsembleRecord, Ensemble]], corruptions: Iterable[Spec] = (),
    corruption_dir: str | Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return what is asked of the suite ``pools``, as plain JSON; members with equal weights count once.

    ``corruptions`` are those of an evaluation: of each, the middle severity is a validation set beside the clean one.
    """
    members: dict[str, dict[str, Any]] = {}
    doubles = list(pool.doubles)
    for record, ensemble in models:
        for at, (member, arch) in enumerate(zip(ensemble.members, record.arch, strict=True)):
            name = record.id if len(ensemble) == 1 else f"{record.id}/{at}"
            weights = fingerprint(member.state_dict())
            if weights in members:
                doubles.append(f"member '{name}' is the same as '{members[weights]['id']}' and counts once")
                continue
            members[weights] = {
                "id": name, "ensemble": record.key, "member": at, "arch": arch, "weights_sha256": weights,
                "parameters": sum(p.numel() for p in member.parameters()),
            }  # fmt: skip
    _check_size(pool.size, len(members))
    return {
        "size": pool.size, "members": list(members.values()), "doubles": doubles, "images": pool.images,
        "corruptions": [spec.to_json() for spec in middle_severities(corruptions)],
        "corruption_dir": None if corruption_dir is None else str(Path(corruption_dir).resolve()),
    }  # fmt: skip


def middle_severities(corruptions: Iterable[Spec]) -> list[Spec]:
    """Return each corruption of each suite once, at the middle one of its severities (3 of 1 to 5).

    The paper's validation sets are corruptions at one strength each.
    """
    groups: dict[tuple[str, str], list[Spec]] = {}
    for spec in corruptions:
        groups.setdefault((spec.kind, spec.name), []).append(spec)
    ordered = (sorted(group, key=lambda spec: int(spec.params["severity"])) for group in groups.values())
    return [group[(len(group) - 1) // 2] for group in ordered]


def _checkpoints(folder: Path) -> list[Path]:
    """Return the folder if it is a checkpoint, else those in it, by name; of a search all its candidates."""
    folder = folder.parent if folder.name in (META, WEIGHTS) else folder
    if (folder / META).is_file() and (folder / CANDIDATES).is_dir():
        folder = folder / CANDIDATES  # the search's own ensemble is one subset of these
    if not folder.is_dir():
        # Cause: the path is wrong, or relative to another folder than the current one.
        raise UserError(f"pool folder '{folder}' is not there; give a folder that `robustkit train` wrote.")
    inside = sorted(path for path in folder.iterdir() if path.is_dir())
    found = [path for path in [folder, *inside] if (path / META).is_file() or (path / WEIGHTS).is_file()]
    if not found:
        # Cause: neither the folder nor one directly in it has an ensemble.json and weights.safetensors.
        raise UserError(
            f"pool folder '{folder}' holds no checkpoint; give a folder that `robustkit train` wrote, "
            "or a folder of such folders."
        )
    return [path.resolve() for path in (found[:1] if found[0] == folder else found)]


def _identity(meta: Mapping[str, Any]) -> tuple[str, str]:
    return meta["weights_sha256"], str([member["arch"] for member in meta["members"]])


def _check_alike(found: Mapping[Path, Mapping[str, Any]]) -> None:
    """Logits of other classes, or of other images, cannot be fused."""
    first, *others = found
    shape, classes = tuple(found[first]["shape"]), list(found[first]["classes"])
    for path in others:
        own = tuple(found[path]["shape"])
        if own != shape:
            # Cause: the members were trained on images of different sizes or channels, so that no image fits both.
            raise UserError(
                f"checkpoint '{path}' takes images of shape {own}, '{first}' of shape {shape}; "
                "a pool needs members of one shape."
            )
        if list(found[path]["classes"]) != classes:
            count = len(found[path]["classes"])
            # Cause: the members were trained on different data, or with other names of the classes.
            raise UserError(
                f"checkpoint '{path}' has {count} classes, '{first}' {len(classes)}, or their names differ; "
                "a pool needs members of the same classes."
            )


def _check_size(size: int, members: int) -> None:
    if size > members:
        raise UserError(
            f"subset size {size} is larger than the pool, which has {members} different members; "
            "add --pool folders or lower --subset-size."
        )
