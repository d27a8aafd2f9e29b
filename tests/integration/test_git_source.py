"""Repositories as real git serves them, honest and hostile."""

import base64
import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from connectors.collect import git_program, git_tree
from connectors.collect.git import GitSource
from connectors.collect.git_tree import Limits
from models.collected import Collected, Finished, Present
from models.errors import SourceError
from ops.git_server import GitServer
from tests.processes import ROOT
from tests.repositories import FOLDER, LINK, MODULE, Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "served" / "r.git")


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test ends without a temporary folder and without a process in one."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield
    assert list(place.iterdir()) == []
    wait_for_no_process_in(place)


def wait_for_no_process_in(place: Path) -> None:
    """They were killed, and a kill takes a moment."""
    until = time.monotonic() + 20
    while left := processes_in(place):
        assert time.monotonic() < until, left
        time.sleep(0.05)


def processes_in(place: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(place):
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


def source(url: str, **changes: Any) -> GitSource:
    limits = Limits(file_bytes=100_000, text_bytes=1_000_000)
    made = GitSource(url, "ada", "r", "https://example.org/r", limits, timeout_s=60, private=True)
    return dataclasses.replace(made, **changes)


def read(one: GitSource, state: Mapping[str, str] | None = None) -> tuple[Any, Mapping[str, str]]:
    """What a source offers, and the state after it."""
    found, finished = one.read(state or {})
    assert isinstance(finished, Finished)
    assert finished.whole
    return found, finished.state


def texts(one: GitSource) -> dict[str, str]:
    found, _ = read(one)
    return dict(found.fields["content"])


def left_out(one: GitSource) -> dict[str, int]:
    found, _ = read(one)
    return dict(found.fields["left_out"])


def test_a_repository_is_one_document_with_its_paths_and_its_commit(repository: Repository) -> None:
    files = {
        "README.md": b"# R\n",
        "src/deep/a.py": b"print('\xc3\xa9')\n",
        "empty": b"",
        "b": b" \n",
    }
    commit = repository.commit(files, date=1_700_000_000)
    found, state = read(source(repository.url))
    assert isinstance(found, Collected)
    assert (found.type, found.key) == ("repositories", "https://example.org/r#ada")
    assert found.fields["content"] == {"README.md": "# R\n", "src/deep/a.py": "print('é')\n"}
    assert found.fields["commit"] == state["commit"] == commit
    assert found.fields["owner_id"] == "ada"
    assert found.fields["updated_at"].isoformat() == "2023-11-14T22:13:20+00:00"


def test_an_unchanged_commit_is_not_fetched_again(repository: Repository) -> None:
    repository.commit({"a": b"text"})
    one = source(repository.url)
    _, state = read(one)
    objects = repository.path / "objects"
    objects.rename(objects.with_name("away"))
    objects.mkdir()  # whoever fetched now would fail
    found, again = read(one, state)
    assert found == Present("repositories", "https://example.org/r#ada")
    assert again == state


def test_a_commit_that_changes_no_kept_file_writes_nothing(repository: Repository) -> None:
    repository.commit({"a": b"text", "x.bin": b"\0\1"})
    one = source(repository.url)
    _, state = read(one)
    commit = repository.commit({"a": b"text", "x.bin": b"\0\2", "y.bin": b"\0"})
    found, after = read(one, state)
    assert found == Present("repositories", "https://example.org/r#ada")
    assert after["commit"] == commit


def test_a_force_pushed_branch_converges(repository: Repository) -> None:
    repository.commit({"a": b"old", "gone": b"old"})
    one = source(repository.url)
    _, state = read(one)
    repository.commit({"a": b"new"})  # without a past: nothing in common with the one before
    found, after = read(one, state)
    assert found.fields["content"] == {"a": "new"}
    assert found.fields["commit"] == after["commit"]


def test_another_branch_is_read_where_the_source_names_it(repository: Repository) -> None:
    repository.commit({"a": b"main"})
    repository.commit({"a": b"other"}, branch="other/one")
    assert texts(source(repository.url, branch="other/one")) == {"a": "other"}
    with pytest.raises(SourceError, match="no branch nowhere"):
        list(source(repository.url, branch="nowhere").read({}))


def test_a_repository_without_a_commit_or_a_text_is_an_error_that_prunes_nothing(
    repository: Repository,
) -> None:
    with pytest.raises(SourceError, match=r"ls-remote|no commit"):
        list(source(repository.url).read({}))
    repository.commit({"a": b"\0"})
    with pytest.raises(SourceError, match="no text to collect; left out: 1 binary"):
        list(source(repository.url).read({}))


def test_links_and_submodules_are_never_followed(repository: Repository) -> None:
    repository.commit(
        {
            "a": b"text",
            "passwd": (LINK, b"/etc/passwd"),
            "up": (LINK, b"../../../.."),
            "module": (MODULE, b"1" * 40),
            ".gitmodules": b'[submodule "module"]\npath = module\nurl = -u./payload\n',
        }
    )
    one = source(repository.url)
    assert set(texts(one)) == {"a", ".gitmodules"}
    assert left_out(one) == {"symbolic links": 2, "submodules": 1}


def test_hooks_filters_and_settings_of_a_repository_are_text_and_never_run(
    repository: Repository, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    program = f"#!/bin/sh\ntouch {mark}\n".encode()
    repository.commit(
        {
            "hooks/post-checkout": ("100755", program),
            ".githooks/post-checkout": ("100755", program),
            ".gitattributes": b"* filter=evil diff=evil merge=evil\n",
            ".gitconfig": f'[filter "evil"]\nsmudge = touch {mark}\n'.encode(),
        }
    )
    assert len(texts(source(repository.url))) == 4
    assert not mark.exists()


@pytest.mark.parametrize("name", [".git", "..", ".", ".GIT"])
def test_a_path_that_no_checkout_would_have_writes_nothing_outside(
    repository: Repository, name: str
) -> None:
    blob = repository.blob(b"text")
    below = repository.tree([("100644", "config", blob)])
    entries = sorted([("100644", "a", blob), (FOLDER, name, below)], key=lambda entry: entry[1])
    repository.commit_tree(repository.tree(entries))
    with pytest.raises(SourceError, match="invalid path"):
        list(source(repository.url).read({}))


def test_odd_paths_are_kept_as_they_are(repository: Repository) -> None:
    paths = [
        "new\nline.py",
        "tab\there",
        'quote".py',
        "back\\slash",
        "-u",
        "é",
        "$dollar.a",
        "README",
        "readme",
    ]
    repository.commit({path: path.encode() for path in paths})
    assert texts(source(repository.url)) == dict(sorted((path, path) for path in paths))


def test_a_path_that_is_not_utf_8_is_shown_by_its_bytes(repository: Repository) -> None:
    repository.commit({"caf\udce9.txt": b"text"})
    assert texts(source(repository.url)) == {"caf\\xe9.txt": "text"}


def test_what_is_ignored_generated_or_vendored_is_left_out(repository: Repository) -> None:
    files = {
        ".gitignore": b"*.log\nbuild/\n!keep.log\n",
        "sub/.gitignore": b"secret.txt\n",
        ".gitattributes": b"gen/** linguist-generated\nvendor/ours/** -linguist-vendored\n"
        b"lib/x.js linguist-vendored=true\n",
        **dict.fromkeys(("a.log", "keep.log", "build/b", "sub/secret.txt", "secret.txt"), b"x"),
        **dict.fromkeys(("gen/a.py", "vendor/a.py", "vendor/ours/a.py", "lib/x.js"), b"x"),
        **dict.fromkeys(("docs/a.md", "node_modules/a.js", "package-lock.json"), b"x"),
        "made.go": b"// Code generated by stringer. DO NOT EDIT.\n",
    }
    repository.commit(files)
    one = source(repository.url, limits=Limits(1000, 10_000, exclude=("docs/", "--help")))
    assert {path for path in texts(one) if not path.endswith((".gitignore", ".gitattributes"))} == {
        "keep.log",
        "secret.txt",
        "vendor/ours/a.py",
    }
    assert left_out(one) == {"generated": 3, "ignored": 4, "vendored": 3}


def test_texts_are_told_by_their_content(repository: Repository) -> None:
    repository.commit(
        {
            "picture.txt": b"\x89PNG\0\1",
            "text.png": b"a text",
            "bom.txt": b"\xef\xbb\xbfmarked",
            "wide.txt": "wide é".encode("utf-16"),
            "latin.c": b"int main() { return 0; } /* caf\xe9 */ // and more of plain code",
            "sjis.txt": "日本語の文章".encode("shift-jis"),
            "control": bytes(range(1, 32)) * 10,
            "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n",
        }
    )
    one = source(repository.url)
    assert texts(one) == {
        "bom.txt": "marked",
        "latin.c": "int main() { return 0; } /* caf\ufffd */ // and more of plain code",
        "text.png": "a text",
        "wide.txt": "wide é",
    }
    assert left_out(one) == {"binary": 2, "of an unknown encoding": 1, "Git LFS pointers": 1}


def test_a_large_file_is_not_even_fetched(repository: Repository) -> None:
    repository.commit({"a": b"text", "large.txt": b"text" * 300_000 + os.urandom(100_000)})
    one = source(repository.url, largest=90_000)
    assert texts(one) == {"a": "text"}
    assert left_out(one) == {"too large": 1}


def test_a_clone_that_grows_too_large_ends(repository: Repository) -> None:
    repository.git("config", "uploadpack.allowFilter", "false")
    repository.commit({"a": b"text", "large": os.urandom(5_000_000)})
    with pytest.raises(SourceError, match="larger than max_mb = 1"):
        list(source(repository.url, largest=1_000_000).read({}))


def test_what_is_beyond_the_limit_of_the_text_is_counted_and_small_files_come_first(
    repository: Repository,
) -> None:
    repository.commit({f"{size}.txt": b"\n" * (size - 1) + b"x" for size in (100, 200, 400, 700)})
    one = source(repository.url, limits=Limits(10_000, 1000))  # a line break is two of JSON
    assert set(texts(one)) == {"100.txt", "200.txt"}
    assert left_out(one) == {"beyond the limit of the text": 2}


def test_many_files_are_read_within_the_limits(repository: Repository) -> None:
    repository.commit({f"{n % 100}/{n}.py": b"x = %d\n" % n for n in range(5_000)})
    assert len(texts(source(repository.url, limits=Limits(1000, 10_000_000)))) == 5_000


def test_a_tree_that_repeats_itself_ends_at_the_number_of_files(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_tree, "MAX_ENTRIES", 20_000)
    below = repository.tree([("100644", str(n), repository.blob(b"x")) for n in range(10)])
    for _ in range(20):  # 10 ** 21 files in 21 objects
        below = repository.tree([(FOLDER, str(n), below) for n in range(10)])
    repository.commit_tree(below)
    with pytest.raises(SourceError, match="more than 20,000 files"):
        list(source(repository.url).read({}))


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/r.git"


def test_a_server_that_says_nothing_is_given_up_with_all_processes(silent: str) -> None:
    began = time.monotonic()
    with pytest.raises(SourceError, match="took too long"):
        list(source(silent, timeout_s=1).read({}))
    assert time.monotonic() - began < 10


def test_an_object_that_unpacks_to_too_much_ends_git_and_not_the_machine(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_program, "_MEMORY_KIB", 80_000)
    repository.commit({"a": b"text"})
    assert texts(source(repository.url)) == {"a": "text"}
    tree = repository.git("rev-parse", "main^{tree}")
    person = b"a <a@example.org> 1700000000 +0000"
    body = b"tree %s\nauthor %s\ncommitter %s\n\n" % (tree.encode(), person, person)
    bomb = repository.git(
        "hash-object", "-t", "commit", "-w", "--stdin", given=body + b"x" * 85_000_000
    )
    repository.git("update-ref", "refs/heads/main", bomb)
    with pytest.raises(SourceError, match=r"fetch|log"):
        list(source(repository.url).read({}))


def test_an_error_of_git_is_one_line_of_ours(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        list(source((tmp_path / "nowhere").as_uri()).read({}))
    assert "\n" not in str(caught.value)
    assert "ls-remote" in str(caught.value)


def test_a_repository_is_read_over_http(repository: Repository) -> None:
    commit = repository.commit({"a": b"text", "large": b"x" * 200_000})
    with GitServer(repository.path.parent) as server:
        found, state = read(source(f"{server.url}/r.git"))
        again, _ = read(source(f"{server.url}/r.git"), state)
        assert set(server.authorization) == {None}
    assert found.fields["content"] == {"a": "text"}
    assert found.fields["left_out"] == {"too large": 1}
    assert state["commit"] == commit
    assert isinstance(again, Present)


def test_a_token_goes_to_its_server_and_nowhere_else(repository: Repository) -> None:
    repository.commit({"a": b"text"})
    with GitServer(repository.path.parent) as server:
        read(source(f"{server.url}/r.git", token="s3cret"))
        [header] = set(server.authorization)
    assert header is not None
    assert base64.b64decode(header.removeprefix("Basic ")) == b"x-access-token:s3cret"
    assert "s3cret" not in repr(source("https://example.org/r", token="s3cret"))


def test_the_name_is_resolved_once_and_a_private_address_is_not_connected_to(
    repository: Repository,
) -> None:
    repository.commit({"a": b"text"})
    with GitServer(repository.path.parent) as server:
        port = server.url.rpartition(":")[2]
        named = source(
            f"http://git.example.org:{port}/r.git", resolve=lambda host, port: ["127.0.0.1"]
        )
        assert texts(named) == {"a": "text"}, "git connects to the address that was checked"
        heard = len(server.authorization)
        with pytest.raises(SourceError, match=r"127\.0\.0\.1, which is not public"):
            list(dataclasses.replace(named, private=False).read({}))
        assert len(server.authorization) == heard


class Elsewhere(BaseHTTPRequestHandler):
    """Sends whoever asks to another place."""

    place = ""
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(302)
        self.send_header("Location", f"{self.place}{self.path}")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def served_by(handler: Any) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_redirect_is_not_followed(repository: Repository) -> None:
    repository.commit({"a": b"text"})
    with GitServer(repository.path.parent) as server, served_by(Elsewhere) as elsewhere:
        Elsewhere.place = server.url
        with pytest.raises(SourceError, match="ls-remote"):
            list(source(f"{elsewhere}/r.git").read({}))
        assert Elsewhere.asked
        assert server.authorization == [], "nobody came"


def test_files_of_a_repository_without_a_git_server_are_not_walked(repository: Repository) -> None:
    """Such a server could name other places as those of its objects."""
    repository.commit({"a": b"text"})
    repository.git("update-server-info")
    (repository.path / "objects" / "info").mkdir(exist_ok=True)
    (repository.path / "objects" / "info" / "http-alternates").write_text("http://127.0.0.1:1/x\n")
    files = partial(SimpleHTTPRequestHandler, directory=str(repository.path.parent))
    with served_by(files) as static, pytest.raises(SourceError, match="dumb http"):
        list(source(f"{static}/r.git").read({}))


@pytest.mark.parametrize("date", ["99999999999999999 +0000", "soon"])
def test_a_commit_may_claim_any_date(repository: Repository, date: str) -> None:
    repository.commit({"a": b"text"})
    tree = repository.git("rev-parse", "main^{tree}")
    body = f"tree {tree}\nauthor a <a> {date}\ncommitter a <a> {date}\n\nx\n".encode()
    commit = repository.git(
        "hash-object", "-t", "commit", "-w", "--literally", "--stdin", given=body
    )
    repository.git("update-ref", "refs/heads/main", commit)
    found, _ = read(source(repository.url))
    assert found.fields["content"] == {"a": "text"}
    assert "updated_at" not in found.fields or found.fields["updated_at"].year < 9999


KILLED = """
import sys, tempfile
from connectors.collect.git import GitSource
from connectors.collect.git_tree import Limits
tempfile.tempdir = sys.argv[2]
one = GitSource(sys.argv[1], "a", "r", "https://example.org/r", Limits(9, 9), private=True)
list(one.read({}))
"""


def test_kill_9_leaves_no_process_and_the_next_reading_removes_the_folder(
    repository: Repository, silent: str
) -> None:
    place = Path(tempfile.gettempdir())
    reading = subprocess.Popen([sys.executable, "-c", KILLED, silent, place], cwd=ROOT)
    until = time.monotonic() + 20
    while not any("remote-http" in command for command in processes_in(place)):
        assert time.monotonic() < until
        assert reading.poll() is None
        time.sleep(0.05)
    reading.kill()
    assert reading.wait() == -signal.SIGKILL
    wait_for_no_process_in(place)
    assert any(path.is_dir() for path in place.iterdir())
    repository.commit({"a": b"text"})
    assert texts(source(repository.url)) == {"a": "text"}
    assert list(place.iterdir()) == []
