"""The description of a collection, beside its points.

<folder>/collection.json    what it was created with, and which generation holds its points
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from qdrant_client import models as q

from connectors.qdrant.embedded.engine import EngineError, SparseRow

DESCRIPTION: Final = "collection.json"


class Layout(NamedTuple):
    """What a collection was created with."""

    vectors: Mapping[str, q.VectorParams]
    """By name."""
    sparse: Mapping[str, q.SparseVectorParams]
    """By name."""

    def check(self, points: Iterable[Mapping[str, Any]]) -> None:
        """Refuse vectors that have no place here, before anything is written: the engine logs a
        request and then looks, so that the next start would bring back a part of it.

        :param points: the vectors of each, by name
        :raises EngineError: in the words of a Qdrant server
        """
        for name, vector in (item for vectors in points for item in vectors.items()):
            params = self.vectors.get(name)
            if params is None and name not in self.sparse:
                raise EngineError(f"Not existing vector name error: {name}")
            if isinstance(vector, SparseRow | q.SparseVector) != (params is None):
                raise EngineError("Conversion between sparse and regular vectors failed")
            if params is None or not isinstance(vector, Sequence):
                continue
            if len(vector) != params.size:
                raise EngineError(
                    f"Vector dimension error: expected dim: {params.size}, got {len(vector)}"
                )


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
