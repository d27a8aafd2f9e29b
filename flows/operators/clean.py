"""Cleaning of prose: what is left is what an author would read aloud, and the code they quote.

Nothing here knows a language. Noise is taken away by name (a tag, an emphasis mark, a zero-width
character) and everything else stays, letter case included: dropping "non-ASCII" would destroy every
language but English.

HTML is recognised by its own patterns rather than by a parser. A parser makes a tree of whatever it
gets, so it eats `List<int>` in a mixed text, and lexbor needs quadratic time for deep nesting
(20,000 open `<div>` 0.4 s, a million about a quarter of an hour).

Every pattern below is linear: an attempt that fails ends at the character that can start the next.
"""

import html
import re
import unicodedata
from collections.abc import Callable

_ROUNDS = 6
"""Markup may wrap markup (`&amp;lt;b&amp;gt;`). Real text settles in two or three rounds."""

# --- code, kept as it is --------------------------------------------------------------------------

_FENCE = re.compile(
    r"^[ \t]*(?P<fence>(?P<mark>[`~])(?P=mark){2,})(?!(?P=mark))[^`\n]*\n"
    r"(?P<code>.*?)"
    r"(?:^[ \t]*(?P=fence)(?P=mark)*[ \t]*$|\Z)",
    re.MULTILINE | re.DOTALL,
)
_INLINE_CODE = re.compile(r"(?<!`)(?P<ticks>`{1,2})(?!`)(?P<code>[^`\n]+)(?P=ticks)(?!`)")
_KEPT = re.compile("\x00([0-9]+)\x00")
_MISREAD_AS_MARKUP = re.compile(
    r"[`~\[\]|\\]|(?<! )\*|\*(?! )|(?<!\w)_|_(?!\w)|<[A-Za-z/!?]|&[#A-Za-z]|://|www\."
    r"|^[#>+=\-\s]|^[*] |\s$|[ \t]{2}|\t| \n|\n\n\n",
    re.MULTILINE | re.IGNORECASE,
)


class _Kept:
    """Passages put aside while the text around them is cleaned."""

    def __init__(self) -> None:
        self._passages: list[str] = []

    def put(self, passage: str) -> str:
        """Return a placeholder; NUL occurs nowhere else, see `clean_text`."""
        self._passages.append(self.back(passage))
        return f"\x00{len(self._passages) - 1}\x00"

    def back(self, text: str) -> str:
        """Return the text with every placeholder replaced by its passage."""
        return _KEPT.sub(lambda match: self._passages[int(match[1])], text)

    def block(self, code: str) -> str:
        """Put a code block aside."""
        code = self.back(code).strip("\n")
        if not code.strip():
            return "\n"
        # Without its fence this code would be taken for prose the next time the text is cleaned.
        if not _reads_the_same(code):
            ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", code)), default=0))
            code = f"{ticks}\n{code}\n{ticks}"
        return f"\n{self.put(code)}\n"

    def inline(self, code: str, marked: str) -> str:
        """Put code within a sentence aside."""
        return self.put(code if _reads_the_same(code) else marked)


def _reads_the_same(code: str) -> bool:
    """Tell whether code would survive cleaning without the marks around it."""
    return not _MISREAD_AS_MARKUP.search(code) and _plain_characters(code) == code


def _put_code_aside(text: str, kept: _Kept) -> str:
    if "`" not in text and "~" not in text:
        return text
    text = _FENCE.sub(lambda match: kept.block(match["code"]), text)
    return _INLINE_CODE.sub(lambda match: kept.inline(match["code"], match[0]), text)


# --- HTML -----------------------------------------------------------------------------------------

_TAG = re.compile(
    r"<!--|<[!?][A-Za-z\[][^<>]*>"
    r"""|<(?P<close>/)?(?P<name>[A-Za-z][\w:-]*)(?P<attributes>(?:[\s/](?:[^<>"']|"[^"<]*"|'[^'<]*')*)?)>"""
)
_CLOSING_TAG = re.compile(r"</([A-Za-z][\w:-]*)\s*>")
_ATTRIBUTE = re.compile(r"""\w=["'\w#/.%-]|=\s*["']""")
_ENTITY = re.compile(r"&(?:amp;)*(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_STANDALONE = frozenset(
    [
        "br",
        "hr",
        "p",
        "li",
        "ul",
        "ol",
        "div",
        "span",
        "img",
        "wbr",
        "td",
        "th",
        "tr",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "input",
    ]
)
_RAW = {
    name: re.compile(rf"</{name}\s*>", re.IGNORECASE)
    for name in ("script", "style", "template", "svg", "pre", "code")
}
_SPACING = dict.fromkeys(
    [
        "p",
        "div",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "ul",
        "ol",
        "dl",
        "table",
        "blockquote",
        "section",
        "article",
        "header",
        "footer",
        "aside",
        "main",
        "nav",
        "figure",
        "figcaption",
        "form",
        "hr",
        "title",
        "head",
        "body",
    ],
    "\n\n",
) | {"br": "\n", "li": "\n", "tr": "\n", "dt": "\n", "dd": "\n", "td": " ", "th": " "}


def _strip_html(text: str, kept: _Kept) -> str:
    if "<" not in text:
        return text
    closed = {name.lower() for name in _CLOSING_TAG.findall(text)}
    comment_end = text.rfind("-->")
    pieces: list[str] = []
    done = 0
    for tag in _TAG.finditer(text):
        if tag.start() < done or not _is_markup(tag, closed, comment_end):
            continue
        pieces.append(text[done : tag.start()])
        done = tag.end()
        name = (tag["name"] or "").lower()
        if tag[0] == "<!--":
            done = text.find("-->", done) + len("-->")
        elif name in _RAW and not tag["close"] and name in closed:
            end = _RAW[name].search(text, done)
            if end is None:  # none further on either: never look for it again
                closed.discard(name)
            else:
                pieces.append(_raw_element(name, text[done : end.start()], closed, kept))
                done = end.end()
        pieces.append(_SPACING.get(name, ""))
    return "".join([*pieces, text[done:]])


def _is_markup(tag: "re.Match[str]", closed: set[str], comment_end: int) -> bool:
    """Tell a tag from a generic type, a comparison or the mention of a tag."""
    if tag[0] == "<!--":
        return tag.end() <= comment_end
    if tag["name"] is None or tag["close"]:
        return True
    name = tag["name"].lower()
    return name in _STANDALONE or name in closed or bool(_ATTRIBUTE.search(tag["attributes"]))


def _raw_element(name: str, content: str, closed: set[str], kept: _Kept) -> str:
    if name not in {"pre", "code"}:
        return " "
    code = _TAG.sub(lambda tag: "" if _is_markup(tag, closed, -1) else tag[0], content)
    code = kept.back(html.unescape(code)).replace("\x00", "")
    if name == "pre" or "\n" in code:
        return f"\n{kept.block(code)}\n"
    return kept.inline(code, f"`{code}`") if code.strip() and "`" not in code else code


# --- characters -----------------------------------------------------------------------------------


def _styled_letters() -> dict[int, str]:
    """Map letters that Unicode has for their looks to the letters they show.

    Only blocks of mathematical, fullwidth and enclosed letters: compatibility normalisation
    of everything (NFKC) would also rewrite ligatures, fractions and Japanese punctuation.
    """
    letterlike = "ℂℊℋℌℍℎℐℑℒℕℙℚℛℜℝℤℨℬℭℯℰℱℳℴ"
    plain = [*map(ord, letterlike), *range(0x1D400, 0x1D800)]
    plain += [*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B)]
    table = {code: unicodedata.normalize("NFKC", chr(code)) for code in plain}
    capitals, smalls = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
    for first, letters in {
        0x24B6: capitals,
        0x24D0: smalls,
        0x249C: smalls,
        0x1F110: capitals,
        0x1F130: capitals,
        0x1F150: capitals,
        0x1F170: capitals,
    }.items():
        table.update(zip(range(first, first + 26), letters, strict=True))
    return table


_BUTTONS = "Ⓜ🅰🅱🅾🅿"
"""Enclosed letters that are emoji as well, when a variation selector says so."""
_STYLED = _styled_letters()
_CONTROLS = [*range(0x01, 0x09), *range(0x0E, 0x20), *range(0x7F, 0x85), *range(0x86, 0xA0)]
_INVISIBLE = [0xAD, 0x61C, 0x180E, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F)]
_INVISIBLE += [*range(0x2060, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFC)]
_DROPPED = dict.fromkeys(_CONTROLS + _INVISIBLE, "")
_SPACES = dict.fromkeys(
    [0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x2800, 0x3000, 0x3164, 0xFFA0], " "
) | dict.fromkeys([0x0B, 0x0C, 0x85, 0x2028, 0x2029], "\n")
_CHARACTERS = {
    code: new for code, new in (_STYLED | _DROPPED | _SPACES).items() if chr(code) not in _BUTTONS
}
_BUTTON = re.compile(f"[{_BUTTONS}](?!\ufe0f)")
_EMOJI = (
    "©®\u20e3\u2190-\u2bff\u3030\u303d\u3297\u3299\ufe0f\U0001f000-\U0001faff\U000e0020-\U000e007f"
)
_JOINING_SCRIPTS = (
    "\u0600-\u109f\u1780-\u18af\u1900-\u1cff\ua800-\uabff\ufb50-\ufdff\ufe70-\ufefe"
    "\U00010a00-\U00011fff"
)
_STRAY_JOINER = re.compile(
    f"(?<![{_EMOJI}{_JOINING_SCRIPTS}])[\u200c\u200d]+"
    f"|(?<=[{_EMOJI}])(?:\u200c[\u200c\u200d]*|\u200d(?![{_EMOJI}])[\u200c\u200d]*)"
)
_STRAY_TAG_CHARACTER = re.compile("(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0000-\U000e007f]+")
_DECOMPOSED = re.compile(
    "\\w[\u0300-\u036f\u3099\u309a]{1,4}(?![\u0300-\u036f\u3099\u309a])"
    "|[\u1100-\u1112][\u1161-\u1175][\u11a8-\u11c2]?"
)


def _plain_characters(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    text = text.translate(_CHARACTERS)
    if text.isascii():
        return text
    text = _BUTTON.sub(lambda match: _STYLED[ord(match[0])], text)
    text = _STRAY_TAG_CHARACTER.sub("", _STRAY_JOINER.sub("", text))
    # Not the whole text at once: sorting a long run of combining marks is quadratic in CPython.
    return _DECOMPOSED.sub(lambda match: unicodedata.normalize("NFC", match[0]), text)


def _plain_whitespace(text: str) -> str:
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r" ?\n ?", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


# --- Markdown and links ---------------------------------------------------------------------------

_DUNDERS = (
    "init main name file doc all new call str repr enter exit iter next len eq hash dict slots"
    " class getattr setattr getitem setitem delitem contains add bool del import"
    " future version pycache"
).replace(" ", "|")
_IN_PARAGRAPH = r"|\n(?!\n)"
_TARGET = (
    r"""\((?:<[^<>\n]*>|[^\s()<>]*(?:\([^\s()]*\)[^\s()]*)*)(?:\s(?:"[^"\n]*"|'[^'\n]*'))?\s?\)"""
)
_URL_CHARACTER = r"[A-Za-z0-9\u00c0-\u1fff\u2100-\u2bff_.~:/?#@!$&*+,;=%'-]"
_URL_GROUP = rf"\({_URL_CHARACTER}*\)"
_URL = re.compile(
    r"(?P<space> ?)(?P<open>[(\[<]?)(?<![A-Za-z0-9_])(?:(?:https?|ftp)://|www\.)"
    rf"(?:{_URL_CHARACTER}|{_URL_GROUP})*(?:[A-Za-z0-9\u00c0-\u1fff\u2100-\u2bff/#@$&+=%-]|{_URL_GROUP})"
    r"(?P<close>[)\]>]?)",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"^\[([^\[\]\n^]+)\]: ?\S[^\n]*$", re.MULTILINE)
_REFERENCE_LINK = re.compile(r"(?<![\w\])])!?\[([^\[\]\n]+)\] ?\[([^\[\]\n]*)\]")
_TABLE = re.compile(r"(?:^[^\n|]*\|[^\n]*(?:\n|\Z))+", re.MULTILINE)
_TABLE_RULE = re.compile(r"[|: -]*-[|: -]*")
_IMAGE = re.compile(rf"!\[([^\[\]\n]*)\]{_TARGET}")
_MARKDOWN: list[tuple["re.Pattern[str]", str | Callable[["re.Match[str]"], str]]] = [
    (_IMAGE, r"\1"),
    (re.compile(rf"(?:(?<![A-Za-z0-9_])|(?=!?\[[^\[\]\n]*\]\((?:https?:|[/#.])))"
                rf"!?\[((?:[^\[\]\n]|\[[^\[\]\n]*\]{_IN_PARAGRAPH})*)\]{_TARGET}"), r"\1"),
    (re.compile(r"^(?:> )+|^>+$", re.MULTILINE), ""),
    (re.compile(r"^(?:#{1,6} )+(.*?)(?: #+)?$|^#{1,6}$", re.MULTILINE), r"\n\n\1\n\n"),
    (re.compile(r"^([-*_=])(?: ?\1){2,}$", re.MULTILINE), "\n"),
    (re.compile(r"^\* ", re.MULTILINE), "- "),
    (re.compile(rf"(?<![0-9A-Za-z*\\])(\*{{1,3}})(?=[^\s*])((?:[^*\n]{_IN_PARAGRAPH})*)(?<=[^\s*])\1"
                r"(?:(?<=\*\*)|(?![0-9A-Za-z]))(?!\*)"), r"\2"),
    (re.compile(rf"(?<![\w\\])(_{{1,3}})(?!(?:{_DUNDERS})__(?!\w))(?=[^\s_])"
                rf"((?:[^_\n]|(?<=\w)_+(?=\w){_IN_PARAGRAPH})*)(?<=[^\s_])\1(?!\w)"), r"\2"),
    (re.compile(r"~~(?=[^\s~])([^~\n]*)(?<=[^\s~])~~(?!~)"), r"\1"),
    (re.compile(r"(?<=\w)\\_(?=\w)"), "_"),
    (re.compile(r"^([0-9]+)\\\.", re.MULTILINE), r"\1."),
]  # fmt: skip


def _strip_markdown(text: str) -> str:
    references = set(_REFERENCE.findall(text))
    if references:
        text = _REFERENCE.sub("", text)
        text = _REFERENCE_LINK.sub(
            lambda match: match[1] if (match[2] or match[1]) in references else match[0], text
        )
    text = _TABLE.sub(_without_pipes, text)
    for pattern, new in _MARKDOWN:
        text = pattern.sub(new, text)
    return text


def _without_pipes(table: "re.Match[str]") -> str:
    """Return a table as lines of its cells; a paragraph that merely contains pipes as it is."""
    lines = table[0].rstrip("\n").split("\n")
    rules = [bool(_TABLE_RULE.fullmatch(line)) for line in lines]
    if not any(rules) and not all(line[0] == line[-1] == "|" != line for line in lines):
        return table[0]
    rows = (line.split("|") for line, rule in zip(lines, rules, strict=True) if not rule)
    cells = (filter(None, (cell.strip() for cell in row)) for row in rows)
    return "".join(f"{', '.join(row)}\n" for row in cells)


def _without_url(url: "re.Match[str]") -> str:
    brackets = url["open"] + url["close"]
    if len(brackets) == 2:
        brackets = ""
    follows = url.string[url.end() : url.end() + 1]
    return brackets if not brackets and follows in ".,;:!?)\n" else url["space"] + brackets


# --- the whole ------------------------------------------------------------------------------------

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_ANY_MARKUP = re.compile(r"[*_~`<>&\[\]|\\#=:@/+-]|www(?=\.)", re.IGNORECASE)


def clean_text(text: str) -> str:
    """Return prose without HTML, Markdown, links and invisible characters.

    In: any string, lone surrogates included (they become U+FFFD). Never source code: a file of a
    repository is not prose. Out: paragraphs separated by one blank line, words by one space;
    words, letter case, punctuation and emoji of every language as they were; code blocks and
    inline code exactly as written. Code that would itself read as markup keeps its backticks, so
    that `clean_text(clean_text(x)) == clean_text(x)` for every x.

    Time grows linearly with the text. Raises nothing.
    """
    text = _valid(text)
    for _ in range(_ROUNDS):
        cleaned = _clean_once(text)
        if cleaned == text:
            return text
        text = cleaned
    return _words_only(text)


def _valid(text: str) -> str:
    text = _LONE_SURROGATE.sub("\ufffd", text)
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")


def _words_only(text: str) -> str:
    """Give up on text that still changes: markup nested this deep was not written to be read."""
    return _plain_whitespace(_plain_characters(_ANY_MARKUP.sub(" ", text)))


def _clean_once(text: str) -> str:
    kept = _Kept()
    text = _put_code_aside(text, kept)
    text = _strip_html(text, kept)
    text = _ENTITY.sub(lambda match: html.unescape(f"&{match[1]};"), text)
    text = _plain_whitespace(_plain_characters(text))
    text = _strip_markdown(text)
    text = _URL.sub(_without_url, text)
    return kept.back(_plain_whitespace(text))
