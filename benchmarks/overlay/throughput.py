"""What one TCP stream gets across the overlay, and on the same path without it.

Two sites, each with an endpoint at its bridge, and a bridge between them that stands for the WAN. Four ways
lead from endpoint to endpoint: our tunnels over the wire; a VXLAN of the kernel's as it comes, with nothing of
ours; the wire plugged into both bridges, without tunnels; and from site to site on the underlay alone, without
the endpoints' bridges. The endpoints are plugged in by taps, as VMs are, and by veths, as containers are: with
segmentation offload, by which 64 KB are handed over at a time, and by veths with real packets of 1,500 bytes as
well. Rounds are interleaved, and a ratio is taken within its round.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import ENVIRONMENT
from benchmarks.overlay.offloads import switch_offloads_off
from benchmarks.overlay.plugs import Plug, by_taps, by_veth
from benchmarks.overlay.sites import PREFIX, WAN, ip, namespaces, network
from transhume.execute.overlay.plane import SitePlane
from transhume.execute.overlay.routes import Route
from transhume.knowledge.model import IpAddress, MacAddress
from transhume.reach.netns import socket_in

ROUNDS, SECONDS, WARM_UP_SECONDS = 15, 1.0, 0.3
OVERLAY, BARE, CABLE, UNDERLAY = (
    "overlay",
    "the kernel's VXLAN alone",
    "bridges on one wire",
    "underlay alone",
)
BARE_VNI, BARE_PORT = 78, 4790
TAPS, VETHS, REAL = "offload, taps", "offload, veths", "real packets, veths"
OTHERS = {
    "of_the_kernels_vxlan": BARE,
    "of_the_same_path": CABLE,
    "of_the_underlay": UNDERLAY,
}
ASKED = {TAPS: 0.9, VETHS: 0.9, REAL: 0.8}
"""The least share of the path without the overlay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """From whom to whom."""

    sender: str
    receiver: str
    ip: str


def measure(console: Console) -> dict[str, Any]:
    """Measure all ways in turns, print the table, and return what was found."""
    found = {}
    with by_taps() as by_tap, two_sites(by_tap) as ways:
        del ways[UNDERLAY]  # which has no taps
        found[TAPS] = _rounds(ways)
    with two_sites(by_veth) as ways:
        found[VETHS] = _rounds(ways)
        for wire in (*_wires(0), *_wires(1)):
            switch_offloads_off(*wire)
        found[REAL] = _rounds(ways)
    show(console, found)
    return {
        kind: {
            "asked": ASKED[kind],
            **{
                key: median(_shares(rounds, name))
                for key, name in OTHERS.items()
                if name in rounds[0]
            },
            "bytes_per_second": rounds,
        }
        for kind, rounds in found.items()
    }


def _rounds(ways: dict[str, Way]) -> list[dict[str, float]]:
    names = list(ways)
    found = []
    for number in range(ROUNDS):
        first = number % len(names)
        order = names[first:] + names[:first]
        found.append({name: stream(ways[name]) for name in order})
    return found


def stream(way: Way) -> float:
    """Send as fast as can be for a while; return what came, in bytes a second."""
    with closing(socket_in(way.receiver)) as listener, closing(socket_in(way.sender)) as sender:
        listener.bind((way.ip, 0))
        listener.listen()
        for each in (listener, sender):
            # The kernel's own choice may be one that paces.
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        sender.settimeout(10)
        sender.connect(listener.getsockname())
        receiver, _ = listener.accept()
        with closing(receiver):
            numbers = (str(SECONDS), str(WARM_UP_SECONDS))
            told = subprocess.Popen(
                (
                    sys.executable,
                    "-m",
                    "benchmarks.overlay.stream",
                    str(receiver.fileno()),
                    *numbers,
                ),
                pass_fds=[receiver.fileno()],
                stdout=subprocess.PIPE,
                env=ENVIRONMENT,
            )
        block = bytes(1 << 20)
        deadline = time.monotonic() + 60
        with suppress(ConnectionError):
            while time.monotonic() < deadline:
                sender.sendall(block)
        said, _ = told.communicate(timeout=20)
        return float(said)


@contextmanager
def two_sites(plug: Plug) -> Iterator[dict[str, Way]]:
    """Build the sites, plug endpoints in, and yield the ways between these by name."""
    over = network(2)
    kinds = ("vm", "plain", "bare")
    ends = [[f"{PREFIX}-{kind}{number}" for kind in kinds] for number in range(2)]
    everything = [WAN, *(str(site.netns) for site in over.sites), *ends[0], *ends[1]]
    with namespaces(everything), ExitStack() as stack:
        for bridge in ("br0", "br1"):
            ip(WAN, f"link add {bridge} type bridge", f"link set {bridge} up")
        for number, site in enumerate(over.sites):
            for bridge, end in enumerate(ends[number]):
                plug(str(site.netns), f"tap{bridge}", end)
            _build(number, str(site.netns), site.vtep, ends[number])
            _tunnel(str(site.netns), site.vtep, over.sites[1 - number].vtep)
        for number, site in enumerate(over.sites):
            plane = stack.enter_context(SitePlane(over, site))
            plane.set_up()
            other = over.sites[1 - number]
            plane.apply([Route(mac=_mac(1 - number), vtep=IpAddress(other.vtep))])
        time.sleep(2)
        netns = [str(site.netns) for site in over.sites]
        yield {
            OVERLAY: Way(sender=ends[0][0], receiver=ends[1][0], ip="192.168.1.2"),
            BARE: Way(sender=ends[0][2], receiver=ends[1][2], ip="192.168.3.2"),
            CABLE: Way(sender=ends[0][1], receiver=ends[1][1], ip="192.168.2.2"),
            UNDERLAY: Way(sender=netns[0], receiver=netns[1], ip=over.sites[1].vtep),
        }


def _build(number: int, netns: str, vtep: str, ends: Sequence[str]) -> None:
    """Give a site the overlay's bridge and endpoint, and the same for the other ways beside them."""
    at_overlay, at_cable, at_bare = ends
    ip(
        netns,
        "link add br0 type bridge",
        "link set br0 up",
        "link add br1 type bridge",
        "link set br1 up",
        "link add br2 type bridge",
        "link set br2 up",
        f"link add wan0 type veth peer name to{number} netns {WAN}",
        f"address add {vtep}/8 dev wan0",
        "link set wan0 up",
        f"link add cable0 type veth peer name cable{number} netns {WAN}",
        "link set cable0 master br1 up",
        "link set tap0 master br0 up",
        "link set tap1 master br1 up",
        "link set tap2 master br2 up",
    )
    ip(WAN, f"link set to{number} master br0 up", f"link set cable{number} master br1 up")
    ip(
        at_overlay,
        f"link set eth0 address {_mac(number)} mtu 1450",
        f"address add 192.168.1.{number + 1}/24 dev eth0",
        "link set eth0 up",
    )
    ip(
        at_bare,
        "link set eth0 mtu 1450",
        f"address add 192.168.3.{number + 1}/24 dev eth0",
        "link set eth0 up",
    )
    ip(at_cable, f"address add 192.168.2.{number + 1}/24 dev eth0", "link set eth0 up")


def _tunnel(netns: str, here: str, there: str) -> None:
    """Join the third bridges by a tunnel with no settings but its ends."""
    ends = f"local {here} remote {there} dstport {BARE_PORT}"
    ip(netns, f"link add bare0 type vxlan id {BARE_VNI} {ends}", "link set bare0 master br2 up")


def _wires(number: int) -> list[tuple[str, str]]:
    netns = f"{PREFIX}-{number}"
    return [(netns, "wan0"), (netns, "cable0"), (WAN, f"to{number}"), (WAN, f"cable{number}")]


def _mac(number: int) -> MacAddress:
    return MacAddress(f"52:54:00:77:00:0{number}")


def _shares(rounds: list[dict[str, float]], other: str) -> list[float]:
    return [each[OVERLAY] / each[other] for each in rounds]


def show(console: Console, found: dict[str, list[dict[str, float]]]) -> None:
    """Print what each way carried, and the overlay's share of it."""
    table = Table(
        title=f"one TCP stream, {ROUNDS} rounds of {SECONDS:g} s",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in ("", "Gbit/s", "least", "most", "overlay's share", "asked"):
        table.add_column(column, justify="left" if not column else "right")
    for kind, rounds in found.items():
        for name in rounds[0]:
            rates = sorted(each[name] * 8e-9 for each in rounds)
            share = "" if name == OVERLAY else f"{median(_shares(rounds, name)):.2f}"
            asked = f">= {ASKED[kind]:g}" if name == CABLE else ""
            figures = (f"{median(rates):.2f}", f"{rates[0]:.2f}", f"{rates[-1]:.2f}")
            table.add_row(f"{kind}: {name}", *figures, share, asked)
    console.print(table)
