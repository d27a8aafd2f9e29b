"""Links as documents carry them: absolute, without tracking parameters, in one spelling."""

import re
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

_TRACKING: Final = re.compile(
    r"(utm|mtm|pk|hsa|oly|vero|_hs)_.+|_hsenc|_hsmi|__hs[a-z]+|hsctatracking|[a-z]{0,3}clid|gbraid|wbraid"
    r"|mc_[ce]id|mkt_tok|igshid|igsh|_ga|_gl|_ke|yclid|srsltid|trk|trackingid|ref_src|ref_url|spm"
    r"|cmpid|s_cid|wt_mc|at_(medium|campaign)|ncid|rss|s_kwcid|guccounter|guce_referrer(_sig)?",
    re.IGNORECASE,
)
_OF_FEEDS: Final = re.compile(r"rss(-.*)?|feed|atom", re.IGNORECASE)
"""Values of `source` and `ref` that only say how a reader came: Medium writes rss-<id>------2."""
_PORTS: Final = {"http": 80, "https": 443}
_MEDIUM_ID: Final = re.compile(r"/p/([0-9a-f]{8,12})/?$|-([0-9a-f]{10,12})/?$")
LONGEST: Final = 2048


def clean_link(link: str, base: str = "") -> str:
    """A link as it is stored; empty if it is no http(s) link, or longer than 2,048 characters.

    :param base: of a relative link
    """
    if not link.strip():
        return ""
    try:
        parts = urlsplit(urljoin(base, "".join(link.split())))
        host = (parts.hostname or "").encode("idna").decode().rstrip(".")
        port = parts.port
    except (ValueError, UnicodeError):
        return ""
    if parts.scheme not in _PORTS or not host:
        return ""
    place = f"[{host}]" if ":" in host else host
    if port is not None and port != _PORTS[parts.scheme]:
        place = f"{place}:{port}"
    query = _kept(parts)
    cleaned = urlunsplit((parts.scheme, place, parts.path or "/", query, ""))
    return cleaned if len(cleaned) <= LONGEST else ""


def key_of(link: str, identity: str = "") -> str:
    """What identifies a document with this cleaned link.

    Medium changes the words of a link with the title, but not the number at their end, so the link
    without words is the key: https://medium.com/p/<number>.

    :param identity: guid of the feed's entry; Medium's tells the number where its own hosts do not
    """
    for one in (identity, link):
        parts = urlsplit(one)
        found = _MEDIUM_ID.search(parts.path)
        if found and is_host(parts.hostname or "", "medium.com"):
            return f"https://medium.com/p/{found[1] or found[2]}"
    return link


def is_host(host: str, domain: str) -> bool:
    """Whether a host is a domain, or below it."""
    return host == domain or host.endswith(f".{domain}")


def origin_of(link: str) -> tuple[str, str, int | None]:
    """Scheme, host and port: what a token is for."""
    parts = urlsplit(link)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme)


def shown_link(link: str) -> str:
    """A link for a log line: without its query, which may hold a secret."""
    try:
        parts = urlsplit(link)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "a link that cannot be read"
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def _kept(parts: SplitResult) -> str:
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    kept = [pair for pair in pairs if not _is_tracking(*pair)]
    # a query of which nothing is taken stays as it was written: some servers are particular
    return parts.query if len(kept) == len(pairs) else urlencode(kept)


def _is_tracking(name: str, value: str) -> bool:
    if name.lower() in ("source", "ref", "from"):
        return bool(_OF_FEEDS.fullmatch(value))
    return bool(_TRACKING.fullmatch(name))
