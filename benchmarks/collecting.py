"""Memory while a large repository is collected: `python -m benchmarks.collecting --mb 500`.

A repository of that size is made of files of random text, served by git's own HTTP backend from
another process, and read as `flows.collect` reads it. Counted is the memory of the reading process
and of every git below it (proportional set size), over that of the process before it reads.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from ops.git_server import GitServer

_READER = """
import sys
from connectors.collect.git import GitSource
from connectors.collect.git_tree import Limits
import bytewax, pymongo
print("ready", flush=True)
sys.stdin.readline()
limits = Limits(file_bytes=500_000, text_bytes=10_000_000)
source = GitSource(sys.argv[1], "a", "r", sys.argv[1], limits, private=True)
document, _ = source.read({})
content = document.fields["content"]
size = sum(len(text.encode()) for text in content.values())
print(len(content), "files,", size, "bytes;", dict(document.fields["left_out"]), flush=True)
sys.stdin.readline()
"""
_FILE_BYTES = 100_000


def generate(folder: Path, megabytes: int) -> None:
    """A repository whose one commit has so many MB, packed; every file is another text."""
    subprocess.run(["git", "init", "--quiet", "--bare", folder], check=True)
    importing = subprocess.Popen(
        ["git", "-c", "core.compression=0", "fast-import", "--quiet"],
        cwd=folder,
        stdin=subprocess.PIPE,
    )
    assert importing.stdin is not None
    with importing.stdin as stream:
        stream.write(b"commit refs/heads/master\ncommitter a <a@b> 1700000000 +0000\ndata 1\nx\n")
        for number in range(megabytes * 1_000_000 // _FILE_BYTES):
            data = b"\n".join(os.urandom(40).hex().encode() for _ in range(_FILE_BYTES // 81))
            path = f"{number % 97}/{number}.txt".encode()
            stream.write(b"M 100644 inline %s\ndata %d\n%s\n" % (path, len(data), data))
    assert importing.wait() == 0
    assert (folder / "HEAD").read_text().strip() == "ref: refs/heads/master"


def memory_of(root: int) -> int:
    """Bytes of a process and of all below it, what they share counted once."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    total, open_ = 0, [root]
    while open_:
        process = open_.pop()
        open_ += children.get(process, [])
        try:
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        found = [line for line in rollup.splitlines() if line.startswith("Pss:")]
        total += sum(int(line.split()[1]) * 1024 for line in found)
    return total


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collecting")
    parser.add_argument("--mb", type=int, default=500, help="size of the repository")
    megabytes = parser.parse_args().mb
    with tempfile.TemporaryDirectory(prefix="twinstream-bench-") as place:
        generate(Path(place) / "r.git", megabytes)
        with GitServer(Path(place)) as server:
            reading = subprocess.Popen(
                [sys.executable, "-c", _READER, f"{server.url}/r.git"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert reading.stdin is not None
            assert reading.stdout is not None
            reading.stdout.readline()
            idle = peak = memory_of(reading.pid)
            began = time.monotonic()
            told: list[str] = []
            waiter = threading.Thread(target=lambda: told.append(reading.stdout.readline()))
            waiter.start()
            reading.stdin.write("\n")
            reading.stdin.flush()
            while waiter.is_alive():
                peak = max(peak, memory_of(reading.pid))
                time.sleep(0.02)
            seconds = time.monotonic() - began
            reading.stdin.close()
            reading.wait()
    print(f"{megabytes} MB in {seconds:.0f} s: {told[0].strip()}")
    print(f"idle {idle / 1e6:.0f} MB, peak {peak / 1e6:.0f} MB, {(peak - idle) / 1e6:.0f} MB over")
    return 0


if __name__ == "__main__":
    sys.exit(main())
