"""Where a chunk stands: headings above it, or the definitions around it."""

import time

import pytest

from flows.text.chunk import Span
from flows.text.context import MAX_CHARACTERS, contexts

PROSE = """Before all headings.

# Ships

About ships.

## Sails

They are *white*.

```sh
# not a heading
```

After the code.

## Anchors

They are heavy.

# Trains

They run.
"""

CODE = """import os

class Ship:
    '''A ship.'''

    def sail(
        self,
        where: str,
    ) -> None:
        # to sea
        self.go(where)

    async def sink(self) -> None:
        pass

def harbour() -> None:
    pass

TRAINS = 3
"""

GO = """func (s *Ship) Sail(to string) error {
	if to == "" {
		return errNowhere
	}
	return nil
}

type Train struct {
	length int
}
"""


def context_of(text: str, part: str, code: bool = False, outer: tuple[str, ...] = ()) -> str:
    """The context of a chunk that begins with `part`, after one that is all before it."""
    start = text.index(part)
    spans = [Span(0, start), Span(start, len(text))] if start else [Span(0, len(text))]
    return contexts(text, spans, outer, code)[-1]


@pytest.mark.parametrize(
    ("part", "context"),
    [
        ("Before", ""), ("# Ships", ""), ("About", "Ships"), ("## Sails", "Ships"),
        ("They are *white*", "Ships > Sails"), ("After the code", "Ships > Sails"),
        ("## Anchors", "Ships"), ("They are heavy", "Ships > Anchors"), ("# Trains", ""),
        ("They run", "Trains"),
    ],
)  # fmt: skip
def test_the_headings_above_a_chunk_are_its_context(part: str, context: str) -> None:
    assert context_of(PROSE, part) == context


@pytest.mark.parametrize(
    ("part", "context"),
    [
        ("import os", ""), ("class Ship", ""), ("    def sail", "class Ship"),
        ("        self,", "class Ship > def sail"), ("        self.go", "class Ship > def sail"),
        ("    async def sink", "class Ship"), ("        pass", "class Ship > def sink"),
        ("def harbour", ""), ("TRAINS", ""),
    ],
)  # fmt: skip
def test_the_definitions_around_a_chunk_are_its_context(part: str, context: str) -> None:
    assert context_of(CODE, part, code=True) == context


def test_other_languages_have_definitions_too() -> None:
    assert context_of(GO, "\t\treturn errNowhere", code=True) == "func Sail"
    assert context_of(GO, "type Train", code=True) == ""


def test_a_chunk_that_begins_amid_a_line_stands_where_its_line_does() -> None:
    assert context_of(CODE, "go(where)", code=True) == "class Ship > def sail"


def test_a_part_of_a_table_has_its_first_row() -> None:
    text = "# Ships\n\n| name | sails |\n| --- | --- |\n| Ada | 3 |\n| Bob | 1 |\n\nBehind.\n"
    assert context_of(text, "| Bob") == "Ships > name, sails"
    assert context_of(text, "| name") == "Ships"
    assert context_of(text, "Behind") == "Ships"
    assert context_of(f"```\n{text}", "| Bob") == ""


@pytest.mark.parametrize("above", ["@decorated\n", "# What follows.\n", "\n# What\n\n# follows.\n"])
def test_a_chunk_that_begins_above_a_definition_is_not_in_the_one_before(above: str) -> None:
    text = CODE.replace("def harbour", f"{above}def harbour")
    assert context_of(text, above, code=True) == ""
    text = CODE.replace("    async def sink", f"    {above.strip()}\n    async def sink")
    assert context_of(text, f"    {above.strip()}", code=True) == "class Ship"


def test_a_comment_at_the_margin_ends_no_function() -> None:
    text = CODE.replace("        self.go", "# at the margin\n        self.go")
    assert context_of(text, "        self.go", code=True) == "class Ship > def sail"


def test_the_path_comes_first() -> None:
    assert context_of(CODE, "        self,", True, ("a.py",)) == "a.py > class Ship > def sail"
    assert context_of(PROSE, "Before", outer=("README.md",)) == "README.md"


def test_a_long_context_keeps_its_innermost_parts() -> None:
    text = "".join(f"{'#' * level} {level} {'x' * 40}\n\n" for level in (1, 2, 3)) + "text"
    assert context_of(text, "text") == f"2 {'x' * 40} > 3 {'x' * 40}"
    assert len(context_of(f"# {'x' * 500}\n\ntext", "text")) == MAX_CHARACTERS


@pytest.mark.parametrize("code", [True, False])
@pytest.mark.parametrize(
    "hostile", ["# a ", "#", "def ", "pub ", "# x\n", "func (", "\t", "``` \n", "class A:\n "]
)
def test_hostile_texts_take_no_time(hostile: str, code: bool) -> None:
    """Quadratic work on a megabyte would take minutes."""
    text = hostile * (1_000_000 // len(hostile))
    spans = [Span(at, at + 1000) for at in range(0, len(text), 1000)]
    begun = time.process_time()
    assert len(contexts(text, spans, (), code)) == len(spans)
    assert time.process_time() - begun < 30
