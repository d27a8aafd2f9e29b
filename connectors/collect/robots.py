"""What a site allows to be read of its single pages: robots.txt, as RFC 9309 reads it."""

import threading
import time
from typing import Final
from urllib.parse import urlsplit

from protego import Protego

from connectors.collect.links import origin_of
from connectors.collect.web import AGENT, StatusError, Web
from models.errors import SourceError

_NAME: Final = AGENT.partition("/")[0]
_KEPT_S: Final = 6 * 3600.0
_LONGEST: Final = 512 * 1024
_HOSTS: Final = 1000


class Robots:
    """The rules of the sites that one source reads pages of, kept for some hours.

    :param web: reads robots.txt
    """

    def __init__(self, web: Web) -> None:
        self._web = web
        self._lock = threading.Lock()
        self._rules: dict[tuple[str, str, int | None], tuple[float, Protego | None]] = {}

    def allow(self, link: str) -> bool:
        """Whether a page may be read.

        A site without the file allows everything, one that cannot be asked allows nothing.
        """
        origin = origin_of(link)
        with self._lock:
            read_at, rules = self._rules.get(origin, (-_KEPT_S, None))
            if time.monotonic() - read_at > _KEPT_S:
                if len(self._rules) >= _HOSTS:
                    self._rules.clear()
                rules = self._read(link)
                self._rules[origin] = (time.monotonic(), rules)
        return rules is not None and bool(rules.can_fetch(link, _NAME))

    def _read(self, link: str) -> Protego | None:
        parts = urlsplit(link)
        try:
            with self._web.get(
                f"{parts.scheme}://{parts.netloc}/robots.txt", _LONGEST, "text/plain, */*;q=0.1"
            ) as page:
                return Protego.parse(page.body.read().decode("utf-8", "replace"))
        except StatusError as error:
            return Protego.parse("") if 400 <= error.status < 500 else None
        except SourceError:
            return None
