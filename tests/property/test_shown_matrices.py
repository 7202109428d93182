"""Whatever a matrix is: what is shown and exported of it adds up to it, as dense arithmetic says."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.cli.analyses import START, analysis, vm
from transhume.cli.changed_pairs import changed_pairs
from transhume.cli.exports.result import print_result
from transhume.cli.views.arrangement import arrange
from transhume.cli.views.pairs import top_pairs
from transhume.knowledge.model import CommunicationMatrix, Group, GroupId, VmName


@st.composite
def matrices(draw: st.DrawFn, most_vms: int = 12) -> CommunicationMatrix:
    count = draw(st.integers(0, most_vms))
    rows = st.integers(0, max(count - 1, 0))
    pairs = draw(st.lists(st.tuples(rows, rows, st.integers(0, 2**40)), max_size=40 * bool(count)))
    source, destination, said = zip(*pairs, strict=True) if pairs else ((), (), ())
    return CommunicationMatrix.of_pairs(
        start=START,
        seconds=draw(st.sampled_from([0.5, 1.0, 60.0])),
        vms=tuple(VmName(f"vm{number}") for number in range(count)),
        source=source,
        destination=destination,
        bytes=said,
    )


@st.composite
def grouped(draw: st.DrawFn) -> tuple[CommunicationMatrix, Sequence[Group]]:
    matrix = draw(matrices())
    label = draw(st.lists(st.integers(-1, 3), min_size=len(matrix.vms), max_size=len(matrix.vms)))
    groups = [
        Group(
            id=GroupId(f"g-{number}"),
            vms=tuple(name for name, its in zip(matrix.vms, label, strict=True) if its == number),
            internal_bytes_per_second=0.0,
            external_bytes_per_second=0.0,
        )
        for number in range(4)
    ]
    return matrix, [group for group in groups if group.vms]


@given(grouped(), st.integers(2, 14))
def test_nothing_is_lost_in_the_picture(
    given: tuple[CommunicationMatrix, Sequence[Group]], most: int
) -> None:
    matrix, groups = given

    shown = arrange(matrix, groups, most=most)

    assert shown.rate.sum() == pytest.approx(matrix.bytes_per_second.sum())
    assert len(shown.labels) == len(shown.rate) == sum(block.count for block in shown.blocks)
    assert len(shown.labels) <= max(most, 0)
    if not shown.by_group:
        assert sorted(shown.labels) == sorted(matrix.vms)


@given(matrices(), st.integers(0, 50))
def test_the_busiest_pairs_are_those_of_the_dense_matrix(
    matrix: CommunicationMatrix, count: int
) -> None:
    rate = matrix.rate()
    both = np.triu(rate + rate.T, k=1)

    found = top_pairs(matrix, count)

    expected = sorted(both[both > 0].tolist(), reverse=True)[:count]
    assert [pair.there + pair.back for pair in found] == pytest.approx(expected)
    row_of = {name: row for row, name in enumerate(matrix.vms)}
    for pair in found:
        one, other = row_of[pair.one], row_of[pair.other]
        assert (pair.there, pair.back) == pytest.approx((rate[one, other], rate[other, one]))


@given(matrices(), matrices())
def test_changes_are_the_differences_of_the_dense_matrices(
    before: CommunicationMatrix, after: CommunicationMatrix
) -> None:
    names = tuple(dict.fromkeys(before.vms + after.vms))
    change = np.zeros((len(names), len(names)))
    for sign, matrix in ((-1, before), (1, after)):
        size = len(matrix.vms)  # both call their VMs by the same names, from the first on
        change[:size, :size] += sign * matrix.rate()

    found = changed_pairs(before, after, 1000)

    assert sum(abs(pair.after - pair.before) for pair in found) == pytest.approx(
        np.abs(change).sum()
    )
    assert all(pair.before != pair.after for pair in found)


@given(matrices())
def test_the_json_is_json_and_holds_the_matrix(matrix: CommunicationMatrix) -> None:
    text = io.StringIO()
    vms = tuple(vm(name, 1) for name in matrix.vms)

    print_result(text, replace(analysis(), matrix=matrix, vms=vms))

    found = json.loads(text.getvalue())
    dense = np.zeros((len(vms), len(vms)), dtype=np.int64)
    for source, destination, said, _, _ in found["pairs"]:
        dense[source, destination] += said
    assert np.array_equal(dense, matrix.dense())
