"""A plain connection to a database, for scripts."""

from types import TracebackType
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database


class MongoDatabaseConnector:
    """A database for programs that only want to read and write it.

    >>> with MongoDatabaseConnector("mongodb://127.0.0.1:27017", "twin") as database:
    ...     database.posts.count_documents({})

    :param uri: full URI; connects with the first operation
    :param name: the database
    """

    def __init__(self, uri: str, name: str) -> None:
        self._client: MongoClient[dict[str, Any]] = MongoClient(uri, appname="twinstream")
        self._name = name

    @property
    def database(self) -> "Database[dict[str, Any]]":
        """The database."""
        return self._client[self._name]

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def __enter__(self) -> "Database[dict[str, Any]]":
        return self.database

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
