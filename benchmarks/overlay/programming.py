"""How long it takes to tell sites where thousands of addresses are, and to tell them of one move.

Each of the simulated sites has a bridge and tunnels of its own in a namespace of its own, and is told all
bindings as an agent tells them at its start: two entries and an IP neighbour for each. Then one address
moves, and all sites are told. What pyroute2 and `bridge -batch` take for the same entries at one site is
measured beside, in turns; CPU time is the process's and the kernel's on its behalf.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import Run, run
from benchmarks.overlay.sites import lone_sites, network
from transhume.deployment.model import OverlayNetwork, OverlaySite
from transhume.execute.overlay.plane import SitePlane
from transhume.execute.overlay.routes import Route
from transhume.knowledge.model import IpAddress, MacAddress
from transhume.reach.netns import netlink_in

SITES, BINDINGS, ROUNDS = 50, 10_000, 3
SLOW_BINDINGS = 500
"""What pyroute2 is given; its figure is scaled."""
START_SECONDS, MOVE_MS = 5.0, 50.0
"""What is asked at most."""


def measure(console: Console) -> dict[str, Any]:
    """Measure all of it, print the tables, and return what was found."""
    over = network(SITES)
    with lone_sites(over), ExitStack() as stack:
        planes = [stack.enter_context(SitePlane(over, site)) for site in over.sites]
        for plane in planes:
            plane.set_up()
        start, checks = [], []
        for plane, site in _pairs(over, planes):
            routes = told(over, site)
            start.append(timed(partial(plane.apply, routes)))
            checks.append(timed(partial(_is_right, plane, routes)))
        moves = [_move(over, planes, number) for number in range(ROUNDS)]
        for plane in planes:
            plane.tear_down()
        rivals = compare(over, planes[0])
    found = {"start": start, "check": checks, "move": moves, "rivals": rivals}
    show(console, found)
    return {
        "sites": SITES,
        "bindings": BINDINGS,
        "start_seconds_worst": max(each.wall for each in start),
        "move_cpu_ms_all_sites": median(each.cpu for each in moves) * 1e3,
        **{name: [_record(each) for each in found[name]] for name in ("start", "check", "move")},
        "rivals": {
            name: {what: [_record(each) for each in runs] for what, runs in whats.items()}
            for name, whats in rivals.items()
        },
    }


def told(over: OverlayNetwork, here: OverlaySite, bindings: int = BINDINGS) -> list[Route]:
    """Return the routes of a site: the bindings are spread evenly over all sites."""
    return [_route(over, number, here) for number in range(bindings)]


def timed(act: Callable[[], object]) -> Run:
    cpu, wall = time.process_time(), time.monotonic()
    act()
    return Run(cpu=time.process_time() - cpu, wall=time.monotonic() - wall)


def _pairs(
    over: OverlayNetwork, planes: Sequence[SitePlane]
) -> list[tuple[SitePlane, OverlaySite]]:
    return list(zip(planes, over.sites, strict=True))


def _route(over: OverlayNetwork, number: int, here: OverlaySite, moved: int = 0) -> Route:
    owner = over.sites[(number + moved) % len(over.sites)]
    return Route(
        mac=MacAddress(
            f"02:01:{number >> 24 & 255:02x}:{number >> 16 & 255:02x}:"
            f"{number >> 8 & 255:02x}:{number & 255:02x}"
        ),
        vtep=None if owner is here else IpAddress(owner.vtep),
        ips=(IpAddress(f"172.16.{number >> 8}.{number & 255}"),),
    )


def _move(over: OverlayNetwork, planes: Sequence[SitePlane], number: int) -> Run:
    """Tell all sites that an address has moved to the next one; the CPU time is that of all together."""
    routes = [(plane, _route(over, number, site, moved=1)) for plane, site in _pairs(over, planes)]
    return timed(lambda: [plane.apply([route]) for plane, route in routes])


def _is_right(plane: SitePlane, wanted: list[Route]) -> None:
    assert plane.mending(wanted) == ()


def compare(over: OverlayNetwork, plane: SitePlane) -> dict[str, dict[str, list[Run]]]:
    """Write the same entries at one site in different ways, in turns."""
    ways = {
        "transhume": lambda routes: timed(lambda: plane.apply(routes)),
        "bridge -batch, ip -batch": lambda routes: by_commands(over.sites[0], routes),
        "pyroute2": lambda routes: by_pyroute2(over.sites[0], routes),
    }
    found: dict[str, dict[str, list[Run]]] = {name: {"all": [], "move": []} for name in ways}
    site = over.sites[0]
    for number in range(ROUNDS):
        names = list(ways)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            bindings = SLOW_BINDINGS if name == "pyroute2" else BINDINGS
            routes = [each for each in told(over, site, bindings) if each.vtep is not None]
            plane.set_up()
            scale = BINDINGS / bindings
            took = ways[name](routes)
            found[name]["all"].append(Run(cpu=took.cpu * scale, wall=took.wall * scale))
            found[name]["move"].append(ways[name]([_route(over, 1, site, moved=1)]))
            plane.tear_down()
    return found


def by_commands(site: OverlaySite, routes: list[Route]) -> Run:
    """Write entries as scripts do, by two processes."""
    tables = [
        f"fdb replace {route.mac} dev thvx77 {where}\n"
        for route in routes
        for where in (f"dst {route.vtep} self permanent", "master extern_learn")
    ]
    neighbours = [
        f"neigh replace {ip} lladdr {route.mac} dev br0 nud permanent\n"
        for route in routes
        for ip in route.ips
    ]
    with tempfile.TemporaryDirectory() as folder:
        total = Run(cpu=0, wall=0)
        for program, lines in (("bridge", tables), ("ip", neighbours)):
            script = Path(folder) / program
            script.write_text("".join(lines), "ascii")
            took = run((program, "-n", str(site.netns), "-batch", str(script)))
            total = Run(cpu=total.cpu + took.cpu, wall=total.wall + took.wall)
    return total


def by_pyroute2(site: OverlaySite, routes: list[Route]) -> Run:
    """Write entries one by one, by the library."""
    with netlink_in(site.netns) as netlink:
        (tunnel,) = netlink.link_lookup(ifname="thvx77")
        (bridge,) = netlink.link_lookup(ifname="br0")

        def write(route: Route) -> None:
            entry = {"ifindex": tunnel, "lladdr": route.mac}
            netlink.fdb("replace", **entry, dst=route.vtep, flags=0x02, state=0xC0)
            netlink.fdb("replace", **entry, flags=0x14, state=0x40)
            for ip in route.ips:
                netlink.neigh("replace", ifindex=bridge, dst=ip, lladdr=route.mac, state=0x80)

        return timed(lambda: [write(route) for route in routes])


def show(console: Console, found: dict[str, Any]) -> None:
    """Print the two tables."""
    table = Table(
        title=f"{BINDINGS:,} bindings at each of {SITES} sites",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in ("", "CPU s", "wall s", "worst wall s", "asked"):
        table.add_column(column, justify="left" if not column else "right")
    rows = {
        "a site at its start": (found["start"], f"< {START_SECONDS:g} s"),
        "a site compared with what is wanted": (found["check"], "–"),
        "one move, all sites together": (found["move"], f"< {MOVE_MS:g} ms of CPU"),
    }
    for name, (runs, asked) in rows.items():
        table.add_row(name, *_figures(runs), f"{max(each.wall for each in runs):.4f}", asked)
    console.print(table)
    table = Table(
        title=f"the same at one site in other ways (pyroute2: {SLOW_BINDINGS}, scaled)",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in ("", "all: CPU s", "wall s", "ratio", "a move: CPU s", "wall s", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    ours = {what: _cpu(runs) for what, runs in found["rivals"]["transhume"].items()}
    for name, whats in found["rivals"].items():
        cells = [
            cell
            for what, runs in whats.items()
            for cell in (*_figures(runs), f"{_cpu(runs) / ours[what]:.3g}")
        ]
        table.add_row(name, *cells)
    console.print(table)


def _cpu(runs: Sequence[Run]) -> float:
    return median(each.cpu for each in runs)


def _figures(runs: Sequence[Run]) -> tuple[str, str]:
    return f"{_cpu(runs):.4f}", f"{median(each.wall for each in runs):.4f}"


def _record(each: Run) -> dict[str, float]:
    return {"cpu_seconds": each.cpu, "wall_seconds": each.wall}
