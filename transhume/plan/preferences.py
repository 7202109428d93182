"""What policies would rather have, in dollars per hour by VM and place: counted in decisions, billed by nobody.

Owns `ordered` and what rules in Python weigh. By `ordered`, a VM in the n-th cloud of the list is reckoned as
costing n - 1 times what a place is worth; in a cloud that isn't listed, as if it were one more at the end. What
several policies want adds up.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model import CloudName
from transhume.plan.situation import Situation
from transhume.policies.model import Ordered, Policy


def preferences(situation: Situation) -> NDArray[np.float64]:
    """Return what being in each place weighs, by VM and place; 0 where nobody has a preference."""
    weights = np.zeros((len(situation.vms), len(situation.places)))
    for policy in situation.policies:
        for rule in policy.rules:
            if isinstance(rule, Ordered):
                ranks = np.array([_rank(rule, place.cloud) for place in situation.places])
                members = list(situation.governed_by(policy, rule.who))
                weights[members] += ranks * rule.worth_dollars_per_hour
    for (name, cloud), wishes in situation.heard.dollars.items():
        there = [k for k, place in enumerate(situation.places) if place.cloud == cloud]
        weights[situation.number[name], there] += sum(amount for _, amount in wishes)
    return weights


def preferred(situation: Situation, vm: int, before: int, after: int) -> str:
    """Return which policies would rather have a VM in the place `after`, and how they say it."""
    here, there = situation.places[before].cloud, situation.places[after].cloud
    return "; ".join(_wishes(situation, vm, here, there))


def _wishes(situation: Situation, vm: int, here: CloudName, there: CloudName) -> Iterator[str]:
    for policy, rule in _orders(situation, vm):
        if _rank(rule, there) < _rank(rule, here):
            yield f"policy {policy.name} takes {there} before {here}"
    now, then = (
        dict(situation.heard.dollars.get((situation.vms[vm], c), ())) for c in (here, there)
    )
    for who in dict.fromkeys((*now, *then)):
        if then.get(who, 0.0) < now.get(who, 0.0):
            yield f"{who} weighs {there} less than {here}"


def _orders(situation: Situation, vm: int) -> Iterator[tuple[Policy, Ordered]]:
    name = situation.vms[vm]
    for policy in situation.governing[name]:
        for rule in policy.rules:
            if isinstance(rule, Ordered) and rule.who.matches(situation.snapshot.vms[name]):
                yield policy, rule


def _rank(rule: Ordered, cloud: CloudName) -> int:
    return rule.clouds.index(cloud) if cloud in rule.clouds else len(rule.clouds)
