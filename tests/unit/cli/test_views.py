"""Heat maps and reports: legible for few and for many, safe for hostile names, the same for the same data."""

import io
import re
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from rich.console import Console

from tests.unit.analyze.traffic import START, end, matrix_of, sent, window
from transhume.analyze import find_cut, find_groups
from transhume.cli.views.arrangement import arrange, levels
from transhume.cli.views.heatmap import groups_table, heat_map, pairs_table, top_pairs
from transhume.cli.views.plans import decision, outcomes
from transhume.cli.views.report import MOST_POINTS, ReportData, render_report, timeline_of
from transhume.knowledge.model import (
    CloudName,
    CommunicationMatrix,
    CostRate,
    HostName,
    Measurement,
    MoveKind,
    NoPlan,
    Outcome,
    Plan,
    PlanId,
    Prediction,
    Step,
    StepId,
    StepResult,
    VmName,
)


def clusters(count: int, size: int) -> CommunicationMatrix:
    """Return groups of VMs that talk among themselves, dealt out to the rows in turn."""
    member = np.arange(count * size) % count
    weights = np.where(member[:, None] == member[None, :], 1e6, 0.0)
    np.fill_diagonal(weights, 0.0)
    return matrix_of(weights, seconds=2.0)


def printed(*shown: object, colour: bool = False) -> str:
    out = io.StringIO()
    console = Console(
        file=out, width=200, force_terminal=colour, color_system="truecolor" if colour else None
    )
    for one in shown:
        console.print(one)
    return out.getvalue()


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

    assert list(top_pairs(matrix_of(weights))) == [
        ("vm1", "vm2", 200.0, 400.0),
        ("vm0", "vm1", 500.0, 0.0),
    ]


def test_names_are_printed_as_they_are_and_never_as_markup() -> None:
    matrix = replace(matrix_of([[0, 9], [9, 0]]), vms=(VmName("[red]a[/red]"), VmName("[/bold]")))
    groups = find_groups(matrix)

    text = printed(heat_map(matrix, groups), groups_table(groups), pairs_table(matrix))

    assert text.count("[red]a[/red]") >= 3
    assert text.count("[/bold]") >= 3


# --- report ------------------------------------------------------------------------------------------


def report_data(matrix: CommunicationMatrix) -> ReportData:
    return ReportData(title="tap0", subtitle="", matrix=matrix, groups=find_groups(matrix))


PREDICTED = Prediction(bytes=512 << 20, seconds=41, downtime_seconds=0.08, dollars=0.02)
BEFORE, AFTER = CostRate(compute=4.0, egress=2.0), CostRate(compute=3.0, migration=0.5)
STEP = Step(
    id=StepId("s1"),
    vm=VmName("vm1"),
    source=HostName("a1"),
    destination=HostName("b1"),
    source_cloud=CloudName("a"),
    destination_cloud=CloudName("b"),
    kind=MoveKind.ELECTIVE,
    reason="b is cheaper",
    prediction=PREDICTED,
    saving_dollars_per_hour=2.5,
    payback_seconds=1240.0,
)
PLAN = Plan(
    id=PlanId("p1"),
    made_at=START,
    made_from_version=1,
    policies=("cheap",),
    trigger="a's price changed",
    steps=(STEP,),
    before=BEFORE,
    after=AFTER,
    horizon_seconds=3600.0,
    optimal=True,
)
OUTCOME = Outcome(
    plan=PlanId("p1"),
    step=StepId("s1"),
    vm=VmName("vm1"),
    source=HostName("a1"),
    destination=HostName("b1"),
    result=StepResult.DONE,
    why="",
    started_at=START,
    ended_at=START + timedelta(seconds=38),
    predicted=PREDICTED,
    measured=Measurement(bytes=500 << 20, seconds=38.0, downtime_seconds=0.112),
)


def words(html: str) -> str:
    """Return what a reader sees."""
    return " ".join(
        re.sub(r"<[^>]+>", " ", html.partition("<body>")[2].partition("<script>")[0]).split()
    )


def test_a_report_of_a_capture_has_no_empty_parts() -> None:
    text = words(render_report(report_data(clusters(2, 4))))

    for heading in ("Who talks to whom", "The same as a graph", "Groups", "Who exchanges most"):
        assert heading in text
    for heading in ("The plan", "What came of it", "Money", "The cut", "Over time"):
        assert heading not in text


def test_a_report_of_the_whole_loop_tells_plan_moves_and_money() -> None:
    matrix = clusters(2, 3)
    cloud_of = {vm: CloudName("ab"[place % 3 == 0]) for place, vm in enumerate(matrix.vms)}
    data = replace(
        report_data(matrix),
        timeline=((START, 10.0), (START + timedelta(seconds=1), 0.0)),
        cloud_of=cloud_of,
        cut=find_cut(matrix, cloud_of.__getitem__, {}),
        plan=PLAN,
        outcomes=(OUTCOME,),
        bill_before=BEFORE,
        bill_after=AFTER,
        warnings=("half of it is missing",),
    )

    html = render_report(data)
    text = words(html)

    assert "1 move; the bill goes from $6.00/h to $3.50/h, proved to be the best." in text
    assert "vm1: b is cheaper" in text
    assert "vm1 a b elective 1 537 MB 41s $2.50/h 20m 40s" in text
    assert "done 524 MB 537 MB 38s 41s 112ms 80ms" in text
    assert "before $6.00/h after $3.50/h" in text
    assert "half of it is missing" in text
    assert 'class="edge crosses"' in html


def test_a_reason_is_given_once_for_all_that_it_moves() -> None:
    steps = [
        replace(STEP, id=StepId(f"s{n}"), vm=VmName(f"vm{n}"), reason=reason)
        for n, reason in enumerate(["b is cheaper", "b has room", "b is cheaper"])
    ]
    plan = replace(PLAN, steps=tuple(steps))

    page = words(render_report(replace(report_data(clusters(1, 3)), plan=plan)))
    terminal = printed(decision(plan))

    for told in (page, terminal):
        assert "vm0, vm2: b is cheaper" in told
        assert "vm1: b has room" in told
        assert told.count("b is cheaper") == 1


def test_a_plan_that_costs_says_so() -> None:
    assert "p1: costs $2.50/h more, for the rules' sake" in printed(
        decision(replace(PLAN, before=AFTER, after=replace(AFTER, compute=5.5)))
    )


@pytest.mark.parametrize("name", ["[bold]x[/]", "[/nothing]", "a\x1b[2Jb"], ids=repr)
def test_names_in_a_terminal_are_shown_and_never_obeyed(name: str) -> None:
    vm = VmName(name)
    matrix = replace(matrix_of([[0, 9], [9, 0]]), vms=(vm, VmName("vm1")))
    plan = replace(PLAN, steps=(replace(STEP, vm=vm, reason=name),), unplaced={vm: name})

    for shown in (
        heat_map(matrix, ()),
        groups_table(find_groups(matrix)),
        pairs_table(matrix),
        decision(plan),
        outcomes([replace(OUTCOME, vm=vm, why=name)]),
    ):
        said = printed(shown)
        assert "\x1b" not in said
        assert name.replace("\x1b", "\ufffd") in said


def test_dashes_are_explained_only_where_there_are_some() -> None:
    matrix = clusters(1, 2)
    together = {vm: CloudName("a") for vm in matrix.vms}
    apart = together | {matrix.vms[0]: CloudName("b")}

    pages = [render_report(replace(report_data(matrix), cloud_of=at)) for at in (together, apart)]

    assert ["Dashed lines" in page for page in pages] == [False, True]


def test_where_there_is_no_plan_the_report_says_why() -> None:
    no_plan = NoPlan(
        made_at=START,
        made_from_version=1,
        policies=(),
        trigger="first look",
        reason="all is as cheap as it can be",
        before=BEFORE,
        unplaced={VmName("vm9"): "b is full"},
    )

    text = words(render_report(replace(report_data(clusters(1, 2)), plan=no_plan)))

    assert "No plan Because: first look all is as cheap as it can be" in text
    assert "vm9 fits nowhere: b is full" in text


@pytest.mark.parametrize(
    "matrix",
    [
        pytest.param(matrix_of(np.zeros((0, 0))), id="nobody"),
        pytest.param(matrix_of(np.zeros((3, 3))), id="a silence"),
        pytest.param(matrix_of([[0, 1], [0, 0]]), id="one byte"),
        pytest.param(clusters(4, 50), id="200 VMs"),
    ],
)
def test_any_matrix_makes_a_report(matrix: CommunicationMatrix) -> None:
    html = render_report(report_data(matrix))

    assert html.endswith("</html>")
    assert not re.search(r'="[^"]*\b(nan|inf)\b', html)
    assert len(html) < 2_000_000


def test_names_in_a_report_are_text_and_never_code() -> None:
    hostile = VmName("<script>alert('x')</script>\" onload=\"y")
    matrix = replace(matrix_of([[0, 9], [9, 0]]), vms=(hostile, VmName("vm1")))

    html = render_report(replace(report_data(matrix), title=hostile))

    assert html.count("<script>") == 1
    assert ' onload="' not in html


def test_the_same_data_gives_the_same_report() -> None:
    data = report_data(clusters(3, 5))

    assert render_report(data) == render_report(data)


# --- time line ---------------------------------------------------------------------------------------


def test_the_time_line_counts_a_frame_seen_twice_once_and_shows_silences() -> None:
    windows = [
        window(sent(end(1), end(2), 100), point="a"),
        window(sent(end(1), end(2), 90), point="b"),
        window(sent(end(1), end(2), 40), at=2.0, point="a"),
    ]

    assert [rate for _, rate in timeline_of(windows)] == [100.0, 0.0, 40.0]


def test_a_long_time_line_is_drawn_in_few_bars() -> None:
    """Even when a clock was wrong and the capture seems to last for years."""
    windows = [window(sent(end(1), end(2), 100), at=at) for at in (0.0, 1e8)]

    line = timeline_of(windows)

    assert len(line) <= MOST_POINTS
    assert sum(rate for _, rate in line) > 0
    assert timeline_of([]) == ()
