"""The step that takes another back: it isn't in the plan, and has lines of its own in the journal."""

from dataclasses import replace

from transhume.knowledge.model.decision import Plan, Step
from transhume.knowledge.model.names import StepId

UNDO_SUFFIX = "~undo"


def reversed_step(step: Step) -> Step:
    """Return the step that takes a done step back."""
    return replace(
        step,
        id=StepId(step.id + UNDO_SUFFIX),
        source=step.destination,
        destination=step.source,
        source_cloud=step.destination_cloud,
        destination_cloud=step.source_cloud,
        reason=f"undoes the move to {step.destination_cloud}",
        saving_dollars_per_hour=-step.saving_dollars_per_hour,
        payback_seconds=None,
        deadline=None,
    )


def step_of(plan: Plan, step_id: StepId) -> Step | None:
    """Return the step of a plan, or the undoing of one, that has this id."""
    wanted = step_id.removesuffix(UNDO_SUFFIX)
    found = next((step for step in plan.steps if step.id == wanted), None)
    return reversed_step(found) if found and wanted != step_id else found
