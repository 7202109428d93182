import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from transhume.knowledge.codec import MOST_VMS_IN_A_MATRIX, UnreadableRecord, decode, encode
from transhume.knowledge.decisions import LatestDecision
from transhume.knowledge.model import (
    CapacityReport,
    Cloud,
    CloudName,
    CommunicationMatrix,
    Group,
    Host,
    JournalRecord,
    Link,
    MoveProgress,
    NoPlan,
    Outcome,
    Placement,
    Plan,
    PriceTick,
    Progress,
    Resources,
    RevocationNotice,
    Symptom,
    TrafficWindow,
    VirtualCluster,
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
    Placement,
    Plan,
    PoliciesStatus,
    PriceTick,
    Progress,
    RevocationNotice,
    Symptom,
    TrafficWindow,
    VirtualCluster,
    Vm,
)
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)

ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])
st.register_type_strategy(datetime, st.datetimes(timezones=ZONES))
st.register_type_strategy(float, st.floats(allow_nan=False))


@pytest.mark.parametrize("cls", RECORDS)
@settings(max_examples=40)
@given(data=st.data())
def test_what_is_written_is_read_back_equal(cls: type, data: st.DataObject) -> None:
    record = data.draw(st.from_type(cls))
    assert decode(cls, encode(record)) == record


@st.composite
def matrices(draw: st.DrawFn) -> CommunicationMatrix:
    names = draw(st.lists(st.text(), max_size=6, unique=True))
    counts = st.integers(0, 2**63 - 1)

    def numbers(*shape: int) -> Any:
        return draw(arrays.arrays(np.int64, shape, elements=counts, fill=st.just(0)))

    n = len(names)
    return CommunicationMatrix(
        start=draw(st.datetimes(timezones=ZONES)),
        seconds=draw(st.floats(0, 1e6)),
        vms=tuple(map(VmName, names)),
        bytes=numbers(n, n),
        frames=numbers(n, n),
        to_outside=numbers(n),
        from_outside=numbers(n),
        multicast_bytes=draw(st.integers(0)),
        unattributed_bytes=draw(st.integers(0)),
        dropped_frames=draw(st.integers(0)),
    )


@given(matrices())
def test_a_matrix_is_read_back_equal(matrix: CommunicationMatrix) -> None:
    read = decode(CommunicationMatrix, encode(matrix))
    for name in CommunicationMatrix.__slots__:
        np.testing.assert_array_equal(getattr(read, name), getattr(matrix, name))
    assert read.bytes.dtype == read.frames.dtype == read.to_outside.dtype == np.int64


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


def matrix_with(**changes: object) -> bytes:
    whole = CommunicationMatrix.empty(start=NOON, seconds=5.0, vms=(VmName("a"), VmName("b")))
    return json.dumps(json.loads(encode(whole)) | changes).encode()


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
        pytest.param(
            CommunicationMatrix, matrix_with(pairs=[[0, 2, 1, 1]]), "pair 0, 2", id="pair outside"
        ),
        pytest.param(
            CommunicationMatrix, matrix_with(pairs=[[-1, 0, 1, 1]]), "pair -1", id="pair below"
        ),
        pytest.param(CommunicationMatrix, matrix_with(to_outside=[1]), "1 values", id="short"),
        pytest.param(
            CommunicationMatrix, matrix_with(pairs=[[0, 1, 2**63, 1]]), "too big|large", id="huge"
        ),
        pytest.param(
            CommunicationMatrix,
            matrix_with(vms=["v"] * (MOST_VMS_IN_A_MATRIX + 1)),
            "10001 VMs",
            id="too many VMs",
        ),
    ],
)
def test_bad_data_is_refused_with_where_it_is_bad(cls: type, data: bytes | str, seen: str) -> None:
    with pytest.raises(UnreadableRecord, match=seen) as caught:
        decode(cls, data)
    assert cls.__name__ in str(caught.value) or cls is CommunicationMatrix


@pytest.mark.parametrize("cls", [*RECORDS, CommunicationMatrix])
@settings(max_examples=30)
@given(data=st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(cls: type, data: bytes) -> None:
    with suppress(UnreadableRecord):
        decode(cls, data)
