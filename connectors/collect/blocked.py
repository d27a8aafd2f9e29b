"""Pages that stand in the way of the one that was asked for: bot checks and logins."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

BOT_CHECK: Final = "the site checks for bots here: take a feed or an export that it offers instead"
LOGIN: Final = "the site asks for a login here: take a feed or an export that it offers instead"

_CHALLENGE: Final = re.compile(
    rb"cf-chl-|/cdn-cgi/challenge-platform/|_cf_chl_opt|cf-browser-verification|__cf_chl_"
    rb"|px-captcha|_Incapsula_Resource|captcha-delivery\.com|geo\.captcha|awsWafCookieDomainList"
    rb"|challenge\.js\?.{0,200}awswaf|AwsWafIntegration|id=\"sec-if-cpt-container|ddos-guard/js-challenge"
    rb"|<title>\s*(just a moment|attention required! \| cloudflare|access denied|robot check"
    rb"|are you (a )?(human|robot)|verify(ing)? (that )?you are (a )?human|security check(point)?"
    rb"|pardon our interruption|ddos-guard|human verification|one moment, please"
    rb"|checking your browser|please wait\.\.\. \| cloudflare)[^<]{0,60}</title>",
    re.IGNORECASE,
)
_LOGIN_TITLE: Final = re.compile(
    rb"<title>\s*(log ?in|sign ?in|sign ?up|anmelden|einloggen|se connecter|connexion"
    rb"|iniciar sesi[^<]{1,3}n)\b[^<]{0,40}</title>",
    re.IGNORECASE,
)
_LOGIN_PATH: Final = re.compile(
    r"/(log-?in|sign-?in|authwall|accounts/login|users/sign_in|uas/login|checkpoint)(/|$)"
    r"|/m/signin|/auth/login",
    re.IGNORECASE,
)
_PASSWORD: Final = re.compile(rb"<input\b[^>]{0,300}\btype\s*=\s*[\"']?password", re.IGNORECASE)
_TAG: Final = re.compile(
    rb"<(script|style)\b.*?(</\1>|\Z)|<[^<>]{0,2000}>", re.IGNORECASE | re.DOTALL
)
_SHORT: Final = 2500
"""Bytes of visible text that such a page has at most; an article about captchas has more."""


def why_blocked(status: int, headers: Mapping[str, str], link: str, head: bytes) -> str:
    """Why an answer is not the page that was asked for; empty if nothing speaks for that.

    :param link: where it was in the end, after redirects
    :param head: the beginning of its body
    """
    if headers.get("cf-mitigated") == "challenge" or headers.get("x-amzn-waf-action"):
        return BOT_CHECK
    if status == 401:
        return LOGIN
    if not _is_html(headers, head):
        return ""
    login = bool(_LOGIN_PATH.search(urlsplit(link).path))
    if status == 200 and len(_TAG.sub(b" ", head).strip()) > _SHORT and len(head) > _SHORT:
        return LOGIN if login and _PASSWORD.search(head) else ""
    if _CHALLENGE.search(head):
        return BOT_CHECK
    if login or _LOGIN_TITLE.search(head) or _PASSWORD.search(head):
        return LOGIN
    return ""


def _is_html(headers: Mapping[str, str], head: bytes) -> bool:
    kind = headers.get("content-type", "").lower()
    return "html" in kind or head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html"))
