"""The catalogue of sabotages fits the code: each finds its one place, and its tests."""

from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_finds_its_place_and_its_tests(mutant: Mutant, tmp_path: Path) -> None:
    copy = tmp_path / mutant.file
    copy.parent.mkdir(parents=True)
    copy.write_text((ROOT / mutant.file).read_text())
    mutant.apply(tmp_path)
    compile(copy.read_text(), mutant.file, "exec")
    for test in mutant.tests.split():
        assert (ROOT / test.partition("::")[0]).exists(), test


def test_names_differ() -> None:
    names = Counter(mutant.name for mutant in MUTANTS)
    assert [name for name, count in names.items() if count > 1] == []


def test_every_guarantee_is_broken_at_least_twice() -> None:
    guarantees = Counter(mutant.guarantee for mutant in MUTANTS)
    assert [name for name, count in guarantees.items() if count < 2] == []


def test_no_two_mutants_are_the_same_for_the_same_tests() -> None:
    seen = Counter((mutant.file, mutant.old, mutant.new, mutant.tests) for mutant in MUTANTS)
    assert [name[0] for name, count in seen.items() if count > 1] == []
