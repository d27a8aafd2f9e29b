"""A program of the product under instrumentation: `python -m tests.faults.child MODULE ARGUMENT …`.

`flows.pipeline`, both flows in one process, runs with short epochs; every other module runs as by
`python -m`. The hashing embedder takes the place of the model.
"""

import runpy
import sys
from datetime import timedelta
from typing import Any

from flows.embedding import embedder
from tests.faults import calls
from tests.faults.answers import ANSWERS
from tests.hashing import HashingEmbedder


class _Hashing(HashingEmbedder):
    def __init__(self, *_settings: Any) -> None:
        super().__init__()


embedder.Embedder = _Hashing  # type: ignore[misc,assignment]  # before a module takes it from there
calls.install(ANSWERS)


def main() -> None:
    module = sys.argv.pop(1)
    if module != "flows.pipeline":
        runpy.run_module(module, run_name="__main__")
        return
    from bytewax.run import cli_main

    from flows import pipeline

    cli_main(pipeline.flow(), epoch_interval=timedelta(milliseconds=200))


if __name__ == "__main__":
    main()
