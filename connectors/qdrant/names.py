"""Names of the collections."""

from dataclasses import dataclass, replace
from typing import Final

VECTOR_NAME: Final = "dense"
SPARSE_NAME: Final = "sparse"


@dataclass(frozen=True, slots=True)
class Collections:
    """The collections of one deployment.

    :param prefix: put before every name, so that several deployments may share a server
    :param place: the place of one model, see `models.places`; empty for the first
    """

    prefix: str = ""
    place: str = ""

    def at(self, place: str) -> "Collections":
        """Those of the same deployment in another place."""
        return replace(self, place=place)

    def cleaned(self, type_: str) -> str:
        """Collection of the records of a type."""
        return self._placed(f"cleaned_{type_}")

    def vectors(self, type_: str) -> str:
        """Collection of the chunks of a type."""
        return self._placed(f"vector_{type_}")

    @property
    def tombstones(self) -> str:
        """Collection of what is gone."""
        return self._placed("tombstones")

    @property
    def owner(self) -> str:
        """Collection that names the pipeline whose store this is."""
        return f"{self.prefix}owner"

    @property
    def models(self) -> str:
        """Collection that says which models the store is kept for."""
        return f"{self.prefix}models"

    def _placed(self, name: str) -> str:
        return f"{self.prefix}{name}-{self.place}" if self.place else f"{self.prefix}{name}"


UNPREFIXED: Final = Collections()
cleaned: Final = UNPREFIXED.cleaned
vectors_of: Final = UNPREFIXED.vectors
TOMBSTONES: Final = UNPREFIXED.tombstones
