"""Several policies over one VM."""

import pytest

from transhume.knowledge.model import Resources, Vm, VmName
from transhume.policies.composition import mode_for, strictest, terms_for
from transhume.policies.model import MigrationTerms, Mode, Policy, Selector

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


def terms(**said: float | bool) -> Policy:
    return Policy(name="p", source="p.yaml", migration=MigrationTerms(**said))


def test_the_shortest_times_that_any_policy_says_count() -> None:
    both = [
        terms(pause_seconds=0.3),
        terms(pause_seconds=0.2, at_most_seconds=60.0),
        Policy(name="q", source="q"),
    ]
    found = terms_for(both, VM)
    assert (found.pause_seconds, found.at_most_seconds) == (0.2, 60.0)


def test_post_copy_and_copied_disks_need_the_word_of_each_policy_that_says_anything() -> None:
    post, copy = terms(post_copy_after_seconds=60.0), terms(copy_disks=True)
    assert terms_for([post], VM).post_copy_after_seconds == 60.0
    assert terms_for([post, terms(pause_seconds=1.0)], VM).post_copy_after_seconds is None
    assert terms_for([copy], VM).copy_disks
    assert not terms_for([copy, terms(pause_seconds=1.0)], VM).copy_disks
    assert terms_for([post, copy], VM) == MigrationTerms()


def test_where_no_policy_says_how_vms_are_moved_nothing_is_asked_for() -> None:
    assert terms_for([Policy(name="q", source="q")], VM) == MigrationTerms()
