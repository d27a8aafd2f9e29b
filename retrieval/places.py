"""Where hits stand among the chunks that the records of their documents name."""

from collections.abc import Mapping, Sequence

from models.fresh import Payload
from retrieval.hits import Context, Hit, Neighbour, Place


def place_of(hit: Hit, ids: Sequence[str]) -> Place | None:
    """The place of a hit.

    :param ids: of the chunks of its document, in their order
    """
    return Place(ids.index(hit.id), len(ids)) if hit.id in ids else None


def around(ids: Sequence[str], position: int, before: int, after: int) -> dict[str, int]:
    """The chunks beside one, with their positions."""
    places = range(max(0, position - before), min(len(ids), position + after + 1))
    return {ids[place]: place for place in places if place != position}


def context_of(place: Place, ids: Mapping[str, int], chunks: Mapping[str, Payload]) -> Context:
    """The chunks beside one, as far as they are there.

    :param ids: of these chunks, with their positions
    """
    found = [
        Neighbour(position, chunks[id_].get("path"), chunks[id_]["content"])
        for id_, position in ids.items()
        if id_ in chunks
    ]
    return Context(
        place,
        tuple(one for one in found if one.position < place.position),
        tuple(one for one in found if one.position > place.position),
    )
