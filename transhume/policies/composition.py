"""Several policies over one VM: the strictest wins."""

from collections.abc import Iterable

from transhume.knowledge.model import Vm
from transhume.policies.model import Mode, Policy

_FROM_TIMID_TO_BOLD = tuple(Mode)


def strictest(modes: Iterable[Mode]) -> Mode:
    """Return the most timid of the modes; where there is none, nobody allowed anything: recommend."""
    return min(modes, key=_FROM_TIMID_TO_BOLD.index, default=Mode.RECOMMEND)


def mode_for(policies: Iterable[Policy], vm: Vm) -> Mode:
    """Return what may be done with a plan that moves this VM."""
    return strictest(policy.mode for policy in policies if policy.governs(vm))
