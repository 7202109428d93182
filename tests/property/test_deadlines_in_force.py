"""A live job against an adversary who takes spot back whenever it hurts: it is never late.

Time goes in ticks of the keeper. At each, the adversary decides whether spot is there, the planner is asked,
and its plan is carried out: each move costs a changeover, in which no work is done and VMs are on their way.
"""

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.unit.plan.test_deadlines_in_force import HOUR, at, job
from tests.unit.plan.worlds import notice
from transhume.knowledge.model import Plan, Snapshot
from transhume.plan import PlannerSettings, make_plan
from transhume.plan.deadline.keeping import TICK_SECONDS, DeadlineKeeper
from transhume.policies.model import DeadlineStrategy

CHANGEOVER_SECONDS = 60.0
"""Of each of the two VMs."""


def moves_from(
    keeper: DeadlineKeeper, snapshot: Snapshot, strategy: DeadlineStrategy
) -> dict[str, str]:
    policy = job(strategy, work=WORK, within=WITHIN, changeover=CHANGEOVER_SECONDS)
    result = make_plan(snapshot, keeper.heed(snapshot, [policy]), trigger="t")
    steps = result.steps if isinstance(result, Plan) else ()
    return {step.vm: step.destination for step in steps}


NO_SHRINKING = tuple(phase for phase in Phase if phase is not Phase.shrink)
"""An example takes seconds: shrinking one would take minutes."""
WORK, WITHIN = 0.7 * HOUR, HOUR


@settings(max_examples=examples(8), deadline=None, phases=NO_SHRINKING)
@given(
    strategy=st.sampled_from(DeadlineStrategy),
    gone=st.lists(st.booleans(), min_size=60, max_size=60),
)
def test_no_adversary_makes_a_job_late(strategy: DeadlineStrategy, gone: list[bool]) -> None:
    keeper, host, done, lost = DeadlineKeeper(PlannerSettings()), "spot1", 0.0, 0.0
    for tick, away in enumerate(gone):
        notices = [notice("spot", (tick + 2) * TICK_SECONDS)] if away else []
        moving = ["w1", "w2"] if lost > 0 else []
        hours = tick * TICK_SECONDS / HOUR
        snapshot = at(hours, host=host, done=done / WORK, notices=notices, moving=moving)
        moves = moves_from(keeper, snapshot, strategy)
        lost += CHANGEOVER_SECONDS * len(moves)
        host = next(iter(moves.values()), host)
        worked = max(0.0, TICK_SECONDS - lost)
        lost = max(0.0, lost - TICK_SECONDS)
        done = min(WORK, done + worked)
        if done >= WORK:
            break
    assert done >= WORK, (done, strategy)
