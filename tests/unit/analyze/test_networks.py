"""Names for parts of the outside: the longest prefix decides."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.analyze.traffic import end, mac, sent, vm, window
from transhume.analyze import Networks, build_matrix
from transhume.knowledge.model import Endpoint, IpAddress, NetworkName, TrafficWindow, address_pairs


def networks(**named: list[str]) -> Networks:
    return Networks({NetworkName(name): cidrs for name, cidrs in named.items()})


def packed(*texts: str) -> NDArray[np.uint8]:
    ends = [Endpoint(mac=mac(1), ip=IpAddress(text)) for text in texts]
    found: NDArray[np.uint8] = address_pairs((one, one) for one in ends)["source_ip"]
    return found


def test_the_longest_prefix_decides() -> None:
    known = networks(all=["0.0.0.0/0"], ten=["10.0.0.0/8"], one=["10.1.2.3/32", "10.9.0.0/16"])

    found = known.find(4, packed("8.8.8.8", "10.1.2.4", "10.1.2.3", "10.9.255.255"))

    assert found.tolist() == [0, 1, 2, 2]


def test_an_address_in_no_network_has_no_name() -> None:
    assert networks(ten=["10.0.0.0/8"]).find(4, packed("11.0.0.1")).tolist() == [-1]
    assert networks(ten=["10.0.0.0/8"]).find(6, packed("fd00::1")).tolist() == [-1]


def test_six_has_networks_too() -> None:
    known = networks(site=["fd00::/8"], lab=["fd00:1::/32"])

    assert known.find(6, packed("fd00:2::1", "fd00:1::1", "2001::")).tolist() == [0, 1, -1]


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0.1/8", "nowhere"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text):
        networks(odd=[text])


def test_a_network_with_two_names_is_refused() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/8 is in one and in two"):
        networks(one=["10.0.0.0/8"], two=["10.0.0.0/8"])


def test_outside_is_split_by_network_and_stays_whole() -> None:
    def beyond(text: str) -> Endpoint:
        return Endpoint(mac=mac(99), ip=IpAddress(text))

    seen: TrafficWindow = window(
        sent(end(1), beyond("192.0.2.1"), 100),
        sent(end(2), beyond("192.0.2.2"), 20),
        sent(beyond("198.51.100.1"), end(1), 3),
        sent(end(1), beyond("203.0.113.1"), 4000),
        sent(end(1), Endpoint(mac=mac(98)), 50000),
    )

    found = build_matrix(
        [seen], [vm(1), vm(2)], networks=networks(a=["192.0.2.0/24"], b=["198.51.100.0/24"])
    )

    assert [(part.name, part.to.tolist(), part.from_.tolist()) for part in found.networks] == [
        ("a", [100, 20], [0, 0]),
        ("b", [0, 0], [3, 0]),
    ]
    assert found.to_outside.tolist() == [54100, 20]
    assert found.from_outside.tolist() == [3, 0]
    assert found.total_bytes == seen.total_bytes
