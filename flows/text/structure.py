"""Where a text may be cut, and how well: the boundaries that its own structure shows."""

import re
from collections.abc import Iterator

Boundary = tuple[int, int]
"""A position in the text, and the level of what begins there."""

HARD, PUNCTUATION, WORD = 0, 1, 2
SENTENCE, LINE, PARAGRAPH, HEADING = 3, 4, 5, 6
CODE_LINE, BLOCK, MEMBER, DEFINITION = 3, 4, 5, 6

_SENTENCE_END = re.compile(
    r"""(?<=[.!?…])["'”’»)\]]{0,3}\s+(?=[^\sa-z])|(?<=[。！？；｡])["'”’」』）】]{0,3}(?=[^\s。！？])"""
    r"|(?<=[؟۔।॥።])\s*(?=\S)"
)
"""Between two sentences, in the scripts that mark it: 'One. Two'."""
_TITLE_END = re.compile(r"""[ \t]*\n(?:[ \t]*\n|([=~^*+#"'-])\1{2,}[ \t]*(?:\n|\Z))""")
r"""The end of a title: an empty line, or a rule below it: '\n====\n'."""
_MARKED_TITLE = re.compile(r"#{1,6} |={1,5} \S")
"""The mark of a heading: '## Usage', '== Usage'."""
_OPEN_END = re.compile(r"[^\s.!?…:;,。！？；：，؟۔।)\]}>`*-]\Z")
"""The end of a line that ends no sentence, as that of a title does: 'Getting started'."""
_DEFINES = re.compile(
    r"(?:(?:export|default|pub(?:\([a-z]+\))?|public|private|protected|internal|static|final|abstract"
    r"|async|unsafe|extern|inline|virtual|override|sealed|partial|data|open|const) +)*"
    r"(?:def|class|fn|func|function|fun|impl|struct|enum|trait|interface|module|namespace|package"
    r"|template|typedef|type|protocol|extension|object|record|union|sub|proc|procedure|macro_rules!"
    r"|create|CREATE|resource|describe|test|it)\b"
)
"""The line on which a definition begins, in the usual languages: 'public static class A {'."""
_CONTINUES = re.compile(
    r"[)\]}]|(?:end|fi|done|esac|else|elif|elsif|except|finally|catch|then|do)\b"
)
"""A line that goes on with the block before it: '} else {'."""
_BELONGS_TO_NEXT = re.compile(r"@|#(?!include|if|endif|pragma)|//|/\*|\*|--|;;|\[[^\]]*\]\Z")
"""A line that belongs to the definition after it: '@cached', '// Adds', '[Fact]'."""


def prose_boundaries(text: str) -> Iterator[Boundary]:
    """Yield where headings, paragraphs, lines and sentences begin."""
    after_blank, after_title, fenced = True, False, False
    for start, end in _lines(text):
        line = text[start:end].strip()
        if not line:
            after_blank = True
            continue
        fence = line.startswith(("```", "~~~"))
        title = not fenced and not fence and _is_title(text, line, end, after_blank)
        if after_title or (fenced and not after_blank):
            yield start, SENTENCE
        elif title:
            yield start, HEADING
        else:
            yield start, PARAGRAPH if after_blank else LINE
        for sentence in _SENTENCE_END.finditer(text, start, end):
            yield sentence.end(), SENTENCE
        fenced ^= fence
        after_blank, after_title = False, title


def _is_title(text: str, line: str, end: int, after_blank: bool) -> bool:
    if _MARKED_TITLE.match(line):
        return True
    return bool(
        after_blank and len(line) <= 80 and _OPEN_END.search(line) and _TITLE_END.match(text, end)
    )


def code_boundaries(text: str) -> Iterator[Boundary]:
    """Yield where definitions, blocks and lines begin, by indentation and the usual keywords; the
    first line of a body stays with the line that opens it.
    """
    after_blank, attached, opened = True, False, False
    for start, end in _lines(text):
        line = text[start:end]
        bare = line.strip()
        if not bare:
            after_blank = True
            continue
        defines = _DEFINES.match(bare)
        if _CONTINUES.match(bare) or opened or (attached and not after_blank):
            yield start, WORD
        elif not line[0].isspace() and (after_blank or defines):
            yield start, DEFINITION
        elif defines:
            yield start, MEMBER
        else:
            yield start, BLOCK if after_blank else CODE_LINE
        after_blank, attached = False, bool(_BELONGS_TO_NEXT.match(bare))
        opened = bare[-1] in ":{(["


def _lines(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield start, end
        start = end + 1
