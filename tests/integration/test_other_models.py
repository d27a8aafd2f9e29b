"""Vectors that another model has made: a search does not find them."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from flows.model_and_store import ModelAndStore
from flows.settings import Settings
from retrieval import status
from tests.hashing import HashingEmbedder
from tests.in_this_process import InThisProcess
from tests.unit.test_index import change


class Named(HashingEmbedder):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


def write(folder: Path, model: str, *texts: str) -> None:
    """A run of the features flow with a model."""
    store = ModelAndStore(settings(folder), Named(model))
    store([change(text, 1, entry_id=text) for text in texts])
    store.close()


def settings(folder: Path) -> Settings:
    return Settings.from_env({"QDRANT_PATH": str(folder)})


def said_at_start(folder: Path, model: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, "flows"):
        store = ModelAndStore(settings(folder), Named(model), InThisProcess())
        store.load()
        store.close()
    return [record.getMessage() for record in caplog.records]


def test_chunks_that_no_search_finds_are_said_in_one_line_at_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "one", "a b c")
    assert said_at_start(tmp_path, "one", caplog) == []
    [line] = said_at_start(tmp_path, "two", caplog)
    assert line.startswith("3 of 3 chunks were embedded by another model than two (3 by one)")
    assert "make reconcile" in line
    assert len(line.splitlines()) == 1


def test_another_precision_of_the_model_is_found_and_nothing_to_talk_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "one", "a")
    assert said_at_start(tmp_path, "one/float16", caplog) == []


def test_a_store_that_cannot_count_by_model_keeps_no_flow_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise ConnectionError("no facets before 1.12")

    monkeypatch.setattr("qdrant_client.QdrantClient.facet", refuse)
    write(tmp_path, "one", "a")
    [line] = said_at_start(tmp_path, "two", caplog)
    assert line == "chunks were not counted by model: no facets before 1.12"


def test_status_counts_chunks_by_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "one", "a b c")
    write(tmp_path, "two", "d")
    nobody = {"QDRANT_PATH": str(tmp_path), "RABBITMQ_PORT": "1"}
    nobody["MONGO_DATABASE_HOST"] = "mongodb://127.0.0.1:1"
    for name, value in nobody.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(status, "Console", lambda **_: Console(width=200))
    status.main()
    assert "one 3, two 1" in capsys.readouterr().out


def test_a_folder_is_loaded_without_the_hub_and_keeps_nobody_from_it() -> None:
    """A migration may lead from the packaged model to one of the hub, in one process."""
    program = """
import socket
def refuse(*_): raise AssertionError("the network was asked")
connect, socket.socket.connect = socket.socket.connect, refuse
from flows.embedding.embedder import Embedder
Embedder("").load()
from huggingface_hub import constants
assert not constants.is_offline_mode()
"""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=120)
