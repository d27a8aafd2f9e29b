"""The documents of a collection, as changes of one version."""

from collections.abc import Generator

from connectors.mongodb.changes import version_of
from connectors.mongodb.positions import Scan
from connectors.mongodb.progress import SnapshotProgress
from connectors.mongodb.scan import CausalReads
from models import MAX_ORDINAL, CapturedChange


def scanned(reads: CausalReads, scan: Scan) -> Generator[tuple[CapturedChange, Scan | None]]:
    """Rows in the order of `_id`, each with what is left after it; None when that is nothing.

    After the last row comes a drop of what is older than the scan: documents that were deleted
    while nobody looked.
    """
    name, version = scan.collection, version_of(scan.time)
    with SnapshotProgress(name, reads.estimated_count(name)) as progress:
        for row in reads.rows(name, scan.last_id):
            progress.advance()
            id_ = row["_id"]
            change = CapturedChange("snapshot", name, version, id_, row, ordinal=MAX_ORDINAL)
            yield change, scan._replace(last_id=(id_,))
    yield CapturedChange("drop", name, version - 1, ordinal=MAX_ORDINAL), None
