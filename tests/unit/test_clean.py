"""Cleaning takes noise away, and nothing else."""

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flows.text import clean
from flows.text.characters import plain_characters, plain_whitespace
from flows.text.clean import clean_text

PIECES = """
<p> </p> <b> </b> <pre> </pre> <code> </code> <script> </script> <!-- --> <a\xa0href='x'> < > &
&amp; &lt; &gt; &#38; &#x60; lt; # ## > - * ** _ __ ~~ ~~~ ` `` ``` ```py | |-|-| [ ] ( ) ![
](http://x.y) [a]: \\ \\_ http://a.b www.c.d : . , = === --- a B 1 snake_case __init__ é 好
ｆ 𝗕 🅰 🅰\ufe0f ❤\ufe0f 👩 \u200d \u200c \u200b \u0301 \u3099 e \u3164 \0 می क् 🏴 \U000e0067 \ud800
"""
SPACES = [" ", "  ", "\n", "\n\n", "\n\n\n", "\t", "\r\n", "\x85"]
MARKUP = st.lists(st.sampled_from([*re.split("[ \n]+", PIECES.strip()), *SPACES]), max_size=40).map(
    "".join
)


@pytest.mark.parametrize(
    "text",
    [
        "a < b, List<int>, Map<String, List<object>>, x <- y, 2 < 3 > 1, AT&T, R&D",
        "snake_case_name, __init__, 2*3*4, f(*args, **kwargs), array[i](x), C#, #hashtag, >>> 1",
        "Ünïcödé, straße, İstanbul, ΑΒΓ, Привет, 你好，世界！「引用」（全角）、。",
        "مرحبا؟ می‌خواهم, क्‍ष, ½ x² H₂O ﬁne ① № ™ ﷺ 1️⃣",
        "👩‍💻 ❤️‍🔥 👍🏽 🏳️‍🌈 🇫🇷 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🅰️",
        "One line\nand the next.\n\nA paragraph.\n\n- item\n- item",
        "a | b is no table, ~ 5 %, it's 5 * 3, _private",
    ],
)
def test_what_is_no_noise_stays(text: str) -> None:
    assert clean_text(text) == text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("<p>Hello <b>wor</b>ld</p><p>Two</p>", "Hello world\n\nTwo"),
        ("<div>a &amp; b</div><script>if (a<b) x()</script><!-- no --><style>p{}</style>", "a & b"),
        ('line<br>line <a href="http://x.y">link</a><img src=a.png>', "line\nline link"),
        ("&lt;p&gt;fed twice&lt;/p&gt; &eacute; &#233; &nbsp;x", "fed twice\n\né é x"),
        ("<ul><li>a</li><li>b</li></ul>", "a\n\nb"),
        ("# Title #\ntext\n## Sub\n\nmore", "Title\n\ntext\n\nSub\n\nmore"),
        ("Title\n=====\ntext\n\n---\n\nmore", "Title\n\ntext\n\nmore"),
        ("**bold** __also__ *it* _it_ ***both*** ~~no~~", "bold also it it both no"),
        ("**bold *and italic* text** 这是**重点**内容", "bold and italic text 这是重点内容"),
        ("[text](http://x.y/a_(b) 'title') ![alt text](a.png)", "text alt text"),
        ("[![badge](http://a.b/c.svg)](http://x.y) [**b**](/u)", "badge b"),
        ("see [text][1] and [other]\n\n[1]: http://x.y", "see text and [other]"),
        ("| Name | Age |\n|---|:-:|\n| Ann | 7 |", "Name, Age\nAnn, 7"),
        ("Name | Age\n--- | ---\nAnn | 7", "Name, Age\nAnn, 7"),
        ("> quoted\n> text", "quoted\ntext"),
        ("* a\n* b", "- a\n- b"),
        ("See https://x.y/a?b=c_d#e for more.", "See for more."),
        ("More (https://x.y), at www.x.y/z. 请访问https://x.y查看", "More, at. 请访问查看"),
        ("𝗕𝗼𝗹𝗱 𝘪𝘵 𝓢𝓬𝓻 𝔉𝔯 𝔻𝕠ℝ 𝚖𝚘 Ｆｕｌｌ Ⓐⓑ 🅷🅴🅻🅻🅾 🄰 𝟏", "Bold it Scr Fr DoR mo Full Ab HELLO A 1"),
        ("z\u200be\ufeffr\u2060o\u00ad w\u202ei\u2066d\x07th x\u200dy", "zero width xy"),
        ("a\u00a0b  \t c\r\n\r\n\r\n\r\n\u2800\n d ", "a b c\n\nd"),
        ("e\u0301 か\u3099 \ud83d!", "é が \ufffd!"),
    ],
)
def test_noise_goes(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


CODE = "def f(*args):\n    # a  comment\n    return args[0]  # <b>\n\n\n\nx = '**'"


@pytest.mark.parametrize("fence", ["```", "```python", "~~~", "````", "  ```"])
def test_a_code_block_is_kept_exactly(fence: str) -> None:
    end = fence.removesuffix("python")
    cleaned = clean_text(f"**Before**\n{fence}\n{CODE}\n{end}\n*after*")
    assert cleaned == f"Before\n\n```\n{CODE}\n```\n\nafter"


def test_code_that_reads_the_same_without_its_marks_loses_them() -> None:
    assert clean_text("Run `pip install x`:\n```sh\nmake test\n```") == (
        "Run pip install x:\n\nmake test"
    )
    assert clean_text("Call `__init__` or `a[0](b)`") == "Call `__init__` or `a[0](b)`"


def test_preformatted_html_is_code() -> None:
    cleaned = clean_text("<pre><code>if a:\n    return &lt;b&gt;</code></pre><code>x &lt; y</code>")
    assert cleaned == "```\nif a:\n    return <b>\n```\n\nx < y"


@settings(deadline=None, max_examples=400)
@given(MARKUP | st.text(max_size=60))
@example("&a&#109;p;l&#116;;b&gt;")
@example("<b<b>>x</b</b>>")
@example("`" * 3 + "\n" + "~" * 3)
def test_cleaning_twice_changes_nothing(text: str) -> None:
    once = clean_text(text)
    assert clean_text(once) == once
    assert not any("\ud800" <= character <= "\udfff" for character in once)


@settings(deadline=None, max_examples=200)
@given(MARKUP)
def test_giving_up_is_final_too(text: str) -> None:
    words = clean._words_only(clean._valid(text))
    assert clean_text(words) == words


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(st.characters(categories=["Ll", "Lu", "Lo"]), min_size=1), min_size=1))
def test_words_of_every_language_survive(words: list[str]) -> None:
    text = plain_characters(" ".join(words))
    assert clean_text(text) == plain_whitespace(text)


@pytest.mark.parametrize(
    "hostile",
    [
        "<",
        "*",
        "[",
        "`",
        "&",
        "~",
        "|",
        "_",
        "<div>",
        "<a ",
        "<!--",
        "[a](",
        "``a ",
        "a\u0301\u0323",
        "_block__element ",
        "block__element, ",
        "--- ",
        "| --- ",
        "_a_b_c ",
    ],
)
def test_time_is_linear(hostile: str) -> None:
    def seconds(size: int) -> float:
        text = hostile * (size // len(hostile))
        start = time.process_time()
        clean_text(text)
        return time.process_time() - start

    # Quadratic time would make it 64 times as long; the constant forgives a busy machine.
    assert seconds(80_000) < 24 * seconds(10_000) + 0.05


def test_identifiers_in_emphasis_that_never_ends_cost_no_time() -> None:
    """Each word with `__` doubled the time: a post of 414 characters took hours."""
    names = ", ".join(["block__element"] * 400)
    start = time.process_time()
    assert clean_text(f"The mixin _card takes {names} and more.").endswith("and more.")
    assert time.process_time() - start < 1


def test_a_table_rule_that_is_none_costs_no_time() -> None:
    """A line of 80 kB took 19 seconds, in which no heartbeat was sent."""
    start = time.process_time()
    clean_text("|" + "--- " * 20_000 + "`")
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("marked", "plain"),
    [("_a b__c d_", "a b__c d"), ("__a_b__", "a_b"), ("_a__b_c_ x", "a__b_c x")],
)
def test_emphasis_keeps_the_underscores_within_words(marked: str, plain: str) -> None:
    assert clean_text(marked) == plain
