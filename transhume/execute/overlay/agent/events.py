"""What a site's agent hears, and what it answers with: data, no behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from transhume.execute.overlay.routes import Route
from transhume.knowledge.model import Binding, Interface, MacAddress, SiteName, VmName
from transhume.knowledge.register import Entry, Whole

# --- events: what has happened -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """The agent begins; this is what an earlier one has left in the kernel."""

    routes: Mapping[MacAddress, Route]


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """The whole register was read."""

    whole: Whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The register has taken one more binding."""

    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """These VMs are about to leave this site, and no others."""

    destination_of: Mapping[MacAddress, SiteName]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighted:
    """A local port of the bridge has sent a frame from an address."""

    mac: MacAddress
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """A hypervisor of this site was asked whether a VM with an address runs here."""

    mac: MacAddress
    interface: Interface | None
    """None: it doesn't."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """A VM of this site has stopped running."""

    vm: VmName
    interfaces: tuple[Interface, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """A VM runs at this site."""

    vm: VmName
    interfaces: tuple[Interface, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """A VM that doesn't run yet is at this site, waiting for its state to arrive."""

    vm: VmName
    interfaces: tuple[Interface, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """All other sites do by now what the register said at a revision."""

    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Time has gone on."""


Event = (
    Began | Read | Told | Leaving | Sighted | Looked | Stopped | Runs | Awaited | Applied | Ticked
)

# --- instructions: what to do next ---------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """Let the kernel do this, at once and in one batch."""

    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Put these into the register; it takes what is newer than what it has."""

    bindings: tuple[Binding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledge:
    """Say that the kernel does what the register said at a revision."""

    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Ask this site's hypervisors whether a VM with an address runs here. Answered by `Looked`."""

    mac: MacAddress
    device: str | None = None
    """Where a frame of it was seen."""


Instruction = Apply | Offer | Acknowledge | Look


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long an agent waits for what."""

    confirm_seconds: float = 5.0
    """For a VM that has stopped to run elsewhere, before the hypervisor here is asked once more."""
    offer_seconds: float = 1.0
    """For the register to have taken what was offered, before it's offered again."""
    linger_seconds: float = 1.0
    """Frames are sent on at least so long."""
    moves: int = 5
    """So many moves that nobody asked for ..."""
    window_seconds: float = 180.0
    """... within so long are too many (RFC 7432, section 15.1)."""


@dataclass(slots=True)
class Detour:
    """An address that has left, whose frames are still sent on."""

    since: float
    revision: int | None = None
    """At which the register took it; None: not yet."""


@dataclass(slots=True)
class Offered:
    """A binding that the register hasn't taken yet."""

    binding: Binding
    at: float


@dataclass(slots=True)
class Claims:
    """When an address was claimed without anybody having asked for it."""

    at: list[float] = field(default_factory=list)
