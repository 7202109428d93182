"""The overlay's networks and the sites' parts in them, where they contradict each other.

Numbers and bridges keep networks apart: what two of them shared would leak from one into the other.
"""

from collections.abc import Iterator, Mapping, Sequence

from transhume.deployment.model import detour_of
from transhume.errors import Mistake
from transhume.located_yaml import KeyPath, Located, Value

_NETWORKS: KeyPath = ("overlay", "networks")


def network_checks(located: Located, sites: Sequence[KeyPath]) -> Iterator[Mistake]:
    """Yield what doesn't fit between `overlay` and the sites, whose paths these are."""
    networks = located.mapping(*_NETWORKS)
    if "overlay" not in located.data:
        return
    yield from _numbers(located, networks)
    yield from _siteless(located, networks, sites)
    yield from _in_one_namespace(located, sites)
    for site in sites:
        yield from _form(located, networks, site)
        yield from _bridges(located, networks, site)
        yield from _fixed(located, networks, site)


def _numbers(located: Located, networks: Mapping[str, Value]) -> Iterator[Mistake]:
    line_of: dict[int, int] = {}
    for name in networks:
        path = (*_NETWORKS, name, "vni")
        vni = located.get(path)
        if not isinstance(vni, int) or isinstance(vni, bool):
            continue
        line = located.value_at(path).line
        if vni in line_of:
            message = f"the network in line {line_of[vni]} has number {vni} too; give each its own"
            yield located.mistake(path, message)
        elif (other := detour_of(vni)) in line_of:
            message = (
                f"the network in line {line_of[other]} has number {other}, and needs {vni} for its detours; "
                "give each a number below 8388608"
            )
            yield located.mistake(path, message)
        line_of.setdefault(vni, line)


def _siteless(
    located: Located, networks: Mapping[str, Value], sites: Sequence[KeyPath]
) -> Iterator[Mistake]:
    had = {name for site in sites for name in located.mapping(*site, "bridges")}
    for name in networks:
        if name not in had:
            message = f"no site has network {name}; name its bridge under a site's `bridges`, or remove it"
            yield located.mistake((*_NETWORKS, name), message, at_key=True)


def _in_one_namespace(located: Located, sites: Sequence[KeyPath]) -> Iterator[Mistake]:
    """Without agents the daemon makes a network's devices at all sites: of one name, so once a namespace."""
    if located.get(("overlay", "agents")):
        return
    line_of: dict[tuple[str | None, Value], int] = {}
    for site in sites:
        netns = located.get((*site, "netns"))
        ours = None if netns is None else str(netns)
        line = located.value_at(site).line
        of = [(ours, network) for network in located.mapping(*site, "bridges") or (None,)]
        first = next((line_of[each] for each in of if each in line_of), None)
        if first is not None:
            message = (
                f"the site in line {first} is in the same network namespace, where the daemon can't have both; "
                "add `agents: true` to `overlay`, and run an agent at each site"
            )
            yield located.mistake(site, message, at_key=True)
        line_of |= {each: line for each in of if each not in line_of}


def _form(located: Located, networks: Mapping[str, Value], site: KeyPath) -> Iterator[Mistake]:
    written = located.mapping(*site)
    if networks and "bridge" in written and "bridges" not in written:
        example = f"bridges: {{{next(iter(networks))}: {written['bridge']}}}"
        message = f"of which network is this bridge? The overlay has several; write `{example}`"
        yield located.mistake((*site, "bridge"), message, at_key=True)
    if not networks and "bridges" in written and "bridge" not in written:
        message = (
            "the overlay's networks have no names; list them as `overlay: {networks: {blue: {vni: 66}}}`, or "
            "write `bridge` here"
        )
        yield located.mistake((*site, "bridges"), message, at_key=True)


def _bridges(located: Located, networks: Mapping[str, Value], site: KeyPath) -> Iterator[Mistake]:
    network_on: dict[object, str] = {}
    for name, bridge in located.mapping(*site, "bridges").items():
        path = (*site, "bridges", name)
        if networks and name not in networks:
            yield located.mistake(path, _unknown(name, networks), at_key=True)
        if isinstance(bridge, str) and bridge in network_on:
            message = (
                f"{bridge} is network {network_on[bridge]}'s already; give each network its own"
            )
            yield located.mistake(path, message)
        network_on.setdefault(bridge, name)


def _fixed(located: Located, networks: Mapping[str, Value], site: KeyPath) -> Iterator[Mistake]:
    here = located.mapping(*site, "bridges")
    for i, _ in enumerate(located.entries(*site, "addresses")):
        path = (*site, "addresses", i)
        network = located.get((*path, "network"))
        if network is None and len(here) > 1:
            message = f"in which network is this? Add `network: {next(iter(here))}`, or another one"
            yield located.mistake(path, message)
        elif isinstance(network, str) and not networks:
            message = "the overlay's network has no name; remove this"
            yield located.mistake((*path, "network"), message)
        elif isinstance(network, str) and network not in networks:
            yield located.mistake((*path, "network"), _unknown(network, networks))
        elif isinstance(network, str) and network not in here:
            message = f"this site has no network {network}; it has {', '.join(here) or 'none'}"
            yield located.mistake((*path, "network"), message)


def _unknown(name: str, networks: Mapping[str, Value]) -> str:
    return f"there is no network {name}; known here: {', '.join(networks)}"
