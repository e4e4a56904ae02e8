"""The plan: every cell once, and each eps after the smaller ones whose broken samples it takes over."""

from __future__ import annotations

from dataclasses import replace

from robustkit.records.cells import DatasetRecord, EnsembleRecord, Spec
from robustkit.study.plan import Study

RECORD = EnsembleRecord("adp", "key", "adp", {}, ("lenet",), 2, "mean-prob", "ab" * 32)
STUDY = Study(
    ensembles=(RECORD,), dataset=DatasetRecord("digits", "test", 8, ("a", "b"), "dd", (1, 8, 8)),
    attacks=(Spec("attack", "pgd", {"steps": 10}), Spec("attack", "fgsm", {}), Spec("attack", "cw", {})),
    eps=(0.1, 0.2, 0.3), norm="linf", transfer_eps=0.1,
)  # fmt: skip


def test_chains_hold_every_attack_cell_once():
    chained = [cell.key for chain in STUDY.chains() for cell in chain]
    assert len(set(chained)) == len(chained)
    assert set(chained) == {cell.key for cell in STUDY.cells() if cell.kind != "clean"}


def test_a_chain_climbs_and_each_cell_names_the_one_before():
    climbing = [chain for chain in STUDY.chains() if len(chain) > 1]
    assert sorted(chain[0].name for chain in climbing) == ["fgsm", "pgd", "quorum"]  # the last is the reference
    for chain in climbing:
        assert [cell.eps for cell in chain] == [0.1, 0.2, 0.3]
        assert [cell.after for cell in chain] == ["", chain[0].key, chain[1].key]
    assert all(chain[0].after == "" for chain in STUDY.chains())


def test_the_longest_chain_comes_first():
    first, *rest = STUDY.chains()
    assert [(cell.attack.params["steps"], cell.attack.params["restarts"]) for cell in first if cell.attack] == [
        (24, 4)
    ] * 3
    # Each restart takes the steps once more.
    short = Spec("attack", "pgd", {"steps": 40, "restarts": 1})
    assert replace(STUDY, attacks=(short,)).chains()[0][0].name == "quorum"
    long = Spec("attack", "pgd", {"steps": 97, "restarts": 1})
    assert replace(STUDY, attacks=(long,)).chains()[0][0].name == "pgd"


def test_budgets_of_its_own_are_walked_from_the_smallest():
    own = replace(STUDY, attacks=(Spec("attack", "pgd", {"steps": 10, "eps": [0.15, 0.1]}),), reference=False)
    assert [[c.eps for c in chain] for chain in own.chains() if chain[0].kind == "attack"] == [[0.1, 0.15]]


def test_other_smaller_budgets_make_another_cell():
    keys = {eps: [c.key for c in replace(STUDY, eps=eps).cells() if c.eps == 0.3] for eps in [(0.1, 0.3), (0.2, 0.3)]}
    assert not set(keys[0.1, 0.3]) & set(keys[0.2, 0.3])
