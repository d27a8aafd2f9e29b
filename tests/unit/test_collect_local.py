"""Readers of local files: JSON lines, mongoexport, Markdown folders, with what may be in them."""

import json
import os
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from connectors.collect import json_files, local_files, markdown
from connectors.collect.json_files import objects_of, parse_jsonl, parse_mongoexport
from connectors.collect.markdown import MarkdownSource
from connectors.collect.table import Table
from models.collected import Collected, Finished, Reader, Refused
from models.errors import SourceError


def read(reader: Reader) -> tuple[dict[str, Any], list[str], bool]:
    """Fields by key, reasons of refusals, and whether the listing was whole."""
    *readings, finished = reader.read({})
    assert isinstance(finished, Finished)
    found = {one.key: dict(one.fields) for one in readings if isinstance(one, Collected)}
    refused = [one.reason for one in readings if isinstance(one, Refused)]
    assert len(found) + len(refused) == len(readings)
    return found, refused, finished.whole


def table(folder: Path, **options: Any) -> Table:
    return Table("mine", {"author": "ada", **options}, folder, {})


def jsonl(folder: Path, content: bytes, **options: Any) -> tuple[dict[str, Any], list[str], bool]:
    (folder / "a.jsonl").write_bytes(content)
    made = table(folder, path="a.jsonl", **options)
    reader = parse_jsonl(made)
    assert made.mistakes == []
    return read(reader)


def exported(folder: Path, content: bytes) -> tuple[dict[str, Any], list[str], bool]:
    (folder / "a.json").write_bytes(content)
    return read(parse_mongoexport(table(folder, path="a.json", type="articles")))


ROW = {"_id": "a", "content": "text"}


def test_a_line_is_a_document_with_the_author_of_the_source(tmp_path: Path) -> None:
    rows = [
        {**ROW, "published_at": "2024-05-01T10:00:00Z"},
        {"id": 7, "author_id": "bob", "content": {"Content": "é"}},
        {"link": "https://EXAMPLE.org/x?utm_source=y", "content": "x"},
    ]
    content = "\n\n".join(json.dumps(row) for row in rows)
    found, refused, whole = jsonl(tmp_path, b"\xef\xbb\xbf" + content.encode(), type="posts")
    assert (refused, whole) == ([], True)
    assert list(found) == ["a", '{"$numberInt": "7"}', "https://example.org/x"]
    assert found["a"]["published_at"] == datetime(2024, 5, 1, 10, tzinfo=timezone.utc)
    assert [row["author_id"] for row in found.values()] == ["ada", "bob", "ada"]
    assert all("_id" not in row for row in found.values())


def test_a_bad_line_is_told_by_its_number_and_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_files, "lines_of", lambda file: local_files.lines_of(file, 2000))
    bad: list[tuple[bytes, str]] = [
        (b"{", "Expecting"),
        (b"[1]", "no JSON object"),
        (b'{"content": "x"}', "no _id or id or link"),
        (b'{"_id": "x"}', "lacks its content"),
        (b'{"_id": "x", "content": "\xff"}', "not UTF-8"),
        (b'{"_id": "x", "content": "x", "n": 99999999999999999999}', "cannot be stored"),
        (b'{"_id": "x", "content": "x", "published_at": "soon"}', "isoformat"),
        (b'{"_id": "a", "content": "again"}', "earlier one"),
        (b'{"_id": "x", "content": "' + b"x" * 3000 + b'"}', "longer than"),
        (b"[" * 1999, ""),
    ]
    lines = [json.dumps(ROW).encode()]
    for line, _ in bad:
        lines += [line, json.dumps({**ROW, "_id": f"after {len(lines)}"}).encode()]
    found, refused, whole = jsonl(tmp_path, b"\n".join(lines), type="posts")
    assert len(found) == len(bad) + 1
    assert not whole
    for number, (reason, (_, part)) in enumerate(zip(refused, bad, strict=True)):
        assert reason.startswith(f"a.jsonl:{2 * number + 2}: ")
        assert part in reason


def test_types_may_stand_in_the_lines(tmp_path: Path) -> None:
    rows = [{**ROW, "type": "posts"}, {**ROW, "type": "repositories"}, {**ROW, "type": "nonsense"}]
    content = b"\n".join(json.dumps(row).encode() for row in rows)
    (tmp_path / "a.jsonl").write_bytes(content)
    first, second, third, _ = parse_jsonl(table(tmp_path, path="a.jsonl")).read({})
    assert isinstance(first, Collected)
    assert isinstance(second, Collected)
    assert (first.type, second.type) == ("posts", "repositories")
    assert second.fields["owner_id"] == "ada"
    assert isinstance(third, Refused)


EXPORT = (
    b'{"_id":{"$oid":"5f43a1b2c3d4e5f60718293a"},"content":{"Title":"t","Content":"[{\\"}"},'
    b'"n":{"$numberLong":"9007199254740993"},"at":{"$date":"2024-01-02T03:04:05Z"}}'
)


@pytest.mark.parametrize(
    "content",
    [
        EXPORT + b"\n",
        b"[" + EXPORT + b"]",
        b"\n [\n" + json.dumps(json.loads(EXPORT), indent=4).encode() + b"\n]\n",
    ],
    ids=["lines", "array", "pretty"],
)
def test_what_mongoexport_writes_keeps_its_types_and_its_id(tmp_path: Path, content: bytes) -> None:
    found, refused, whole = exported(tmp_path, content)
    assert (refused, whole) == ([], True)
    [(key, fields)] = found.items()
    assert key == str(ObjectId("5f43a1b2c3d4e5f60718293a"))
    assert fields["n"] == 9007199254740993
    assert fields["at"] == datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def test_a_broken_object_of_an_array_costs_no_other(tmp_path: Path) -> None:
    good = [json.dumps({**ROW, "_id": name}).encode() for name in "ab"]
    content = b"[" + good[0] + b',\n{"_id": nonsense, "x": [1, {}]},\n' + good[1] + b"]"
    found, refused, whole = exported(tmp_path, content)
    assert list(found) == ["a", "b"]
    assert len(refused) == 1
    assert refused[0].startswith("a.json:2: ")
    assert not whole


def test_an_array_without_its_end_is_not_whole(tmp_path: Path) -> None:
    good = json.dumps(ROW).encode()
    for content in (b"[" + good, b"[" + good + b', {"_id": "b"'):
        found, refused, whole = exported(tmp_path, content)
        assert list(found) == ["a"]
        assert len(refused) == 1
        assert not whole


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64])
def test_objects_are_found_wherever_a_block_ends(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_files, "_BLOCK", block)
    rows = [{"a": 'quo"te \\', "b": [{"c": "}]"}]}, {}, {"d": "\n"}]
    text = json.dumps(rows, indent=1).encode()
    found = list(objects_of(BytesIO(text)))
    assert [json.loads(one or b"") for _, one in found] == rows
    assert [line for line, _ in found] == [
        1 + text[: text.index(mark)].count(b"\n") for mark in (b'{\n  "a"', b"{}", b'{\n  "d"')
    ]


def test_an_object_that_is_too_long_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "LARGEST", 100)
    monkeypatch.setattr(json_files, "_BLOCK", 10)
    text = b'[{"a": "' + b"x" * 1000 + b'"}, {"b": 1}]'
    assert list(objects_of(BytesIO(text))) == [(1, None), (1, b'{"b": 1}')]


def test_a_file_that_is_missing_or_none_is_an_error_of_the_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing", ".", "pipe"):
        reader = parse_jsonl(table(tmp_path, path=name, type="posts"))
        with pytest.raises(SourceError, match="cannot be read"):
            list(reader.read({}))


def folder(path: Path, files: dict[str, str | bytes], **options: Any) -> MarkdownSource:
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return markdown.parse(table(path, path=".", **options))


HEAD = """---
title: "A title: with a colon"
Description: Below it
author: bob
date: 2024-05-01
lastmod: 2024-05-02T10:00:00+02:00
tags: [one, Two, one]
lang: en
---
The body.
"""


def test_front_matter_becomes_fields(tmp_path: Path) -> None:
    source = folder(tmp_path, {"posts/a b.md": HEAD}, base_url="https://example.org/blog")
    found, refused, whole = read(source)
    assert (refused, whole) == ([], True)
    assert found == {
        "https://example.org/blog/posts/a%20b": {
            "author_id": "bob",
            "platform": "markdown",
            "link": "https://example.org/blog/posts/a%20b",
            "published_at": datetime(2024, 5, 1, tzinfo=timezone.utc),
            "updated_at": datetime(2024, 5, 2, 8, tzinfo=timezone.utc),
            "tags": ["one", "Two"],
            "language": "en",
            "content": {
                "Title": "A title: with a colon",
                "Subtitle": "Below it",
                "Content": "The body.\n",
                "language": "en",
            },
        }
    }


@pytest.mark.parametrize(
    ("text", "title", "body"),
    [
        ("# A heading #\n\ntext", "A heading", "# A heading #\n\ntext"),
        ("text\r\n", "a", "text\r\n"),
        ("---\n---\ntext", "a", "text"),
        ("---\r\ntitle: x\r\n---\r\ntext", "x", "text"),
        ("--- \n\nno head, a line\n", "a", "--- \n\nno head, a line\n"),
        ("\ufeff---\ntitle: 7\n...\ntext", "7", "text"),
        ("---\ntitle: [x]\ntags: 5\ndate: never\n---\ntext", "a", "text"),
    ],
)
def test_a_file_without_a_proper_head_is_a_document_all_the_same(
    tmp_path: Path, text: str, title: str, body: str
) -> None:
    found, refused, _ = read(folder(tmp_path, {"a.md": text}))
    assert refused == []
    assert found["file:mine/a.md"]["content"] == {"Title": title, "Content": body}


BOMB = "---\na: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(9)) + "---\ntext"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "aliases"),
        ("---\na: !!python/object/apply:os.system ['touch x']\n---\nb", "constructor"),
        ("---\n" + "- " * 1500 + "\n---\nb", "recursion"),
        ("---\n" + "a: b\n" * 20_000 + "---\nb", "does not end"),
        ("---\n- a\n---\nb", "no mapping"),
        ("---\na: b: c\n---\nb", "mapping values"),
        (b"caf\xe9", "not UTF-8"),
    ],
)
def test_a_bad_head_is_told_by_its_path_and_costs_no_other(
    tmp_path: Path, text: str | bytes, reason: str
) -> None:
    found, refused, whole = read(folder(tmp_path, {"a.md": text, "b.md": "good"}))
    assert list(found) == ["file:mine/b.md"]
    assert len(refused) == 1
    assert refused[0].startswith("a.md: ")
    assert reason in refused[0]
    assert not whole


def test_no_link_leads_out_of_a_folder_of_markdown(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.md").write_text("secret")
    inside = tmp_path / "inside"
    source = folder(inside, {"a.md": "text", ".hidden/b.md": "x", "c.txt": "x"})
    (inside / "up").symlink_to(tmp_path / "secret")
    (inside / "key.md").symlink_to(tmp_path / "secret" / "key.md")
    (inside / "loop").symlink_to(inside)
    found, refused, whole = read(source)
    assert list(found) == ["file:mine/a.md"]
    assert (refused, whole) == ([], True)


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    source = folder(tmp_path, {"a.md": "text"})
    os.mkfifo(tmp_path / "b.md")
    found, [refused], whole = read(source)
    assert list(found) == ["file:mine/a.md"]
    assert refused == "b.md: it is no regular file"
    assert not whole


def test_two_files_with_one_link_do_not_take_turns(tmp_path: Path) -> None:
    head = "---\nlink: https://example.org/a\n---\n"
    found, refused, whole = read(folder(tmp_path, {"a.md": head + "a", "b.md": head + "b"}))
    assert found["https://example.org/a"]["content"]["Content"] == "a"
    assert len(refused) == 1
    assert not whole


def test_drafts_are_for_those_who_ask(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"a.md": "---\ndraft: true\n---\ntext", "b.md": "text"}
    assert list(read(folder(tmp_path, files))[0]) == ["file:mine/b.md"]
    assert len(read(folder(tmp_path, files, drafts=True))[0]) == 2


def test_a_listing_that_was_cut_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(markdown, "MAX_FILES", 2)
    found, _, whole = read(folder(tmp_path, {f"{n}.md": "x" for n in range(3)}))
    assert (len(found), whole) == (2, False)
    deep = "/".join("d" * 40)
    found, _, whole = read(folder(tmp_path / "other", {f"{deep}/a.md": "x", "b.md": "x"}))
    assert (list(found), whole) == (["file:mine/b.md"], False)
    with pytest.raises(SourceError, match="cannot be read"):
        list(markdown.parse(table(tmp_path, path="missing")).read({}))
