"""The description of a collection, beside its points.

<folder>/collection.json    what it was created with, and which generation holds its points
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from qdrant_client import models as q

DESCRIPTION: Final = "collection.json"


class Layout(NamedTuple):
    """What a collection was created with."""

    vectors: Mapping[str, q.VectorParams]
    """By name."""
    sparse: Mapping[str, q.SparseVectorParams]
    """By name."""


def write_description(folder: Path, generation: int, layout: Layout) -> bool:
    """Replace the description in one step.

    :returns: whether a loss of power cannot undo it; if it can, the former generation has to stay
    :raises OSError: nothing was replaced
    """
    kinds = {
        kind: {name: p.model_dump(mode="json", exclude_none=True) for name, p in params.items()}
        for kind, params in layout._asdict().items()
    }
    begun = folder / f"{DESCRIPTION}.begun"
    with begun.open("w") as file:
        json.dump({**kinds, "generation": generation}, file)
        file.flush()
        os.fsync(file.fileno())
    begun.replace(folder / DESCRIPTION)
    try:
        directory = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError:
        return False
    return True


def read_description(folder: Path) -> tuple[Layout, int]:
    """What a collection was created with, and the generation that holds its points."""
    description = json.loads((folder / DESCRIPTION).read_text())
    layout = Layout(
        {name: q.VectorParams(**params) for name, params in description["vectors"].items()},
        {name: q.SparseVectorParams(**params) for name, params in description["sparse"].items()},
    )
    return layout, description["generation"]
