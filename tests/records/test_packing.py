"""Images of the store in few bytes: whatever comes back is what was stored, bit for bit, or it is not there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from robustkit import attacks
from robustkit.functional.sampling import SampleGenerator
from robustkit.records import packing
from robustkit.records.cells import Cell, Facts, Run, Spec, images_of
from robustkit.records.samples import CARRIED, HERE, OK, Floats, Samples
from robustkit.records.store import Store

N, SHAPE = 40, (3, 8, 8)
EPS = 8 / 255


def clean(levels: int = 255) -> Floats:
    """Images of so many grey levels, black and white among them."""
    drawn = np.random.default_rng(1).integers(0, levels + 1, (N, *SHAPE))
    return (drawn / levels).astype(np.float32)


def attacked(name: str, eps: float = EPS) -> Floats:
    """What an attack of ours makes of them, on a linear model."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(int(np.prod(SHAPE)), 5))
    x = torch.from_numpy(clean())
    y = model(x).argmax(1)
    made = attacks.get(name)(
        model, x, y, eps=eps, stop_early=False, generator=SampleGenerator(0, torch.arange(N), name)
    )
    return np.ascontiguousarray(made.detach().numpy())


def same(images: Floats, origin: Floats, reach: float | None) -> float:
    """Pack and unpack, and return the share of the bytes that it took."""
    packed = packing.pack(images, origin, reach)
    back = packing.unpack(packed, origin)
    assert back.tobytes() == np.ascontiguousarray(images).tobytes()
    assert (back.shape, back.dtype) == (images.shape, np.float32)
    return sum(part.nbytes for part in packed.values()) / max(1, images.nbytes)


RNG = np.random.default_rng(0)
HARD = {
    "noise": RNG.random((N, *SHAPE), np.float32),
    "normal": RNG.normal(size=(N, *SHAPE)).astype(np.float32),
    "bits": RNG.integers(0, 2**32, (N, *SHAPE), dtype=np.uint32).view(np.float32),
    "infinite": np.full((N, *SHAPE), np.inf, np.float32),
    "not numbers": np.full((N, *SHAPE), -np.nan, np.float32),
    "minus zero": np.full((N, *SHAPE), -0.0, np.float32),
    "denormal": np.full((N, *SHAPE), 1e-42, np.float32),
    "none": np.zeros((0, *SHAPE), np.float32),
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("reach", [None, 0.0, EPS, 1.0])
@pytest.mark.filterwarnings("error")
def test_anything_comes_back_bit_for_bit(name: str, reach: float | None):
    same(HARD[name], clean()[: len(HARD[name])], reach)


def test_more_than_one_part_comes_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packing, "PART", 1000)
    packed = packing.pack(attacked("mim"), clean(), EPS)
    assert len(packed["packed_parts"]) == -(-clean().size // 1000)
    same(attacked("mim"), clean(), EPS)


@pytest.mark.parametrize(
    ("name", "most"), [("fgsm", 0.1), ("bim", 0.12), ("mim", 0.12), ("pgd", 0.5)]
)  # whose random start is no step
def test_what_sign_attacks_make_takes_a_part_of_its_bytes(name: str, most: float):
    assert same(attacked(name), clean(), EPS) < most


def test_an_image_as_it_was_takes_next_to_nothing():
    assert same(clean(), clean(), EPS) < 0.02


def test_other_clean_images_are_noticed():
    packed = packing.pack(attacked("bim"), clean(), EPS)
    with pytest.raises(ValueError, match="not those that were packed"):
        packing.unpack(packed, clean(levels=15))


def cell(eps: float, after: str = "") -> Cell:
    spec = Spec("attack", "bim", {"steps": 10})
    return Cell("attack", "key", "data", spec, eps, "linf", after=after, version="9")


def run(of: Cell, images: Floats, carried: int = 0) -> Run:
    zeros, logits = np.zeros(N, np.float32), np.zeros((N, 5), np.float32)
    flags = np.where(np.arange(N) < carried, CARRIED, HERE)
    counts = np.zeros(N, np.int64)
    samples = Samples(
        ids=np.arange(100, 100 + N), y=counts, target=counts - 1, member_logits=logits[None], fused=logits, l0=zeros,
        l1=zeros, l2=zeros, linf=zeros, forwards=counts, backwards=counts, seconds=zeros,
        status=np.full(N, OK), carried=flags, history=np.zeros((0, 0), np.float32), examples=images,
    )  # fmt: skip
    return Run(of, samples)


def keep(store: Store, images: np.ndarray) -> None:
    facts = {"ids": np.arange(100, 100 + len(images)), "images": images}
    store.beside().save_facts(Facts(images_of("data", "9"), facts))


def size(folder: Path, of: Cell) -> int:
    return (folder / f"{of.key}.npz").stat().st_size


def images_in(folder: Path, of: Cell) -> Floats:
    """The images of a cell, as another process reads them."""
    found = Store(folder).load(of, examples=True)
    assert found is not None
    assert Store(folder).load(of).samples.examples.size == 0
    return found.samples.examples


def test_a_store_keeps_images_in_few_bytes_where_the_clean_ones_are_kept(tmp_path: Path):
    first, images = cell(EPS), attacked("bim")
    bare = Store(tmp_path / "bare")
    bare.save(run(first, images))
    assert images_in(tmp_path / "bare", first).tobytes() == images.tobytes()
    store = Store(tmp_path / "kept")
    keep(store, (clean() * 255).round().astype(np.uint8))
    store.save(run(first, images))
    assert images_in(tmp_path / "kept", first).tobytes() == images.tobytes()
    assert size(tmp_path / "bare", first) - size(tmp_path / "kept", first) > 0.8 * images.nbytes
    # What would take more bytes than it is lies as it is.
    noise = cell(0.2)
    store.save(run(noise, HARD["bits"]))
    with np.load(tmp_path / "kept" / f"{noise.key}.npz") as arrays:
        assert "examples" in arrays.files
        assert "packed" not in arrays.files
    assert images_in(tmp_path / "kept", noise).tobytes() == HARD["bits"].tobytes()


def test_what_was_taken_over_is_stored_once(tmp_path: Path):
    store = Store(tmp_path)
    keep(store, clean())
    low, high = cell(EPS), cell(2 * EPS, after=cell(EPS).key)
    lower, own = attacked("pgd"), attacked("pgd", 2 * EPS)
    taken = N - 4
    images = np.where((np.arange(N) < taken)[:, None, None, None], lower, own)
    store.save(run(low, lower))
    store.save(run(high, images, carried=taken))
    assert images_in(tmp_path, high).tobytes() == images.tobytes()
    assert size(tmp_path, high) < size(tmp_path, low) / 2
    # Without the cell below there is no image, and no wrong one; the facts stand, and it comes back with that cell.
    facts = {name: (tmp_path / f"{low.key}.{name}").read_bytes() for name in ("npz", "json")}
    (tmp_path / f"{low.key}.json").unlink()
    assert images_in(tmp_path, high).size == 0
    Store(tmp_path).save(run(low, attacked("mim")))  # other images than those that were taken over
    assert images_in(tmp_path, high).size == 0
    for name, content in facts.items():
        (tmp_path / f"{low.key}.{name}").write_bytes(content)
    assert images_in(tmp_path, high).tobytes() == images.tobytes()


def test_without_the_clean_images_there_are_none(tmp_path: Path):
    store, first = Store(tmp_path), cell(EPS)
    keep(store, clean())
    store.save(run(first, attacked("bim")))
    keep(store, clean()[: N // 2])
    assert images_in(tmp_path, first).size == 0
    keep(store, clean(levels=15))
    assert images_in(tmp_path, first).size == 0
    keep(store, clean())
    assert images_in(tmp_path, first).tobytes() == attacked("bim").tobytes()


def test_a_kill_while_a_cell_is_packed_or_written_loses_that_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store, first, second = Store(tmp_path), cell(EPS), cell(2 * EPS)
    keep(store, clean())
    store.save(run(first, attacked("bim")))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for name in ("robustkit.records.packing._deflated", "robustkit.records.store.write_json"):
        with monkeypatch.context() as patch:
            patch.setattr(name, killed)
            with pytest.raises(KeyboardInterrupt):
                store.save(run(second, attacked("bim", 2 * EPS)))
        assert Store(tmp_path).load(second) is None
        assert images_in(tmp_path, first).tobytes() == attacked("bim").tobytes()
    store.save(run(second, attacked("bim", 2 * EPS)))
    assert images_in(tmp_path, second).tobytes() == attacked("bim", 2 * EPS).tobytes()


def test_a_store_of_before_is_read(tmp_path: Path):
    """Its images lie as they are, and nothing is noted of any packing."""
    store, first = Store(tmp_path), cell(EPS)
    whole = run(first, attacked("pgd"))
    store._write(first, whole.samples.arrays(), whole.meta())
    keep(store, clean())
    assert images_in(tmp_path, first).tobytes() == attacked("pgd").tobytes()
    meta = json.loads((tmp_path / f"{first.key}.json").read_text())
    assert replace(first, **{}) == Cell.from_json(meta["cell"])
