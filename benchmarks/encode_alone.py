"""The yardstick of embedding: `SentenceTransformer.encode` on the same chunks, and nothing else.

`python -m benchmarks.encode_alone <precision> <threads, 0 for torch's own choice>` loads the model
and then, for each line on its input, `[batch size, [text, ...]]`, prints the moments of begin and
end. Batch size 0 is answered with the best one for these texts.
"""

import json
import sys
import time
from typing import Any

SIZES = (8, 16, 24, 32, 64)


def main(arguments: list[str]) -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    from flows.embedding.embedder import locate_model
    from flows.embedding.precision import load

    precision, threads = arguments[0], int(arguments[1])
    if threads:
        torch.set_num_threads(threads)
    # What bfloat16 means on a CPU is the flow's choice, so both take it from the same place.
    model, _ = load(lambda: SentenceTransformer(locate_model("")[0], device="cpu"), precision)
    for line in sys.stdin:
        size, texts = json.loads(line)
        if size:
            print(json.dumps(encode(model, texts, size)), flush=True)
            continue
        encode(model, texts[:32], 16)
        taken = {each: encode(model, texts, each) for each in SIZES}
        best = min(taken, key=lambda each: taken[each][1] - taken[each][0])
        print(json.dumps(best), flush=True)


def encode(model: Any, texts: list[str], size: int) -> tuple[float, float]:
    begun = time.monotonic()
    model.encode(texts, batch_size=size, show_progress_bar=False, normalize_embeddings=True)
    return begun, time.monotonic()


if __name__ == "__main__":
    main(sys.argv[1:])
