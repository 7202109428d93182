"""What the terminal and the report tell alike of a plan: each reason once."""

from transhume.knowledge.model import Plan, VmName


def reasons(plan: Plan) -> dict[str, list[VmName]]:
    """Return each reason with the VMs that it moves, in the order of the plan."""
    moved: dict[str, list[VmName]] = {}
    for step in plan.steps:
        moved.setdefault(step.reason, []).append(step.vm)
    return moved
