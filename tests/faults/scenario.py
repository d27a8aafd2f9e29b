"""The small scenario in which every call fails once: what is written, and what must come of it.

A run ends well in one of two ways. Either the program goes on by itself and the store is in sync.
Or it ends with one line and an exit code that is not 0, and is in sync after a start without the
fault. A program that lives and does nothing, a traceback, and a document that MongoDB has and the
store has not, are violations.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from connectors.qdrant import open_client
from connectors.rabbitmq import dead_letter_queue
from tests.chaos.harness import queue_depth
from tests.conftest import Place
from tests.faults.calls import FAULT, RECORD, ROOT, Fault, recorded
from tests.hashing import HashingEmbedder
from tests.oracle import differences

FLOW = "flows.pipeline"
COMMANDS = ("flows.replay", "flows.reconcile")
CONTENT = {"invalid"}
"""Refusals of content: the document becomes a dead letter, which `replay` puts back."""
SYNC_S = 45.0
END_S = 15.0


@dataclass
class Result:
    """What one run came to."""

    fault: Fault | None
    program: str
    violations: list[str] = field(default_factory=list)
    met: int = 0
    """Calls that met the fault."""
    restarts: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


class Scenario:
    """One run, in a place of its own.

    :param program: the program that meets the fault: the flow, or one of the commands
    """

    def __init__(self, place: Place, program: str, fault: Fault | None) -> None:
        self._place = place
        self._program = program
        self._fault = fault
        self._record = place.folder / "calls.jsonl"
        self._client: MongoClient[dict[str, Any]] = MongoClient(place.mongo_uri)
        self._database = self._client[place.database.name]
        self.result = Result(fault, program)

    def run(self) -> Result:
        """Run it; what was wrong stands in the result."""
        began = time.monotonic()
        try:
            self._run()
        except AssertionError as error:
            self.result.violations.append(str(error))
        finally:
            self._client.close()
        self.result.counts, self.result.met = recorded(self._record)
        self.result.seconds = time.monotonic() - began
        return self.result

    def _run(self) -> None:
        self._first_writes()
        with self._flow():
            self._in_sync("after the snapshot")
            self._second_writes()
            self._in_sync("after the edits")
            if self._program != FLOW:
                self._damage()
                for command in COMMANDS:
                    self._command(command)
                self._in_sync(f"after {self._program}")
            self._end()
        poison = 1 if self._program == FLOW else queue_depth(self._place, self._dlq())
        letters = queue_depth(self._place, self._dlq())
        spoiled = self._fault is not None and self._fault.kind in CONTENT
        assert letters >= poison, f"{letters} dead letters instead of {poison}: one was lost"
        assert letters == poison or spoiled, f"{letters} dead letters instead of {poison}"

    def _dlq(self) -> str:
        return dead_letter_queue(self._place.queue)

    def _first_writes(self) -> None:
        database = self._database
        for number in range(4):
            content = {"Title": f"t{number}", "Content": f"text {number} " * 300}
            database.articles.insert_one({"_id": number, "platform": "x", "content": content})
        database.posts.insert_one({"_id": "poison", "platform": "x"})
        database.posts.insert_one({"_id": "gone", "content": "to be deleted"})
        database.repositories.insert_one({"_id": 1, "name": "r", "content": {"a.py": "x = 1\n"}})

    def _second_writes(self) -> None:
        database = self._database
        database.articles.update_one({"_id": 0}, {"$set": {"content.Title": "edited"}})
        database.articles.update_one({"_id": 1}, {"$set": {"platform": "y"}})
        database.posts.delete_one({"_id": "gone"})
        with self._client.start_session() as session, session.start_transaction():
            database.posts.insert_one({"_id": "t", "content": "first"}, session=session)
            database.posts.replace_one({"_id": "t"}, {"content": "second"}, session=session)
            database.posts.insert_one({"_id": "u", "content": "third"}, session=session)
            database.posts.delete_one({"_id": "u"}, session=session)
        database.repositories.drop()
        for number in range(20):
            database.posts.insert_one({"_id": number, "content": f"post {number}"})
        database.drafts.insert_one({"_id": 1})

    def _damage(self) -> None:
        """Take a record and some chunks away: reconciliation has to find that."""
        client = open_client(self._place.qdrant)
        try:
            for name in ("cleaned_posts", "vector_articles"):
                points, _ = client.scroll(name, limit=2)
                client.delete(name, [point.id for point in points], wait=True)
        finally:
            client.close()

    # Programs

    @contextmanager
    def _flow(self) -> Iterator[None]:
        self._running = self._start(FLOW, self._program == FLOW)
        try:
            yield
        finally:
            if self._running.poll() is None:
                self._running.kill()
            self._running.wait()

    def _start(self, module: str, faulty: bool, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **self._place.environment, "RUST_BACKTRACE": "0"}
        environment |= {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
        if faulty:
            environment[RECORD] = str(self._record)
            if self._fault is not None:
                environment[FAULT] = json.dumps(self._fault)
        with self._log(module).open("ab") as log:
            command = [sys.executable, "-m", "tests.faults.child", module, *arguments]
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def _log(self, module: str) -> Path:
        return self._place.folder / f"{module}.log"

    def _in_sync(self, when: str) -> None:
        """Wait until both sides agree; starts the flow again where it has ended with one line."""
        deadline = time.monotonic() + SYNC_S
        while True:
            left = differences(self._database, self._place.qdrant, HashingEmbedder())
            if not left:
                return
            if self._running.poll() is not None:
                self._ended_well(FLOW, self._running.returncode)
                assert self.result.restarts < 2, f"ends again and again {when}"
                self.result.restarts += 1
                self._running = self._start(FLOW, faulty=False)
                deadline = time.monotonic() + SYNC_S
            if time.monotonic() > deadline and self._is_content_fault():
                self._command("flows.replay")
                deadline = time.monotonic() + SYNC_S
                self._fault = None
                continue
            lines = "; ".join(left[:3])
            assert time.monotonic() < deadline, f"alive and not in sync {when}: {lines}"
            time.sleep(0.2)

    def _is_content_fault(self) -> bool:
        return self._fault is not None and self._fault.kind in CONTENT

    def _command(self, module: str) -> None:
        faulty = self._program == module
        process = self._start(module, faulty)
        try:
            code = process.wait(90)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise AssertionError(f"{module} did not end within 90 s") from error
        if code == 0:
            return
        assert faulty, f"{module} ended with {code}: {self._last_lines(module)}"
        self._ended_well(module, code)
        self.result.restarts += 1
        again = self._start(module, faulty=False).wait(90)
        assert again == 0, f"{module} ended with {again} without a fault as well"

    def _end(self) -> None:
        self._running.send_signal(signal.SIGTERM)
        try:
            code = self._running.wait(END_S)
        except subprocess.TimeoutExpired as error:
            raise AssertionError("SIGTERM did not end the flow") from error
        if code != 0:
            self._ended_well(FLOW, code)

    def _ended_well(self, module: str, code: int) -> None:
        text = self._log(module).read_text(errors="replace")
        assert code > 0, f"{module} was ended by signal {-code}: {self._last_lines(module)}"
        assert "Traceback" not in text, f"{module} ended with a traceback: {text[-600:]}"

    def _last_lines(self, module: str) -> str:
        lines: Sequence[str] = self._log(module).read_text(errors="replace").splitlines()
        return " | ".join(lines[-3:])
