"""Repositories: GitHub, or any other git server, or a repository of this machine."""

import base64
import logging
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Final
from urllib.parse import SplitResult, quote, urlsplit

from connectors.collect.addresses import (
    ForbiddenAddressError,
    Resolve,
    allowed_addresses,
    resolve,
)
from connectors.collect.git_program import Git, temporary_folder
from connectors.collect.git_tree import Limits, Tree, read_tree
from connectors.collect.table import Table
from models.collected import Collected, Finished, Present, Reading, repository_key
from models.errors import SourceError
from models.shown import shown

_PORTS: Final = {"http": 80, "https": 443, "git": 9418}
_PLATFORMS: Final = {
    "github.com": "github",
    "gitlab.com": "gitlab",
    "bitbucket.org": "bitbucket",
    "codeberg.org": "codeberg",
}
_HOST: Final = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|[0-9a-f:.]+"
"""Names that everybody takes for the same: what is checked is what git then connects to."""
_REF: Final = "refs/collected"
_OLDEST: Final = (2, 31)
"""The first git that takes settings from its environment."""
_OLDEST_PINNED: Final = (2, 37)
"""The first git that connects to the address it is told to."""

_Read = tuple[str, datetime | None, Tree]
"""A commit, its date and its files."""

log = logging.getLogger("connectors.collect")


def parse(table: Table) -> "GitSource":
    """The reader that a table describes; mistakes are noted in it."""
    private = table.boolean("allow_private")
    url = table.text("url")
    token = table.secret("token")
    problem = _problem(url, private, table.boolean("allow_local"), bool(token))
    if url and problem:
        table.mistake("url", problem)
    branch = table.text("branch", "")
    if branch.startswith("-") or re.search(r"[\s~^:?*\[\\\x00-\x1f\x7f]", branch):
        table.mistake("branch", f"= {shown(branch, 80)} is no name of a branch")
    exclude = table.texts("exclude")
    if any("\0" in pattern for pattern in exclude):
        table.mistake("exclude", "has a pattern with NUL, which no path has")
    return GitSource(
        url=url,
        author=table.author,
        branch=branch,
        name=table.text("name", _name(url)),
        link=table.text("link", _link(url)),
        limits=Limits(
            file_bytes=table.integer("max_file_kb", 500, 1, 10_000) * 1000,
            text_bytes=table.integer("max_text_kb", 10_000, 1, 12_000) * 1000,
            exclude=exclude,
        ),
        largest=table.integer("max_mb", 1000, 1, 100_000) * 1_000_000,
        timeout_s=table.number("timeout", 300, 1, 3600),
        private=private,
        token=token,
    )


@dataclass(frozen=True, slots=True)
class GitSource:
    """Reads the newest commit of one branch, as one document.

    Parallelism: one git process at a time. Delivery: the document, or a `Present` where neither the
    commit nor any text that is kept has changed; so a commit that changes nothing of that writes
    nothing, and the document's `commit` is the last one that did. What repeats: after a kill, the
    whole clone; its folder is removed by the next reading. A branch that was force-pushed is read
    like any other, since no commit is compared with an older one.
    """

    url: str
    author: str
    name: str
    link: str
    limits: Limits
    branch: str = ""
    """Empty: the one that the server names."""
    largest: int = 1_000_000_000
    """Bytes of the clone, which has one commit and no file that is over its limit."""
    timeout_s: float = 300.0
    private: bool = False
    token: str = field(default="", repr=False)
    resolve: Resolve = resolve

    def read(self, state: Mapping[str, str]) -> Iterator[Reading]:
        """The document of the repository, if it has changed.

        :raises SourceError: it cannot be read, is over a limit, or is empty
        """
        key = repository_key(self.link, self.author)
        read = self._read(state)
        if read is None:
            yield Present("repositories", key)
            yield Finished(state, whole=True)
            return
        commit, committed, tree = read
        content = tree.fingerprint()
        if content == state.get("content"):
            yield Present("repositories", key)
        elif not tree.texts:
            raise SourceError(f"it has no text to collect{_counts(tree)}")
        else:
            log.info("%s: %d files%s", shown(self.name), len(tree.texts), _counts(tree))
            yield Collected("repositories", key, self._fields(commit, committed, tree))
        yield Finished({"commit": commit, "content": content}, whole=True)

    def _read(self, state: Mapping[str, str]) -> "_Read | None":
        """Commit, its date and its files; None where the commit is that of the state."""
        try:
            with temporary_folder() as folder:
                until = time.monotonic() + self.timeout_s
                # local paths are fetched by the file protocol; git takes none but this one
                protocol = urlsplit(self.url).scheme
                git = Git(folder, protocol, self._settings(), until, self.largest)
                self._check_version(git.run("version").decode())
                tip = self._tip(git)
                if tip == state.get("commit"):
                    return None
                return self._fetched(git, len(tip))
        except SourceError as error:
            raise SourceError(self._without_secrets(str(error)), error.retry_s) from None
        except OSError as error:  # a full disk, or one that went away
            raise SourceError(f"its clone cannot be kept: {error.strerror or error}") from error

    def _tip(self, git: Git) -> str:
        """The commit that the branch has on the server."""
        answer = git.run("ls-remote", "--quiet", "--", self.url, self._ref)
        for line in answer.decode("utf-8", "replace").splitlines():
            identity, _, ref = line.partition("\t")
            if ref == self._ref and re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", identity):
                return identity
        raise SourceError(f"it has no {'branch ' + self.branch if self.branch else 'commit'}")

    def _fetched(self, git: Git, digits: int) -> "_Read":
        formats = ["--object-format=sha256"] if digits == 64 else []
        git.run("init", "--quiet", "--template=", *formats, ".")
        configuration = git.folder / ".git" / "config"
        ours = configuration.read_text()
        held_back = f"--filter=blob:limit={self.limits.file_bytes + 1}"
        options = ["--quiet", "--depth=1", held_back, "--no-tags", "--no-write-fetch-head"]
        git.run("fetch", *options, "--", self.url, f"+{self._ref}:{_REF}")
        # A partial clone asks the server for what it lacks as soon as somebody looks at it. With
        # its configuration of before, it knows of no server.
        configuration.write_text(ours)
        told = git.run("log", "-1", "--no-show-signature", "--format=%H %ct", _REF).decode()
        commit, _, seconds = told.strip().partition(" ")
        return commit, _date(seconds), read_tree(git, commit, self.limits)

    @property
    def _ref(self) -> str:
        return f"refs/heads/{self.branch}" if self.branch else "HEAD"

    def _fields(self, commit: str, committed: datetime | None, tree: Tree) -> dict[str, Any]:
        platform = _PLATFORMS.get(urlsplit(self.link).hostname or "", "git")
        return {
            "name": self.name,
            "link": self.link,
            "platform": platform,
            "owner_id": self.author,
            **({"updated_at": committed} if committed else {}),
            "commit": commit,
            **({"branch": self.branch} if self.branch else {}),
            **({"left_out": dict(sorted(tree.left_out.items()))} if tree.left_out else {}),
            "content": tree.texts,
        }

    def _settings(self) -> dict[str, str]:
        """Settings of git for this source: the address to connect to, and its token.

        :raises SourceError: the address is none that may be connected to
        """
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https"):
            return {}
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        try:
            addresses = allowed_addresses(host, port, self.resolve, self.private)
        except ForbiddenAddressError as error:
            raise SourceError(str(error)) from error
        except (OSError, UnicodeError) as error:
            raise SourceError(f"no address of {host}: {error}") from error
        settings = {}
        if ":" not in host:  # else it is the address already
            settings["http.curloptResolve"] = f"{host}:{port}:{','.join(addresses)}"
        if self.token:
            settings[f"http.{parts.scheme}://{parts.netloc}/.extraHeader"] = self._header()
        return settings

    def _header(self) -> str:
        pair = base64.b64encode(f"x-access-token:{self.token}".encode()).decode()
        return f"Authorization: Basic {pair}"

    def _without_secrets(self, text: str) -> str:
        """An error of git as it may be shown: a server can repeat what it was sent."""
        if self.token:
            for secret in (self._header().rpartition(" ")[2], self.token):
                text = text.replace(secret, "***")
        if re.search(r"requested URL returned error: 30\d|redirect", text):
            text += ": it has moved, and redirects are not followed: write its new link"
        if "could not read Username" in text:
            text = "the server asks who we are: is the link right? Is the repository private?"
            text += " Then set token to the name of an environment variable that holds one"
        return text

    def _check_version(self, told: str) -> None:
        # where every address is allowed, it does not matter which one a name turns out to have
        oldest = _OLDEST if self.private else _OLDEST_PINNED
        found = re.search(r"(\d+)\.(\d+)", told)
        if found is None or (int(found[1]), int(found[2])) < oldest:
            wanted = ".".join(map(str, oldest))
            raise SourceError(f"{told.strip():.80} is too old: install git {wanted} or newer")


def _date(seconds: str) -> datetime | None:
    """The date of a commit; None where it is none, since anybody may write anything there."""
    try:
        return datetime.fromtimestamp(int(seconds), timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None


def _problem(url: str, private: bool, local: bool, token: bool) -> str:
    """What is wrong with the URL of a repository, for the end of a sentence; empty if nothing."""
    said = f"= {shown(url, 80)}"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (raises where it is none)
    except ValueError:
        return "is no URL: write https://host/path"  # not shown: it may hold a password
    if parts.username is not None or parts.password is not None:
        return "holds a user or a password: name an environment variable by token instead"
    if re.search(r"[\x00-\x20\x7f]", url):
        return f"{said} has a space or a control character: percent-encode it"
    return _problem_of_scheme(parts, said, private, local, token)


def _problem_of_scheme(
    parts: SplitResult, said: str, private: bool, local: bool, token: bool
) -> str:
    if token and parts.scheme != "https" and not private:
        return f"{said} would send the token in the clear: write https://"
    if parts.scheme == "file" and parts.netloc:
        return f"{said} names a host: write file:/// and a path from the root"
    if parts.scheme == "file":
        allowed, option = local, "allow_local"
    elif parts.scheme == "git":
        allowed, option = private, "allow_private"
    elif parts.scheme in ("http", "https"):
        plain = re.fullmatch(_HOST, parts.hostname or "")
        return "" if plain else f"{said} names no host, or not in plain letters (xn--… of others)"
    else:
        return f"{said} is not read: write https://host/path"
    return "" if allowed else f"{said} is read with {option} = true only"


def _name(url: str) -> str:
    return _split(url).path.rstrip("/").removesuffix(".git").rpartition("/")[2] or "repository"


def _link(url: str) -> str:
    """Where people look at a repository: its URL without .git, in one spelling."""
    parts = _split(url)
    path = parts.path.rstrip("/").removesuffix(".git")
    if (parts.hostname or "") in _PLATFORMS:
        path = path.lower()  # these take any case, and one repository must have one key
    return f"{parts.scheme}://{parts.netloc.lower()}{quote(path, safe='/%:@!$&()*+,;=~')}"


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", "", "", "")


def _counts(tree: Tree) -> str:
    """The files that were left out, for the end of a sentence."""
    counts = [f"{count} {reason}" for reason, count in sorted(tree.left_out.items())]
    return f"; left out: {', '.join(counts)}" if counts else ""
