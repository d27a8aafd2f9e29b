"""A stricter MongoDB: a proxy before SecantusDB, a mongod where SecantusDB is lenient.

Each behaviour says where that of the real server is documented: `docs/change_streams.md` and `src/`
name files of github.com/mongodb/mongo, "manual" pages of mongodb.com/docs/manual.

- `history`: resume tokens are good for the pipeline that made them only, history is pruned, and
  events have a size that they must not exceed
- `lag`: members and routers that have not seen everything yet
- `faults`: an election, connections that are cut, writes whose answer is lost
"""

from tests.mongodb_proxy.faults import Answer, Faults
from tests.mongodb_proxy.history import History
from tests.mongodb_proxy.lag import Lag
from tests.mongodb_proxy.proxy import StricterMongoDB

__all__ = ["Answer", "Faults", "History", "Lag", "StricterMongoDB"]
