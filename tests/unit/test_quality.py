"""The parts of `make eval` that need no model."""

import math
from pathlib import Path

import pytest

from benchmarks import known_items
from benchmarks.known_items import Item, Set
from benchmarks.measures import mean, ndcg, ratio, recall, reciprocal
from benchmarks.sections import write_section


def test_a_command_replaces_only_its_own_section(tmp_path: Path) -> None:
    page = tmp_path / "quality.md"
    write_section(page, "Quality", "Retrieval", "old\n\n### below it\n")
    write_section(page, "Quality", "Words kept", r"all \1 of them")
    write_section(page, "Quality", "Retrieval", "new")
    write_section(page, "Quality", "Retrieval", "new")
    text = "# Quality\n\n## Retrieval\n\nnew\n\n## Words kept\n\nall \\1 of them\n"
    assert page.read_text() == text


@pytest.mark.parametrize(
    ("rank", "values"),
    [(0, (1, 1, 1)), (1, (1 / math.log2(3), 1, 0.5)), (9, (1 / math.log2(11), 1, 0.1))],
)
def test_measures_of_a_rank(rank: int, values: tuple[float, float, float]) -> None:
    assert (ndcg(rank), recall(rank), reciprocal(rank)) == pytest.approx(values)


@pytest.mark.parametrize("rank", [None, 10, 500])
def test_what_is_not_among_the_first_ten_counts_nothing(rank: int | None) -> None:
    assert ndcg(rank) == recall(rank) == reciprocal(rank) == 0


def test_an_interval_gets_smaller_with_more_queries() -> None:
    few, many = mean([0.0, 1.0] * 20), mean([0.0, 1.0] * 2000)
    assert few.value == many.value == 0.5
    assert few.low < many.low < 0.5 < many.high < few.high
    same = ratio([0.0, 0.5, 1.0] * 9, [0.0, 0.5, 1.0] * 9)
    assert same == (1, 1, 1)


def test_no_query_stands_in_its_answer() -> None:
    assert known_items._item("k", "Return the first of them", "x " * 150, "p") is not None
    given = "x " * 150 + "return the first of them"
    assert known_items._item("k", "Return the first of them", given, "p") is None


def test_halves_share_no_query() -> None:
    items = [Item(str(number), f"query {number}", "text", "p") for number in range(1000)]
    some = Set("some", "posts", items)
    kept, tuned = some.queries(True), some.queries(False)
    assert len(kept) == len(tuned) == known_items.QUERIES // 2
    assert not set(kept) & set(tuned)


def test_a_function_without_its_docstring_is_still_the_function(tmp_path: Path) -> None:
    body = "\n".join(f"    value{n} = {n}  # as it stands" for n in range(20))
    source = (
        f'@cache\ndef f(x):\n    """Say what this function does.\n\n    More.\n    """\n{body}\n'
    )
    file = tmp_path / "module.py"
    file.write_text(f"import x\n\n\n{source}\n\n{'# more' * 100}\n")
    [node] = known_items._documented(str(file))
    item = known_items._code(node, str(file), "k")
    assert item is not None
    assert item.query == "Say what this function does."
    assert item.text == f"@cache\ndef f(x):\n{body}"


def test_headings_that_say_nothing_are_no_queries() -> None:
    names = ["Usage", "## 1.2.3", "License", "How to wait for it", "Testing"]
    text = "\n".join(f"## {name.removeprefix('## ')}\n\nbody of {name}\n" for name in names)
    assert list(known_items._sections(text)) == [
        ("How to wait for it", "body of How to wait for it")
    ]
