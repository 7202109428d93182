"""Reports: nothing empty in them, safe for hostile names, the same for the same data."""

import re
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from tests.unit.analyze.traffic import START, end, matrix_of, sent, window
from tests.unit.cli.analyses import analysis
from tests.unit.cli.drawing import clusters, printed, report_data, words
from transhume.analyze import find_cut, find_groups
from transhume.cli.views.bar_figures import time_line
from transhume.cli.views.heatmap import groups_table, heat_map, pairs_table
from transhume.cli.views.plans import decision, outcomes
from transhume.cli.views.report import (
    MOST_POINTS,
    ReportData,
    render_report,
    timeline_of,
    timeline_of_series,
)
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


def test_a_report_of_a_capture_has_no_empty_parts() -> None:
    text = words(render_report(report_data(clusters(2, 4))))

    for heading in ("Who talks to whom", "The same as a graph", "Groups", "Who exchanges most"):
        assert heading in text
    for heading in ("The plan", "What came of it", "Money", "The cut", "Over time", "Outside"):
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

    assert "1 move; the bill goes from $6.00/h to $3.50/h; optimal (proved)." in text
    assert "vm1: b is cheaper" in text
    assert "vm1 a b elective 1 537 MB 0s 41s $2.50/h 20m 40s" in text
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

    plain = render_report(report_data(matrix_of([[0, 9], [9, 0]])))
    assert html.count("<script") == plain.count("<script")
    assert ' onload="' not in html


def test_the_same_data_gives_the_same_report() -> None:
    data = report_data(clusters(3, 5))

    assert render_report(data) == render_report(data)


def test_a_report_of_an_analysis_tells_phases_patterns_networks_and_strangers() -> None:
    found = analysis()
    data = ReportData(
        title="tap0",
        subtitle="",
        matrix=found.matrix,
        groups=found.groups,
        patterns=found.patterns,
        phases=found.phases * 2,
        forecast=found.forecast,
        unattributed=found.unattributed,
        timeline=timeline_of_series(found.series),
    )

    text = words(render_report(data))

    assert "g-web web, a &#34;quoted&#34;, name, &lt;db&gt; &amp; Söhne pipeline (88%) 75%" in text
    assert "00:00:00 2s pipeline (88%) 2.5 GB/s" in text
    assert "error so far 12%" in text
    assert "campus 60 B 0 B outside, unnamed 10 B 30 B" in text
    assert "192.0.2.1 52:54:00:00:00:09 22 B 1" in text


def test_the_strips_of_phases_lie_below_their_bars() -> None:
    found = analysis()
    line = time_line(
        ((START, 5.0), (START + timedelta(seconds=1), 5.0)),
        (
            replace(found.phases[0], seconds=1.0),
            replace(found.phases[0], start=START + timedelta(seconds=1), seconds=30.0),
        ),
    )

    assert [(strip.x, strip.width) for strip in line.phases] == [(0.0, 500.0), (500.0, 500.0)]
    assert all(strip.y > max(bar.y + bar.height for bar in line.bars) for strip in line.phases)


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


def test_the_time_line_of_a_series_is_all_its_bytes_in_few_points() -> None:
    found = analysis()

    assert [rate for _, rate in timeline_of_series(found.series)] == [1000.0, 5000000500.0]
    many = replace(found.series, matrices=found.series.matrices * 500)
    line = timeline_of_series(many)
    assert len(line) <= MOST_POINTS
    assert timeline_of_series(replace(found.series, matrices=())) == ()
