"""Addresses that people or other programs have written, in the one form in which they are compared.

Owns what counts as one. The kernel gives an address back in one form only, and a program that hands it what is
none fails far from where that was written; so what can't be used is left out here, and told once.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address

import structlog

from transhume.knowledge.model import IpAddress, MacAddress

_MAC = re.compile("[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_MOST_TOLD = 1024

log = structlog.get_logger(__name__)


def usable_ips(texts: Iterable[str], of: str) -> tuple[IpAddress, ...]:
    """Return the IP addresses among these texts, each once; `of` says for people whose they are."""
    found = (_ip(text, of) for text in texts)
    return tuple(dict.fromkeys(ip for ip in found if ip is not None))


def usable_mac(text: str, of: str) -> MacAddress | None:
    """Return the MAC address that a text is, if it is one; `of` says for people whose it is."""
    if _MAC.fullmatch(text.lower()):
        return MacAddress(text.lower())
    _tell("MAC address", text, of)
    return None


def _ip(text: str, of: str) -> IpAddress | None:
    try:
        # One with a zone is known on one link only.
        return IpAddress(str(ip_address("" if "%" in text else text)))
    except ValueError:
        _tell("IP address", text, of)
        return None


@lru_cache(maxsize=_MOST_TOLD)
def _tell(kind: str, text: str, of: str) -> None:
    log.warning("address_unusable", of=of, seen=text, why=f"it is no {kind}")
