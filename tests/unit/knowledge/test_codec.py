import json
import math
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.knowledge.columnar import MOMENTS, matrices, plain, windows
from transhume.knowledge.codec import UnreadableRecord, decode, encode
from transhume.knowledge.columns import MOST_VMS_IN_A_MATRIX
from transhume.knowledge.decisions import LatestDecision
from transhume.knowledge.model import (
    CapacityReport,
    Cloud,
    CloudName,
    CommunicationMatrix,
    Endpoint,
    Group,
    Host,
    JournalRecord,
    Link,
    MacAddress,
    MoveProgress,
    NoPlan,
    Outcome,
    PairTraffic,
    Pattern,
    Placement,
    Plan,
    PriceTick,
    Progress,
    Resources,
    RevocationNotice,
    Symptom,
    TrafficWindow,
    VirtualCluster,
    VirtualNetworkName,
    Vm,
    VmName,
)
from transhume.knowledge.records import Command, DaemonStatus, PoliciesStatus

RECORDS = (
    CapacityReport,
    Cloud,
    Command,
    DaemonStatus,
    Group,
    Host,
    JournalRecord,
    LatestDecision,
    Link,
    MoveProgress,
    NoPlan,
    Outcome,
    Pattern,
    Placement,
    Plan,
    PoliciesStatus,
    PriceTick,
    Progress,
    RevocationNotice,
    Symptom,
    VirtualCluster,
    Vm,
)
ARRAYS = (CommunicationMatrix, TrafficWindow)
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)

st.register_type_strategy(datetime, MOMENTS)
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))


@pytest.mark.parametrize("cls", RECORDS)
@settings(max_examples=40)
@given(data=st.data())
def test_what_is_written_is_read_back_equal(cls: type, data: st.DataObject) -> None:
    record = data.draw(st.from_type(cls))
    assert decode(cls, encode(record)) == record


@given(st.from_type(Outcome))
def test_what_was_decided_may_be_without_end(outcome: Outcome) -> None:
    endless = replace(outcome, predicted=replace(outcome.predicted, seconds=math.inf))
    assert decode(Outcome, encode(endless)) == endless


@given(matrices())
def test_a_matrix_is_read_back_equal(matrix: CommunicationMatrix) -> None:
    assert plain(decode(CommunicationMatrix, encode(matrix))) == plain(matrix)


@given(windows())
def test_a_window_is_read_back_equal(window: TrafficWindow) -> None:
    assert plain(decode(TrafficWindow, encode(window))) == plain(window)


@pytest.mark.parametrize("most", [255, 65_535, 2**32 - 1, 2**63 - 1])
def test_a_long_column_is_read_back_equal_in_whatever_type_it_is_packed(most: int) -> None:
    counts = np.arange(1000, dtype=np.int64) % 200
    counts[500] = most
    names = tuple(VmName(f"v{i}") for i in range(1000))
    matrix = replace(
        CommunicationMatrix.empty(start=NOON, seconds=5.0, vms=names), to_outside=counts
    )

    assert plain(decode(CommunicationMatrix, encode(matrix))) == plain(matrix)


def test_of_shared_addresses_a_window_takes_along_those_that_it_names() -> None:
    """A reading's windows share one table of addresses, which may be large."""
    window = replace(
        whole_window(), addresses=np.tile(whole_window().addresses, 1000), pair=np.array([1, 500])
    )

    assert len(encode(window)) < 1000


def test_a_person_can_read_a_small_matrix() -> None:
    names = (VmName("a"), VmName("b"))
    matrix = CommunicationMatrix.of_dense([[0, 7], [9, 0]], start=NOON, seconds=5.0, vms=names)

    written = json.loads(encode(matrix))

    assert (written["source"], written["destination"]) == ([0, 1], [1, 0])
    assert (written["bytes"], written["vms"]) == ([7, 9], ["a", "b"])


def test_a_matrix_takes_room_for_pairs_that_talked_only() -> None:
    names = tuple(VmName(f"v{i}") for i in range(300))
    silence = CommunicationMatrix.empty(start=NOON, seconds=5.0, vms=names)
    assert len(encode(silence)) < 300 * 20


@given(st.frozensets(st.text()))
def test_equal_records_are_equal_bytes(tags: frozenset[str]) -> None:
    """Sets have no order of their own; a change of bytes would be taken for news."""
    needs = Resources(vcpus=1, memory_bytes=1)
    one, other = (
        Vm(name=VmName("v"), uuid="u", needs=needs, tags=frozenset(order))
        for order in (sorted(tags), sorted(tags, reverse=True))
    )
    assert encode(one) == encode(other)


def test_a_field_of_a_newer_version_is_passed_over() -> None:
    written = json.dumps({"name": "home", "region": "eu", "colour": "green"})
    assert decode(Cloud, written) == Cloud(name=CloudName("home"), region="eu")


def test_what_an_older_version_wrote_says_nothing_of_networks() -> None:
    known = Cloud(name=CloudName("home"), networks=frozenset(map(VirtualNetworkName, ("g", "b"))))
    assert json.loads(encode(known))["networks"] == ["b", "g"]
    assert decode(Cloud, encode(known)) == known
    assert decode(Cloud, json.dumps({"name": "home"})).networks is None
    needs = {"vcpus": 1, "memory_bytes": 1}
    interfaces = [{"mac": "52:54:00:00:00:01"}]
    written = json.dumps({"name": "v", "uuid": "u", "needs": needs, "interfaces": interfaces})
    assert decode(Vm, written).networks == frozenset()


def matrix_with(**changes: object) -> bytes:
    names = (VmName("a"), VmName("b"))
    whole = CommunicationMatrix.of_dense([[0, 7], [9, 0]], start=NOON, seconds=5.0, vms=names)
    return json.dumps(json.loads(encode(whole)) | changes).encode()


def whole_window() -> TrafficWindow:
    ends = [Endpoint(mac=MacAddress(f"52:54:00:00:00:0{n}")) for n in (1, 2)]
    pairs = [
        PairTraffic(source=one, destination=other, bytes=60, frames=1)
        for one, other in (ends, ends[::-1])
    ]
    return TrafficWindow.of_pairs(pairs, start=NOON, seconds=5.0, capture_point="h/tap")


def window_with(**changes: object) -> bytes:
    return json.dumps(json.loads(encode(whole_window())) | changes).encode()


TIME = "2030-01-01T12:00:00"


@pytest.mark.parametrize(
    ("cls", "data", "seen"),
    [
        pytest.param(Cloud, b"", "the whole", id="nothing"),
        pytest.param(Cloud, b'{"name": 3', "the whole", id="half a record"),
        pytest.param(Cloud, b"{}", "name", id="no name"),
        pytest.param(Cloud, b"\xff", "the whole", id="no text"),
        pytest.param(
            Progress, f'{{"job":"j","at":"{TIME}","done":1,"total":2}}', "at: .*time", id="no zone"
        ),
        pytest.param(
            CapacityReport,
            f'{{"host":"h","at":"{TIME}Z","total":{{"vcpus":1.5,"memory_bytes":1}}}}',
            "total.vcpus",
            id="nested",
        ),
        pytest.param(
            JournalRecord,
            f'{{"plan":"p","step":"s","vm":"v","phase":"odd","at":"{TIME}Z"}}',
            "phase",
            id="unknown phase",
        ),
        *(
            pytest.param(CommunicationMatrix, matrix_with(**changes), seen, id=f"matrix: {seen}")
            for changes, seen in [
                ({"destination": [2, 0]}, "pair 0, 2 is outside"),
                ({"source": [-1, 1]}, "pair -1, 1 is outside"),
                ({"source": [0, 0], "destination": [1, 1]}, "there twice"),
                ({"source": [1, 0], "destination": [0, 1]}, "out of order"),
                ({"to_outside": [1]}, "1 values for 2 VMs"),
                ({"frames": [1]}, "1 values for 2 pairs"),
                ({"bytes": [1, -5]}, "a count of -5"),
                ({"bytes": [1, 2**63]}, "too big|large"),
                ({"bytes": "u1:AA=="}, "1 values for 2 pairs"),
                ({"bytes": "u1:A"}, "padding|base64"),
                ({"bytes": "u4:AAA="}, "buffer size"),
                ({"bytes": "f9:AAA="}, "a column of 'f9'"),
                ({"networks": [{"name": "n", "to": [1], "from_": [1, 2]}]}, "1 values for 2 VMs"),
                ({"vms": ["v"] * (MOST_VMS_IN_A_MATRIX + 1)}, "100001 VMs"),
                ({"pairs": [[0, 1, 2, 3]], "source": None}, "source"),
            ]
        ),
        *(
            pytest.param(TrafficWindow, window_with(**changes), seen, id=f"window: {seen}")
            for changes, seen in [
                ({"seconds": 0}, "0.0 seconds"),
                ({"sampled": 0}, "share of 0.0"),
                ({"addresses": ["00" * 48, "00"]}, "1 bytes"),
                ({"addresses": ["00" * 48, "zz"]}, "non-hex"),
                ({"addresses": ["00" * 48, "ff" * 48]}, "no known kind"),
                ({"addresses": ["00" * 48]}, "2 values for 1 pairs"),
                ({"addresses": "AAAA"}, "buffer size"),
                ({"bytes_error": [0.5]}, "1 errors for 2 pairs"),
                ({"frames": [1, -1]}, "a count of -1"),
            ]
        ),
    ],
)
def test_bad_data_is_refused_with_where_it_is_bad(cls: type, data: bytes | str, seen: str) -> None:
    with pytest.raises(UnreadableRecord, match=seen) as caught:
        decode(cls, data)
    assert cls.__name__ in str(caught.value)


@pytest.mark.parametrize("cls", [*RECORDS, *ARRAYS])
@settings(max_examples=30)
@given(data=st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(cls: type, data: bytes) -> None:
    with suppress(UnreadableRecord):
        decode(cls, data)
