"""Which addresses may be connected to: public ones, unless the source allows others."""

import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

Resolve = Callable[[str, int], list[str]]
"""The addresses of a host name, in the order in which they are to be tried."""

_NAT64: Final = ip_network("64:ff9b::/96")
_NOT_GLOBAL: Final = tuple(
    ip_network(one)
    for one in (
        "100.64.0.0/10",  # addresses of providers behind their own translation
        "192.0.0.0/24",  # IETF protocol assignments, of which Python counts some as global
        "192.88.99.0/24",  # 6to4 relays
        "64:ff9b:1::/48",  # translation within one network
        "2001::/23",  # protocol assignments, Teredo among them
        "5f00::/16",  # segment routing
        "fec0::/10",  # site-local
    )
)


class ForbiddenAddressError(Exception):
    """A host, or one of its addresses, that must not be connected to."""


def resolve(host: str, port: int) -> list[str]:
    """Ask the system.

    :raises OSError: there is no such host
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def allowed_addresses(host: str, port: int, resolve: Resolve, private: bool) -> list[str]:
    """The addresses of a host, all of which have been checked.

    One that is not public forbids the host: its owner has no reason to name one.

    :param private: allow every address
    :raises ForbiddenAddressError: one is not public
    :raises OSError: there is no such host
    """
    addresses = resolve(host, port)
    for address in addresses if not private else ():
        if not is_public(address):
            raise ForbiddenAddressError(
                f"{host} has the address {address}, which is not public: set allow_private = true "
                "if you trust this source to name addresses of your own network"
            )
    return addresses


def is_public(text: str) -> bool:
    """Whether an address is one of the public internet, whatever it is wrapped in."""
    try:
        addresses = list(_wrapped(ip_address(text.partition("%")[0])))
    except ValueError:
        return False
    return "%" not in text and all(_is_global(address) for address in addresses)


def _is_global(address: IPv4Address | IPv6Address) -> bool:
    reserved = address.is_multicast or address.is_reserved or address.is_unspecified
    if isinstance(address, IPv6Address) and address in _NAT64:
        reserved = False  # the address that it leads to is looked at instead
    return (
        address.is_global
        and not reserved
        and not any(address.version == net.version and address in net for net in _NOT_GLOBAL)
    )


def _wrapped(address: IPv4Address | IPv6Address) -> Iterator[IPv4Address | IPv6Address]:
    """An address, or those that packets to it are handed on to."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            yield address.ipv4_mapped
            return
        if address.sixtofour is not None:
            yield address.sixtofour
        if address in _NAT64:
            yield IPv4Address(int(address) & 0xFFFFFFFF)
    yield address
