"""`make demo`, on a part of its documents and in a folder of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

PROGRAM = """
import sys
from itertools import islice
from pathlib import Path
from examples import demo

whole = demo.corpus
demo.DATA = Path(sys.argv[1])
demo.corpus = lambda: islice(whole(), 0, None, 10)
sys.exit(demo.main())
"""


@pytest.mark.slow
def test_the_demo_ends_by_itself_and_in_sync(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "demo")]
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert "Traceback" not in ended.stderr
    assert "in sync" in ended.stdout
