"""The yardstick of embedding: `SentenceTransformer.encode` on the same chunks, and nothing else.

Run as `python -m benchmarks.encode_alone <file with a JSON list of texts> <precision> <batch size>
<threads>`; batch size 0 finds the best one first. Prints batch size and chunks per second.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

SIZES = (8, 16, 24, 32, 64)
_SAMPLE = 192


def main(arguments: list[str]) -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    from flows.operators.embed import locate_model

    texts = json.loads(Path(arguments[0]).read_text())
    precision, size, threads = arguments[1], int(arguments[2]), int(arguments[3])
    if threads:
        torch.set_num_threads(threads)
    model: Any = SentenceTransformer(locate_model("")[0], device="cpu")
    model = model.to({"float32": torch.float32, "bfloat16": torch.bfloat16}[precision])
    rate(model, texts[:32], 16)
    if not size:
        size = max(SIZES, key=lambda each: rate(model, texts[:_SAMPLE], each))
    begun = time.monotonic()
    found = rate(model, texts, size)
    print(
        json.dumps({"batch_size": size, "rate": found, "begun": begun, "ended": time.monotonic()})
    )


def rate(model: Any, texts: list[str], size: int) -> float:
    begun = time.perf_counter()
    model.encode(texts, batch_size=size, show_progress_bar=False, normalize_embeddings=True)
    return len(texts) / (time.perf_counter() - begun)


if __name__ == "__main__":
    main(sys.argv[1:])
