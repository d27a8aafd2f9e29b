"""What the scenario writes, in rounds: the same in each run, so that what is expected is, too."""

import json
import time
from typing import Any

from qdrant_client import models as q

from models import record_id
from tests.faults.place import Document, FaultPlace

_LONG_AGO = 40 * 86400


class Writes:
    """Writes to the database of a place, and to its store and queues what others have done there.

    Each round gives the name of the state after it.
    """

    def __init__(self, place: FaultPlace) -> None:
        self._place = place
        self._database = place.database
        self.poison: set[Document] = set()
        """All documents that cannot be indexed, of all rounds."""

    def first(self) -> str:
        """What a snapshot finds."""
        database = self._database
        articles = [
            {
                "_id": number,
                "platform": "x",
                "content": {"Title": f"t{number}", "Content": f"text {number} " * 150},
            }
            for number in range(4)
        ]
        database.articles.insert_many(articles)
        database.posts.insert_many([self._poison("0"), {"_id": "gone 0", "content": "is deleted"}])
        database.repositories.insert_one({"_id": 0, "name": "r", "content": {"a.py": "x = 1\n"}})
        return "first"

    def round(self, number: int) -> str:
        """Edits, deletes, a drop, a transaction, a dead letter."""
        database, last = self._database, number - 1
        database.articles.update_one({"_id": 0}, {"$set": {"content.Title": f"edited {number}"}})
        database.articles.update_one({"_id": 1}, {"$set": {"platform": f"y{number}"}})
        database.articles.update_one({"_id": 2}, {"$set": {"unknown": number}})
        database.posts.delete_one({"_id": f"gone {last}"})
        with database.client.start_session() as session, session.start_transaction():
            database.posts.delete_one({"_id": "t"}, session=session)
            database.posts.insert_one({"_id": "t", "content": "first"}, session=session)
            database.posts.replace_one({"_id": "t"}, {"content": f"{number}"}, session=session)
            database.posts.insert_one({"_id": "u", "content": "third"}, session=session)
            database.posts.delete_one({"_id": "u"}, session=session)
        database.repositories.drop()
        repository = {"_id": number, "name": "r", "content": {"a.py": f"x = {number}\n"}}
        database.repositories.insert_one(repository)
        database.posts.delete_many({"_id": {"$in": [*range(10), f"poison {last}"]}})
        posts: list[dict[str, Any]] = [
            {"_id": n, "content": f"post {n} of {number}"} for n in range(10)
        ]
        gone = {"_id": f"gone {number}", "content": "is deleted"}
        database.posts.insert_many([*posts, gone, self._poison(str(number))])
        database.drafts.insert_one({"_id": number})
        return f"round {number}"

    def last(self, number: int) -> str:
        """More than is done at once, so that a signal comes in between."""
        self._database.articles.update_one({"_id": 3}, {"$set": {"content.Title": f"{number}"}})
        posts = [{"_id": f"last {number} {n}", "content": f"{number} of {n}"} for n in range(60)]
        self._database.posts.delete_many({"_id": {"$regex": f"^last {number - 1} "}})
        self._database.posts.insert_many([self._poison(f"{number}"), *posts])
        return f"last {number}"

    def for_replay(self, number: int) -> str:
        """A document that fails, and one that is mended afterwards."""
        mended = {"_id": f"mended {number}", "platform": "x"}
        self.poison.add(("posts", f"mended {number}"))
        self._database.posts.insert_many([self._poison(f"{number}"), mended])
        return f"replay {number}"

    def mend(self, number: int) -> str:
        """Supersede the letter of that document; add letters, one too old and one of nothing."""
        change = {"$set": {"content": f"mended {number}"}}
        self._database.posts.update_one({"_id": f"mended {number}"}, change)
        old = json.dumps({"type": "posts", "entry_id": "old"}).encode()
        headers = {"op": "update", "version": int(time.time() - _LONG_AGO) << 32, "schema": 1}
        self._place.publish([(old, headers), (b"no document", {})])
        self.poison |= {("posts", "old"), ("", "no document")}
        return f"mended {number}"

    def damage(self) -> None:
        """What reconciliation has to find: points that are missing, changed, and of no document."""
        client, names = self._place.client, self._place.names
        chunks, _ = client.scroll(names.vectors("articles"), limit=3)
        records, _ = client.scroll(names.cleaned("posts"), limit=3)
        client.delete(names.vectors("articles"), [chunk.id for chunk in chunks[:2]], wait=True)
        client.delete(names.cleaned("posts"), [records[0].id], wait=True)
        change = q.SetPayload(payload={"platform": "z"}, points=[records[1].id])
        client.batch_update_points(
            names.cleaned("posts"), [q.SetPayloadOperation(set_payload=change)], wait=True
        )
        phantom = {**(records[2].payload or {}), "entry_id": "phantom"}
        point = q.PointStruct(id=record_id("posts", "phantom"), vector={}, payload=phantom)
        client.upsert(names.cleaned("posts"), [point], wait=True)

    def bury(self) -> str:
        """Write a tombstone that is old enough to be forgotten; its id."""
        return self._place.bury("long gone", time.time() - _LONG_AGO)

    def _poison(self, which: str) -> dict[str, Any]:
        self.poison.add(("posts", f"poison {which}"))
        return {"_id": f"poison {which}", "platform": "x"}
