"""Sparse vectors: the terms of a text with their BM25 weights, the same for chunk and query.

A pure function of the text: nothing is downloaded, no language is chosen, there is no stop list.
The other half of BM25, how rare a term is, comes from Qdrant's IDF modifier, which each collection
keeps up to date by itself.

**Terms.** The text is brought into Unicode's form NFKC. Then:

- A word is a run of letters, marks, digits and underscores, without the underscores at its ends. It
  is a term. `c++` and `c#` keep their ends.
- An identifier is a term as a whole and in its parts: `snake_case`, `camelCase`, `HTTPServer`,
  `utf8` and words that dots join (`os.path.join`, `v1.18`).
- Scripts that put no space between words (Han, Kana, Hangul, Thai, Lao, Khmer, Burmese, Tibetan)
  give each pair of neighbours, and each Han character alone.
- An emoji is a term, without its skin tone.
- Everything is case-folded (`casefold`); accents stay. A word of four letters or more loses an `s`
  at its end, unless it ends in `ss`.

On known items (the half for tuning of docs/quality.md) the parts of identifiers raise nDCG@10 from
0.568 to 0.690, and the last rule to 0.713; a stemmer, for English only, would reach 0.721.

**Indices.** The first four bytes of BLAKE2b of the term, little-endian. Two terms get the same
index with a probability of 2^-32: among a million terms, one in 4,300 shares its index.

**Weights.** Of a chunk: tf * (K1 + 1) / (tf + K1 * (1 - B + B * length / AVERAGE_LENGTH)), where
the term occurs tf times among `length` terms. Of a query: 1 for each term, as in Qdrant's own BM25.

Whoever changes any of this changes what is stored: remove the vector `sparse` from the collections
(`delete_vector_name`), then `make reconcile` writes it anew.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from typing import Final, NamedTuple

K1: Final = 1.2
"""How soon more of the same term stops to count."""
B: Final = 0.75
"""How much a long text has to say a term more often."""
AVERAGE_LENGTH: Final = 100.0
"""Terms of an average chunk. It is fixed, so that a weight depends on its own text only; the
chunker cuts to about one size, and BM25 hardly feels a factor of two here."""

_LONGEST_CACHED: Final = 64


class SparseWeights(NamedTuple):
    """A sparse vector."""

    indices: tuple[int, ...]
    """Ascending; each once. A text without terms has none."""
    values: tuple[float, ...]


NO_TERMS: Final = SparseWeights((), ())


def chunk_weights(text: str) -> SparseWeights:
    """The sparse vector that is stored with a chunk."""
    counts = _counts(text)
    longer = K1 * (1 - B + B * sum(counts.values()) / AVERAGE_LENGTH)
    pairs = sorted(counts.items())
    return SparseWeights(
        tuple(index for index, _ in pairs),
        tuple(times * (K1 + 1) / (times + longer) for _, times in pairs),
    )


def query_weights(text: str) -> SparseWeights:
    """The sparse vector that a query is searched by."""
    indices = sorted(_counts(text))
    return SparseWeights(tuple(indices), (1.0,) * len(indices))


def terms(text: str) -> "Counter[str]":
    """The terms of a text, with the number of their occurrences."""
    words, counts = _split(text)
    for word, times in words.items():
        for term in _terms_of(word):
            counts[term] += times
    return counts


def _counts(text: str) -> dict[int, int]:
    """The same, by index."""
    words, others = _split(text)
    counts: dict[int, int] = {}
    for word, times in words.items():
        for index in _remembered(word) if len(word) <= _LONGEST_CACHED else _indices(word):
            counts[index] = counts.get(index, 0) + times
    for term, times in others.items():
        index = _index(term)
        counts[index] = counts.get(index, 0) + times
    return counts


def _in_categories(categories: Iterable[str], ranges: Iterable[range]) -> str:
    """The characters of Unicode categories, for a set of a regular expression."""
    wanted = set(categories)
    return "".join(
        chr(i) for some in ranges for i in some if unicodedata.category(chr(i)) in wanted
    )


_MARKS: Final = _in_categories(
    ("Mn", "Mc"), (range(0x300, 0x2000), range(0xA600, 0xAC00), range(0xFB1E, 0xFB1F))
)
"""Vowel signs and accents of living scripts, which Python does not take for parts of a word."""
_HAN: Final = (
    "\u2e80-\u2fdf\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_UNSPACED_CLASS: Final = (
    _HAN + "\u3041-\u30ff\u3105-\u318f\u31a0-\u31ff"  # Kana, Bopomofo, Jamo
    "\u1100-\u11ff\ua960-\ua97f\uac00-\ud7ff"  # Hangul
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u0edc-\u0edf"  # Thai, Lao
    "\u0f00\u0f18-\u0f19\u0f35-\u0f39\u0f40-\u0fbc"  # Tibetan
    "\u1000-\u103f\u1050-\u108f\u109a-\u109f\ua9e0-\ua9ef\uaa60-\uaa7f"  # Burmese
    "\u1780-\u17d3\u17dc-\u17dd"  # Khmer
)  # fmt: skip
_UNSPACED: Final = re.compile(f"[{_UNSPACED_CLASS}]+")
_IS_HAN: Final = re.compile(f"[{_HAN}]")
_SYMBOL: Final = re.compile(
    "[\U0001f1e6-\U0001f1ff]{2}"  # a flag
    "|[\u231a-\u23ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001f3fa\U0001f400-\U0001faff]"
)
_PART: Final = f"[\\w{_MARKS}]+"
_WORD: Final = re.compile(rf"{_PART}(?:\.{_PART})*(?:\+\+|#(?!\w))?")


def _split(text: str) -> "tuple[Counter[str], Counter[str]]":
    """The words of a text, which may have parts, and its other terms; both with their number."""
    if text.isascii():
        return Counter(_WORD.findall(text)), Counter()
    text = unicodedata.normalize("NFKC", text)
    others = Counter(_SYMBOL.findall(text))
    for run in _UNSPACED.findall(text):
        others.update(map("".join, pairwise(run)))
        others.update(_IS_HAN.findall(run) if len(run) > 1 else run)
    return Counter(_WORD.findall(_UNSPACED.sub(" ", text))), others


def _terms_of(word: str) -> tuple[str, ...]:
    """A word whole and in its parts, each once."""
    bare = word.rstrip("+#")
    found = dict.fromkeys([word.strip("_"), bare.strip("_")])
    for name in bare.split("."):
        found[name.strip("_")] = None
        for snake in name.split("_"):
            found[snake] = None
            found |= dict.fromkeys(_humps(snake))
    return tuple(dict.fromkeys(_singular(term.casefold()) for term in found if term))


def _singular(term: str) -> str:
    plural = len(term) > 3 and term[-1] == "s" and term[-2] != "s"
    return term[:-1] if plural else term


@lru_cache(maxsize=2**16)
def _index(term: str) -> int:
    digest = blake2b(term.encode(errors="replace"), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def _indices(word: str) -> tuple[int, ...]:
    return tuple(map(_index, _terms_of(word)))


_remembered: Final = lru_cache(maxsize=2**15)(_indices)


def _humps(word: str) -> Iterator[str]:
    """The parts of a word in camel case, and where digits begin or end."""
    begin = 0
    for at in range(1, len(word)):
        before, here = word[at - 1], word[at]
        if (
            (here.isupper() and not before.isupper() and before.isalpha())
            or (before.isupper() and here.isupper() and word[at + 1 : at + 2].islower())
            or before.isdigit() != here.isdigit()
        ):
            yield word[begin:at]
            begin = at
    yield word[begin:]
