"""Sparse vectors: the terms of a text, their indices and weights."""

import subprocess
import sys
import time
import unicodedata

import pytest

from models.sparse import AVERAGE_LENGTH, K1, B, SparseWeights, chunk_weights, query_weights, terms
from tests.processes import ROOT


def found(query: str, text: str) -> bool:
    """Whether a search for all terms of `query` finds `text`."""
    return set(query_weights(query).indices) <= set(chunk_weights(text).indices)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("getUserName", {"getusername", "get", "user", "name"}),
        ("HTTPServer", {"httpserver", "http", "server"}),
        ("snake_case_name", {"snake_case_name", "snake", "case", "name"}),
        ("__init__", {"init"}),
        ("os.path.join", {"os.path.join", "os", "path", "join"}),
        ("the end. Next", {"the", "end", "next"}),
        ("utf8", {"utf8", "utf", "8"}),
        ("v1.18", {"v1.18", "v1", "v", "1", "18"}),
        ("C++, C# and i++", {"c++", "c#", "c", "and", "i++", "i"}),
        ("#include", {"include"}),
        ("plain words, plain", {"plain", "word"}),
        ("class status getUsers bus", {"class", "statu", "getuser", "get", "user", "bus"}),
        ("naïve Straße STRASSE", {"naïve", "strasse"}),
        ("हिन्दी किताब", {"हिन्दी", "किताब"}),
        ("ＡＢＣ ﬁne", {"abc", "fine"}),
        ("東京", {"東京", "東", "京"}),
        ("猫", {"猫"}),
        ("タワー", {"タワ", "ワー"}),
        ("สวัส", {"สว", "วั", "ัส"}),
        ("한국어", {"한국", "국어"}),
        ("🎉🎉", {"🎉"}),
        ("👩🏽‍💻", {"👩", "💻"}),
        ("🇩🇪", {"🇩🇪"}),
        ("☃️", {"☃"}),
        ("", set()),
        ("--- ___ ...", set()),
    ],
)
def test_terms(text: str, expected: set[str]) -> None:
    assert set(terms(text)) == expected


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("user name", "def getUserName(): ..."),
        ("getUserName", "self.getUserName()"),
        ("getusername", "def getUserName(): ..."),
        ("join", "os.path.join(a, b)"),
        ("os.path.join", "x = os.path.join(a, b)."),
        ("CAFÉ", unicodedata.normalize("NFD", "ein café")),
        ("query results", "the result of queries and of a query"),
        ("タワー", "東京タワーへ行く。"),
        ("京", "東京タワー"),
        ("🎉", "done 🎉!"),
    ],
)
def test_a_query_finds_an_identifier_or_a_word_however_it_is_written(query: str, text: str) -> None:
    assert found(query, text)


def test_weights_are_those_of_bm25_without_idf() -> None:
    weights = chunk_weights("one two two")
    length = 1 - B + B * 3 / AVERAGE_LENGTH
    of = dict(zip(weights.indices, weights.values, strict=True))
    [one], [two] = query_weights("one").indices, query_weights("two").indices
    assert of[one] == pytest.approx((K1 + 1) / (1 + K1 * length))
    assert of[two] == pytest.approx(2 * (K1 + 1) / (2 + K1 * length))
    assert query_weights("one two two").values == (1.0, 1.0)


def test_indices_are_sorted_unique_and_fit_into_32_bits() -> None:
    weights = chunk_weights("a b c aB a.b ab 東京 🎉 " * 50)
    assert list(weights.indices) == sorted(set(weights.indices))
    assert all(0 <= index < 2**32 for index in weights.indices)


def test_another_process_makes_the_same_vector() -> None:
    """A hash that is salted for each process would find nothing that another one has stored."""
    code = "from models.sparse import *; print(chunk_weights('camelCase and 東京').indices)"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
        env={"PYTHONHASHSEED": "1", "PYTHONIOENCODING": "utf-8"},
    ).stdout  # fmt: skip
    assert told.strip() == str(chunk_weights("camelCase and 東京").indices)
    assert chunk_weights("camel").indices == (3556505565,)  # what stores of today hold


def test_a_text_without_terms_has_no_vector() -> None:
    assert chunk_weights("!?") == query_weights(" \n") == SparseWeights((), ())


def test_text_that_is_no_valid_unicode_is_no_error() -> None:
    assert found("x", "\ud800x \ud83d")


@pytest.mark.parametrize("text", ["aB1" * 100_000, "a." * 150_000, "_é" * 150_000, "語" * 300_000])
def test_hostile_texts_take_linear_time(text: str) -> None:
    begun = time.process_time()
    chunk_weights(text)
    assert time.process_time() - begun < 3
