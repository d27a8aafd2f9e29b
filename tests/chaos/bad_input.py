"""Malformed, hostile and merely odd input, by name: messages, headers, MongoDB documents."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Literal

import bson
from bson.int64 import Int64

VERSION = (1_700_000_000 << 32) | 7
HEADERS: dict[str, Any] = {"op": "update", "version": VERSION, "schema": 1}

Ends = Literal["points", "dead"]


@dataclass(frozen=True)
class Case:
    """One message."""

    name: str
    body: bytes
    ends: Ends
    """As the points of its own document, or as a dead letter."""
    headers: Mapping[Any, Any] = field(default_factory=lambda: HEADERS)


def body(**changes: Any) -> bytes:
    """A valid post with changes; a field that is `...` is left out."""
    post = {"type": "posts", "entry_id": "id", "content": "A text.", "platform": "x", **changes}
    return json.dumps({key: value for key, value in post.items() if value is not ...}).encode()


def content(text: str) -> bytes:
    """A valid post whose content is `text` as it stands in JSON, valid or not."""
    return b'{"type": "posts", "entry_id": "id", "content": ' + text.encode() + b"}"


def nested(levels: int, opening: str = "[", closing: str = "]") -> str:
    return opening * levels + '"x"' + closing * levels


_VALID = body()
_OBJECT = ('{"a":', "}")
_HTML_BOMB = "<div>" * 100_000 + "deep"

BODIES: dict[str, tuple[bytes, Ends]] = {
    # --- no JSON object ---------------------------------------------------------------------------
    "no bytes": (b"", "dead"),
    "white space": (b" \n\t ", "dead"),
    "no json": (b"hello", "dead"),
    "null": (b"null", "dead"),
    "true": (b"true", "dead"),
    "a number": (b"5", "dead"),
    "a text": (b'"posts"', "dead"),
    "a list": (b"[1]", "dead"),
    "a list of documents": (b"[" + _VALID + b"]", "dead"),
    "an empty object": (b"{}", "dead"),
    "cut off": (_VALID[:-5], "dead"),
    "two objects": (_VALID + _VALID, "dead"),
    "rubbish after it": (_VALID + b"\x00", "dead"),
    "a trailing comma": (_VALID[:-1] + b",}", "dead"),
    "single quotes": (_VALID.replace(b'"', b"'"), "dead"),
    "python": (b'{"type": "posts", "entry_id": "id", "content": None}', "dead"),
    "bson": (bson.encode({"type": "posts", "entry_id": "id", "content": "x"}), "dead"),
    "pickle": (b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.", "dead"),
    "zeros and ones": (b"\x00\xff" * 2_500_000, "dead"),
    "invalid utf-8": (content('"\xff"').replace("\xff".encode(), b"\xff"), "dead"),
    "overlong utf-8": (content('"@"').replace(b"@", b"\xc0\xaf"), "dead"),
    "a surrogate in utf-8": (content('"@"').replace(b"@", b"\xed\xa0\x80"), "dead"),
    "latin-1": ('{"type": "posts", "entry_id": "id", "content": "é"}'.encode("latin-1"), "dead"),
    "utf-16": (_VALID.decode().encode("utf-16"), "dead"),
    "utf-16 without bom": (_VALID.decode().encode("utf-16-le"), "dead"),
    "utf-32": (_VALID.decode().encode("utf-32"), "dead"),
    "utf-8 with bom": (b"\xef\xbb\xbf" + _VALID, "dead"),
    "a raw control character": (content('"a\nb"'), "dead"),
    "a bad escape": (content('"\\x41"'), "dead"),
    "100,000 lists": (b"[" * 100_000, "dead"),
    "100,000 objects": (b'{"a":' * 100_000, "dead"),
    "100,000 lists as content": (content(nested(100_000)), "dead"),
    "100,000 objects as content": (content(nested(100_000, *_OBJECT)), "dead"),
    "a number of 5,000 digits": (content("1" + "0" * 5_000), "dead"),
    "another one in a field": (_VALID[:-1] + b', "n": -' + b"9" * 5_000 + b"}", "dead"),
    # --- whose document is not known --------------------------------------------------------------
    "no type": (body(type=...), "dead"),
    "type null": (body(type=None), "dead"),
    "type empty": (body(type=""), "dead"),
    "type a number": (body(type=5), "dead"),
    "type a list": (body(type=["posts"]), "dead"),
    "type an object": (body(type={"$eq": "posts"}), "dead"),
    "type deep": (_VALID.replace(b'"posts"', nested(400).encode()), "dead"),
    "type unknown": (body(type="videos"), "dead"),
    "type in capitals": (body(type="Posts"), "dead"),
    "type with a space": (body(type="posts "), "dead"),
    "type a path": (body(type="posts/../articles"), "dead"),
    "type a dunder": (body(type="__class__"), "dead"),
    "type a collection of the store": (body(type="cleaned_posts"), "dead"),
    "type the tombstones": (body(type="tombstones"), "dead"),
    "type a lookalike": (body(type="роsts"), "dead"),
    "type with nul": (body(type="posts\x00"), "dead"),
    "type with a surrogate": (body(type="posts\ud800"), "dead"),
    "type of 10 kB": (body(type="posts" * 2_000), "dead"),
    "type of 1 MB": (body(type="p" * 2**20), "dead"),
    "no id": (body(entry_id=...), "dead"),
    "id null": (body(entry_id=None), "dead"),
    "id empty": (body(entry_id=""), "dead"),
    "id a number": (body(entry_id=5), "dead"),
    "id true": (body(entry_id=True), "dead"),
    "id a list": (body(entry_id=["id"]), "dead"),
    "id in extended json": (body(entry_id={"$oid": "0123456789abcdef01234567"}), "dead"),
    "id deep": (_VALID.replace(b'"id"', nested(400).encode()), "dead"),
    "id not a number": (_VALID.replace(b'"id"', b"NaN"), "dead"),
    "id a surrogate": (body(entry_id="\ud800"), "dead"),
    # --- hostile ids, legal all the same ----------------------------------------------------------
    "id a path upwards": (body(entry_id="../../etc/passwd"), "points"),
    "id an absolute path": (body(entry_id="/dev/null"), "points"),
    "id with a slash": (body(entry_id="a/b"), "points"),
    "id with its type": (body(entry_id="posts/1"), "points"),
    "id nul": (body(entry_id="\x00"), "points"),
    "id with nul": (body(entry_id="neighbour-1\x00"), "points"),
    "id white space": (body(entry_id=" \n\t"), "points"),
    "id a neighbour's with a space": (body(entry_id="neighbour-1 "), "points"),
    "id a neighbour's in capitals": (body(entry_id="NEIGHBOUR-1"), "points"),
    "id right to left": (body(entry_id="\u202eid\u2066"), "points"),
    "id like json": (body(entry_id='{"$oid": "0123456789abcdef01234567"}'), "points"),
    "id ending a json array": (body(entry_id='id", "path'), "points"),
    "id a uuid": (body(entry_id="6f1d6a0e-52a5-5f0c-9c55-5d8b1c0e7a11"), "points"),
    "id a command": (body(entry_id="$(touch /tmp/x); `id` && rm -rf /"), "points"),
    "id a filter": (body(entry_id='{"must": []}'), "points"),
    "id null as text": (body(entry_id="null"), "points"),
    "id astral": (body(entry_id="𝕏" * 100), "points"),
    "id of 100 kB": (body(entry_id="i" * 100_000), "points"),
    "id of 300 kB": (body(entry_id="i" * 300_000), "points"),
    # --- content ----------------------------------------------------------------------------------
    "no content": (body(content=...), "dead"),
    "content null": (body(content=None), "dead"),
    "content a number": (body(content=5), "dead"),
    "content a fraction": (body(content=1.5), "dead"),
    "content true": (body(content=True), "dead"),
    "content false": (body(content=False), "dead"),
    "content a list": (body(content=["a", "b"]), "dead"),
    "content not a number": (content("NaN"), "dead"),
    "content minus infinity": (content("-Infinity"), "dead"),
    "content 1e999": (content("1e999"), "dead"),
    "content minus zero": (content("-0"), "dead"),
    "no content and an id of 200 kB": (body(content=None, entry_id="i" * 200_000), "dead"),
    "content empty": (body(content=""), "points"),
    "content white space": (body(content=" \n\t\u2003"), "points"),
    "content an empty object": (body(content={}), "points"),
    "content of nothing": (body(content={"a": None, "b": {}, "c": [], "d": ""}), "points"),
    "content of numbers": (content('{"a": NaN, "b": -0, "c": 1e999, "d": -1.5e-300}'), "points"),
    "content of a large number": (content('{"a": ' + "9" * 4_000 + "}"), "points"),
    "content of truths": (body(content={"a": True, "b": False}), "points"),
    "content of lists": (body(content={"a": ["b", ["c", {"d": "e"}], None]}), "points"),
    "content 32 levels deep": (content(nested(32, *_OBJECT)), "points"),
    "content 40 levels deep": (content(nested(40, *_OBJECT)), "dead"),
    "content 500 levels deep": (content(nested(500, *_OBJECT)), "dead"),
    "content with empty keys": (body(content={"": {"": "x"}}), "points"),
    "content with a slash in a key": (body(content={"a/b": "x", "a": {"b": "x"}}), "points"),
    "content with keys of 100 kB": (body(content={"k" * 100_000: "x"}), "points"),
    "content with 5,000 keys": (body(content={str(i): "" for i in range(5_000)}), "points"),
    "content with an operator": (body(content={"$where": "sleep(1000)", "$ne": None}), "points"),
    "content a surrogate": (content('"\\ud800"'), "points"),
    "content of surrogates in keys": (content('{"\\udfff": "a \\udc00 b"}'), "points"),
    "content of nuls": (body(content="\x00" * 1_000), "points"),
    "content of control characters": (body(content="".join(map(chr, range(160)))), "points"),
    "content right to left": (body(content="\u202e\u2066abc\u2069"), "points"),
    "content of combining marks": (body(content="a" + "\u0301" * 50_000), "points"),
    "content one word of 50 kB": (body(content="w" * 50_000), "points"),
    "content of 3 MB of spaces": (body(content=" " * 3_000_000), "points"),
    "content of emoji": (body(content="👩‍👩‍👧‍👦" * 500), "points"),
    "content an html bomb": (body(content=_HTML_BOMB), "points"),
    "content of open brackets": (body(content="[" * 4_000 + "(" * 4_000), "points"),
    "content of stars": (body(content="*" * 4_000 + "_" * 4_000), "points"),
    "content of ticks": (body(content="`" * 4_000 + "~" * 4_000), "points"),
    "content of less-thans": (body(content="<a " * 4_000), "points"),
    "content of entities": (body(content="&amp;" * 4_000), "points"),
    "content of pipes": (body(content="|" * 4_000), "points"),
    "content of broken links": (body(content="![a](" * 4_000), "points"),
    "content an entity bomb": (
        body(content='<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]>&d;'), "points",
    ),
    "content a script": (body(content="<script>alert(1)</script>"), "points"),
    "broken extended json": (
        content('{"a": {"$date": "never"}, "b": {"$oid": 5}, "c": {"$numberLong": "x"}}'), "points",
    ),
    # --- everything else --------------------------------------------------------------------------
    "a key twice": (b'{"type": "videos", ' + _VALID[1:], "points"),
    "fields null": (body(platform=None, author_id=None, link=None, name=None), "points"),
    "fields of other types": (
        body(platform={"a": [1]}, author_id=[None], link=1.5, name=True, image={}), "points",
    ),
    "fields with surrogates": (body(platform="\ud800", author_id={"$oid": "\udfff"}), "points"),
    "fields in broken extended json": (
        body(author_id={"$oid": 5}, platform={"$oid": None}, link={"$binary": "!"}), "points",
    ),
    "fields not a number": (_VALID[:-1] + b', "link": NaN, "name": 1e999}', "points"),
    "a field 500 levels deep": (body(image=json.loads(nested(500))), "points"),
    "a name 300 levels deep": (body(name=json.loads(nested(300))), "points"),
    "a link of 100 kB": (body(link="l" * 100_000), "points"),
    "a link of 31 MB": (body(link="l" * 31 * 2**20), "dead"),
    "a version in the body": (body(version=-1, schema=9, op="drop"), "points"),
    "dunders": (body(__class__="x", __init__={}, constructor={"prototype": 1}), "points"),
    "negative sizes": (body(size=-1, chunks=-5, position=-1, chunk_ids=[-1]), "points"),
    "stored fields in the body": (body(model="x", content_hash="y", chunk_ids=["z"]), "points"),
    # --- articles and repositories ----------------------------------------------------------------
    "article of plain text": (body(type="articles", content="x"), "points"),
    "article with nulls": (
        body(type="articles", content=dict.fromkeys(["Title", "Subtitle", "Content"])), "points",
    ),
    "article with another title": (
        body(type="articles", content={"Title": {"a": ["b"]}, "language": ["x"]}), "points",
    ),
    "article a list": (body(type="articles", content=[]), "dead"),
    "repository of plain text": (body(type="repositories", content="x = 1"), "points"),
    "repository a list": (body(type="repositories", content=["a.py"]), "dead"),
    "repository of paths upwards": (
        body(type="repositories", content={"../../x.py": "a = 1", "/etc/x": "b"}), "points",
    ),
    "repository of odd paths": (
        body(
            type="repositories",
            content={"": "a", "/": "b", "a//b": "c", "a/": "d", ".": "e", "..": "f", "\x00": "g"},
        ),
        "points",
    ),
    "repository of a long path": (
        body(type="repositories", content={"d/" * 20_000 + "x.py": "a = 1"}), "points",
    ),
    "repository of no text": (
        body(type="repositories", content={"a": None, "b": 5, "c": ["d"], "e.bin": "\x00\x01"}),
        "points",
    ),
    "repository of a file of one line": (
        body(type="repositories", content={"a.py": "x=1;" * 4_000}), "points",
    ),
    "repository of open brackets": (
        body(type="repositories", content={"a.py": "(" * 4_000}), "points",
    ),
}  # fmt: skip

_LONG_KEY = "k" * 300
_OWN = {"reason": "theirs", "stage": 5, "queue": None, "document_id": [], "document_type": {}}

HEADER_CASES: dict[str, tuple[Mapping[Any, Any], Ends]] = {
    "schema 0": ({**HEADERS, "schema": 0}, "dead"),
    "schema 2": ({**HEADERS, "schema": 2}, "dead"),
    "schema a text": ({**HEADERS, "schema": "1"}, "dead"),
    "schema null": ({**HEADERS, "schema": None}, "dead"),
    "schema a list": ({**HEADERS, "schema": [1]}, "dead"),
    "schema a deep list": ({**HEADERS, "schema": json.loads(nested(900))}, "dead"),
    "op unknown": ({**HEADERS, "op": "explode"}, "dead"),
    "op in capitals": ({**HEADERS, "op": "UPDATE"}, "dead"),
    "op empty": ({**HEADERS, "op": ""}, "dead"),
    "op null": ({**HEADERS, "op": None}, "dead"),
    "op a number": ({**HEADERS, "op": 1}, "dead"),
    "op a list": ({**HEADERS, "op": ["update"]}, "dead"),
    "op an object": ({**HEADERS, "op": {"update": 1}}, "dead"),
    "op bytes": ({**HEADERS, "op": b"update"}, "dead"),
    "version -1": ({**HEADERS, "version": -1}, "dead"),
    "version 2**63": ({**HEADERS, "version": 2**63}, "dead"),
    "version 10**5000": ({**HEADERS, "version": 10**5000}, "dead"),
    "version a fraction": ({**HEADERS, "version": 1.0}, "dead"),
    "version a decimal": ({**HEADERS, "version": Decimal(1)}, "dead"),
    "version a text": ({**HEADERS, "version": "7"}, "dead"),
    "version true": ({**HEADERS, "version": True}, "dead"),
    "version null": ({**HEADERS, "version": None}, "dead"),
    "version a time": ({**HEADERS, "version": datetime(2024, 1, 1, tzinfo=timezone.utc)}, "dead"),
    "version 0": ({**HEADERS, "version": 0}, "points"),
    "version 2**63 - 1": ({**HEADERS, "version": 2**63 - 1}, "points"),
    "ordinal -1": ({**HEADERS, "ordinal": -1}, "dead"),
    "ordinal 2**31": ({**HEADERS, "ordinal": 2**31}, "dead"),
    "ordinal a text": ({**HEADERS, "ordinal": "7"}, "dead"),
    "ordinal null": ({**HEADERS, "ordinal": None}, "dead"),
    "ordinal 2**31 - 1": ({**HEADERS, "ordinal": 2**31 - 1}, "points"),
    "committed_ms a text": ({**HEADERS, "committed_ms": "now"}, "points"),
    "committed_ms null": ({**HEADERS, "committed_ms": None}, "points"),
    "committed_ms -1": ({**HEADERS, "committed_ms": -1}, "points"),
    "committed_ms -2**63": ({**HEADERS, "committed_ms": -(2**63)}, "points"),
    "committed_ms 2**63 - 1": ({**HEADERS, "committed_ms": 2**63 - 1}, "points"),
    "committed_ms a table": ({**HEADERS, "committed_ms": {}}, "points"),
    "no headers": ({}, "points"),
    "x-death": ({**HEADERS, "x-death": [{"count": 1, "queue": "q"}], "x-delivery-count": 9},
                "points"),
    "x-death of other types": ({**HEADERS, "x-death": 5, "x-delivery-count": "many"}, "points"),
    "a name that is no utf-8": ({**HEADERS, b"\xff\xfe": "x"}, "points"),
    "poison with names that are no utf-8": ({"op": 1, b"\xff": b"\xff", b"x-\xff": 1}, "dead"),
    "poison with a fraction": ({"op": 1, "f": 1.5, "n": float("nan")}, "dead"),
    "poison with a nested table": (
        {"op": 1, "t": {"a": [1, 2.5, {"b": None}], "c": {"d": {"e": b"\x00"}}}}, "dead",
    ),
    "poison with bytes": ({"op": 1, "b": b"\x00\xff", "a": bytearray(b"x")}, "dead"),
    "poison with null": ({"op": 1, "n": None}, "dead"),
    "poison with times": (
        {
            "op": 1,
            "t": datetime(2024, 1, 1, tzinfo=timezone.utc),
            "old": datetime(1900, 1, 1, tzinfo=timezone.utc),
            "naive": datetime(2024, 1, 1),  # noqa: DTZ001
        },
        "dead",
    ),
    "poison with decimals": (
        {"op": 1, "d": Decimal("1.5"), "l": Decimal(10) ** 40, "n": Decimal("NaN")}, "dead",
    ),
    "poison with large numbers": (
        {"op": 1, "a": 2**31, "b": -(2**63), "c": 2**63, "d": 10**5000}, "dead",
    ),
    "poison with a surrogate": ({"op": 1, "s": "\ud800", "\udfff": 1}, "dead"),
    "poison with a long name": ({"op": 1, _LONG_KEY: 1, "ü" * 200: 1, "": 1}, "dead"),
    "poison with other types": ({"op": 1, "t": (1,), "s": {1}, 5: 5, None: None}, "dead"),
    "poison with a header of 120 kB": ({"op": 1, "h": "x" * 120_000}, "dead"),
    "poison with 130 kB of headers": ({"op": 1, **{f"h{i}": "x" * 100 for i in range(1_200)}},
                                      "dead"),
    "poison with a deep table": ({"op": 1, "d": json.loads(nested(900))}, "dead"),
    "poison with our own headers": ({"op": 1, **_OWN, "version": "x"}, "dead"),
}  # fmt: skip

CASES = [
    *(Case(name, data, ends) for name, (data, ends) in BODIES.items()),
    *(Case(name, _VALID, ends, headers) for name, (headers, ends) in HEADER_CASES.items()),
]

BSON_VALUES: dict[str, Any] = {
    "double": -0.0,
    "not a number": float("nan"),
    "infinity": float("-inf"),
    "text": "../../etc/passwd",
    "nul": "a\x00b",
    "object": {"b": 1, "a": {"c": [None]}},
    "binary": b"\x00\xff",
    "binary of the old type": bson.Binary(b"\x00", 2),
    "uuid": bson.Binary(bytes(16), 4),
    "old uuid": bson.Binary(bytes(16), 3),
    "binary of a user": bson.Binary(b"", 128),
    "object id": bson.ObjectId("0123456789abcdef01234567"),
    "true": True,
    "date": datetime(2024, 1, 1, tzinfo=timezone.utc),
    "date before 1970": datetime(1, 1, 1, tzinfo=timezone.utc),
    "date beyond 9999": bson.DatetimeMS(2**63 - 1),
    "date far before": bson.DatetimeMS(-(2**63)),
    "null": None,
    "code": bson.Code("function() {}"),
    "code with scope": bson.Code("f()", {"x": 1}),
    "int32": -(2**31),
    "int64": Int64(2**63 - 1),
    "least int64": Int64(-(2**63)),
    "timestamp": bson.Timestamp(2**32 - 1, 2**32 - 1),
    "decimal": bson.Decimal128("1E+6111"),
    "decimal not a number": bson.Decimal128("NaN"),
    "decimal infinity": bson.Decimal128("-Infinity"),
    "least key": bson.MinKey(),
    "greatest key": bson.MaxKey(),
    "reference": bson.DBRef("posts", "victim"),
}
"""Values that an `_id` and a field may have, as far as pymongo can write and read it."""

BSON_FIELDS: dict[str, Any] = {
    **BSON_VALUES,
    "list": [1, [2, [3, None]]],
    "regex": bson.Regex("(a+)+$", "i"),
    "regex of an odd pattern": bson.Regex("(", 0),
    "keys with dots and dollars": {"a.b": 1, "$set": 2, "$oid": "no", "": {"": 3}},
    "a false date": {"$date": "never"},
    "100 levels": json.loads(nested(100, *_OBJECT)),
}
