"""Who owns a store: the one pipeline that may write to it.

Two pipelines on the same collections would remove each other's documents. The owner is the name of
the only vector of the collection `owner`, because the creation of a collection is the one step that
every server takes for one of several callers only, and because no kill can come between the
creation and the name.
"""

from hashlib import sha256
from operator import methodcaller
from typing import NamedTuple
from urllib.parse import quote, unquote

from qdrant_client import models as q

from connectors.qdrant.names import Collections
from connectors.qdrant.patient import Ask
from connectors.qdrant.schema import create
from models.errors import ConfigurationError

_LONGEST_NAME = 200
"""Bytes in the name of a vector, at most: the name of a folder is made of it."""


class Owner(NamedTuple):
    """A pipeline, as a store remembers it."""

    database: str
    virtual_host: str
    queue: str

    def as_name(self) -> str:
        """As the name of a vector, which may hold no character that a file name may not hold."""
        name = ",".join(quote(part, safe="") for part in self)
        return name if len(name) <= _LONGEST_NAME else sha256(name.encode()).hexdigest()


def claim(ask: Ask, names: Collections, owner: Owner) -> None:
    """Make the store this pipeline's, if it is nobody's; to be called before anything is written.

    :raises ConfigurationError: it belongs to another pipeline
    """
    mark = {owner.as_name(): q.VectorParams(size=1, distance=q.Distance.COSINE)}
    create(ask, names.owner, mark)
    check_owner(ask, names, owner)


def check_owner(ask: Ask, names: Collections, owner: Owner) -> None:
    """Refuse the store of another pipeline; one that is nobody's passes.

    :raises ConfigurationError: it belongs to another pipeline
    """
    if not ask(methodcaller("collection_exists", names.owner)):
        return
    info = ask(methodcaller("get_collection", names.owner))
    vectors = info.config.params.vectors
    marks = list(vectors) if isinstance(vectors, dict) else []
    if marks != [owner.as_name()]:
        raise ConfigurationError(
            f"Qdrant collection {names.owner} gives this store to {_described(marks)}, not to "
            f"{_described([owner.as_name()])}: set another QDRANT_COLLECTION_PREFIX, or delete "
            "that collection if the store is to change hands"
        )


def _described(marks: list[str]) -> str:
    parts = [unquote(part) for part in ",".join(marks).split(",")]
    if len(parts) != 3:
        return "another pipeline"
    return f"the pipeline of database {parts[0]}, virtual host {parts[1]}, queue {parts[2]}"
