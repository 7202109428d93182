"""What the terminal and the report tell alike of a plan: each reason once, and the causes of a bill."""

from dataclasses import fields

from transhume.knowledge.model import CostRate, Plan, VmName

CAUSES = tuple(field.name for field in fields(CostRate))


def reasons(plan: Plan) -> dict[str, list[VmName]]:
    """Return each reason with the VMs that it moves, in the order of the plan."""
    moved: dict[str, list[VmName]] = {}
    for step in plan.steps:
        moved.setdefault(step.reason, []).append(step.vm)
    return moved
