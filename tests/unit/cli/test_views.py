"""The terminal: legible for few and for many, without colours, and safe for hostile names."""

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.unit.analyze.traffic import matrix_of
from tests.unit.cli.analyses import analysis
from tests.unit.cli.drawing import clusters, printed
from transhume.analyze import find_groups
from transhume.cli.views.arrangement import arrange, levels
from transhume.cli.views.findings import (
    cut_lines,
    forecast_words,
    networks_table,
    phases_table,
    rest_of,
    unattributed_table,
)
from transhume.cli.views.heatmap import groups_table, heat_map, pairs_table
from transhume.cli.views.pairs import BusyPair, top_pairs
from transhume.knowledge.model import (
    VmName,
)

# --- arrangement -------------------------------------------------------------------------------------


def test_groups_are_blocks_on_the_diagonal_and_the_silent_come_last() -> None:
    weights = np.zeros((5, 5))
    weights[0, 3] = 100
    weights[1, 4] = 900
    matrix = matrix_of(weights)

    shown = arrange(matrix, find_groups(matrix))

    assert shown.labels == ("vm1", "vm4", "vm0", "vm3", "vm2")
    assert [(block.group, block.first, block.count) for block in shown.blocks] == [
        ("g-vm1", 0, 2),
        ("g-vm0", 2, 2),
        (None, 4, 1),
    ]
    assert shown.rate[0, 1] == 900


def test_a_ring_shows_as_a_line_beside_the_diagonal() -> None:
    order = np.random.default_rng(3).permutation(8)
    weights = np.zeros((8, 8))
    weights[order, np.roll(order, 1)] = weights[np.roll(order, 1), order] = 1e6
    matrix = matrix_of(weights)

    shown = arrange(matrix, find_groups(matrix))

    assert (np.diagonal(shown.rate, 1) > 0).all()


def test_too_many_vms_to_read_are_shown_by_group() -> None:
    matrix = clusters(3, 20)

    shown = arrange(matrix, find_groups(matrix))

    assert shown.by_group
    assert shown.labels == ("g-vm0 (20 VMs)", "g-vm1 (20 VMs)", "g-vm2 (20 VMs)")
    assert shown.rate.sum() == pytest.approx(matrix.rate().sum())


def test_many_vms_of_one_group_are_shown_piece_by_piece() -> None:
    """One cell for all of them would say nothing."""
    matrix = clusters(1, 100)

    shown = arrange(matrix, find_groups(matrix))

    assert len(shown.labels) == 34
    assert shown.labels[0] == "g-vm0, part 1 (3 VMs)"
    assert [(block.group, block.count) for block in shown.blocks] == [("g-vm0", 34)]
    assert shown.rate.sum() == pytest.approx(matrix.rate().sum())


def test_too_many_groups_to_read_have_one_row_for_the_faint_ones() -> None:
    matrix = clusters(50, 2)

    shown = arrange(matrix, find_groups(matrix))

    assert len(shown.labels) == 40
    assert shown.labels[-1] == "11 other groups (22 VMs)"
    assert shown.rate.sum() == pytest.approx(matrix.rate().sum())


def test_levels_are_by_powers_of_ten_and_nothing_is_level_zero() -> None:
    rate = np.array([[0.0, 1e-9], [10.0, 1e6]])

    assert levels(rate, 6).tolist() == [[0, 1], [1, 6]]
    assert levels(np.array([[1e4, 1e6]]), 6).tolist() == [[2, 6]]
    assert not levels(np.zeros((2, 2)), 8).any()


# --- terminal ----------------------------------------------------------------------------------------


def test_the_heat_map_can_be_read_without_colours() -> None:
    weights = np.zeros((3, 3))
    weights[0, 1], weights[1, 0] = 1e6, 1e4
    matrix = matrix_of(weights)

    lines = printed(heat_map(matrix, find_groups(matrix))).splitlines()

    assert lines[1:4] == ["vm0  1   ██  ·", "vm1  2 ▒▒    ·", ""]


def test_the_heat_map_has_colours_on_a_terminal() -> None:
    matrix = clusters(2, 3)

    assert "\x1b[" in printed(heat_map(matrix, find_groups(matrix)), colour=True)


def test_a_matrix_of_nobody_is_said_in_words() -> None:
    assert printed(heat_map(matrix_of(np.zeros((0, 0))), ())) == "no VM was seen\n"


def test_the_pairs_that_exchange_most_come_first() -> None:
    weights = np.zeros((3, 3))
    weights[0, 1], weights[2, 1], weights[1, 2] = 500, 400, 200

    matrix = matrix_of(weights)
    assert top_pairs(matrix, 9) == (
        BusyPair(VmName("vm1"), VmName("vm2"), 200.0, 400.0),
        BusyPair(VmName("vm0"), VmName("vm1"), 500.0, 0.0),
    )
    assert len(top_pairs(matrix, 1)) == 1


def test_what_a_vm_sends_itself_is_no_pair() -> None:
    assert top_pairs(matrix_of([[9, 0], [0, 0]]), 9) == ()


def test_names_are_printed_as_they_are_and_never_as_markup() -> None:
    matrix = replace(matrix_of([[0, 9], [9, 0]]), vms=(VmName("[red]a[/red]"), VmName("[/bold]")))
    groups = find_groups(matrix)

    text = printed(heat_map(matrix, groups), groups_table(groups), pairs_table(matrix))

    assert text.count("[red]a[/red]") >= 3
    assert text.count("[/bold]") >= 3


def test_a_group_of_many_is_named_in_part() -> None:
    matrix = clusters(1, 60)

    assert "and 36 more" in printed(groups_table(find_groups(matrix))).replace("\n", " ")


def test_what_else_a_capture_holds_is_told_in_words() -> None:
    found = analysis()

    said = printed(
        rest_of(found.matrix),
        networks_table(found.matrix),
        unattributed_table(found.unattributed),
        phases_table(found.phases),
        groups_table(found.groups, found.patterns),
        *cut_lines(found.cut, billed=True),
    )

    assert "to the outside 70 B, from it 30 B, broadcast and multicast 11 B, of no VM 22 B" in said
    assert re.search(r"campus +60 B +0 B", said)
    assert re.search(r"outside, unnamed +10 B +30 B", said)
    assert re.search(r"192\.0\.2\.1 +52:54:00:00:00:09 +22 B +1\n", said)
    assert re.search(r"00:00:00 +2s +pipeline \(88%\) +2\.5 GB/s", said)
    assert re.search(r"g-web .* 100% +75% +pipeline *\n", said)
    assert "cut: 750 B/s between clouds, $0.25/h of egress\n  a to b: 750 B/s" in said
    assert found.forecast is not None
    assert forecast_words(found.forecast) == (
        "The next 1s: 5 GB/s between VMs (the last again; error so far 12%)"
    )


def test_more_phases_than_can_be_read_are_counted() -> None:
    said = printed(phases_table(analysis().phases * 20))

    assert said.count("pipeline") == 12
    assert "and 8 more" in said
