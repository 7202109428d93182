"""A plan under way in a replay: the executor's own transaction, carried out by the model of migration.

Owns which steps run and when each will have ended. Its steps are begun as the executor begins them; those that
are begun together over one link share it. What becomes of the VMs is the world's affair.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from transhume.execute.plan_transaction import PlanTransaction
from transhume.knowledge.model import (
    CloudName,
    HostName,
    MoveKind,
    Plan,
    PlanStatus,
    Prediction,
    Step,
    StepResult,
    VmName,
)

Predict = Callable[[Step], Prediction]
Obstacle = Callable[[Step], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """A step under way."""

    step: Step
    began: datetime
    takes: Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A move that was made, or begun and undone."""

    vm: VmName
    source: HostName
    destination: HostName
    kind: MoveKind
    began: datetime
    ended: datetime
    bytes: int
    dollars: float
    result: StepResult
    reason: str


@dataclass(slots=True)
class Undertaking:
    """A plan, and its steps that are under way."""

    plan: Plan
    transaction: PlanTransaction = field(init=False)
    flights: dict[VmName, Flight] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.transaction = PlanTransaction(self.plan)

    @property
    def status(self) -> PlanStatus:
        """How the plan stands."""
        return self.transaction.status()

    def make_way(self) -> None:
        """Begin nothing more but what flees."""
        self.transaction.make_way("a revocation notice came in")

    def shun(self, gone_at: Mapping[HostName, datetime]) -> None:
        """Take nobody back to hosts that will be gone, nor send anybody there who doesn't flee before."""
        self.transaction.shun(gone_at)

    def begin_ready(
        self, at: datetime, predict: Predict, obstacle: Obstacle
    ) -> Iterator[tuple[Step, Flight | str]]:
        """Begin what is ready; yield each step with its flight, or with why it is skipped."""
        while ready := self.transaction.ready():
            able: list[Step] = []
            for step in ready:
                self.transaction.begin(step)
                why = obstacle(step)
                if why:
                    self.transaction.finished(step, StepResult.SKIPPED)
                    yield step, why
                    continue
                flight = Flight(step=step, began=at, takes=predict(step))
                self.flights[step.vm] = flight
                able.append(step)
            for flight in self._shared(able):
                yield flight.step, flight
            if able:
                return

    def _shared(self, steps: list[Step]) -> list[Flight]:
        """Let steps that were begun together share their links."""
        busy: dict[frozenset[CloudName], float] = defaultdict(float)
        for step in steps:
            busy[_link(step)] += self.flights[step.vm].takes.seconds
        for step in steps:
            alone = self.flights[step.vm]
            takes = replace(alone.takes, seconds=busy[_link(step)])
            self.flights[step.vm] = replace(alone, takes=takes)
        return [self.flights[step.vm] for step in steps]

    def ended(self, flight: Flight, result: StepResult) -> None:
        """Note how a step ended."""
        del self.flights[flight.step.vm]
        self.transaction.finished(flight.step, result)

    def arriving_at(self, host: HostName) -> list[VmName]:
        """Return the VMs on their way to a host."""
        return [vm for vm, flight in self.flights.items() if flight.step.destination == host]


def _link(step: Step) -> frozenset[CloudName]:
    return frozenset((step.source_cloud, step.destination_cloud))
