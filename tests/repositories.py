"""Repositories of real git, made for tests, with whatever a tree can hold."""

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

_ENVIRONMENT = {
    "PATH": os.defpath,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}
LINK, MODULE, FILE, FOLDER = "120000", "160000", "100644", "40000"


class Repository:
    """A bare repository on branch `main`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--bare", "--initial-branch=main", "--template=", ".")
        self.git("config", "uploadpack.allowFilter", "true")

    @property
    def url(self) -> str:
        return self.path.as_uri()

    def git(self, *arguments: str, given: bytes = b"") -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.path,
            env={**_ENVIRONMENT, "HOME": str(self.path)},
            input=given,
            capture_output=True,
            check=True,
        )
        return done.stdout.decode().strip()

    def blob(self, content: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", given=content)

    def tree(self, entries: Iterable[tuple[str, str, str]]) -> str:
        """A tree as it is written, which git itself would refuse to make of some entries."""
        raw = b"".join(
            f"{mode} {name}\0".encode("utf-8", "surrogateescape") + bytes.fromhex(identity)
            for mode, name, identity in entries
        )
        literally = ("-t", "tree", "-w", "--literally", "--stdin")
        return self.git("hash-object", *literally, given=raw)

    def commit_tree(self, tree: str, branch: str = "main", date: int = 1_700_000_000) -> str:
        when = {"GIT_COMMITTER_DATE": f"{date} +0000", "GIT_AUTHOR_DATE": f"{date} +0000"}
        done = subprocess.run(
            ["git", "commit-tree", tree, "-m", "x"],
            cwd=self.path,
            env={**_ENVIRONMENT, **when},
            capture_output=True,
            check=True,
        )
        commit = done.stdout.decode().strip()
        self.git("update-ref", f"refs/heads/{branch}", commit)
        return commit

    def commit(
        self,
        files: Mapping[str, bytes | tuple[str, bytes]],
        branch: str = "main",
        date: int = 1_700_000_000,
    ) -> str:
        """A commit without a past, so a second one is like one that was pushed by force.

        :param files: contents by path; with a mode, what a link leads to, or a submodule's commit
        """
        stream = [b"reset refs/heads/%s\n" % branch.encode()]
        stream.append(b"commit refs/heads/%s\n" % branch.encode())
        stream.append(b"committer a <a@example.org> %d +0000\ndata 1\nx\n" % date)
        for path, content in files.items():
            mode, data = content if isinstance(content, tuple) else (FILE, content)
            raw = path.encode("utf-8", "surrogateescape")
            quoted = (
                b'"'
                + raw.replace(b"\\", rb"\\").replace(b'"', rb"\"").replace(b"\n", rb"\n")
                + b'"'
            )
            if mode == MODULE:
                stream.append(b"M %s %s %s\n" % (mode.encode(), data, quoted))
            else:
                stream.append(b"M %s inline %s\ndata %d\n" % (mode.encode(), quoted, len(data)))
                stream.append(data + b"\n")
        self.git("fast-import", "--quiet", "--force", "--date-format=raw", given=b"".join(stream))
        return self.git("rev-parse", f"refs/heads/{branch}")
