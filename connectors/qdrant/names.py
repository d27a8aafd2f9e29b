"""Names of the collections."""

from dataclasses import dataclass
from typing import Final

VECTOR_NAME: Final = "dense"
SPARSE_NAME: Final = "sparse"


@dataclass(frozen=True, slots=True)
class Collections:
    """The collections of one deployment.

    :param prefix: put before every name, so that several deployments may share a server
    """

    prefix: str = ""

    def cleaned(self, type_: str) -> str:
        """Collection of the records of a type."""
        return f"{self.prefix}cleaned_{type_}"

    def vectors(self, type_: str) -> str:
        """Collection of the chunks of a type."""
        return f"{self.prefix}vector_{type_}"

    @property
    def tombstones(self) -> str:
        """Collection of what is gone."""
        return f"{self.prefix}tombstones"

    @property
    def owner(self) -> str:
        """Collection that names the pipeline whose store this is."""
        return f"{self.prefix}owner"


UNPREFIXED: Final = Collections()
cleaned: Final = UNPREFIXED.cleaned
vectors_of: Final = UNPREFIXED.vectors
TOMBSTONES: Final = UNPREFIXED.tombstones
