"""Several policies over one VM: the strictest wins."""

from collections.abc import Iterable

from transhume.knowledge.model import Vm
from transhume.policies.model import MigrationTerms, Mode, Policy

_FROM_TIMID_TO_BOLD = tuple(Mode)


def strictest(modes: Iterable[Mode]) -> Mode:
    """Return the most timid of the modes; where there is none, nobody allowed anything: recommend."""
    return min(modes, key=_FROM_TIMID_TO_BOLD.index, default=Mode.RECOMMEND)


def mode_for(policies: Iterable[Policy], vm: Vm) -> Mode:
    """Return what may be done with a plan that moves this VM."""
    return strictest(policy.mode for policy in policies if policy.governs(vm))


def terms_for(policies: Iterable[Policy], vm: Vm) -> MigrationTerms:
    """Return how a VM may be moved: the shortest times, and what all policies that say anything allow."""
    told = [policy.migration for policy in policies if policy.migration and policy.governs(vm)]
    after = [terms.post_copy_after_seconds for terms in told]
    allowed = [seconds for seconds in after if seconds is not None]
    copies = bool(told) and all(terms.copy_disks for terms in told)
    post_copies = allowed and len(allowed) == len(told) and not copies
    return MigrationTerms(
        pause_seconds=_least(terms.pause_seconds for terms in told),
        at_most_seconds=_least(terms.at_most_seconds for terms in told),
        post_copy_after_seconds=max(allowed) if post_copies else None,
        copy_disks=copies,
    )


def _least(seconds: Iterable[float | None]) -> float | None:
    return min((each for each in seconds if each is not None), default=None)
