"""Links are stored in one spelling, and only public addresses count as such."""

from __future__ import annotations

import pytest

from connectors.collect.addresses import ForbiddenAddressError, allowed_addresses, is_public
from connectors.collect.links import clean_link, key_of, shown_link

CLEANED = {
    "https://Blog.Example:443/a?utm_source=x&id=1&fbclid=2#top": "https://blog.example/a?id=1",
    "https://blog.example": "https://blog.example/",
    "/b?ref=rss": "https://base.example/b",
    "b\n c": "https://base.example/bc",
    "https://medium.com/@a/b-1?source=rss-x------2": "https://medium.com/@a/b-1",
    "https://b.example/?source=kept&ref=main": "https://b.example/?source=kept&ref=main",
    "https://bücher.example/ä?q=ü": "https://xn--bcher-kva.example/ä?q=ü",
    "http://[2606:4700::1]:8080/a": "http://[2606:4700::1]:8080/a",
    "https://b.example/?a=%20x&mc_cid=1": "https://b.example/?a=+x",
    "javascript:alert(1)": "",
    "mailto:a@b.example": "",
    "file:///etc/passwd": "",
    "http://[::1": "",
    "": "",
    "https://a.example/" + "x" * 3000: "",
}


@pytest.mark.parametrize(("link", "cleaned"), CLEANED.items(), ids=range(len(CLEANED)))
def test_a_link_has_one_spelling(link: str, cleaned: str) -> None:
    assert clean_link(link, "https://base.example/feed") == cleaned
    assert clean_link(cleaned) == cleaned, "cleaning twice changes nothing"


def test_the_number_of_a_medium_post_is_its_key_on_every_host() -> None:
    number = "https://medium.com/p/0123456789ab"
    assert key_of("https://medium.com/@a/some-words-0123456789ab") == number
    assert key_of("https://press.example/some-words-0123456789ab", number) == number
    assert key_of("https://blog.example/some-words-0123456789ab") != number


def test_a_link_in_a_log_has_no_secret() -> None:
    assert shown_link("https://u:p@a.example/x?token=1") == "https://a.example/x"


PRIVATE = (
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0",
    "100.64.0.1", "192.0.0.8", "198.18.0.1", "224.0.0.1", "255.255.255.255", "::1", "::",
    "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "ff02::1", "2001::1", "no address",
)  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_no_spelling_of_a_private_address_is_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101"]
)
def test_a_public_address_is_public(address: str) -> None:
    assert is_public(address)


def test_one_private_address_of_several_forbids_the_host() -> None:
    def resolve(_host: str, _port: int) -> list[str]:
        return ["93.184.216.34", "127.0.0.1"]

    with pytest.raises(ForbiddenAddressError, match="allow_private"):
        allowed_addresses("a.example", 80, resolve, private=False)
    assert allowed_addresses("a.example", 80, resolve, private=True)
