from collections import Counter
from functools import cache
from typing import Any

import pytest
from bson import BSON, ObjectId

from examples.corpus import corpus
from examples.edits import edits
from examples.new_documents import NEW_DOCUMENTS
from examples.stopwatch import quantile
from models import DOCUMENT_TYPES, entry_id_of


@cache
def documents() -> list[tuple[str, dict[str, Any]]]:
    return list(corpus())


def test_has_enough_documents_of_every_type() -> None:
    count = Counter(collection for collection, _ in documents())
    assert set(count) == set(DOCUMENT_TYPES)
    assert count.total() >= 300
    assert all(number >= 20 for number in count.values())


def test_is_the_same_every_time_and_no_document_comes_twice() -> None:
    assert documents() == list(corpus())
    keys = [(collection, entry_id_of(document["_id"])) for collection, document in documents()]
    assert len(set(keys)) == len(keys)


def test_mixes_types_and_identities_from_the_start() -> None:
    for some in (documents()[:90], documents()[-90:]):
        assert {collection for collection, _ in some} == set(DOCUMENT_TYPES)
        assert {type(document["_id"]) for _, document in some} == {ObjectId, str, int}


def test_every_document_is_bson_that_a_model_can_read() -> None:
    for collection, document in [*documents(), *NEW_DOCUMENTS]:
        body = BSON.encode(document).decode()
        parsed = DOCUMENT_TYPES[collection].parse(entry_id_of(body["_id"]), body)
        assert parsed.sections
        assert parsed.author_id


def test_has_content_as_a_mapping_as_plain_text_and_with_null_values() -> None:
    contents = [document["content"] for _, document in documents()]
    assert {type(content) for content in contents} == {dict, str}
    assert any(
        None in content.values() or "Subtitle" not in content
        for content in contents
        if isinstance(content, dict)
    )


def test_edits_touch_each_document_once_and_add_all_new_ones() -> None:
    planned = list(edits(documents()))
    keys = [(edit.collection, entry_id_of(edit.identity)) for edit in planned]
    assert len(set(keys)) == len(keys)
    kinds = Counter(edit.kind for edit in planned)
    assert kinds["added"] == len(NEW_DOCUMENTS)
    assert min(kinds["updated"], kinds["replaced"], kinds["deleted"]) >= 5


def test_new_documents_clash_with_none_of_the_documents() -> None:
    known = {(collection, entry_id_of(document["_id"])) for collection, document in documents()}
    new = {(collection, entry_id_of(document["_id"])) for collection, document in NEW_DOCUMENTS}
    assert len(new) == len(NEW_DOCUMENTS)
    assert not new & known


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([3, 1, 2], 0.5, 2), ([1, 2], 0.5, 1), ([5], 0.99, 5), (range(1, 201), 0.99, 198)],
)
def test_quantile_is_a_value_that_was_measured(
    values: list[float], share: float, expected: float
) -> None:
    assert quantile(values, share) == expected
