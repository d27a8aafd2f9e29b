"""The embedded store: Qdrant's own engine in a server process of its own, one for each folder."""

from connectors.qdrant.embedded.client import EmbeddedClient
from connectors.qdrant.embedded.folder import Address, StoreFolder
from connectors.qdrant.embedded.launch import stop, stop_unless_used

__all__ = ["Address", "EmbeddedClient", "StoreFolder", "stop", "stop_unless_used"]
