"""Every word of real documents survives cleaning, as other programs see them."""

from itertools import islice

import pytest

from benchmarks.kept_words import CORPORA, compare

FEW = {"descriptions of distributions": 60, "files of distributions": 120, "docstrings": 300}


@pytest.mark.parametrize("corpus", FEW)
def test_a_document_keeps_the_words_that_its_reader_sees(corpus: str) -> None:
    result = compare(islice(CORPORA[corpus](), FEW[corpus]))
    assert result.documents > FEW[corpus] // 8
    assert not result.differing
