"""The source that a person names to `make local-test-…` is taken as it stands."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from examples.local_sources import write_sources
from examples.local_test import named_source
from flows.sources import load_sources
from tests.processes import ROOT

HOSTILE = "https://example.org/$(touch a)`touch b`'\"$(shell touch c)\\;touch d\x1b\x7f日🎈"


@pytest.mark.parametrize("kind", ["medium", "github"])
def test_a_source_is_never_pasted_into_a_shell(kind: str, tmp_path: Path) -> None:
    for folder in ("ops", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", tmp_path)
    told = '#!/bin/sh\nprintf %s "$*:$SOURCE" >told\n'
    for name, script in (("ops/install.sh", "#!/bin/sh\n"), (".venv/bin/python", told)):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    command = ["make", "--silent", f"local-test-{kind}", f"SOURCE={HOSTILE}"]
    subprocess.run(command, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, check=True, timeout=60)
    assert (tmp_path / "told").read_text() == f"-m examples.local_test {kind}:{HOSTILE}"
    assert {path.name for path in tmp_path.iterdir()} == {"Makefile", "ops", ".venv", "told"}


@pytest.mark.parametrize(
    ("kind", "source", "url"),
    [
        ("medium", "@ada", "https://medium.com/feed/@ada"),
        ("medium", "https://ada.substack.com/feed", "https://ada.substack.com/feed"),
        ("github", "ada/streams", "https://github.com/ada/streams"),
        ("github", "https://codeberg.org/ada/streams", "https://codeberg.org/ada/streams"),
    ],
)
def test_a_source_may_be_named_in_short(kind: str, source: str, url: str) -> None:
    assert named_source(kind, source)["url"] == url


def test_what_is_written_as_sources_is_read_as_it_was(tmp_path: Path) -> None:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    file = tmp_path / "sources.toml"
    tables = {"x": {"url": HOSTILE, "allow_private": True}}
    write_sources(file, tables)
    assert tomllib.loads(file.read_text("utf-8"))["sources"] == tables
    write_sources(file, {"medium": named_source("medium", "@ada")})
    assert len(load_sources(file, {})) == 1
