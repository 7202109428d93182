"""How good a plan is, in words: only what was proved is claimed."""

from transhume.knowledge.model import Plan
from transhume.quantities import format_dollars_per_hour


def standing(plan: Plan) -> str:
    """Say how far a plan can be from the best one."""
    if plan.optimal:
        return "optimal (proved)"
    gap, bound = plan.gap, plan.bound_dollars_per_hour
    if bound is None:
        return "nothing is proved of how good it is"
    if gap is None:
        above = format_dollars_per_hour(plan.after.total - bound)
        return f"within {above} of the best possible (proved)"
    return f"within {_percent(gap)} of the best possible (proved)"


def _percent(share: float) -> str:
    """Round up: what is said must hold."""
    for digits in (0, 1, 2, 3):
        step = 10.0**-digits
        if share * 100 >= 10 * step or digits == 3:
            parts = -(-share * 100 // step)
            return f"{max(parts, 1) * step:.{digits}f} %"
    raise AssertionError
