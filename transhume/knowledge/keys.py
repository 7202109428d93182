"""The names under which the knowledge is kept, all of them, with the shape of each.

Hashes hold what is (field: a record), streams what happens (`record`: a record). All names start with
`transhume:`, so that the knowledge can share a Redis. Redis Cluster is not served: one transaction changes
several keys.
"""

from dataclasses import dataclass

PREFIX = "transhume:"

FENCE = PREFIX + "fence"
"""String: the fencing token of whoever last took the pen."""
LEASE = PREFIX + "lease"
"""String that expires: who has the pen."""
VERSION = PREFIX + "version"
"""String: how many writes there were that can change a plan."""

CLOUDS = PREFIX + "clouds"
HOSTS = PREFIX + "hosts"
LINKS = PREFIX + "links"
VMS = PREFIX + "vms"
CLUSTERS = PREFIX + "clusters"
PLACEMENT = PREFIX + "placement"
"""Hash: the host (plain text) by VM, as hypervisors last said."""
GOING = PREFIX + "going"
"""Hash: the host (plain text) that a VM with an open step is going to, by VM."""
ARRIVED = PREFIX + "arrived"
"""Hash: the host where a step left its VM (plain text, after the plan and the step), by VM; until an inventory
tells that was asked for later."""
CAPACITY = PREFIX + "capacity"
PRICES = PREFIX + "prices"
PRICES_AHEAD = PREFIX + "prices:ahead"
"""Hash: prices that are certain to come, by cloud and instant."""
NOTICES = PREFIX + "notices"
PROGRESS = PREFIX + "progress"
WARMTH = PREFIX + "warmth"
"""Hash: how much of a VM a cloud knows, by VM and cloud."""
DIRTY_RATES = PREFIX + "dirty-rates"
"""Hash: how fast a VM writes to its memory, by VM."""
DISK_USE = PREFIX + "disk-use"
"""Hash: what a VM's disks hold, by VM."""
GROUPS = PREFIX + "groups"
PATTERNS = PREFIX + "patterns"
"""Hash: the pattern of a group's traffic, by group."""
MATRIX = PREFIX + "matrix"
"""String: the recent past as one record."""

WINDOWS = PREFIX + "windows"
SYMPTOMS = PREFIX + "symptoms"
OUTCOMES = PREFIX + "outcomes"
COMMANDS = PREFIX + "commands"
COMMANDS_DONE = PREFIX + "commands:done"
"""String: the last command that the daemon has carried out."""
CHANGES = PREFIX + "changes"

PLANS = PREFIX + "plans"
PLANS_STATUS = PREFIX + "plans:status"
"""Hash: the status (plain text) by plan."""
PLANS_SINCE = PREFIX + "plans:since"
"""Hash: the instant (ISO 8601) at which the status was reached, by plan."""
PLANS_EFFECT = PREFIX + "plans:effect"
"""Hash: what was found (plain text) when a plan's effect was looked at, by plan."""
PLANS_ORDER = PREFIX + "plans:order"
"""Sorted set: plans by when they were made."""
LATEST = PREFIX + "plans:latest"
"""String: the last decision, a plan or none."""
OPEN_STEPS = PREFIX + "journal:open"
"""Hash: the last journal record of each step that isn't over, by plan and step."""
MOVES = PREFIX + "moves"

UNDERLAY = PREFIX + "underlay"
"""Hash: what each site signed of its end of the encrypted underlay, by site."""
UNDERLAY_NEWS = PREFIX + "underlay:news"
"""Channel: the same records, as they are written."""

STATUS = PREFIX + "status"
POLICIES = PREFIX + "policies"
RECORDING = PREFIX + "recording"
"""String: where what is known is being recorded."""
SHADOW = PREFIX + "shadow"
"""String: the latest comparison of the policies in force with others."""


def journal_of(plan: str) -> str:
    """Return the list that holds a plan's journal."""
    return f"{PREFIX}journal:plan:{plan}"


@dataclass(frozen=True, slots=True)
class OverlayKeys:
    """The names of one virtual network of the overlay."""

    bindings: str
    """Hash: `revision record` by MAC."""
    revision: str
    """String: how many bindings were taken or retired."""
    channel: str
    """Published: what the hash of bindings was given, or `hand-over`."""
    hand_overs: str
    """Hash: moves that are about to happen, by VM."""
    agents: str
    """Hash: how each site's agent does, by site."""


def overlay(vni: int) -> OverlayKeys:
    """Return the names of a virtual network."""
    prefix = f"{PREFIX}overlay:{vni}:"
    return OverlayKeys(
        bindings=prefix + "bindings",
        revision=prefix + "revision",
        channel=prefix + "changes",
        hand_overs=prefix + "hand-overs",
        agents=prefix + "agents",
    )


def overlay_agent(vni: int, site: str) -> tuple[str, str]:
    """Return the names of a site agent's lease and fence, for one of its networks."""
    prefix = f"{PREFIX}overlay:{vni}:agent:{site}:"
    return f"{prefix}lease", f"{prefix}fence"


def anchors(vni: int) -> tuple[str, str]:
    """Return the names of a virtual network's anchors: a hash by site and address, and its channel."""
    return f"{PREFIX}overlay:{vni}:anchors", f"{PREFIX}overlay:{vni}:anchors:news"
