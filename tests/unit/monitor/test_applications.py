"""The line in which an application tells its progress."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transhume.errors import UnreadableProgress
from transhume.knowledge.model import JobName, Progress
from transhume.monitor.applications import read_progress

JOB = JobName("app:blast:done")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "done", "total"),
    [
        ("120/4000", 120.0, 4000.0),
        (" 1.5 / 3\n", 1.5, 3.0),
        ("0/7", 0.0, 7.0),
        ("7/7", 7.0, 7.0),
        ("0.35", 0.35, 1.0),
        ("0", 0.0, 1.0),
        ("1", 1.0, 1.0),
        ("1e3/1e4", 1000.0, 10000.0),
    ],
)
def test_a_line_says_what_is_done_of_how_much(written: str, done: float, total: float) -> None:
    assert read_progress(JOB, written, NOW) == Progress(job=JOB, at=NOW, done=done, total=total)


@pytest.mark.parametrize(
    "written",
    ["", "half", "35%", "1.5", "5/4", "0/0", "-1/4", "1/2/3", "nan", "inf", "1/1e999", "1_0/20"],
)
def test_anything_else_is_refused_with_what_to_write(written: str) -> None:
    with pytest.raises(UnreadableProgress, match="SET key 120/4000") as refused:
        read_progress(JOB, written, NOW)
    assert JOB in str(refused.value)


@given(st.text(max_size=64))
def test_no_line_does_harm(written: str) -> None:
    try:
        progress = read_progress(JOB, written, NOW)
    except UnreadableProgress:
        return
    assert 0 <= progress.done <= progress.total
