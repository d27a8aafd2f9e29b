"""What a table may say of a repository, what of a file is text, and what git is told."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from connectors.collect.git import GitSource, parse
from connectors.collect.git_program import _environment
from connectors.collect.table import Table
from connectors.collect.texts import NotTextError, text_of
from models.errors import SourceError

URL = "https://GitHub.com/Ada/Streams.git"


def parsed(**options: Any) -> tuple[GitSource, list[str]]:
    table = Table("r", {"author": "ada", "url": URL, **options}, Path(), {"TOKEN": "s3cret"})
    return parse(table), table.mistakes


def test_a_repository_of_github_has_one_key_however_it_is_written() -> None:
    for url in (URL, "https://github.com/ada/streams/", "https://github.com/ada/streams"):
        source, mistakes = parsed(url=url)
        assert mistakes == []
        assert source.link == "https://github.com/ada/streams"
    assert parsed()[0].name == "Streams"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("--upload-pack=touch /tmp/x", "space or a control"),
        ("--upload-pack=x", "not read"),
        ("-u", "not read"),
        ("ext::sh", "not read"),
        ("ext::sh -c id", "space or a control"),
        ("fd::17", "not read"),
        ("git@github.com:ada/streams", "not read"),
        ("ssh://github.com/ada/streams", "not read"),
        ("ftp://example.org/r", "not read"),
        ("/srv/r.git", "not read"),
        ("file:///srv/r.git", "allow_local"),
        ("file://host/srv/r.git", "names a host"),
        ("git://example.org/r", "allow_private"),
        ("https://", "names no host"),
        ("https:///r", "names no host"),
        ("https://example.org./r", "plain letters"),
        ("https://exämple.org/r", "plain letters"),
        ("https://ada:pass@example.org/r", "holds a user"),
        ("https://example.org:99999/r", "no URL"),
        ("https://[::1/r", "no URL"),
        ("https://example.org/\x1b[2J", "control character"),
        ("https://example.org/r\nprotocol=file", "control character"),
    ],
)
def test_a_url_that_git_could_take_for_something_else_is_a_mistake(url: str, said: str) -> None:
    _, [mistake] = parsed(url=url)
    assert said in mistake
    assert "\n" not in mistake
    assert "\x1b" not in mistake
    assert "pass@" not in mistake


def test_what_a_source_allows_is_no_mistake() -> None:
    assert parsed(url="file:///srv/r.git", allow_local=True)[1] == []
    assert parsed(url="git://example.org/r", allow_private=True)[1] == []


def test_a_token_is_not_sent_in_the_clear() -> None:
    _, [mistake] = parsed(url="http://example.org/r", token="TOKEN")
    assert "in the clear" in mistake
    assert parsed(token="TOKEN")[1] == []


@pytest.mark.parametrize("branch", ["-x", "a b", "a:b", "a..*", "a\x07"])
def test_a_branch_that_is_none_is_a_mistake(branch: str) -> None:
    assert len(parsed(branch=branch)[1]) == 1
    assert parsed(branch="feature/one")[1] == []


def test_a_token_is_shown_nowhere_and_taken_out_of_errors() -> None:
    source = dataclasses.replace(parsed(token="TOKEN")[0], resolve=lambda host, port: ["1.1.1.1"])
    [header] = [value for key, value in source._settings().items() if "extraHeader" in key]
    assert "s3cret" not in repr(source)
    said = source._without_secrets(f"remote: you said {header} and s3cret")
    assert header.split()[-1] not in said
    assert "s3cret" not in said


def test_a_git_that_looks_names_up_by_itself_is_not_used_where_addresses_count() -> None:
    public, private = parsed()[0], parsed(allow_private=True)[0]
    for told in ("git version 2.37.0", "git version 2.39.5 (Apple Git-154)", "git version 3.0"):
        public._check_version(told)
    private._check_version("git version 2.34.1")
    for source, told in ((public, "git version 2.34.1"), (private, "git version 2.30.2")):
        with pytest.raises(SourceError, match="too old: install git"):
            source._check_version(told)


def test_git_gets_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", "touch x")
    monkeypatch.setenv("GIT_DIR", "/")
    environment = _environment(Path("/tmp/f"), "https", {"a.b": "c"})
    assert environment["GIT_ALLOW_PROTOCOL"] == "https"
    assert environment["GIT_CONFIG_NOSYSTEM"] == "1"
    assert environment["GIT_CONFIG_GLOBAL"] == os.devnull
    assert not {"GIT_SSH_COMMAND", "GIT_DIR", "SSH_AUTH_SOCK"} & set(environment)
    assert (environment["GIT_CONFIG_KEY_0"], environment["GIT_CONFIG_VALUE_0"]) == ("a.b", "c")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"plain\r\n\x0c\x1b[1m", "plain\r\n\x0c\x1b[1m"),
        ("é日".encode(), "é日"),
        (b"\xef\xbb\xbfx", "x"),
        ("é".encode("utf-16-le").join([b"\xff\xfe", b""]), "é"),
        ("é".encode("utf-32"), "é"),
        (b"x" * 100 + b"\xe9", "x" * 100 + "\ufffd"),
        (b"x" * 100 + b"\xc3\xa9\xe9", "x" * 100 + "é\ufffd"),
    ],
)
def test_a_text_is_told_by_its_bytes(data: bytes, text: str) -> None:
    assert text_of(data) == text


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"a\0b", "binary"),
        (b"\xff\xfea", "binary"),
        (b"\xff\xfea\0\0\0", "binary"),
        (bytes(range(1, 32)), "binary"),
        ("привет".encode("cp1251"), "of an unknown encoding"),
        (b"\xe9", "of an unknown encoding"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointers"),
    ],
)
def test_what_is_no_text_says_why(data: bytes, kind: str) -> None:
    with pytest.raises(NotTextError, match=kind):
        text_of(data)
