"""Several policies over one VM."""

import pytest

from transhume.knowledge.model import Resources, Vm, VmName
from transhume.policies.composition import mode_for, strictest
from transhume.policies.model import Mode, Policy, Selector

VM = Vm(
    name=VmName("web-1"),
    uuid="1",
    needs=Resources(vcpus=1, memory_bytes=1),
    tags=frozenset({"web"}),
)


def policy(mode, **who):
    return Policy(name=mode.value, source="p.yaml", mode=mode, applies_to=Selector(**who))


@pytest.mark.parametrize(
    ("modes", "wins"),
    [
        ([Mode.AUTO, Mode.RECOMMEND, Mode.APPROVE], Mode.RECOMMEND),
        ([Mode.AUTO, Mode.APPROVE], Mode.APPROVE),
        ([Mode.AUTO], Mode.AUTO),
        ([], Mode.RECOMMEND),
    ],
    ids=["all", "two", "one", "none"],
)
def test_the_most_timid_mode_wins(modes, wins):
    assert strictest(modes) is wins


def test_only_the_policies_that_govern_a_vm_count_for_it():
    policies = [
        policy(Mode.AUTO),
        policy(Mode.APPROVE, tags=("web",)),
        policy(Mode.RECOMMEND, tags=("db",)),
    ]
    assert mode_for(policies, VM) is Mode.APPROVE


def test_nobody_moves_a_vm_that_no_policy_governs():
    assert mode_for([policy(Mode.AUTO, tags=("db",))], VM) is Mode.RECOMMEND
