"""A plan of one step, as it was decided."""

from datetime import UTC, datetime

from transhume.knowledge.model import (
    CloudName,
    CostRate,
    HostName,
    MoveKind,
    Plan,
    PlanId,
    Prediction,
    Step,
    StepId,
    VmName,
)

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
PREDICTION = Prediction(bytes=1 << 30, seconds=20.0, downtime_seconds=0.1, dollars=0.01)
STEP = Step(
    id=StepId("s1"),
    vm=VmName("v1"),
    source=HostName("h1"),
    destination=HostName("a1"),
    source_cloud=CloudName("home"),
    destination_cloud=CloudName("away"),
    kind=MoveKind.ELECTIVE,
    reason="away is cheaper",
    prediction=PREDICTION,
    saving_dollars_per_hour=0.5,
    payback_seconds=72.0,
)
PLAN = Plan(
    id=PlanId("p1"),
    made_at=NOON,
    made_from_version=3,
    policies=("cheap",),
    trigger="a price rose",
    steps=(STEP,),
    before=CostRate(compute=2.0),
    after=CostRate(compute=1.5),
    horizon_seconds=3600.0,
    optimal=True,
)
