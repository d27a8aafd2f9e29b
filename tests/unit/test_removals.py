"""The demo and `make clean` remove only their own files, and nothing that a link leads to."""

import shutil
import subprocess
from pathlib import Path

import pytest

from examples import demo
from examples.place import ExampleError
from tests.processes import ROOT


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the demo in a checkout."""
    data = tmp_path / "checkout" / ".data" / "demo"
    data.parent.mkdir(parents=True)
    monkeypatch.setattr(demo, "DATA", data)
    return data


@pytest.fixture
def treasure(tmp_path: Path) -> Path:
    """A file elsewhere, that nobody may remove."""
    file = tmp_path / "elsewhere" / "demo" / "treasure"
    file.parent.mkdir(parents=True)
    file.write_text("treasure")
    return file


def enter() -> None:
    with demo._only_demo():
        assert demo.DATA.is_dir()
        assert list(demo.DATA.iterdir()) == []


def refused() -> str:
    with pytest.raises(ExampleError) as error:
        enter()
    return str(error.value)


def test_a_demo_does_not_follow_a_link_in_place_of_its_folder(data: Path, treasure: Path) -> None:
    """It was a traceback."""
    (data.parent / "demo.lock").touch()
    data.symlink_to(treasure.parent)
    assert refused() == (f"{data} is a symbolic link, which the demo does not follow: remove it")
    assert treasure.read_text() == "treasure"


def test_a_demo_does_not_empty_what_its_lock_links_to(data: Path, treasure: Path) -> None:
    (data.parent / "demo.lock").symlink_to(treasure)
    assert "demo.lock is a symbolic link" in refused()
    assert treasure.read_text() == "treasure"


def test_a_demo_wipes_no_folder_that_it_has_not_made(data: Path, treasure: Path) -> None:
    """Where .data leads to another disk, that may have a folder of the same name."""
    data.parent.rmdir()
    data.parent.symlink_to(treasure.parent.parent)
    for _ in range(2):
        assert "was not made by the demo" in refused()
    assert treasure.read_text() == "treasure"


def test_a_demo_may_keep_its_folder_on_another_disk(data: Path, tmp_path: Path) -> None:
    data.parent.rmdir()
    (tmp_path / "disk").mkdir()
    data.parent.symlink_to(tmp_path / "disk")
    for _ in range(2):
        enter()
    assert (tmp_path / "disk" / "demo").is_dir()


def test_a_demo_wipes_its_own_folder_and_only_the_links_in_it(data: Path, treasure: Path) -> None:
    enter()
    (data / "qdrant").mkdir()
    (data / "qdrant" / "points").touch()
    (data / "link").symlink_to(treasure.parent)
    enter()
    assert treasure.read_text() == "treasure"


@pytest.mark.parametrize("what", ["a file", "a link to nowhere"])
def test_a_data_folder_that_is_none_is_one_line(what: str, data: Path) -> None:
    data.parent.rmdir()
    if what == "a file":
        data.parent.touch()
    else:
        data.parent.symlink_to("nowhere")
    assert "\n" not in refused()


def test_make_clean_removes_links_and_not_what_they_lead_to(tmp_path: Path, treasure: Path) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "flows" / "__pycache__").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", checkout)
    links = [checkout / ".data", checkout / ".venv", checkout / "flows" / "text"]
    for link in links:
        link.symlink_to(treasure.parent)
    (treasure.parent / "__pycache__").mkdir()
    subprocess.run(["make", "clean"], cwd=checkout, check=True, capture_output=True, timeout=60)
    assert [link.is_symlink() for link in links] == [False, False, True]
    assert not (checkout / "flows" / "__pycache__").exists()
    assert treasure.read_text() == "treasure"
    assert (treasure.parent / "__pycache__").is_dir()
