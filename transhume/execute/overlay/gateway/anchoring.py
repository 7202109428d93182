"""Which connections stay at the site where they were opened, and which site says so. Pure.

A site publishes, of the connections that leave by it, those of addresses that aren't here, or are about to go.
Every site sends all that others have published to them, wherever the VM is: so a VM's arrival needs no news,
and the order in which sites hear of it doesn't matter. A site never publishes what another has already
anchored: for a moment, before the news had come, it may have seen such a connection as new.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, islice

from transhume.execute.overlay.gateway.families import Network, family_of, is_in, written
from transhume.knowledge.model import (
    Anchors,
    Binding,
    BindingState,
    Flow,
    HandOver,
    IpAddress,
    MacAddress,
    SiteName,
)

LIFETIME = timedelta(hours=24)
"""An anchor holds so long without being confirmed: the gateway of a site works on while its agent doesn't."""
CONFIRM_AFTER = timedelta(hours=1)
GRACE = timedelta(seconds=60)
"""One that the knowledge lacks, though nobody ended it, holds so long: Redis may have lost its memory."""
MOST_FLOWS = 10_000
"""That a site publishes: all sites take in all of them, and a guest can open as many as it likes."""
_PORTS = 1 << 16

Open = Mapping[IpAddress, frozenset[Flow]]


def staying(
    site: SiteName, bindings: Iterable[Binding], hand_overs: Iterable[HandOver], now: datetime
) -> frozenset[MacAddress]:
    """Return the addresses that are at a site and aren't about to leave it."""
    leaving = {
        mac for each in hand_overs if each.source == site and each.until > now for mac in each.macs
    }
    return frozenset(
        each.mac
        for each in bindings
        if each.site == site and each.state is BindingState.SETTLED and each.mac not in leaving
    )


def owners(
    bindings: Iterable[Binding], neighbours: Mapping[IpAddress, MacAddress]
) -> dict[IpAddress, MacAddress]:
    """Return whose each IP address is: as hypervisors say, and else as the gateway has learnt it."""
    said = {ip: each.mac for each in bindings for ip in each.ips}
    return dict(neighbours) | said


def to_publish(
    open_here: Open,
    stay: Collection[MacAddress],
    owner_of: Mapping[IpAddress, MacAddress],
    foreign: Collection[tuple[IpAddress, Flow]],
) -> dict[IpAddress, frozenset[Flow]]:
    """Return the connections of addresses that have left, or may: what nobody knows the owner of, may."""
    found = {
        ip: frozenset(flow for flow in flows if (ip, flow) not in foreign)
        for ip, flows in open_here.items()
        if owner_of.get(ip) not in stay
    }
    return {ip: flows for ip, flows in found.items() if flows}


def within_limit(
    wanted: Open, told: Collection[IpAddress], published: Open, most: int = MOST_FLOWS
) -> dict[IpAddress, frozenset[Flow]]:
    """Return as much of what to publish as all sites can hold.

    Addresses that hypervisors have `told` come first: others can be made up. Of either kind those with the
    fewest connections have all of theirs, and the others alike many. What is `published` is preferred.
    """
    if sum(map(len, wanted.values())) <= most:
        return dict(wanted)
    found, left = {}, most
    for group in ([ip for ip in wanted if ip in told], [ip for ip in wanted if ip not in told]):
        order = sorted(group, key=lambda each: (len(wanted[each]), each in published))
        for behind, ip in enumerate(order):
            share = left // (len(group) - behind)
            old = wanted[ip] & published.get(ip, frozenset())
            found[ip] = frozenset(islice(chain(old, wanted[ip] - old), share))
            left -= len(found[ip])
    return {ip: flows for ip, flows in found.items() if flows}


def news(
    site: SiteName,
    published: Mapping[IpAddress, Anchors],
    wanted: Open,
    now: datetime,
) -> tuple[Anchors, ...]:
    """Return the records to write: what has changed, has ended, or wasn't confirmed for long."""
    stale = now - CONFIRM_AFTER
    changed = [
        ip
        for ip, flows in wanted.items()
        if ip not in published
        or frozenset(published[ip].flows) != flows
        or published[ip].at < stale
    ]
    ended = [ip for ip in published if ip not in wanted]
    return tuple(
        Anchors(site=site, ip=ip, at=now, flows=tuple(sorted(wanted.get(ip, ()))))
        for ip in sorted({*changed, *ended})
    )


@dataclass(slots=True)
class _Known:
    record: Anchors
    missing_since: datetime | None = None


class AnchorTable:
    """What all sites have published, as one of them sees it.

    Args:
        site: this one.
        others: whose word counts.
        vms: the networks that VMs' addresses are in.
    """

    def __init__(
        self, site: SiteName, others: Collection[SiteName], vms: Collection[Network]
    ) -> None:
        self._site, self._others, self._vms = site, frozenset(others), vms
        self._known: dict[tuple[SiteName, IpAddress], _Known] = {}
        self.published: dict[IpAddress, Anchors] = {}
        """What this site has published itself, by address."""

    def adopt(self, held: Mapping[tuple[IpAddress, Flow], SiteName], now: datetime) -> None:
        """Take over what the kernel holds from before; it goes if nobody confirms it."""
        flows: dict[tuple[SiteName, IpAddress], list[Flow]] = {}
        for (ip, flow), site in held.items():
            flows.setdefault((site, ip), []).append(flow)
        for (site, ip), found in flows.items():
            record = Anchors(site=site, ip=ip, at=now, flows=tuple(sorted(found)))
            self._known.setdefault((site, ip), _Known(record, missing_since=now))

    def note(self, record: Anchors) -> None:
        """Take in what a site has just written."""
        if record.site == self._site:
            self._note_ours(record)
        elif record.site in self._others and self._is_sane(record):
            if record.flows:
                self._known[record.site, record.ip] = _Known(record)
            else:
                self._known.pop((record.site, record.ip), None)

    def note_all(self, records: Iterable[Anchors], now: datetime) -> None:
        """Take in all that the knowledge holds."""
        listed = list(records)
        self.published = {}
        for record in listed:
            self.note(record)
        present = {(each.site, each.ip) for each in listed}
        for key, known in self._known.items():
            if key not in present and known.missing_since is None:
                known.missing_since = now

    def held(self, now: datetime) -> dict[tuple[IpAddress, Flow], SiteName]:
        """Return which connections go to which other site; what holds no more is forgotten.

        Of two sites that claim one connection the first by name has it: at both it's the same.
        """
        for key, known in list(self._known.items()):
            gone = known.missing_since is not None and now - known.missing_since > GRACE
            if gone or now - known.record.at > LIFETIME:
                del self._known[key]
        claims: dict[tuple[IpAddress, Flow], SiteName] = {}
        for (site, ip), known in sorted(self._known.items(), reverse=True):
            claims |= {(ip, flow): site for flow in known.record.flows}
        for ip, record in self.published.items():
            for flow in record.flows:
                if claims.get((ip, flow), self._site) >= self._site:
                    claims.pop((ip, flow), None)
        return claims

    def _note_ours(self, record: Anchors) -> None:
        if record.flows:
            self.published[record.ip] = record
        else:
            self.published.pop(record.ip, None)

    def _is_sane(self, record: Anchors) -> bool:
        """Refuse what isn't of this network: what is held is written into packet rules."""
        peers = [flow.peer for flow in record.flows]
        try:
            as_written = all(written(ip) == ip for ip in (record.ip, *peers))
            inside = is_in(record.ip, self._vms)
            outside = not any(is_in(peer, self._vms) for peer in peers)
        except ValueError:
            return False
        alike = all(family_of(peer) is family_of(record.ip) for peer in peers)
        ports = (port for flow in record.flows for port in (flow.port, flow.peer_port))
        return as_written and inside and outside and alike and all(0 <= p < _PORTS for p in ports)
