"""Sites as they describe themselves, and how a device reports them, for tests that need no device."""

import base64
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

from transhume.execute.overlay.underlay.device import PeerReport
from transhume.execute.overlay.underlay.plan import View
from transhume.execute.overlay.underlay.settings import TunnelNetwork
from transhume.knowledge.model import IpAddress, SeenEndpoint, SiteEndpoint, SiteName

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
TUNNELS = TunnelNetwork(
    fixed={SiteName(name): IpAddress(f"100.64.0.{n}") for n, name in enumerate("abcdefgh", start=1)}
)
KEEPALIVE = 10


def site(name: str, *endpoints: str, seen: dict[str, str] | None = None) -> SiteEndpoint:
    """A public site that relays, where endpoints are given; one behind NAT otherwise."""
    return SiteEndpoint(
        site=SiteName(name),
        public_key=base64.b64encode(sha256(name.encode()).digest()).decode(),
        address=TUNNELS.address(SiteName(name)),
        port=51820,
        generation="1",
        at=NOON,
        endpoints=endpoints,
        relays=bool(endpoints),
        seen=tuple(
            SeenEndpoint(site=SiteName(who), endpoint=where)
            for who, where in sorted((seen or {}).items())
        ),
    )


def report(of: SiteEndpoint, **changes: object) -> PeerReport:
    """What a device says of a peer with a session."""
    made = PeerReport(
        public_key=of.public_key,
        endpoint="198.51.100.7:40000",
        handshake_at=1_000_000.0,
        received_bytes=1,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def view(
    ours: SiteEndpoint,
    *others: SiteEndpoint,
    now: float = 0.0,
    reports: tuple[PeerReport, ...] = (),
    fresh: str | None = None,
) -> View:
    """What our site knows; the clock says a second past a full minute when `now` is 0."""
    names = [other.site for other in others]
    return View(
        now=now,
        unix=1_000_021.0 + now,
        ours=ours,
        others={other.site: other for other in others},
        fresh=frozenset(names if fresh is None else map(SiteName, fresh)),
        reports={each.public_key: each for each in reports},
    )
