"""Pins every package that the image of the flows installs, with the hashes of its files.

    python -m ops.image_lock      after a change of the dependencies in pyproject.toml

The versions are those of this virtual environment, which the tests have seen, wherever it has the
package. There are two files because PyTorch has builds of its own, with other hashes and without
CUDA: `TORCH_INDEX_URL` names what takes the place of torch.lock. Needs the network, and uv on the
PATH (`pip install uv`).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "ops" / "image"
PYTHON: Final = "3.12"
"""That of the image, see Dockerfile."""

HEADER: Final = "# Made by `python -m ops.image_lock`.\n"
_TORCH: Final = re.compile(r"(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)==")
"""PyTorch, and what only its builds for GPUs need: 'nvidia-cublas==13.1.1.3'."""
_LOCAL: Final = re.compile(r"\+\w+$| @ .*$", re.MULTILINE)
"""Parts of a version that no index has: '+cpu' of 'torch==2.13.0+cpu', ' @ file:///work' of 'x @ file:///work'."""


def main() -> int:
    """Write both files; 0, or 1 with one line."""
    argparse.ArgumentParser(
        prog="python -m ops.image_lock",
        description="Pin every package that the image installs, with the hashes of its files.",
        epilog="Exit code 0: both files of ops/image are written. 1: uv is missing or has failed.",
    ).parse_args()
    uv = shutil.which("uv")
    if uv is None:
        print("uv is missing: run pip install uv", file=sys.stderr)
        return 1
    packages = re.split(r"^(?=[a-z])", _resolved(uv), flags=re.MULTILINE)
    for name, of_torch in {"torch.lock": True, "requirements.lock": False}.items():
        chosen = [
            text for text in packages if text.strip() and bool(_TORCH.match(text)) is of_torch
        ]
        (FOLDER / name).write_text(HEADER + "".join(chosen))
    return 0


def _resolved(uv: str) -> str:
    """Everything that the flows need, as a requirements file with hashes."""
    freeze = [sys.executable, "-m", "pip", "freeze"]
    seen = subprocess.run(freeze, stdout=subprocess.PIPE, text=True, check=True).stdout
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write(_LOCAL.sub("", seen))
        constraints.flush()
        command = [uv, "pip", "compile", "--quiet", "--universal", "--generate-hashes"]
        options = ["--no-annotate", "--no-header", "--no-config", "--python-version", PYTHON]
        files = ["--constraint", constraints.name, str(ROOT / "pyproject.toml")]
        done = subprocess.run(
            [*command, *options, *files], stdout=subprocess.PIPE, text=True, check=False
        )
    if done.returncode:
        sys.exit(f"uv could not resolve the dependencies, see above ({done.returncode})")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
