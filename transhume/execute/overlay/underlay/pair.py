"""One other site, and how ours reaches it: the state of a pair, without sockets or clocks of its own.

One of the two begins every session: both beginning at once, with equal time-outs, kept prototypes from meeting
for many seconds. So only that one sets where packets go; the other answers to where they came from, as
WireGuard does by itself. Where one of the two is public, the other begins, straight. Where neither is, they are
a *crossing* pair: they talk by a relay, and now and then try for some seconds whether they reach each other
directly. Once that is proved, the one that begins sends there instead, within the same session.

An attempt opens the NAT from inside first, with packets that die beyond it: one that arrived at the other NAT
before its site has opened it would make that NAT choose another port. Both begin when they hear of the same
news, where both are seen, and at each full minute by the clock.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict

from transhume.execute.overlay.underlay.device import PeerReport
from transhume.knowledge.model import SiteEndpoint

ANSWER_SECONDS = 15.0
"""WireGuard answers a packet with data after 10 s, if nothing else goes that way."""
NUDGE_SECONDS = 1.0
FIRST_PATIENCE_SECONDS, LONGEST_PATIENCE_SECONDS = 1.5, 12.0
"""How long to wait for a session; WireGuard's own 5 s are long where the other only just heard of us."""
ATTEMPT_EVERY_SECONDS, ATTEMPT_SECONDS, OPENING_SECONDS = 60, 8.0, 1.5
OPENING_HOPS, ALL_HOPS = 2, 64
"""Past our own NAT, and not as far as the other's."""


class PathKind(StrEnum):
    """How a site is reached."""

    DIRECT = "direct"
    RELAY = "relay"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairView:
    """What is known of the other site at an instant."""

    now: float
    """Monotonic."""
    unix: float
    """By the clock; both sites' are taken to agree to about a second."""
    other: SiteEndpoint
    report: PeerReport | None
    relayed: str | None
    """Where to send to reach it by a relay; None where there is none."""
    report_is_relayed: bool
    """Whether its last packet came by a relay."""
    candidates: tuple[str, ...] = ()
    """Where public sites see it."""
    seen_at: tuple[str, ...] = ()
    """Where they see ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairStep:
    """What to do about it now."""

    path: PathKind
    endpoint: str | None
    """Where to send; None: wherever it last came from."""
    keepalive_seconds: int = 0
    insists: bool = False
    """Set the endpoint once more: packets that were on their way by the relay have turned it back."""
    afresh: bool = False
    """Begin a new session."""
    nudge: bool = False
    """Send something through the tunnel, which WireGuard has to answer."""
    probes: tuple[str, ...] = ()
    hops: int = ALL_HOPS
    attempting: bool = False
    hurried: bool = False
    """Things change within less than a second just now."""


class _Attempt(TypedDict):
    probes: tuple[str, ...]
    hops: int
    attempting: bool


def initiates(ours: SiteEndpoint, other: SiteEndpoint) -> bool:
    """Say whether our site is the one that begins: who is behind NAT, or else whose name comes first."""
    if bool(ours.endpoints) != bool(other.endpoints):
        return not ours.endpoints
    return ours.site < other.site


def crosses(ours: SiteEndpoint, other: SiteEndpoint) -> bool:
    """Say whether both are behind NAT."""
    return not ours.endpoints and not other.endpoints


class Pair:
    """Our site and another one."""

    def __init__(self, ours: SiteEndpoint, other: SiteEndpoint, keepalive_seconds: int) -> None:
        self.begins = initiates(ours, other)
        self.crossing = crosses(ours, other)
        self.direct: str | None = None
        """Where a crossing pair's other site was proved to hear us, for the one that begins."""
        self._keepalive = keepalive_seconds
        self._generation = other.generation
        self._received = 0
        self._heard_at: float | None = None
        self._nudged_at = self._opened_at = float("-inf")
        self._patience = FIRST_PATIENCE_SECONDS
        self._waits_since: float | None = None
        self._choice = 0
        self._outer: tuple[tuple[str, ...], ...] = ()
        self._minute: int | None = None
        self._attempt_at = float("-inf")

    @property
    def lost_after_seconds(self) -> float:
        """How long nothing may come from the other before the path counts as lost."""
        return self._keepalive + ANSWER_SECONDS

    def proved(self, endpoint: str) -> None:
        """Note that the other answered a probe that was sent to an endpoint."""
        if self.crossing and self.begins and self.direct is None:
            self.direct = endpoint
            self._nudged_at = float("-inf")

    def step(self, view: PairView) -> PairStep:
        """Return what to do now; call it about once a second, and more often during an attempt."""
        quiet = self._quiet(view)
        if not self.begins:
            return self._answering(view, quiet)
        before = self.direct
        hurried = self._waits(view)
        afresh = self._renews(view, quiet) or self._is_impatient(view)
        path, endpoint = self._path(view)
        insists = self.direct is not None and view.report is not None and view.report_is_relayed
        nudge = before != self.direct or quiet >= self._keepalive or insists
        return PairStep(
            path=path,
            endpoint=endpoint,
            keepalive_seconds=self._keepalive if endpoint else 0,
            insists=insists,
            hurried=hurried or insists,
            afresh=afresh and endpoint is not None,
            nudge=nudge and endpoint is not None and self._may_nudge(view.now),
            **self._attempt(view, open_path=self.direct is not None),
        )

    def _answering(self, view: PairView, quiet: float) -> PairStep:
        alive = view.report is not None and quiet < self.lost_after_seconds
        there = view.report.endpoint if view.report else None
        hurried = self._waits(view)
        if not alive or there is None:
            attempt = self._attempt(view, open_path=False)
            return PairStep(path=PathKind.NONE, endpoint=None, hurried=hurried, **attempt)
        if view.report_is_relayed:
            return PairStep(
                path=PathKind.RELAY, endpoint=None, **self._attempt(view, open_path=False)
            )
        # Ours is behind NAT too: what keeps the hole open must come from here.
        keeps = self.crossing and view.now - self._opened_at >= self._keepalive / 2
        if keeps:
            self._opened_at = view.now
        return PairStep(path=PathKind.DIRECT, endpoint=None, probes=(there,) if keeps else ())

    def _quiet(self, view: PairView) -> float:
        received = view.report.received_bytes if view.report else 0
        if self._heard_at is None or received > self._received:
            self._heard_at = view.now
        self._received = received
        return view.now - self._heard_at

    def _renews(self, view: PairView, quiet: float) -> bool:
        """Give up what is lost, and say whether to begin a new session."""
        began_anew = view.other.generation != self._generation
        self._generation = view.other.generation
        lost = quiet >= self.lost_after_seconds
        if began_anew or lost:
            self._heard_at = view.now
        if lost and self.direct is not None:
            self.direct = None
            return began_anew
        self._choice += lost
        return began_anew or lost

    def _waits(self, view: PairView) -> bool:
        """Say whether a first session is to be expected any moment."""
        if view.report is not None and view.report.handshake_at:
            self._patience, self._waits_since = FIRST_PATIENCE_SECONDS, None
            return False
        if self._waits_since is None:
            self._waits_since = view.now
        return self._patience < LONGEST_PATIENCE_SECONDS and (
            view.now - self._waits_since < LONGEST_PATIENCE_SECONDS
        )

    def _is_impatient(self, view: PairView) -> bool:
        if self._waits_since is None or view.report is None:
            return False
        if view.now - self._waits_since < self._patience:
            return False
        self._waits_since = view.now
        self._patience = min(2 * self._patience, LONGEST_PATIENCE_SECONDS)
        return True

    def _path(self, view: PairView) -> tuple[PathKind, str | None]:
        if not self.crossing:
            return PathKind.DIRECT, view.other.endpoints[self._choice % len(view.other.endpoints)]
        if self.direct is not None:
            return PathKind.DIRECT, self.direct
        if view.relayed is not None:
            return PathKind.RELAY, view.relayed
        return PathKind.NONE, None

    def _may_nudge(self, now: float) -> bool:
        if now - self._nudged_at < NUDGE_SECONDS:
            return False
        self._nudged_at = now
        return True

    def _attempt(self, view: PairView, *, open_path: bool) -> "_Attempt":
        if not self.crossing or open_path:
            return _Attempt(probes=(), hops=ALL_HOPS, attempting=False)
        minute = int(view.unix // ATTEMPT_EVERY_SECONDS)
        outer = view.seen_at, view.candidates
        if outer != self._outer or minute != self._minute:
            self._outer, self._minute = outer, minute
            self._attempt_at = view.now
        elapsed = view.now - self._attempt_at
        attempting = all(outer) and elapsed < ATTEMPT_SECONDS
        return _Attempt(
            probes=view.candidates if attempting else (),
            hops=OPENING_HOPS if elapsed < OPENING_SECONDS else ALL_HOPS,
            attempting=attempting,
        )
