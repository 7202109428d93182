"""The safety net under every policy: a decision after which the deadline could be lost becomes on demand.

**Invariant.** At each tick, a feasible job either runs on demand with `time left >= work left + changeover
left`, or has `time left >= work left + changeover`.

It holds at the start, as the job is feasible. It is kept by each decision that `keeps_deadline` lets through:

- On demand. Started now, it takes the whole changeover and then works without a break, so the first half of the
  invariant holds from here on, for as long as the job stays there.
- Idle. The slack shrinks by a tick; allowed where it stays at least a changeover.
- Spot. The slack shrinks by what is left of the changeover there, at most; allowed where it then still is a
  changeover. If the machine is revoked at any later tick, the second half still holds.

The second half lets the job be finished on demand from any tick on, and the first says that it is being. Hence
**no availability of spot machines, however hostile, makes a feasible job late**, whatever the policy wants. A
job that was never feasible is run on demand from the start, and is as little late as can be.
"""

from typing import assert_never

from transhume.plan.deadline.situation import (
    ON_DEMAND,
    SPECK_SECONDS,
    Idle,
    OnDemand,
    Situation,
    Spot,
    Whereabouts,
)


def keeps_deadline(situation: Situation, decision: Whereabouts) -> bool:
    """Say whether the job can be finished on demand after a tick of this, come what may."""
    match decision:
        case OnDemand():
            return True
        case Idle():
            lost_seconds = situation.tick_seconds
        case Spot():
            if decision == situation.running:
                lost_seconds = situation.changeover_left_seconds
            else:
                lost_seconds = situation.job.changeover_seconds
            if lost_seconds + situation.work_left_seconds <= situation.tick_seconds:
                return True  # done before anyone can take the machine away
        case _:
            assert_never(decision)
    slack_after = situation.slack_seconds - lost_seconds
    # Sums of floats drift by less than a speck; without it, a net that is exactly wide enough would shut.
    return slack_after >= situation.job.changeover_seconds - SPECK_SECONDS


def or_on_demand(situation: Situation, wanted: Whereabouts) -> Whereabouts:
    """Return what is wanted where that can't cost the deadline, and on demand otherwise."""
    return wanted if keeps_deadline(situation, wanted) else ON_DEMAND
