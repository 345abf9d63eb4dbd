"""Decide whether an address belongs to the public internet.  Pure.

An address is refused if any registry reserves it, or if it may stand for another one: IPv4 in IPv6
(mapped, 6to4, Teredo, NAT64).  `ipaddress` knows the registries; the exceptions are listed here.

Sources: IANA's special-purpose registries of IPv4 and IPv6 addresses; RFC 4291, section 2.4.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All that is assigned; IPv4-mapped, NAT64, link-local and local addresses are outside."""
_EXCEPTIONS = (
    IPv6Network("2001::/23"),  # protocol assignments, with Teredo and ORCHID
    IPv6Network("2001:db8::/32"),  # documentation
    IPv6Network("2002::/16"),  # 6to4
    IPv6Network("3fff::/20"),  # documentation
    IPv6Network("5f00::/16"),  # segment routing
    IPv4Network("0.0.0.0/8"),
    IPv4Network("100.64.0.0/10"),  # behind a provider's address translation
    IPv4Network("168.63.129.16/32"),  # the host of Azure's machines
    IPv4Network("192.0.0.0/24"),  # protocol assignments, and Oracle's metadata
    IPv4Network("192.88.99.0/24"),  # relays of 6to4
    IPv4Network("198.18.0.0/15"),  # benchmarks
    IPv4Network("224.0.0.0/3"),  # multicast and reserved
)


def is_public(text: str) -> bool:
    """Return whether this is an address of the public internet, without a zone."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    match address:
        case IPv6Address() if address.scope_id is not None or address not in _GLOBAL_UNICAST:
            return False
        case IPv4Address() | IPv6Address():
            return address.is_global and not any(address in each for each in _EXCEPTIONS)
