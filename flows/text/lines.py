"""Lines of text: pieces as they come from a parser, with white space as a reader sees it."""

from itertools import groupby
from operator import itemgetter

from flows.text.blocks import Blocks, Form, Line, Paragraph, Piece
from flows.text.characters import plain_characters, plain_spaces


def paragraphs(pieces: list[Piece]) -> list[Line]:
    """Divide pieces into paragraphs; an empty line divides two."""
    found: list[list[Piece]] = [[]]
    for form, group in groupby(pieces, key=itemgetter(0)):
        texts = [text for _, text in group]
        if form is Form.CODE:
            found[-1].append((form, " ".join("".join(texts).split())))
        elif form is not Form.TEXT:
            found[-1] += [(form, plain_spaces(text)) for text in texts]
        else:
            parts = plain_spaces(plain_characters("".join(texts))).split("\n\n")
            found[-1].append((form, parts[0]))
            found += [[(form, part)] for part in parts[1:]]
    return [line for line in map(_trimmed, found) if line]


def _trimmed(pieces: list[Piece]) -> Line:
    """Return pieces without the white space at both ends."""
    while pieces and pieces[0][0] is Form.TEXT and not pieces[0][1].strip():
        del pieces[0]
    while pieces and pieces[-1][0] is Form.TEXT and not pieces[-1][1].strip():
        del pieces[-1]
    if pieces and pieces[0][0] is Form.TEXT:
        pieces[0] = Form.TEXT, pieces[0][1].lstrip()
    if pieces and pieces[-1][0] is Form.TEXT:
        pieces[-1] = Form.TEXT, pieces[-1][1].rstrip()
    return tuple(piece for piece in pieces if piece[1])


def one_line(blocks: Blocks) -> Line:
    """Join paragraphs with spaces."""
    pieces: list[Piece] = []
    for block in blocks:
        assert isinstance(block, Paragraph)
        pieces += [(Form.TEXT, " "), *block.line]
    return next(iter(paragraphs(pieces)), ())
