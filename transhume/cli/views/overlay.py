"""How the overlay's agents and addresses look in a terminal."""

from collections.abc import Mapping
from datetime import datetime

from rich.box import SIMPLE_HEAD
from rich.table import Table

from transhume.cli.views.harmless import text
from transhume.knowledge.model import AgentStatus, Binding, BindingState, MacAddress, SiteName


def agents(
    statuses: Mapping[SiteName, AgentStatus], revision: int, now: datetime, *, of: str = ""
) -> Table:
    """Show each site's agent; `revision` is the register's, and `of` says which network it is."""
    shown = Table(title=text(f"agents{of}"), box=SIMPLE_HEAD, title_justify="left")
    shown.add_column("site")
    for name in ("heard", "revision", "here", "away", "sent on", "anchored", "mended"):
        shown.add_column(name, justify="right")
    shown.add_column("trouble, and paths that are encrypted")
    for site, status in sorted(statuses.items()):
        damped = tuple(f"{mac} moves too often" for mac in status.damped)
        shown.add_row(
            text(site),
            f"{max(0.0, (now - status.at).total_seconds()):.0f} s ago",
            f"{status.applied} of {revision}",
            str(status.here),
            str(status.away),
            str(len(status.detours)),
            str(status.anchored),
            str(status.repairs),
            text(", ".join((*status.faults, *damped, *status.paths)) or "–"),
        )
    return shown


def bindings(known: Mapping[MacAddress, Binding], *, of: str = "") -> Table:
    """Show where each address is, in the network that `of` names."""
    shown = Table(title=text(f"addresses{of}"), box=SIMPLE_HEAD, title_justify="left")
    for name in ("MAC", "IP", "site", "moves", "state"):
        shown.add_column(name, justify="right" if name == "moves" else "left")
    for mac, binding in sorted(known.items()):
        state = str(binding.state)
        if binding.state is BindingState.MOVING:
            state = f"coming from {binding.origin}"
        shown.add_row(
            mac,
            text(", ".join(binding.ips) or "–"),
            text(binding.site),
            str(binding.sequence - 1),
            text(state),
        )
    return shown
