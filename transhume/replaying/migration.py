"""What a move takes in a replay: the planner's own formula, calibrated on recorded moves.

The factors (bytes sent for each byte of memory and of disks) and the guest's pause are learnt once, from all
recorded moves, with the same estimator that a daemon learns with. Where nothing was recorded, the planner's
assumptions hold, less what deduplication spares. Moves that share a link at a time share what it carries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from transhume.knowledge.model import (
    CloudName,
    EgressTariff,
    Outcome,
    Prediction,
    PriceTick,
    Snapshot,
    StepResult,
    Vm,
)
from transhume.plan import PlannerSettings
from transhume.plan.disk_estimate import DiskEstimate
from transhume.plan.estimate import Estimator
from transhume.plan.returns import Returns
from transhume.policies.model import Policy
from transhume.replaying.trace import Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationModel:
    """Predicts moves of a federation. Build it with `calibrated`."""

    settings: PlannerSettings
    """The planner's, with what was learnt in the place of what was assumed."""
    estimator: Estimator
    learnt_from: int
    """How many recorded moves the factor comes from."""

    @classmethod
    def calibrated(
        cls,
        facts: Facts,
        outcomes: Sequence[Outcome],
        *,
        at: datetime,
        settings: PlannerSettings,
        deduplication: float = 0.0,
    ) -> "MigrationModel":
        """Return the model for a federation, given how moves went."""
        done = [o for o in outcomes if o.result is StepResult.DONE and o.measured is not None]
        known = _snapshot(facts, tuple(done), at)
        assumed = replace(
            settings,
            memory_factor=settings.memory_factor * (1 - deduplication),
            disk_factor=settings.disk_factor * (1 - deduplication),
        )
        learnt = Estimator.learnt_from(known, assumed)
        found = replace(
            settings,
            memory_factor=learnt.factor,
            disk_factor=learnt.disks.factor,
            common_disks=learnt.disks.common,
            downtime_seconds=learnt.downtime_seconds,
        )
        return cls(
            settings=found,
            # What VMs that went a way again have sent is the recording's, and not the replay's.
            estimator=replace(
                learnt, snapshot=_snapshot(facts, (), at), settings=found, returns=Returns()
            ),
            learnt_from=len(done),
        )

    def under(self, policies: Sequence[Policy]) -> "MigrationModel":
        """Return the model where these policies say whose disks are copied."""
        estimator = self.estimator
        disks = DiskEstimate.learnt_from(estimator.snapshot, policies, (), self.settings)
        return replace(self, estimator=replace(estimator, disks=disks))

    def predict(
        self,
        vm: Vm,
        source: CloudName,
        destination: CloudName,
        prices: Mapping[CloudName, PriceTick],
    ) -> Prediction:
        """Return what a move takes at these prices, alone on its link; a price that is missing is 0."""
        here, there = (
            prices.get(cloud, PriceTick(cloud=cloud, at=_NEVER, dollars_per_vcpu_hour=0.0))
            for cloud in (source, destination)
        )
        tariff = EgressTariff(clouds=self.estimator.snapshot.clouds, prices={source: here})
        egress = tariff.dollars_per_gb(source, destination)
        return self.estimator.predict(vm, source, destination, there, egress)


_NEVER = datetime.min.replace(tzinfo=UTC)


def _snapshot(facts: Facts, outcomes: tuple[Outcome, ...], at: datetime) -> Snapshot:
    return Snapshot(
        version=0,
        at=at,
        clouds=facts.clouds,
        hosts=facts.hosts,
        links=facts.links,
        vms=facts.vms,
        outcomes=outcomes,
    )
