"""Policies on recorded availability, which isn't ours to ship: skipped, saying so, where the folder is missing.

It is looked for beside the repository, or where TRANSHUME_SPOT_TRACES says.
"""

import os
from pathlib import Path

import pytest

from transhume.cli.availability_files import load_availability
from transhume.plan.deadline import Job, cases_of, compare_policies

HOUR = 3600.0
FOLDER = Path(
    os.environ.get("TRANSHUME_SPOT_TRACES")
    or Path(__file__).parents[3].resolve().parent / "shared" / "data" / "spot-traces"
)
ONE_NODE = FOLDER / "availability" / "1-node"
recorded = pytest.mark.skipif(
    not ONE_NODE.is_dir(),
    reason=f"no recorded availability in {ONE_NODE}: set TRANSHUME_SPOT_TRACES to its folder",
)


@recorded
def test_uniform_progress_spends_the_hours_that_were_published() -> None:
    """25.1 h on demand and 22.9 h on spot in the paper's third table; 24.9 and 23.1 by another's code.

    Hours of work, over the first 14 days of eight series.
    """
    availability = load_availability(ONE_NODE / "aws-10-26-2022").first(14 * 24 * HOUR)
    job = Job(work_seconds=48 * HOUR, deadline_seconds=60 * HOUR, changeover_seconds=0.2 * HOUR)
    cases = cases_of(
        availability,
        job,
        spot_dollars_per_hour=0.9731,
        on_demand_dollars_per_hour=3.06,
        starts=60,
        seed=1,
        alone=True,
    )
    (found,) = compare_policies(job, cases, ["uniform-progress"]).averages
    assert found.missed == 0
    assert found.on_demand_work_hours == pytest.approx(24.9, abs=0.5)
    assert found.spot_work_hours == pytest.approx(23.1, abs=0.5)


@recorded
@pytest.mark.parametrize("minutes", [12.0, 1.2])
def test_foresight_costs_less_than_uniform_progress_over_four_zones(minutes: float) -> None:
    availability = load_availability(ONE_NODE / "aws-02-15-2023")
    job = Job(work_seconds=48 * HOUR, deadline_seconds=60 * HOUR, changeover_seconds=minutes * 60)
    cases = cases_of(
        availability,
        job,
        spot_dollars_per_hour=0.9731,
        on_demand_dollars_per_hour=3.06,
        starts=6,
        seed=7,
    )
    ours, uniform = compare_policies(job, cases, ["foresight", "uniform-progress"]).averages
    assert ours.cost_dollars < uniform.cost_dollars
    assert (ours.missed, uniform.missed) == (0, 0)
