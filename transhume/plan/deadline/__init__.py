"""Jobs with a deadline on machines that may be taken away: where each runs from tick to tick. Pure."""

from transhume.plan.deadline.availability import Availability
from transhume.plan.deadline.bound import lower_bound_dollars
from transhume.plan.deadline.comparison import (
    POLICIES,
    Average,
    Comparison,
    cases_of,
    compare_policies,
)
from transhume.plan.deadline.foresight import Foresight
from transhume.plan.deadline.generated import generate
from transhume.plan.deadline.replay import Outcome, replay
from transhume.plan.deadline.safety import keeps_deadline
from transhume.plan.deadline.simple import Greedy, OnDemandOnly, UniformProgress
from transhume.plan.deadline.situation import (
    DeadlinePolicy,
    Idle,
    Job,
    Market,
    OnDemand,
    Situation,
    Spot,
    Whereabouts,
    Zone,
    ZoneName,
)

__all__ = [
    "POLICIES",
    "Availability",
    "Average",
    "Comparison",
    "DeadlinePolicy",
    "Foresight",
    "Greedy",
    "Idle",
    "Job",
    "Market",
    "OnDemand",
    "OnDemandOnly",
    "Outcome",
    "Situation",
    "Spot",
    "UniformProgress",
    "Whereabouts",
    "Zone",
    "ZoneName",
    "cases_of",
    "compare_policies",
    "generate",
    "keeps_deadline",
    "lower_bound_dollars",
    "replay",
]
