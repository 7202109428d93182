"""What a site's agent hears, and what it answers with: data, no behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass

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
class Arriving:
    """These VMs are about to come to this site, and no others."""

    macs: frozenset[MacAddress]


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
    migrates: bool = False
    """Its hypervisor says that it's to run elsewhere."""


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
class Present:
    """All hypervisors of this site were asked which VMs they have, running or not."""

    macs: frozenset[MacAddress] | None
    """Of all their VMs; None: one of them didn't answer, and may have any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """All other sites do by now what the register said at a revision."""

    revision: int
    by_heard: int = 0
    """The same of those sites that were heard of lately."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Time has gone on."""


Event = (
    Began
    | Read
    | Told
    | Leaving
    | Arriving
    | Sighted
    | Looked
    | Stopped
    | Runs
    | Awaited
    | Present
    | Applied
    | Ticked
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
class Retire:
    """Take these out of the register, unless they have moved since."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Have the taps of these VMs at hand, which are about to leave, and no others."""

    devices: Mapping[MacAddress, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOn:
    """Send on what waits in the taps of VMs that have stopped, and let go of them."""

    macs: tuple[MacAddress, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """Give what comes by a detour for these VMs to their taps though they aren't here yet, for no others."""

    devices: Mapping[MacAddress, str]


Instruction = Apply | Offer | Retire | Acknowledge | Look | Hold | SendOn | Expect
