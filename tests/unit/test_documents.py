"""Tolerant parsing of the three document types."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import DOCUMENT_TYPES, Article, Post, Repository, Section

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3)
    ),
    max_leaves=8,
)


def test_types_are_collections() -> None:
    assert list(DOCUMENT_TYPES) == ["posts", "articles", "repositories"]


def test_article_reads_title_first_and_no_language() -> None:
    body = {
        "content": {"language": "en", "Content": "body", "Subtitle": None, "Title": "T", "x": 1},
        "author_id": {"$oid": "0123456789abcdef01234567"},
        "platform": 5,
    }
    article = Article.parse("a", body)
    assert [(s.path, s.text) for s in article.sections] == [
        ("Title", "T"), ("Content", "body"), ("x", "1"),
    ]  # fmt: skip
    assert article.metadata() == {
        "entry_id": "a", "type": "articles", "author_id": "0123456789abcdef01234567",
        "platform": "5", "link": None, "name": "T", "published_at": None, "updated_at": None,
        "language": "en", "tags": None,
    }  # fmt: skip


def test_post_takes_plain_text_and_nested_mappings() -> None:
    assert Post.parse("a", {"content": "text"}).sections == (Section("", "text"),)
    nested = {"content": {"a": {"b": ["x", None, "y"]}, "c": ""}}
    assert [s.path for s in Post.parse("a", nested).sections] == ["a/b/0", "a/b/2"]


def test_repository_keeps_files_verbatim_and_maps_its_owner() -> None:
    files = {"a.py": " x\n", "b.md": "# y", "c.mdx": "# z"}
    body = {"name": "r", "link": "l", "owner_id": "o", "content": files}
    repository = Repository.parse("a", body)
    assert repository.author_id == "o"
    assert [(s.text, s.verbatim, s.code) for s in repository.sections] == [
        (" x\n", True, True), ("# y", True, False), ("# z", True, False),
    ]  # fmt: skip


@pytest.mark.parametrize("body", [{}, {"content": None}, {"content": 5}, {"content": ["x"]}])
@pytest.mark.parametrize("type_", list(DOCUMENT_TYPES))
def test_a_document_without_content_is_refused(type_: str, body: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="content"):
        DOCUMENT_TYPES[type_].parse("a", body)


@pytest.mark.parametrize(
    ("fields", "language", "tags"),
    [
        ({}, None, ()),
        ({"language": " EN-us "}, "en-us", ()),
        ({"language": "", "content": {"language": "De", "Content": "x"}}, "de", ()),
        ({"language": 5, "tags": 5}, None, ()),
        ({"tags": ["rag", " cdc ", "rag", "", None, 5, ["x"], "x" * 129]}, None, ("rag", "cdc")),
        ({"tags": "machine learning"}, None, ("machine learning",)),
        ({"tags": [str(number) for number in range(99)]}, None, tuple(map(str, range(64)))),
        ({"tags": ["\ud800"], "language": "\ud800"}, "\ufffd", ("\ufffd",)),
    ],
)
def test_language_and_tags_are_read_or_left_out(
    fields: dict[str, Any], language: str | None, tags: tuple[str, ...]
) -> None:
    post = Post.parse("a", {"content": "text", **fields})
    assert (post.language, post.tags) == (language, tags)
    assert post.metadata()["tags"] == (list(tags) or None)


def test_deep_nesting_is_refused() -> None:
    content: Any = "x"
    for _ in range(100):
        content = {"a": content}
    with pytest.raises(ValueError, match="nested"):
        Post.parse("a", {"content": content})


def test_lone_surrogates_become_the_replacement_character() -> None:
    post = Post.parse("a", {"content": "x\ud800y", "link": "\udfff"})
    assert post.sections[0].text == "x\ufffdy"
    assert post.link == "\ufffd"


@given(st.sampled_from(list(DOCUMENT_TYPES)), st.dictionaries(st.text(max_size=8), JSON), JSON)
def test_parsing_raises_nothing_but_value_error(
    type_: str, body: dict[str, Any], content: Any
) -> None:
    try:
        document = DOCUMENT_TYPES[type_].parse("a", {**body, "content": content})
    except ValueError:
        return
    for section in document.sections:
        assert section.text.strip()
        section.text.encode()
