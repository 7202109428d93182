"""What the policies' own rules in Python say of a situation: asked once, gathered by VM.

A rule that fails says nothing at all, so that nobody knows where its VMs may go: they stay where they are, and
the decision says why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from transhume.knowledge.model import CloudName, Snapshot, VmName
from transhume.policies.extension import RuleFailed, Verdict, ask
from transhume.policies.model import Policy, Python

At = tuple[VmName, CloudName]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """The verdicts of all rules in Python."""

    forbidden: Mapping[At, str] = field(default_factory=dict)
    """Where a VM must not be: which rule of which policy says so, and why."""
    dollars: Mapping[At, tuple[tuple[str, float], ...]] = field(default_factory=dict)
    """What being there weighs more, by policy."""
    stuck: Mapping[VmName, str] = field(default_factory=dict)
    """VMs of rules that failed, each with what failed."""

    @property
    def failures(self) -> tuple[str, ...]:
        """What failed, each once."""
        return tuple(dict.fromkeys(self.stuck.values()))


def hear(
    snapshot: Snapshot, policies: Sequence[Policy], governing: Mapping[VmName, Sequence[Policy]]
) -> Heard:
    """Ask all rules in Python about the VMs of their policies."""
    forbidden: dict[At, str] = {}
    dollars: dict[At, tuple[tuple[str, float], ...]] = {}
    stuck: dict[VmName, str] = {}
    for policy in policies:
        if not any(isinstance(rule, Python) for rule in policy.rules):
            continue
        ours = tuple(vm for vm, those in governing.items() if policy in those)
        for rule in policy.rules:
            if not isinstance(rule, Python):
                continue
            try:
                verdict = _about(
                    ours, ask(rule.name, rule.rule, snapshot, tuple(snapshot.vms[v] for v in ours))
                )
            except RuleFailed as error:
                stuck |= dict.fromkeys(ours, f"policy {policy.name}: {error}")
                continue
            for at, why in verdict.forbidden.items():
                forbidden.setdefault(
                    at, f"policy {policy.name} forbids {at[1]} to {at[0]} ({rule.name}: {why})"
                )
            for at, amount in verdict.dollars_per_hour.items():
                dollars[at] = (
                    *dollars.get(at, ()),
                    (f"policy {policy.name} ({rule.name})", amount),
                )
    return Heard(forbidden=forbidden, dollars=dollars, stuck=stuck)


def _about(vms: Sequence[VmName], verdict: Verdict) -> Verdict:
    """Leave out what a rule says of VMs that are none of its policy's business."""
    return Verdict(
        forbidden={at: why for at, why in verdict.forbidden.items() if at[0] in vms},
        dollars_per_hour={at: d for at, d in verdict.dollars_per_hour.items() if at[0] in vms},
    )
