"""The places of a store: the transitions of a migration, and what each refuses."""

from dataclasses import replace

import pytest

from models.errors import ConfigurationError
from models.places import FIRST, Places

ONLY = Places.only("old", "")
BEGUN = ONLY.begun("new", "/models/new")
FILLING = BEGUN.created("2")
READY = FILLING.filled("2")
SWITCHED = READY.searching(newest=True)
ALL = [ONLY, BEGUN, FILLING, READY, SWITCHED, READY.removing(), SWITCHED.removing()]


@pytest.mark.parametrize("places", ALL)
def test_a_statement_is_read_as_it_was_written(places: Places) -> None:
    assert Places.read(places.fields()) == places


def test_a_place_is_written_from_its_creation_to_its_removal() -> None:
    written = [[place.model for place in places.written] for places in ALL]
    both = ["old", "new"]
    assert written == [["old"], ["old"], both, both, both[::-1], ["old"], ["new"]]


def test_each_command_can_be_given_again() -> None:
    assert BEGUN.begun("new", "/models/new") == BEGUN
    assert READY.begun("new", "/models/new") == READY
    assert FILLING.created("2") == FILLING
    assert READY.created("2") == READY.filled("2") == READY
    assert SWITCHED.searching(newest=True) == SWITCHED
    assert READY.searching(newest=False) == READY
    assert READY.removing().removing() == READY.removing()
    gone = READY.removing().removed("2")
    assert gone.removed("2") == gone


def test_rollback_is_a_switch_back() -> None:
    assert SWITCHED.searching(newest=False) == READY


def test_no_place_is_searched_that_lacks_something() -> None:
    for places in (BEGUN, FILLING):
        with pytest.raises(ConfigurationError, match="let start end first"):
            places.searching(newest=True)
    with pytest.raises(ConfigurationError, match="cannot be searched"):
        READY.removing().searching(newest=True)
    with pytest.raises(ConfigurationError, match="no migration"):
        ONLY.searching(newest=True)


def test_the_searched_place_is_never_removed() -> None:
    assert READY.removing().searched.model == "old"
    assert SWITCHED.removing().searched.model == "new"
    for places in (READY, SWITCHED):
        with pytest.raises(ConfigurationError, match="cannot be removed"):
            places.removed(places.active)


def test_no_third_model_comes_in_between() -> None:
    for places in (BEGUN, FILLING, READY):
        with pytest.raises(ConfigurationError, match="remove that first"):
            places.begun("third", "")
    with pytest.raises(ConfigurationError, match="call remove again"):
        READY.removing().begun("third", "")
    with pytest.raises(ConfigurationError, match="searched already"):
        ONLY.begun("old", "")


def test_no_name_of_a_removed_place_is_used_again() -> None:
    """A flow that has not noticed yet may still write there."""
    gone = READY.removing().removed("2")
    assert gone.begun("new", "").other == replace(BEGUN.at("2"), id="3", setting="")
    second = SWITCHED.removing().removed(FIRST)
    assert [place.id for place in second.begun("old", "").places] == ["2", "3"]


def test_a_backfill_does_not_bring_back_what_was_removed() -> None:
    for gone in (FILLING.removing(), FILLING.removing().removed("2")):
        with pytest.raises(ConfigurationError, match="removed meanwhile"):
            gone.filled("2")


@pytest.mark.parametrize(
    "fields",
    [{}, {**READY.fields(), "active": "7"}, {**READY.fields(), "places": [{"id": ""}]},
     {**ONLY.fields(), "places": [{**ONLY.fields()["places"][0], "state": "later"}]}],
)  # fmt: skip
def test_a_statement_of_another_release_is_not_guessed_at(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="newest release"):
        Places.read(fields)
