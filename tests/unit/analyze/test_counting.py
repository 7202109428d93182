"""Which sighting counts where several capture points saw the same frames."""

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.analyze.traffic import end, ip, mac, outside, sent, vm, window
from transhume.analyze import build_matrix
from transhume.knowledge.model import (
    CommunicationMatrix,
    Endpoint,
    Interface,
    IpAddress,
    MacAddress,
    PairTraffic,
    TrafficWindow,
)

VMS = (vm(1), vm(2), vm(3), vm(4))
ROUTER = mac(99)
TAPS = {"tap1": mac(1), "tap2": mac(2), "tap3": mac(3)}


def matrix(
    *windows: TrafficWindow, told: dict[str, MacAddress] | None = None
) -> CommunicationMatrix:
    return build_matrix(windows, VMS, taps=TAPS if told is None else told)


def seen(point: str, *pairs: PairTraffic, dropped: int = 0, at: float = 0.0) -> TrafficWindow:
    return window(*pairs, point=point, dropped=dropped, at=at)


def test_what_entered_at_the_source_s_tap_counts() -> None:
    """The bridge saw a frame twice that it flooded; the destination lost some."""
    found = matrix(
        seen("tap1", sent(end(1), end(2), 1000, 10)),
        seen("bridge", sent(end(1), end(2), 1100, 11)),
        seen("tap2", sent(end(1), end(2), 800, 8)),
    )

    assert found.between(0, 1) == found.total_bytes == 1000


def test_without_the_source_s_tap_the_destination_s_counts() -> None:
    others = sent(end(3), end(4), 900)
    found = matrix(
        seen("bridge", sent(end(1), end(2), 1100), others), seen("tap2", sent(end(1), end(2), 800))
    )

    assert found.between(0, 1) == 800


def test_without_any_tap_the_largest_sighting_counts() -> None:
    found = matrix(
        seen("bridge", sent(end(1), end(2), 1100, 11)), seen("uplink", sent(end(1), end(2), 900, 9))
    )

    assert (found.between(0, 1), found.frames.tolist()) == (1100, [11])


@pytest.mark.parametrize("lossy", ["tap1", "tap2"])
def test_a_tap_that_dropped_frames_decides_nothing(lossy: str) -> None:
    counts = {"tap1": 700, "bridge": 1000, "tap2": 800}
    points = ["bridge", "tap2"] if lossy == "tap2" else list(counts)

    found = matrix(
        *(seen(p, sent(end(1), end(2), counts[p]), dropped=int(p == lossy)) for p in points)
    )

    assert found.between(0, 1) == 1000


def test_drops_in_another_slice_are_no_matter() -> None:
    found = matrix(
        seen("tap1", sent(end(1), end(2), 700)),
        seen("bridge", sent(end(1), end(2), 1000)),
        seen("tap1", dropped=5, at=1.0),
    )

    assert found.between(0, 1) == 700


def test_a_tap_that_dropped_all_it_saw_is_still_known_to_be_one() -> None:
    """What its reader saw late, in the slice before, is no reason to leave out the destination's sighting."""
    found = matrix(
        seen("tap1", sent(end(1), end(2), 10)),
        seen("tap1again", dropped=1, at=1.0),
        seen("tap2", sent(end(1), end(2), 100), at=1.0),
        told={**TAPS, "tap1again": mac(1)},
    )

    assert found.between(0, 1) == 110


def test_a_slice_in_which_the_source_s_tap_was_not_captured_is_decided_by_itself() -> None:
    found = matrix(
        seen("tap1", sent(end(1), end(2), 700)),
        seen("bridge", sent(end(1), end(2), 1000)),
        seen("bridge", sent(end(1), end(2), 40), at=1.0),
    )

    assert found.between(0, 1) == 740


def test_of_two_points_that_may_be_the_source_s_tap_the_larger_sighting_counts() -> None:
    found = matrix(
        seen("one", sent(end(1), end(2), 1000)),
        seen("other", sent(end(1), end(2), 700)),
        told={"one": mac(1), "other": mac(1)},
    )

    assert found.between(0, 1) == 1000


def test_what_a_vm_sends_by_two_interfaces_adds_up() -> None:
    """Each tap saw its part, and the bridge all of it."""
    second = MacAddress("52:54:00:00:01:01")
    bonded = replace(VMS[0], interfaces=(*VMS[0].interfaces, Interface(mac=second)))
    by_second = Endpoint(mac=second, ip=ip(1))
    found = build_matrix(
        [
            seen("tap1", sent(end(1), end(2), 600)),
            seen("tap1b", sent(by_second, end(2), 400)),
            seen("bridge", sent(end(1), end(2), 500), sent(by_second, end(2), 400)),
        ],
        [bonded, VMS[1]],
        taps=TAPS | {"tap1b": second},
    )

    assert found.between(0, 1) == 1000


def test_a_point_is_known_for_a_tap_by_what_it_saw() -> None:
    """Two VMs talk to many; the bridge, which saw a frame twice, is nobody's tap."""
    everybody = Endpoint(mac=MacAddress("ff:ff:ff:ff:ff:ff"), ip=ip(255))
    found = matrix(
        seen(
            "x", sent(end(1), end(2), 500), sent(end(1), end(3), 400), sent(end(4), everybody, 9999)
        ),
        seen("y", sent(end(2), end(3), 300), sent(end(1), end(2), 500)),
        seen(
            "bridge",
            sent(end(1), end(2), 600),
            sent(end(1), end(3), 500),
            sent(end(2), end(3), 400),
            sent(end(4), end(3), 70),
        ),
        told={},
    )

    assert found.dense()[:3, :3].tolist() == [[0, 500, 400], [0, 0, 300], [0, 0, 0]]
    assert found.between(3, 2) == 70


def test_what_a_bridge_floods_leaves_a_tap_a_tap() -> None:
    """There is no answer to it: by then the bridge has learned where to send."""
    found = matrix(
        seen("x", sent(end(1), end(2), 600), sent(end(2), end(1), 10), sent(end(3), end(4), 400)),
        seen(
            "bridge",
            sent(end(1), end(2), 900),
            sent(end(2), end(1), 10),
            sent(end(3), end(4), 5000),
            sent(end(4), end(3), 100),
        ),
        told={},
    )

    assert (found.between(0, 1), found.between(2, 3)) == (600, 5000)


def test_little_else_leaves_a_tap_a_tap() -> None:
    found = matrix(
        seen("x", sent(end(1), end(2), 9600), sent(end(3), end(4), 400)),
        seen("bridge", sent(end(1), end(2), 9900), sent(end(3), end(4), 5000)),
        told={},
    )

    assert (found.between(0, 1), found.between(2, 3)) == (9600, 5000)


def test_what_was_told_of_a_point_stands_against_what_it_saw() -> None:
    """The tap of a VM that talks to one other only looks like the other's too, and the other's lost frames."""
    one_talk = (
        seen("tap1", sent(end(1), end(2), 900), dropped=1),
        seen("tap2", sent(end(1), end(2), 1000)),
    )

    assert matrix(*one_talk).between(0, 1) == 1000
    assert (
        matrix(one_talk[0], replace(one_talk[1], dropped_frames=0), told={}).between(0, 1) == 1000
    )


def test_from_outside_the_destination_s_tap_counts() -> None:
    found = matrix(
        seen("uplink", sent(outside(1), end(2), 1000)), seen("tap2", sent(outside(1), end(2), 900))
    )

    assert found.from_outside.tolist() == [0, 900, 0, 0]


def test_a_router_at_one_point_passes_a_frame_on_and_it_counts_once() -> None:
    """A capture on the bridge of a router between VMs has each frame twice, with different MAC addresses."""
    found = matrix(
        seen(
            "bridge",
            sent(end(1), Endpoint(mac=ROUTER, ip=ip(2)), 1000, 10),
            sent(Endpoint(mac=ROUTER, ip=ip(1)), end(2), 990, 10),
        ),
        told={},
    )

    assert found.between(0, 1) == found.total_bytes == 1000


def test_two_routers_in_a_row_pass_a_frame_on_and_it_counts_once() -> None:
    second = mac(98)
    found = matrix(
        seen(
            "bridge",
            sent(end(1), Endpoint(mac=ROUTER, ip=ip(2)), 1000),
            sent(Endpoint(mac=ROUTER, ip=ip(1)), Endpoint(mac=second, ip=ip(2)), 1000),
            sent(Endpoint(mac=second, ip=ip(1)), end(2), 1000),
        ),
        told={},
    )

    assert found.total_bytes == 1000


def test_what_two_routers_share_adds_up() -> None:
    second = mac(98)
    found = matrix(
        seen(
            "tap2",
            sent(Endpoint(mac=ROUTER, ip=ip(1)), end(2), 600),
            sent(Endpoint(mac=second, ip=ip(1)), end(2), 400),
        )
    )

    assert found.between(0, 1) == 1000


def test_behind_a_router_the_source_s_tap_still_counts() -> None:
    found = matrix(
        seen("tap1", sent(end(1), Endpoint(mac=ROUTER, ip=ip(2)), 1000)),
        seen("tap2", sent(Endpoint(mac=ROUTER, ip=ip(1)), end(2), 1200)),
    )

    assert found.between(0, 1) == 1000


def test_a_broadcast_counts_once_at_its_source() -> None:
    everybody = Endpoint(mac=MacAddress("ff:ff:ff:ff:ff:ff"), ip=ip(255))
    found = matrix(
        *(seen(point, sent(end(1), everybody, 60)) for point in ("tap1", "tap2", "tap3", "bridge"))
    )

    assert found.multicast_bytes == found.total_bytes == 60


def test_frames_without_ip_addresses_are_known_by_their_mac_addresses() -> None:
    one, other = Endpoint(mac=mac(1)), Endpoint(mac=mac(2))
    found = matrix(
        seen("tap1", sent(one, other, 60), sent(end(1), end(2), 100)),
        seen("tap2", sent(one, other, 60), sent(end(1), end(2), 100)),
    )

    assert found.between(0, 1) == 160


def test_the_error_of_a_sample_goes_with_the_sighting_that_counts() -> None:
    sampled = replace(
        seen("tap1", sent(end(1), end(2), 1000), sent(end(1), end(3), 1000)),
        bytes_error=np.array([30.0, 40.0]),
    )

    assert matrix(sampled).bytes_error == 50.0
    assert matrix(sampled, seen("tap2", sent(end(1), end(2), 900))).bytes_error == 50.0
    assert matrix(seen("x", sent(end(1), end(2), 1000)), told={}).bytes_error == 0.0


def test_addresses_of_nobody_are_compared_like_any_others() -> None:
    stranger, other = (Endpoint(mac=mac(n), ip=IpAddress(f"192.0.2.{n}")) for n in (70, 71))
    found = matrix(seen("a", sent(stranger, other, 10)), seen("b", sent(stranger, other, 30)))

    assert found.unattributed_bytes == found.total_bytes == 30
