"""Rules that users write in Python: what such a rule is given, what it answers, and how it is found.

A rule is found by name among the entry points of the group `transhume.policies`, and only where a policy file
names it. Whatever goes wrong in it, leaving the process included, is told with the rule's name and goes no
further.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import entry_points
from math import isfinite
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from transhume.knowledge.model import CloudName, Snapshot, Vm, VmName

GROUP = "transhume.policies"
"""The entry points among which rules are found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a rule may look at; nothing of it can be changed."""

    snapshot: Snapshot
    vms: tuple[Vm, ...]
    """The policy's VMs that run on a known host: the rule is about these only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a rule has to say about its VMs."""

    forbidden: Mapping[tuple[VmName, CloudName], str] = field(default_factory=dict)
    """Where a VM must not be, with why, for a person. A VM that is there has to leave."""
    dollars_per_hour: Mapping[tuple[VmName, CloudName], float] = field(default_factory=dict)
    """What a VM's being there weighs more, in dollars that nobody is billed for."""


class PlannerRule(Protocol):
    """A rule of a user's own. It is asked several times a round: the same view has to give the same verdict."""

    def judge(self, view: View) -> Verdict:
        """Say where the VMs must not be, and where they would rather not be."""
        ...


Factory: TypeAlias = Callable[[Mapping[str, object]], PlannerRule]
"""What an entry point holds: makes a rule from the parameters in the policy file, or raises ValueError."""


class RuleFailed(Exception):
    """A user's rule isn't there, can't be made, or gave no verdict; the message is for whoever wrote it."""


def make_rule(name: str, parameters: Mapping[str, object]) -> PlannerRule:
    """Return the rule that an installed package brings under a name.

    Raises:
        RuleFailed: there is none, or it can't be made from these parameters.
    """
    found = entry_points(group=GROUP)
    if name not in found.names:
        known = ", ".join(sorted(found.names)) or "none"
        raise RuleFailed(
            f"no installed package brings a rule {name}; install the one that does (there are: {known})"
        )
    try:
        factory: Factory = found[name].load()
        return factory(MappingProxyType(dict(parameters)))
    except (Exception, SystemExit) as error:
        raise RuleFailed(f"rule {name}: {_said(error)}") from error


def ask(name: str, rule: PlannerRule, snapshot: Snapshot, vms: tuple[Vm, ...]) -> Verdict:
    """Return what a rule has to say.

    Raises:
        RuleFailed: it raised something, or its answer is none.
    """
    try:
        return _sound(rule.judge(View(snapshot=_read_only(snapshot), vms=vms)))
    except (Exception, SystemExit) as error:
        raise RuleFailed(f"python rule {name} failed: {_said(error)}") from error


def _sound(verdict: Verdict) -> Verdict:
    if not isinstance(verdict, Verdict):
        raise TypeError(f"judge returned {type(verdict).__name__}; it must return a Verdict")
    if not all(isfinite(dollars) for dollars in verdict.dollars_per_hour.values()):
        raise ValueError("dollars_per_hour holds what is no finite number")
    return Verdict(
        forbidden={(vm, cloud): str(why) for (vm, cloud), why in verdict.forbidden.items()},
        dollars_per_hour={
            (vm, cloud): float(dollars) for (vm, cloud), dollars in verdict.dollars_per_hour.items()
        },
    )


def _read_only(snapshot: Snapshot) -> Snapshot:
    mappings: dict[str, Any] = {
        each.name: MappingProxyType(dict(value))
        for each in fields(Snapshot)
        if isinstance(value := getattr(snapshot, each.name), Mapping)
    }
    placement = replace(
        snapshot.placement, host_of=MappingProxyType(dict(snapshot.placement.host_of))
    )
    return replace(snapshot, placement=placement, **mappings)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
