"""The space of cells: vectors, mixtures, discrete architectures, their files and pictures, and what is refused."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from robustkit import models
from robustkit.base.errors import UserError
from robustkit.models._genotype import OPERATIONS, Genotype, architectures, from_json, read
from robustkit.search import _drawing
from robustkit.search._space import Space

SOME = Genotype((1, 0, 3), ("dil_conv_5x5", "skip_connect", "max_pool_3x3"))


def vector(space: Space, seed: int = 0) -> torch.Tensor:
    return torch.randn(space.size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_six_nodes_are_the_papers():
    space = Space()
    assert space.edges == ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (0, 4), (1, 4), (2, 4), (3, 4))
    assert (space.length, space.size, len(space.operations)) == (3, 9 * 7 + 9, 7)
    assert architectures(6) == 14 * 21 * 28
    assert "none" not in space.operations


@pytest.mark.parametrize("nodes", [4, 6, 7])
def test_mixtures_are_distributions(nodes: int):
    space = Space(nodes)
    generator = torch.Generator().manual_seed(1)
    for mixture in (space.softmax(vector(space)), space.gumbel(vector(space), 0.3, generator)):
        torch.testing.assert_close(mixture.alpha.sum(1), torch.ones(len(space.edges), dtype=torch.float64))
        for node in space.inner:
            assert [edge[1] for edge in space.edges[space.into(node)]] == [node] * node
            assert float(mixture.joint[space.into(node)].sum()) == pytest.approx(1)


@pytest.mark.parametrize("nodes", [4, 6, 9])
def test_discretisation_keeps_one_parent_and_one_operation_of_each_node(nodes: int):
    space = Space(nodes)
    for seed in range(20):
        weights = vector(space, seed)
        found = space.discretise(weights)
        kept = space.one_hot(found)
        assert kept.sum() == space.length == nodes - 3
        joint = space.softmax(weights).joint
        for node in space.inner:
            mine = space.into(node)
            assert kept[mine].sum() == 1
            assert joint[mine][kept[mine] == 1].item() == joint[mine].max()


def test_gumbel_draws_each_operation_as_often_as_softmax_says():
    space = Space(4)  # one inner node: the largest of alpha is drawn with its softmax (Gumbel-max)
    generator, weights = torch.Generator().manual_seed(0), vector(space)
    drawn = torch.stack([space.gumbel(weights, 0.01, generator).alpha[0] for _ in range(4000)]).argmax(1)
    expected = space.softmax(weights).alpha[0]
    frequencies = drawn.bincount(minlength=7) / 4000
    assert (frequencies - expected).abs().max() < 4 * math.sqrt(0.25 / 4000)


def test_random_architectures_have_equal_chances():
    space, generator = Space(4), torch.Generator().manual_seed(0)
    counts = Counter(space.random(generator) for _ in range(14 * 200))
    assert len(counts) == 14
    assert sum((n - 200) ** 2 / 200 for n in counts.values()) < 34.5  # chi squared, 13 degrees: one in a thousand
    assert len(space.distinct(50, lambda: space.random(generator))) == 14


@pytest.mark.parametrize("replaced", [0, 1, 2, 3])
def test_deviation_replaces_that_many_edges(replaced: int):
    space, generator = Space(), torch.Generator().manual_seed(0)
    drawn = [space.deviation(SOME, replaced, generator) for _ in range(200)]
    assert {one.shared(SOME) for one in drawn} == {3 - replaced}
    if replaced:
        changed = [at for one in drawn for at in range(3) if one.chosen[at] != SOME.chosen[at]]
        assert set(changed) == {0, 1, 2}
        assert len({one.operations[0] for one in drawn}) == 7  # the same operation from another parent is another edge


def test_shared_edges_are_an_inner_product():
    space = Space()
    other = Genotype((1, 1, 3), ("dil_conv_5x5", "skip_connect", "avg_pool_3x3"))
    assert SOME.shared(other) == 1 == int((space.one_hot(SOME) * space.one_hot(other)).sum())
    assert SOME.shared(SOME) == 3


def test_genotype_file_round_trip(tmp_path: Path):
    file = tmp_path / "one.json"
    file.write_text(json.dumps({**SOME.to_json(), "network": {"cells": 3, "width": 4}}))
    assert read(file) == (SOME, {"cells": 3, "width": 4})
    assert from_json(json.loads(json.dumps(SOME.to_json()))) == SOME
    arch, params = models.resolve(f"genotype:{file}")
    network = models.build(f"genotype:{file}", 3, 5)
    file.unlink()  # a checkpoint needs no file
    again = models.build(arch, 3, 5, params)
    assert len(network.cells) == 3
    assert [(n, p.shape) for n, p in network.named_parameters()] == [(n, p.shape) for n, p in again.named_parameters()]


def altered(**changes: object) -> str:
    return json.dumps({**SOME.to_json(), **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[1, 2]", 'is no genotype; a JSON with "format": "robustkit-genotype-1" is expected'),
        ('{"normal": []}', "is no genotype"),
        (altered(format="robustkit-genotype-9"), "has format 'robustkit-genotype-9'; this robustkit reads"),
        (altered(space="nasbench-201"), "is of the space 'nasbench-201'; only architectures of 'darts-cell'"),
        (altered(edges=[]), "has edges into none; it must have one into each of 2, 3, 4"),
        (altered(edges=SOME.to_json()["edges"] * 2), "it must have one into each of 2, 3, 4"),
        (altered(nodes=7), "has edges into 2, 3, 4; it must have one into each of 2, 3, 4, 5"),
        (altered(nodes=3, edges=[]), "of 3 nodes has edges into none; it must have one into each of at least one node"),
        (altered(nodes=10**12), "has edges into 2, 3, 4"),
        (altered(edges=[{"node": 2}]), "lacks a node, a parent or an operation"),
        (
            altered(nodes=4, edges=[{"node": 2, "from": 2, "operation": "skip_connect"}]),
            "it must be a node from 0 to 1",
        ),
        (altered(nodes=4, edges=[{"node": 2, "from": 0, "operation": "sep_conv_7x7"}]), "did you mean 'sep_conv_"),
        (altered(nodes=4, edges=[{"node": 2, "from": 0, "operation": "none"}]), "unknown operation 'none'"),
        (altered(nodes=4, edges=[{"node": 2, "from": 0.5, "operation": "skip_connect"}]), "0.5 is not a whole number"),
        (altered(network={"cells": 0}), "it may say whole numbers of cells and of width"),
        (altered(network={"depth": 3}), "it may say whole numbers of cells and of width"),
    ],
)
def test_a_wrong_file_is_told_in_one_sentence(tmp_path: Path, text: str, message: str):
    file = tmp_path / "wrong.json"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        models.check(f"genotype:{file}")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="cannot be read"):
        models.check(f"genotype:{tmp_path / 'no.json'}")


def test_wrong_numbers_are_told():
    for nodes in (3, 17):
        with pytest.raises(UserError, match=f"nodes {nodes} is out of range; a cell has 4 to 16"):
            Space(nodes)
    with pytest.raises(UserError, match=r"replaced edges 4 is out of range; .* 6 nodes has 3 edges"):
        Space().deviation(SOME, 4, torch.Generator())
    with pytest.raises(UserError, match="the genotype has 6 nodes and the space 7"):
        Space(7).one_hot(SOME)
    with pytest.raises(UserError, match="images of 7x9 pixels are too small for the two reductions"):
        Space().check((1, 7, 9))
    with pytest.raises(UserError, match="1 parents and 2 operations"):
        Genotype((0,), ("skip_connect", "skip_connect"))


def test_drawing_has_every_edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    figure = _drawing.figure(SOME, "mine")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == [*SOME.operations, "before", "last", "2", "3", "4", "output"]
    arrows = figure.axes[0].patches
    assert len(arrows) == 3 + 3  # kept edges, and from each inner node to the output
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\necho '<svg>'\ncat\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    drawn = _drawing.draw(SOME, tmp_path / "cell.svg", "mine").read_text()
    assert drawn.startswith("<svg>\ndigraph")
    for parent, node, operation in SOME.chosen:
        assert f'{parent} -> {node} [label="{operation}"];' in drawn
    program.write_text("#!/bin/sh\nexit 1\n")  # a broken Graphviz is as good as none
    assert "matplotlib" in _drawing.draw(SOME, tmp_path / "cell.svg", "mine").read_text().lower()


def test_so_many_architectures_differ_in_so_many_edges():
    space = Space(5)
    every = [
        Genotype((a, b), (p, q)) for a in range(2) for b in range(3) for p in OPERATIONS for q in OPERATIONS
    ]  # fmt: skip
    one = every[7]
    for replaced in range(3):
        assert space.deviations(replaced) == sum(2 - one.shared(other) == replaced for other in every)
    assert space.deviations(None) == len(every)
