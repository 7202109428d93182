"""Plans thousands of VMs at once, and proves how far from the best a plan can be.

`solve` takes an `Instance`; what it returns carries evidence that `certified_bound` checks without any of
the code that found it. Names are imported when they are first used: `solve` needs Numba (the extra `[fast]`).
"""

from typing import TYPE_CHECKING, Final

from transhume.names_on_demand import names_on_demand

if TYPE_CHECKING:
    from transhume.plan.scale.certificate import Cases, Certificate, certified_bound, is_feasible
    from transhume.plan.scale.instance import Instance
    from transhume.plan.scale.solving import Effort, Outcome, solve

_MODULES: Final = {
    "certificate": ("Cases", "Certificate", "certified_bound", "is_feasible"),
    "instance": ("Instance",),
    "solving": ("Effort", "Outcome", "solve"),
}

__all__ = [
    "Cases",
    "Certificate",
    "Effort",
    "Instance",
    "Outcome",
    "certified_bound",
    "is_feasible",
    "solve",
]

__getattr__ = names_on_demand(__name__, _MODULES)
