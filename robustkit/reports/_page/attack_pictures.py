"""The part of a page that shows images before and after an attack."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from robustkit.reports import _format as f
from robustkit.reports._labels import budget_text
from robustkit.reports._page.layout import Section, embedded, part
from robustkit.reports._page.sections import Material
from robustkit.reports._sample_arrays import IMAGES, Picture, SampleTable

SIDE = 96  # pixels of the page that an image takes at least, where a whole multiple of its own allows it
OUTCOMES = {"broken": "broken", "withstood": "withstood", "wrong": "wrong without an attack"}


def images(shown: Material) -> Iterator[Section]:
    """Yield the part with images of attacks, where there are some or a reason why there are none."""
    table = shown.samples
    if table is None or not (table.pictures or table.notes):
        return
    classes = shown.results["dataset"]["classes"]
    groups = [_group(at, one.ensemble, table, classes) for at, one in enumerate(table.outcomes)]
    body = part(
        "_pictures.html.j2", groups=[group for group in groups if group], notes=table.notes,
        unfold=bool(shown.results["audit"]),
    )  # fmt: skip
    yield Section("images", "Images of attacks", body, styles=("_pictures.css",))


def _group(at: int, ensemble: str, table: SampleTable, classes: Sequence[str]) -> dict[str, Any] | None:
    """Return what is shown of one ensemble, which is the one at ``at``."""
    own = [picture for picture in table.pictures if picture.about["ensemble"] == ensemble]
    ladder = [picture for picture in own if picture.about["kind"] == "ladder"]
    examples = [picture for picture in own if picture.about["kind"] != "ladder"]
    if not own:
        return None
    about = own[0].about
    counts = {kind: sum(p.about["outcome"] == kind for p in examples) for kind in OUTCOMES}
    said = ", ".join(f"{n} {OUTCOMES[kind]}" for kind, n in counts.items() if n)
    return {
        "title": f"{ensemble}: {about['attack']} at eps {budget_text(about['eps'], about['norm'])}, the strongest run",
        "figures": [_figure(picture, classes, f"{at}-{picture.about['id']}") for picture in examples],
        "counted": f"{len(examples)} images: {said}." if said else "",
        "factor": _factors(examples),
        "channels": _channels(own[0]),
        "ladder": _ladder(ladder, classes) if ladder else None,
    }


def _ladder(pictures: Sequence[Picture], classes: Sequence[str]) -> dict[str, Any]:
    about = pictures[0].about
    steps = [_figure(picture, classes, "") for picture in pictures]
    return {
        "title": f"Sample {about['id']}, label {_name(classes, about['label'])}: {about['attack']} at every eps",
        "factor": _factors(pictures), "original": steps[0]["images"][0], "clean": steps[0]["clean"], "steps": steps,
    }  # fmt: skip


def _figure(picture: Picture, classes: Sequence[str], sample: str) -> dict[str, Any]:
    about = picture.about
    label, after = _name(classes, about["label"]), _answers(about["attacked"], about["label"], classes)
    at = budget_text(about["eps"], about["norm"])
    _, height, width = about["shape"]
    scale = max(1, math.ceil(SIDE / max(height, width)))
    alts = (
        f"Sample {about['id']}, {label}, as it is",
        f"What {about['attack']} at eps {at} changed, {f.plain(about['factor'])} times as strong, around grey",
        f"Sample {about['id']} after {about['attack']} at eps {at}, taken for {after[0]['label']}",
    )
    files = (picture.original, picture.perturbation, picture.result)
    beyond = " (broken only beyond this eps)" if _beyond(about) else ""
    return {
        "sample": sample, "id": about["id"], "label": label, "budget": at, "attack": f"{about['attack']} at eps {at}",
        "outcome": OUTCOMES[about["outcome"]] + beyond, "clean": _answers(about["clean"], about["label"], classes),
        "attacked": after,
        "changed": f"{about['norm']} {about['changed']:.4g}",
        "images": [
            {"name": name, "alt": alt, "source": embedded("image/png", file), "width": width * scale,
             "height": height * scale}
            for name, alt, file in zip(IMAGES, alts, files, strict=True)
        ],
    }  # fmt: skip


def _beyond(about: Mapping[str, Any]) -> bool:
    """Return whether an attack that looks for the smallest perturbation found one that is larger than eps."""
    wrong = bool(about["attacked"][0][0] != about["label"])
    return wrong and about["outcome"] == "withstood" and about["changed"] > about["eps"]


def _answers(said: Sequence[Sequence[float]], right: int, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return what the ensemble said, as the one that is no member, then its members."""
    return [
        {"member": at - 1 if at else None, "label": _name(classes, int(label)),
         "share": f.percent(share), "right": label == right}
        for at, (label, share) in enumerate(said)
    ]  # fmt: skip


def _name(classes: Sequence[str], label: int) -> str:
    return classes[label] if 0 <= label < len(classes) else str(label)


def _factors(pictures: Sequence[Picture]) -> str:
    return ", ".join(dict.fromkeys(f.plain(picture.about["factor"]) for picture in pictures))


def _channels(picture: Picture) -> str:
    channels = picture.about["shape"][0]
    return "" if channels in (1, 3) else f"; of {channels} channels the first is shown, in grey"
