"""A federation whose prices, traffic and notices an adversary sets, with the daemon's judgement at work in it.

What the loop decides is done here at once, or fails, as the adversary likes: moves take the seconds that were
predicted, and their outcomes are in the next snapshot, as a running daemon would find them. After each round
the guarantee of `docs/how-it-decides.md` is looked at from outside, on the record of what really moved.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from tests.unit.plan.worlds import NOW, price, traffic, vm, world
from transhume.knowledge.model import (
    CloudName,
    MoveKind,
    Outcome,
    Plan,
    PlanId,
    PlanStatus,
    PriceTick,
    RevocationNotice,
    Snapshot,
    Step,
    StepResult,
    VmName,
)
from transhume.knowledge.records import Effect, StoredPlan
from transhume.loop import Loop
from transhume.plan import PlannerSettings, find_faults
from transhume.plan.expectation import executed_plans
from transhume.policies.calendar import Hours
from transhume.policies.model import (
    AvailabilityGoal,
    ElectiveLimits,
    Expectation,
    Mode,
    MoveBudget,
    Policy,
    PriceGoal,
)

CLOUDS = ("a", "b", "c")
VMS = ("vm1", "vm2", "vm3", "vm4")
PAIRS = tuple((one, other) for one in VMS for other in VMS if one < other)
COOLDOWN = timedelta(hours=1)
BUDGET = MoveBudget(moves=3, per_seconds=1800.0)
FREEZE = MoveBudget(
    moves=0,
    hours=Hours(begins_minute=17 * 60, ends_minute=19 * 60, timezone=ZoneInfo("Europe/Rome")),
)
UNPOLISHED = PlannerSettings(most_polished_moves=0)
"""Which moves are made is the question, not how they are ordered; games have thousands of rounds."""
HOLD_SECONDS = 120.0
WITHIN = timedelta(minutes=10)
ROOM = 5
POLICY = Policy(
    name="restless",
    source="here",
    mode=Mode.AUTO,
    price=PriceGoal(payback_seconds=2700.0),
    availability=AvailabilityGoal(evacuate_on_notice=True),
    elective=ElectiveLimits(
        min_gain=0.05,
        hold_seconds=HOLD_SECONDS,
        cooldown_seconds=COOLDOWN.total_seconds(),
        budgets=(BUDGET, FREEZE),
    ),
    after=Expectation(expect=("price",), within_seconds=WITHIN.total_seconds()),
)


@dataclass(frozen=True, slots=True)
class Moved:
    """A move that was made, or begun and undone."""

    plan: PlanId
    vm: VmName
    at: datetime
    kind: MoveKind
    done: bool
    back: bool = False
    """It takes a plan back."""


@dataclass(slots=True)
class RestlessWorld:
    """The state of the world, what the adversary can do to it, and the rounds of the loop."""

    now: datetime = NOW
    host_of: dict[str, str] = field(default_factory=lambda: dict.fromkeys(VMS, "a1"))
    prices: dict[str, PriceTick] = field(
        default_factory=lambda: {cloud: price(cloud, 0.05) for cloud in CLOUDS}
    )
    rates: dict[tuple[str, str], float] = field(default_factory=dict)
    notices: dict[str, RevocationNotice] = field(default_factory=dict)
    outcomes: deque[Outcome] = field(default_factory=lambda: deque(maxlen=64))
    moves: list[Moved] = field(default_factory=list)
    stored: deque[StoredPlan] = field(default_factory=lambda: deque(maxlen=50))
    """The newest first, as the knowledge tells them."""
    taken_back: list[PlanId] = field(default_factory=list)
    rounds: int = 0
    version: int = 0
    failing: bool = False
    room: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CLOUDS, ROOM))
    """How many VMs each cloud holds."""
    parked: int = 0
    """How many VMs were parked on their way."""
    loop: Loop = field(default_factory=lambda: Loop(UNPOLISHED, observation_seconds=0.0))

    # --- what the adversary does -----------------------------------------------------------------

    def set_price(self, cloud: str, dollars_per_vcpu_hour: float, egress: float) -> None:
        """Let a cloud cost something else from now on."""
        self.prices[cloud] = price(cloud, dollars_per_vcpu_hour, egress=egress)

    def set_traffic(self, pair: tuple[str, str], bytes_per_second: float) -> None:
        """Let two VMs talk more or less from now on."""
        self.rates[pair] = bytes_per_second

    def revoke(self, cloud: str, seconds: float) -> None:
        """Announce that a cloud takes its machines back."""
        self.notices[cloud] = RevocationNotice(
            cloud=CloudName(cloud), at=self.now, deadline=self.now + timedelta(seconds=seconds)
        )

    def withdraw(self, cloud: str) -> None:
        """Take a notice back."""
        self.notices.pop(cloud, None)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    # --- a round ---------------------------------------------------------------------------------

    def round(self) -> None:
        """Let the loop look, do what it says, and see whether the guarantee stands."""
        self.rounds += 1
        before = self.snapshot()
        decision = self.loop.consider(before, [POLICY], executed_plans(self.stored))
        for name, effect in decision.effects:
            known = next(n for n, each in enumerate(self.stored) if each.id == name)
            assert self.stored[known].effect in (None, Effect.MISSED), "looked at twice"
            self.stored[known] = replace(self.stored[known], effect=effect)
        plan = decision.to_execute
        if plan is not None:
            self._look_at(plan, before)
            self._look_while_on_their_way(plan, before)
            self._carry_out(plan)

    def snapshot(self) -> Snapshot:
        """Return what a daemon would know."""
        self.version += 1
        there = {
            f"{cloud}1": [vm(name) for name in VMS if self.host_of[name] == f"{cloud}1"]
            for cloud in CLOUDS
        }
        matrix = traffic(VMS, {pair: rate for pair, rate in self.rates.items() if rate})
        seen = world(
            there,
            room={f"{cloud}1": room for cloud, room in self.room.items()},
            prices=[replace(tick, at=self.now) for tick in self.prices.values()],
            matrix=matrix,
            notices=tuple(self.notices.values()),
            outcomes=tuple(self.outcomes),
            version=self.version,
        )
        return replace(seen, at=self.now)

    def _look_at(self, plan: Plan, before: Snapshot) -> None:
        assert find_faults(before, [POLICY], plan.steps, undoes=plan.undoes) == ()
        if plan.undoes is not None:
            self._look_at_way_back(plan, before)
            return
        elective = [step for step in plan.steps if step.kind is MoveKind.ELECTIVE]
        if not self.notices:
            assert len(elective) == len(plan.steps), (
                "nothing but a notice makes a move mandatory here"
            )
        for step in elective:
            last = max((m.at for m in self.moves if m.done and m.vm == step.vm), default=None)
            assert last is None or last + COOLDOWN <= self.now, f"{step.vm} moved twice"
        if elective:
            self._never_a_loss(plan)
            assert FREEZE.counts_since(self.now) is None, "a move in frozen hours"
            window = self.now - timedelta(seconds=BUDGET.per_seconds)
            # Mandatory moves are spent from the budget too, and are made beyond it.
            spent = len({(m.plan, m.vm) for m in self.moves if m.at > window})
            now = len({step.vm for step in elective})
            assert spent + now <= BUDGET.moves, "more moves than the budget has"

    def _look_at_way_back(self, plan: Plan, before: Snapshot) -> None:
        """What is taken back is taken back once, as a whole, and not to what is dearer."""
        assert plan.undoes not in self.taken_back, "taken back twice"
        self.taken_back.append(plan.undoes)
        assert FREEZE.counts_since(self.now) is None, "a move in frozen hours"
        taken = next(each.plan for each in self.stored if each.id == plan.undoes)
        assert isinstance(taken, Plan)
        assert {(s.vm, s.destination_cloud) for s in plan.steps} == {
            (s.vm, s.source_cloud) for s in taken.steps
        }
        for step in plan.steps:
            last = max((m for m in self.moves if m.done and m.vm == step.vm), key=lambda m: m.at)
            assert not last.back, f"{step.vm} goes to and fro"
        assert plan.after.running <= plan.before.running + 1e-6

    def _look_while_on_their_way(self, plan: Plan, before: Snapshot) -> None:
        """Who would think again now finds nothing to do for VMs that are moving already."""
        moving = frozenset(step.vm for step in plan.steps)
        again = self.loop.rethink(replace(before, moving=moving), [POLICY])
        if isinstance(again, Plan):
            assert not moving & {step.vm for step in again.steps}

    @staticmethod
    def _never_a_loss(plan: Plan) -> None:
        """By what is known, no elective plan costs more than staying put, its migrations included."""
        if all(step.kind is MoveKind.ELECTIVE for step in plan.steps):
            assert plan.after.running + plan.after.migration <= plan.before.running + 1e-9

    def _carry_out(self, plan: Plan) -> None:
        status = PlanStatus.UNDONE if self.failing else PlanStatus.DONE
        for step in plan.steps:
            self.wait(step.prediction.seconds)
            self.outcomes.append(self._outcome(plan, step))
            back = plan.undoes is not None
            done = not self.failing
            self.moves.append(Moved(plan.id, step.vm, self.now, step.kind, done=done, back=back))
            if not self.failing:
                self.host_of[step.vm] = step.destination
            there = sum(host == step.destination for host in self.host_of.values())
            assert there <= self.room[step.destination_cloud], "more than the cloud holds"
        self.stored.appendleft(StoredPlan(plan=plan, id=plan.id, status=status, since=self.now))
        self.parked += len(plan.steps) - len({step.vm for step in plan.steps})
        self.loop.ended(plan, status, self.now)

    def _outcome(self, plan: Plan, step: Step) -> Outcome:
        return Outcome(
            plan=plan.id,
            step=step.id,
            vm=step.vm,
            source=step.source,
            destination=step.destination,
            result=StepResult.UNDONE if self.failing else StepResult.DONE,
            why="the adversary's will" if self.failing else "",
            started_at=self.now - timedelta(seconds=step.prediction.seconds),
            ended_at=self.now,
            predicted=step.prediction,
            measured=None,
        )
