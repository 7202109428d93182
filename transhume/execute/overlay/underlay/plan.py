"""From what is known of all sites to what our device is told: which peers, what is sent to each, by which path.

Pure but for the memory of each pair (`pair`). WireGuard sends by destination, and drops what comes from a peer
with another's source address: so each address belongs to exactly one peer. A site's tunnel address always
belongs to the site itself, even where a relay lies between: then what is sent to it is encrypted for it first,
and again, in a packet to its relay address, for the relay, which can't read what it passes on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2s

from transhume.execute.overlay.underlay.device import PeerReport, PeerSetting
from transhume.execute.overlay.underlay.pair import (
    Pair,
    PairStep,
    PairView,
    PathKind,
)
from transhume.execute.overlay.underlay.settings import TunnelNetwork
from transhume.execute.overlay.underlay.wireguard_text import is_endpoint, join_endpoint
from transhume.knowledge.model import IpAddress, SeenEndpoint, SiteEndpoint, SiteName

SESSION_SECONDS = 200.0
"""A session that is used is renewed well before that; WireGuard's own limit is 180 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is known at an instant."""

    now: float
    """Monotonic, in seconds."""
    unix: float
    """Seconds since 1970."""
    ours: SiteEndpoint
    others: Mapping[SiteName, SiteEndpoint]
    fresh: frozenset[SiteName]
    """Those that were heard of lately: no relay is chosen among others."""
    reports: Mapping[str, PeerReport]
    """By public key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerState:
    """How a site is reached, for people."""

    site: SiteName
    address: IpAddress
    path: PathKind
    relay: SiteName | None
    """Who passes packets on; None where nobody does."""
    endpoint: str | None
    """Where its packets come from."""
    handshake_at: float
    """Seconds since 1970; 0: never."""
    received_bytes: int
    sent_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    """Probes to send to a site."""

    site: SiteName
    endpoints: tuple[str, ...]
    hops: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be so."""

    peers: tuple[PeerSetting, ...]
    """All of them; a setting's `endpoint` is where the one that begins sends."""
    nudges: tuple[IpAddress, ...] = ()
    probes: tuple[Probing, ...] = ()
    attempting: bool = False
    """Probes are under way, and answers may come."""
    hurried: bool = False
    """Something is under way that wants to be looked at several times a second."""
    seen: tuple[SeenEndpoint, ...] = ()
    """What a public site tells the others."""
    states: tuple[PeerState, ...] = field(default=())


class Planner:
    """Plans for one site, and remembers its pairs in between."""

    def __init__(self, tunnels: TunnelNetwork, keepalive_seconds: int) -> None:
        self._tunnels = tunnels
        self._keepalive = keepalive_seconds
        self._pairs: dict[SiteName, Pair] = {}
        self._keys: dict[SiteName, tuple[str, bool]] = {}
        self._relays: dict[SiteName, SiteName] = {}

    def proved(self, site: SiteName, endpoint: str) -> None:
        """Note that a site answered a probe."""
        if site in self._pairs:
            self._pairs[site].proved(endpoint)

    def plan(self, view: View) -> Plan:
        """Return what is to be so now."""
        self._meet(view)
        outer = _outer_endpoints(view)
        steps = {
            site: self._pairs[site].step(self._seen_by(view, site, outer)) for site in view.others
        }
        return Plan(
            peers=tuple(self._setting(view, site, step) for site, step in steps.items()),
            nudges=tuple(view.others[site].address for site, step in steps.items() if step.nudge),
            probes=tuple(
                Probing(site=site, endpoints=step.probes, hops=step.hops)
                for site, step in steps.items()
                if step.probes
            ),
            attempting=any(step.attempting for step in steps.values()),
            hurried=any(step.attempting or step.hurried for step in steps.values()),
            seen=tuple(_sightings(view)) if view.ours.endpoints else (),
            states=tuple(self._state(view, site, step) for site, step in steps.items()),
        )

    def _meet(self, view: View) -> None:
        for site in self._pairs.keys() - view.others.keys():
            del self._pairs[site]
            self._relays.pop(site, None)
        for site, other in view.others.items():
            # Another key, or another side of a NAT, is another pair.
            key = (other.public_key, bool(other.endpoints))
            if site not in self._pairs or self._keys[site] != key:
                self._keys[site] = key
                self._pairs[site] = Pair(view.ours, other, self._keepalive)
                self._relays.pop(site, None)
            self._choose_relay(view, site)

    def _choose_relay(self, view: View, site: SiteName) -> None:
        if not self._pairs[site].crossing:
            return
        found = relay_of(view.ours.site, site, view.others, view.fresh)
        if found is not None:
            self._relays[site] = found
        elif self._relays.get(site) not in view.others:
            self._relays.pop(site, None)

    def _seen_by(
        self, view: View, site: SiteName, outer: Mapping[SiteName, tuple[str, ...]]
    ) -> PairView:
        other = view.others[site]
        report = view.reports.get(other.public_key)
        relayed = None
        if site in self._relays:
            relayed = join_endpoint(self._tunnels.relayed(site), other.port)
        came_from = report.endpoint if report else None
        return PairView(
            now=view.now,
            unix=view.unix,
            other=other,
            report=report,
            relayed=relayed,
            report_is_relayed=came_from is not None and self._tunnels.is_relayed(came_from),
            candidates=outer.get(site, ()),
            seen_at=outer.get(view.ours.site, ()),
        )

    def _setting(self, view: View, site: SiteName, step: PairStep) -> PeerSetting:
        passes_on = [other for other, relay in self._relays.items() if relay == site]
        own = [] if self._pairs[site].crossing else [site]
        addresses = [
            view.others[site].address,
            *(self._tunnels.relayed(each) for each in sorted([*own, *passes_on])),
        ]
        return PeerSetting(
            public_key=view.others[site].public_key,
            allowed_ips=tuple(f"{address}/32" for address in addresses),
            endpoint=step.endpoint,
            keepalive_seconds=step.keepalive_seconds,
            insists=step.insists,
            afresh=step.afresh,
        )

    def _state(self, view: View, site: SiteName, step: PairStep) -> PeerState:
        other = view.others[site]
        report = view.reports.get(other.public_key) or PeerReport(public_key=other.public_key)
        return PeerState(
            site=site,
            address=other.address,
            path=step.path if report.handshake_at else PathKind.NONE,
            relay=self._relays.get(site) if step.path is PathKind.RELAY else None,
            endpoint=report.endpoint,
            handshake_at=report.handshake_at,
            received_bytes=report.received_bytes,
            sent_bytes=report.sent_bytes,
        )


def relay_of(
    one: SiteName,
    other: SiteName,
    statements: Mapping[SiteName, SiteEndpoint],
    fresh: frozenset[SiteName],
) -> SiteName | None:
    """Return who passes packets on between two sites; both find the same from the same records.

    Among those that offer it, were heard of lately and see both, the pair's highest hash wins (Thaler and
    Ravishankar's rendezvous hashing): pairs are spread over the relays, and only those of a relay that is
    gone choose anew.
    """
    pair = "\0".join(sorted((one, other)))
    able = [
        site
        for site in fresh & statements.keys()
        if statements[site].relays
        and statements[site].endpoints
        and {one, other} <= {seen.site for seen in statements[site].seen}
    ]
    return max(able, key=lambda site: blake2s(f"{pair}\0{site}".encode()).digest(), default=None)


def changes(
    plan: Plan, reports: Mapping[str, PeerReport], applied: Mapping[str, PeerSetting]
) -> tuple[tuple[PeerSetting, ...], tuple[str, ...]]:
    """Return which peers a device has to be told of, and which it has to forget.

    What WireGuard learnt by itself, where a peer's packets come from, is left alone as long as the plan says
    the same as when it was `applied` (by public key).
    """
    wanted = {peer.public_key for peer in plan.peers}
    told = tuple(
        peer for peer in plan.peers if _differs(peer, reports.get(peer.public_key), applied)
    )
    return told, tuple(sorted(reports.keys() - wanted))


def _differs(
    peer: PeerSetting, report: PeerReport | None, applied: Mapping[str, PeerSetting]
) -> bool:
    before = applied.get(peer.public_key)
    return (
        report is None
        or before is None
        or peer.afresh
        or peer.insists
        or before.endpoint != peer.endpoint
        or set(report.allowed_ips) != set(peer.allowed_ips)
        or report.keepalive_seconds != peer.keepalive_seconds
    )


def _outer_endpoints(view: View) -> dict[SiteName, tuple[str, ...]]:
    """Return where public sites see those behind NAT, ours among them."""
    found: dict[SiteName, set[str]] = {}
    for other in view.others.values():
        for seen in other.seen if other.endpoints else ():
            if not seen.endpoint.startswith("["):
                found.setdefault(seen.site, set()).add(seen.endpoint)
    return {site: tuple(sorted(endpoints)) for site, endpoints in found.items()}


def _sightings(view: View) -> Iterable[SeenEndpoint]:
    for site, other in sorted(view.others.items()):
        report = view.reports.get(other.public_key)
        if other.endpoints or report is None or not is_endpoint(report.endpoint or ""):
            continue
        if report.endpoint and view.unix - report.handshake_at < SESSION_SECONDS:
            yield SeenEndpoint(site=site, endpoint=report.endpoint)
