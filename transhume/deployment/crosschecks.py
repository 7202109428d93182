"""Parts of a deployment that don't fit each other: a link to no cloud, one name for two hosts.

Works on the data as read, so that these mistakes are reported together with all others of the file.
"""

from collections.abc import Iterator

from transhume.deployment.gateway_checks import gateway_checks
from transhume.deployment.network_checks import network_checks
from transhume.errors import Mistake
from transhume.located_yaml import KeyPath, Located


def crosschecks(located: Located) -> Iterator[Mistake]:
    """Yield what no part of the file can tell by itself."""
    yield from _hosts(located)
    yield from _captures(located)
    yield from _links(located)
    yield from _sites(located)
    yield from _clusters(located)


def _hosts(located: Located) -> Iterator[Mistake]:
    cloud_of: dict[str, str] = {}
    for cloud in located.mapping("clouds"):
        for host in located.mapping("clouds", cloud, "hosts"):
            if host in cloud_of:
                message = f"cloud {cloud_of[host]} has a host {host} too; rename one of them"
                yield located.mistake(("clouds", cloud, "hosts", host), message, at_key=True)
            cloud_of.setdefault(host, cloud)


def _captures(located: Located) -> Iterator[Mistake]:
    """Interfaces of the daemon's own machine are those of one host, however many have such names."""
    host_of: dict[tuple[str, str], str] = {}
    for cloud in located.mapping("clouds"):
        for host in located.mapping("clouds", cloud, "hosts"):
            path: KeyPath = ("clouds", cloud, "hosts", host, "capture")
            if located.get(path) is None or located.get((*path, "remote")):
                continue
            netns = str(located.get((*path, "netns")) or "")
            for pattern in located.entries(*path, "interfaces") or ["vnet*"]:
                first = host_of.setdefault((netns, str(pattern)), host)
                if first != host:
                    message = (
                        f"the daemon listens to {pattern} itself for {first} already; write `remote: true` "
                        f"here, and run `transhume capture {host}` at that host"
                    )
                    yield located.mistake(path, message, at_key=True)
                    break


def _links(located: Located) -> Iterator[Mistake]:
    clouds = located.mapping("clouds")
    seen: set[frozenset[object]] = set()
    for i, _ in enumerate(located.entries("links")):
        ends = [end for end in located.entries("links", i, "between") if isinstance(end, str)]
        path: KeyPath = ("links", i, "between")
        for j, end in enumerate(ends):
            if end not in clouds:
                known = ", ".join(clouds) or "none"
                yield located.mistake((*path, j), f"there is no cloud {end}; known here: {known}")
        if len(ends) == 2 and ends[0] == ends[1]:
            yield located.mistake(path, f"a link from {ends[0]} to itself; name two clouds")
        elif len(ends) == 2 and frozenset(ends) in seen:
            both = " and ".join(ends)
            yield located.mistake(path, f"a second link between {both}; keep one of them")
        seen.add(frozenset(ends))


def _sites(located: Located) -> Iterator[Mistake]:
    paths: list[KeyPath] = [
        ("clouds", cloud, "overlay")
        for cloud in located.mapping("clouds")
        if located.mapping("clouds", cloud, "overlay")
    ]
    for gateway in located.mapping("gateways"):
        paths.append(("gateways", gateway))
        if gateway in located.mapping("clouds"):
            message = f"a cloud is called {gateway} too; rename the gateway"
            yield located.mistake(("gateways", gateway), message, at_key=True)
    if paths and "overlay" not in located.data:
        message = "a site of an overlay that nobody describes; add `overlay: {vni: 66}` to the file"
        yield located.mistake(paths[0], message, at_key=True)
    yield from _addresses(located, paths)
    yield from _encryption(located, paths)
    yield from network_checks(located, paths)
    yield from gateway_checks(located, paths)


def _encryption(located: Located, sites: list[KeyPath]) -> Iterator[Mistake]:
    """An encrypted site and one that isn't can't talk to each other."""
    encrypted = [site for site in sites if located.mapping(*site, "wireguard")]
    for site in sites if encrypted else []:
        if site not in encrypted:
            line = located.value_at(encrypted[0]).line
            message = (
                f"the site in line {line} has `wireguard`, and this one hasn't; give it to both"
            )
            yield located.mistake(site, message, at_key=True)
    if encrypted and not located.get(("overlay", "agents")):
        message = "`wireguard` is the agents' affair; add `agents: true` to `overlay`"
        yield located.mistake((*encrypted[0], "wireguard"), message, at_key=True)


def _addresses(located: Located, sites: list[KeyPath]) -> Iterator[Mistake]:
    line_of: dict[object, int] = {}
    for site in sites:
        path = (*site, "vtep")
        address = located.get(path)
        if isinstance(address, str) and address in line_of:
            message = f"the site in line {line_of[address]} has {address} too; give each its own"
            yield located.mistake(path, message)
        line_of.setdefault(address, located.value_at(path).line)


def _clusters(located: Located) -> Iterator[Mistake]:
    cluster_of: dict[object, str] = {}
    for cluster in located.mapping("clusters"):
        for i, pattern in enumerate(located.entries("clusters", cluster)):
            if isinstance(pattern, str) and cluster_of.get(pattern, cluster) != cluster:
                message = f"{pattern} is in cluster {cluster_of[pattern]} already; keep it in one"
                yield located.mistake(("clusters", cluster, i), message)
            if isinstance(pattern, str):
                cluster_of.setdefault(pattern, cluster)
