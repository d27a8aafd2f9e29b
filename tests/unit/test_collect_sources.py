"""sources.toml: every mistake is a line, before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.sources import KINDS, SourcesError, load_sources
from tests.processes import ROOT

GOOD = '[sources.blog]\nkind = "feed"\nurl = "https://a.example/feed"\nauthor = "jane"\n'


def load(folder: Path, text: str, **environment: str) -> list[str]:
    """The mistakes of a file."""
    file = folder / "sources.toml"
    file.write_text(text)
    try:
        load_sources(file, environment)
    except SourcesError as error:
        return error.mistakes
    return []


def test_the_example_is_right_and_has_every_kind(tmp_path: Path) -> None:
    text = (ROOT / "sources.example.toml").read_text()
    sources = load_sources(ROOT / "sources.example.toml", {})
    assert len(sources) >= len(KINDS)
    for kind in KINDS:
        assert f'kind = "{kind}"' in text, f"sources.example.toml lacks the kind {kind}"


def test_every_option_that_the_example_shows_is_one(tmp_path: Path) -> None:
    shown = (ROOT / "sources.example.toml").read_text().partition("[sources.newsletter]")[2]
    lines = [line.removeprefix("# ") for line in shown.partition("\n\n")[0].split("\n")]
    assert load(tmp_path, "[sources.newsletter]\n" + "\n".join(lines), BLOG_TOKEN="x") == []


MISTAKES = {
    "no kind": (GOOD.replace('kind = "feed"\n', ""), "kind is missing"),
    "an unknown kind": (GOOD.replace('"feed"', '"fed"'), "kind = 'fed' is unknown"),
    "no author": (GOOD.replace('author = "jane"', ""), "author is missing"),
    "no url": (GOOD.replace('url = "https://a.example/feed"', ""), "url is missing"),
    "a typing error": (GOOD + 'intervall = 5\n', "intervall is no option"),
    "a file": (GOOD.replace("https://a.example/feed", "file:///etc/passwd"), "url ="),
    "a password": (GOOD.replace("https://", "https://u:secret@"), "without a password"),
    "a text for a number": (GOOD + 'interval = "soon"\n', "interval = 'soon' is not a number"),
    "a number out of bounds": (GOOD + "interval = 0\n", "interval = 0 is not a number from 1"),
    "a text for a boolean": (GOOD + 'prune = "yes"\n', "prune = 'yes' is neither"),
    "a variable that is not set": (GOOD + 'token = "NO"\n', "environment variable NO"),
    "a token without TLS": (
        GOOD.replace("https:", "http:") + 'token = "HAVE"\n', "token is sent over https only",
    ),
    "a name with a dot": (GOOD.replace("sources.blog", 'sources."a.b"'), "its name takes"),
    "the former name of another": (
        GOOD + 'formerly = ["two"]\n' + GOOD.replace("blog", "two"), "name of another source",
    ),
    "another table": (GOOD + "[source.x]\n", "source is unknown"),
    "no table": ("[sources]\nx = 1\n", "sources.x is no table"),
    "nothing": ("", "it names no"),
    "no TOML": ("[sources", "is not TOML"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line(case: tuple[str, str], tmp_path: Path) -> None:
    text, said = case
    mistakes = load(tmp_path, text, HAVE="token-value")
    assert len(mistakes) == 1, mistakes
    assert said in mistakes[0]
    assert "\n" not in mistakes[0]
    assert "secret" not in mistakes[0]
    assert "token-value" not in mistakes[0]


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    text = GOOD + "prune = 1\n" + GOOD.replace("blog", "two").replace("https", "ftp") + "x = 1\n"
    assert len(load(tmp_path, text)) == 3


def test_a_file_that_is_missing_is_a_line(tmp_path: Path) -> None:
    with pytest.raises(SourcesError, match=r"sources\.example\.toml"):
        load_sources(tmp_path / "none.toml", {})


def test_a_change_of_what_is_read_makes_the_old_state_useless(tmp_path: Path) -> None:
    def mark(text: str) -> str:
        file = tmp_path / "sources.toml"
        file.write_text(text)
        return load_sources(file, {})[0].mark

    assert mark(GOOD) == mark(GOOD + "interval = 60\nprune = true\n")
    assert mark(GOOD) != mark(GOOD + "full_text = true\n")
