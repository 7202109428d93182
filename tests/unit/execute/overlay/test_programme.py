"""Routes become requests in an order in which no frame goes astray, and can be read back from what they make.

The kernel is played by three dictionaries; that it does what they do is tested on the kernel itself
(tests/system/test_overlay_plane.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from transhume.execute.overlay.plane.entries import Entry, entry_in
from transhume.execute.overlay.plane.messages import (
    BRIDGE_FAMILY,
    BRIDGE_TABLE,
    EXTERNALLY_LEARNED,
    NEW_NEIGHBOUR,
    OURS,
    PERMANENT,
    SELF_TABLE,
    STATIC,
    Request,
)
from transhume.execute.overlay.plane.programme import (
    Indexes,
    Told,
    differences,
    mending,
    requests,
    routes,
)
from transhume.execute.overlay.routes import Route
from transhume.knowledge.model import IpAddress, MacAddress

AT = Indexes(bridge=1, tunnel=2, detour=3)
MACS = [MacAddress(f"52:54:00:00:00:0{number}") for number in range(3)]
VTEPS = [IpAddress("172.31.0.2"), IpAddress("172.31.0.3")]
IPS = [IpAddress("10.0.0.1"), IpAddress("10.0.0.2"), IpAddress("fd00::1")]


@dataclass
class Kernel:
    sites: dict[tuple[int, MacAddress], IpAddress] = field(default_factory=dict)
    ports: dict[MacAddress, int] = field(default_factory=dict)
    neighbours: dict[IpAddress, MacAddress] = field(default_factory=dict)

    def take(self, request: Request) -> None:
        entry = entry_in(request.kind, request.body)
        writes = request.kind == NEW_NEIGHBOUR
        if entry.family != BRIDGE_FAMILY:
            self.neighbours.pop(entry.to, None)
            if writes:
                self.neighbours[entry.to] = entry.mac
        elif entry.flags & SELF_TABLE:
            self.sites.pop((entry.device, entry.mac), None)
            if writes:
                self.sites[entry.device, entry.mac] = entry.to
        elif writes:
            self.ports[entry.mac] = entry.device
        elif self.ports.get(entry.mac) == entry.device:
            del self.ports[entry.mac]

    def apply(self, wanted: Iterable[Route]) -> None:
        told = Told(self.entries())
        for route in wanted:
            answered = told.of(route.mac)
            told.note(route)
            for request in requests(route, AT, answered):
                self.take(request)
                self.check()

    def check(self) -> None:
        """What leads into a tunnel finds an entry there: without, it would go to every site."""
        for mac, port in self.ports.items():
            assert (port, mac) in self.sites

    def entries(self) -> list[Entry]:
        own = [_entry(BRIDGE_FAMILY, *at, vtep, SELF_TABLE) for at, vtep in self.sites.items()]
        bridges = [
            _entry(BRIDGE_FAMILY, port, mac, None, EXTERNALLY_LEARNED, bridge=AT.bridge)
            for mac, port in self.ports.items()
        ]
        others = [
            _entry(2, AT.bridge, mac, ip, 0, protocol=OURS, state=PERMANENT)
            for ip, mac in self.neighbours.items()
        ]
        return own + bridges + others


def _entry(family, device, mac, to, flags, *, bridge=None, protocol=0, state=0) -> Entry:
    return Entry(family, device, state, flags, mac, to, bridge, protocol)


@st.composite
def some_routes(draw) -> list[Route]:
    """Some addresses' routes; no two have an IP address in common."""
    free = draw(st.permutations(IPS))
    found = []
    for mac in draw(st.lists(st.sampled_from(MACS), unique=True)):
        vtep = draw(st.sampled_from([None, *VTEPS]))
        detour = vtep is not None and draw(st.booleans())
        ips = tuple(free.pop() for _ in range(draw(st.integers(0, len(free)))))
        found.append(Route(mac=mac, vtep=vtep, detour=detour, ips=ips if vtep else ()))
    return found


@given(st.lists(some_routes(), max_size=4), some_routes())
def test_routes_hold_whatever_was_before(before, wanted):
    kernel = Kernel()
    for each in before:
        kernel.apply(each)

    kernel.apply(mending(wanted, routes(kernel.entries(), AT)))

    actual = routes(kernel.entries(), AT)
    assert mending(wanted, actual) == ()
    assert list(differences("a", wanted, actual)) == []
    assert set(actual) == {route.mac for route in wanted if route.vtep is not None}


@given(some_routes())
def test_what_holds_is_not_carried_out_again(wanted):
    kernel = Kernel()
    kernel.apply(wanted)

    assert mending(wanted, routes(kernel.entries(), AT)) == ()


@given(some_routes(), st.integers(0, 20))
def test_entries_that_do_not_fit_together_are_mended(wanted, lost):
    kernel = Kernel()
    kernel.apply(wanted)
    entries = kernel.entries()
    if lost < len(entries):
        del entries[lost]
    actual = routes(entries, AT)

    repair = mending(wanted, actual)

    assert bool(repair) == (lost < len(kernel.entries()))
    assert {route.mac for route in repair} <= {route.mac for route in wanted}


def test_an_ip_address_that_another_has_taken_stays_told():
    kernel = Kernel()
    first = Route(mac=MACS[0], vtep=VTEPS[0], ips=(IPS[0],))
    second = Route(mac=MACS[1], vtep=VTEPS[1], ips=(IPS[0],))

    kernel.apply([first, second, Route(mac=MACS[0], vtep=None)])

    assert kernel.neighbours == {IPS[0]: MACS[1]}


def test_differences_are_told_in_words():
    actual = {
        MACS[0]: Route(mac=MACS[0], vtep=VTEPS[0], ips=(IPS[0],)),
        MACS[1]: Route(mac=MACS[1], vtep=None, detour=True),
    }
    wanted = [
        Route(mac=MACS[0], vtep=None),
        Route(mac=MACS[1], vtep=VTEPS[1], detour=True),
        Route(mac=MACS[2], vtep=VTEPS[1]),
    ]

    assert list(differences("a", wanted, actual)) == [
        "a: 52:54:00:00:00:00 goes to 172.31.0.2, known as 10.0.0.1; it should be: stays here",
        "a: 52:54:00:00:00:01 has entries that don't fit together; "
        "it should be: goes on to 172.31.0.3",
        "a: 52:54:00:00:00:02 stays here; it should be: goes to 172.31.0.3",
    ]


def test_ports_and_devices_of_others_are_nobodys_routes():
    foreign = [
        _entry(BRIDGE_FAMILY, 9, MACS[0], None, 0, bridge=AT.bridge),
        _entry(BRIDGE_FAMILY, 9, MACS[0], VTEPS[0], SELF_TABLE, state=STATIC),
        _entry(BRIDGE_FAMILY, AT.tunnel, MACS[0], None, 0, bridge=AT.bridge, state=PERMANENT),
        _entry(2, AT.bridge, MACS[1], IPS[0], 0, state=PERMANENT),
    ]

    assert routes(foreign, AT) == {}
    assert not any(entry.flags & BRIDGE_TABLE for entry in foreign)
