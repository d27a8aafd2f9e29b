"""What a reader of a source yields: its documents one by one, then where the reading ended; and
what becomes of these in MongoDB.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Collected:
    """One document, as its source offers it."""

    type: str
    """`posts`, `articles` or `repositories`."""
    key: str
    """What identifies it within its type, whoever reads it: its canonical link, or
    `repository_key`. It becomes the `_id`."""
    fields: Mapping[str, Any] = field(repr=False)
    """The document without `_id`, always in the same order, since a hash of its BSON tells a
    change. What is unknown is absent, never null and never "now"; dates are aware."""


@dataclass(frozen=True, slots=True)
class Present:
    """Offered as before, so that it was not read again.

    If it is not stored, the next reading gets an empty state. So a reader that has nothing to read
    (status 304, the same commit) yields one for each document that its state knows of.
    """

    type: str
    key: str


@dataclass(frozen=True, slots=True)
class Refused:
    """One document that could not be read; the others go on, and it is not pruned.

    The reader leaves out of its next state whatever would keep it from trying again.
    """

    type: str
    key: str
    reason: str
    """One line without secrets."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a reading that no error has ended; always last."""

    state: Mapping[str, str]
    """Stored once everything before it is written, and given to the next reading; 8 MB at most."""
    whole: bool
    """Whether everything that the source has was listed, so that `prune` deletes the rest. False
    for the newest entries only, for a limit that was reached, and after a document that was
    `Refused` for want of a key."""


Reading = Collected | Present | Refused | Finished


class Reader(Protocol):
    """Reads one source."""

    def read(self, state: Mapping[str, str]) -> Iterator[Reading]:
        """All that the source offers, lazily: memory holds one document at a time.

        It runs in a thread of its own. An iterator that is closed early gives back what it holds:
        folders, processes, connections.

        :param state: of the last `Finished` that was stored; empty at first, after a change of the
            source's options, and whenever everything is to be read again
        :raises SourceError: the source cannot be read now; its state stays, nothing is pruned
        """
        ...


def repository_key(link: str, author: str) -> str:
    """The key of a repository as the work of one author."""
    return f"{link}#{author}"


@dataclass(frozen=True, slots=True)
class Run:
    """One reading of a source. Of two at the same time, the one with the higher number counts."""

    source: str
    number: int
    mark: str = ""
    """Of the options of the source; a state is of use only with the same ones."""
    state: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Of the last run that was finished."""
    succeeded: float = 0.0
    """When that was, in seconds since 1970; 0 for never."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A reading that an error has ended: it has no `Finished`."""

    reason: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document, ready to be written."""

    type: str
    id: str
    fields: Mapping[str, Any] = field(repr=False)
    hash: str


Step = Run | Collected | Prepared | Present | Refused | Finished | Failed
"""What passes through the dataflow for each source: a run, what was read, and the end of it."""


class Fate(NamedTuple):
    """What has become of a document."""

    outcome: Literal["written", "unchanged", "elsewhere", "clash", "missing", "refused"]
    """`elsewhere`: another source has it, which keeps it. `clash`: there is one that was not
    collected, which is left alone. `missing`: it was written once and is gone."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """What has come of a part of a run; a later tally of the run includes the earlier ones."""

    source: str
    fetched: int = 0
    written: int = 0
    unchanged: int = 0
    deleted: int = 0
    failed: int = 0
    reason: str = ""
    """Of the first failure."""
    ended: bool = False
    """Whether nothing follows."""
    succeeded: float = 0.0
    """When the source was last read to its end."""
