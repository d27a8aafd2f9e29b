"""All sabotages. Each breaks one promise of `docs/design.md`, and names the tests that claim it."""

from tests.mutants.ending import ENDING
from tests.mutants.fence import FENCE
from tests.mutants.histories import HISTORIES
from tests.mutants.identity import IDENTITY
from tests.mutants.migration import MIGRATION
from tests.mutants.mongodb import MONGODB
from tests.mutants.rabbitmq import RABBITMQ
from tests.mutants.refusals import REFUSALS
from tests.mutants.writes import WRITES

MUTANTS = (
    *WRITES,
    *FENCE,
    *REFUSALS,
    *RABBITMQ,
    *MONGODB,
    *ENDING,
    *IDENTITY,
    *HISTORIES,
    *MIGRATION,
)
