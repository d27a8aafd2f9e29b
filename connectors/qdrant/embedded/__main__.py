"""Runs the server of an embedded store."""

import sys

from connectors.qdrant.embedded.server import main

if __name__ == "__main__":
    sys.exit(main())
