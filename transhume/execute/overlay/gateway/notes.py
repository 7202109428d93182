"""What a host forwarded before there were gateways at it: each gateway notes it, to leave the host as it was.

The note stands where it lasts as long as the gateway does, whatever becomes of agents and of the host's packet
rules: as the alias of the gateway's own loopback device. Blocking.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from transhume.execute.overlay.gateway import namespaces
from transhume.execute.overlay.gateway.layout import is_at, namespace
from transhume.reach.netns import NAMED, netlink_in

_LOOPBACK = 1
_BEGINS = "forwarded before:"

Before = Mapping[str, bool]
"""Whether the host forwarded, by the setting of its that says so."""


def noted(netns: str) -> Before | None:
    """Return what a gateway has noted, by its namespace; None: nothing, or there is no such gateway."""
    if not namespaces.exists(netns):
        return None
    with netlink_in(netns) as within:
        text = _alias(within)
    if not text.startswith(_BEGINS):
        return None
    pairs = (word.rpartition("=") for word in text.removeprefix(_BEGINS).split())
    return {setting: value == "1" for setting, _, value in pairs}


def note(netns: str, before: Before) -> None:
    """Note it in a gateway's namespace, in place of an earlier note."""
    text = " ".join([_BEGINS, *(f"{name}={int(did)}" for name, did in sorted(before.items()))])
    with netlink_in(netns) as within:
        if _alias(within) != text:
            within.link("set", index=_LOOPBACK, ifalias=text)


def noted_by_others(vni: int, site: str) -> Before:
    """Return what a site's gateways of other networks have noted."""
    found: dict[str, bool] = {}
    for netns in _gateways(site):
        if netns != namespace(vni, site):
            found |= noted(netns) or {}
    return found


def _gateways(site: str) -> Iterable[str]:
    if not NAMED.exists():
        return ()
    return sorted(each.name for each in NAMED.iterdir() if is_at(each.name, site))


def _alias(within: Any) -> str:
    (loopback,) = within.link("get", index=_LOOPBACK)
    return loopback.get("ifalias") or ""
