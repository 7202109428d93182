"""A network's default gateway, where it contradicts the sites that the network has.

It is at all sites, so its addresses are at none of them, and some site has to lead to the outside.
"""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address

from transhume.deployment.model import DEFAULT_GATEWAY_MAC, IPV4_GATEWAYS
from transhume.errors import Mistake
from transhume.located_yaml import KeyPath, Located, Value


def gateway_checks(located: Located, sites: Sequence[KeyPath]) -> Iterator[Mistake]:
    """Yield what doesn't fit between the networks' gateways and the sites, whose paths these are."""
    networks = located.mapping("overlay", "networks")
    short: KeyPath = ("overlay", "gateway")
    if networks and located.mapping(*short):
        message = f"of which network? Move it to one, as `networks: {{{next(iter(networks))}: {{gateway: …}}}}`"
        yield located.mistake(short, message, at_key=True)
        return
    yield from _gateway(located, short, sites, None)
    for name in networks:
        has_it = [site for site in sites if name in located.mapping(*site, "bridges")]
        yield from _gateway(located, ("overlay", "networks", name, "gateway"), has_it, name)
    yield from _numbers(located, networks)


def _numbers(located: Located, networks: Mapping[str, Value]) -> Iterator[Mistake]:
    """What comes back to one network's gateway mustn't go into another's."""
    path_of: dict[int, KeyPath] = {}
    for name in networks:
        network: KeyPath = ("overlay", "networks", name)
        path, vni = (*network, "vni"), located.get((*network, "vni"))
        speaks_ipv4 = located.get((*network, "gateway", "ip")) is not None
        if not isinstance(vni, int) or isinstance(vni, bool) or not speaks_ipv4:
            continue
        first = path_of.setdefault(vni % IPV4_GATEWAYS, path)
        if (other := located.get(first)) != vni:
            message = (
                f"the network in line {located.value_at(first).line} has number {other}, and both have an IPv4 "
                f"gateway: their numbers mustn't differ by a multiple of {IPV4_GATEWAYS}"
            )
            yield located.mistake(path, message)


def _gateway(
    located: Located, path: KeyPath, sites: Sequence[KeyPath], network: str | None
) -> Iterator[Mistake]:
    written = located.mapping(*path)
    if not written:
        return
    if not located.get(("overlay", "agents")):
        message = "a gateway at each site is the agents' affair; add `agents: true` to `overlay`"
        yield located.mistake(path, message, at_key=True)
    uplinks = [str(site[1]) for site in sites if "uplink" in located.mapping(*site)]
    if not uplinks:
        message = "no site leads to the outside; give one of them an `uplink`"
        yield located.mistake(path, message, at_key=True)
    elif "home" in written and located.get((*path, "home")) not in uplinks:
        message = f"home has to be a site with an `uplink`: {', '.join(uplinks)}"
        yield located.mistake((*path, "home"), message)
    for site in sites:
        yield from _taken(located, path, site, network)


def _taken(
    located: Located, path: KeyPath, site: KeyPath, network: str | None
) -> Iterator[Mistake]:
    mac = located.get((*path, "mac")) or DEFAULT_GATEWAY_MAC
    ours = {_one_text(each) for each in (mac, *(located.get((*path, ip)) for ip in ("ip", "ip6")))}
    for i, _ in enumerate(located.entries(*site, "addresses")):
        entry = (*site, "addresses", i)
        its = {_one_text(located.get((*entry, key))) for key in ("mac", "ip")} - {None}
        if its & ours and located.get((*entry, "network")) in (network, None):
            message = "this is the gateway's, which is at every site; leave it out here"
            yield located.mistake(entry, message)


def _one_text(written: Value) -> str | None:
    """Return what is the same for one address, however it's written."""
    if not isinstance(written, str):
        return None
    try:
        return str(ip_address(written))
    except ValueError:
        return written.lower()
