"""`any_of` and `ordered`: lists of clouds that VMs must be in, or are rather in."""

import pytest

from tests.unit.plan.scenario import EAGER, planned, policy, unplanned, ways
from tests.unit.plan.worlds import moved, notice, price, vm, world
from transhume.knowledge.model import CloudName, MoveKind, Plan, PriceTick, Snapshot
from transhume.plan import find_faults
from transhume.policies.model import AnyOf, ElectiveLimits, Ordered, Policy, Quota, Selector

WEB = Selector(tags=("web",))
CLOUDS = tuple(CloudName(name) for name in ("a", "b", "c"))
LEVEL = tuple(price(cloud, 0.05) for cloud in CLOUDS)


def at(
    host: str, *, room: dict[str, int] | None = None, prices: tuple[PriceTick, ...] = LEVEL
) -> Snapshot:
    """Return three clouds of a host each, and two VMs of the web at one of them."""
    there = [vm("web1", tags=["web"]), vm("web2", tags=["web"])]
    return world({host: there}, room={"a1": 4, "b1": 4, "c1": 4} | (room or {}), prices=prices)


def any_of(*clouds: str) -> Policy:
    return policy(rules=(AnyOf(who=WEB, clouds=tuple(map(CloudName, clouds))),))


def ordered(worth: float = 0.10, **parts: object) -> Policy:
    rule = Ordered(who=WEB, clouds=CLOUDS, worth_dollars_per_hour=worth)
    return policy(rules=(rule,), **parts)


def test_vms_outside_their_clouds_must_go_to_the_cheapest_of_them() -> None:
    prices = (price("a", 0.01), price("b", 0.05), price("c", 0.04))

    plan = planned(at("a1", prices=prices), any_of("b", "c"))

    assert ways(plan) == {"web1": "c", "web2": "c"}
    assert {step.kind for step in plan.steps} == {MoveKind.MANDATORY}
    assert "policy cheap wants web1 in b or c" in plan.steps[0].reason


def test_vms_within_their_clouds_leave_them_for_no_money() -> None:
    prices = (price("a", 0.001), price("b", 0.05), price("c", 0.05))

    nothing = unplanned(at("b1", prices=prices), any_of("b", "c"))

    assert "but policy cheap wants web1 in b or c" in nothing.reason


def test_where_none_of_the_clouds_has_room_that_is_said() -> None:
    nothing = unplanned(at("a1", room={"b1": 0}), any_of("b"))

    assert "policy cheap wants web1 in b; no host of b is large enough" in nothing.reason


def test_a_step_out_of_the_listed_clouds_is_a_fault() -> None:
    plan = planned(at("a1"), any_of("c"))

    assert find_faults(at("a1"), [any_of("a", "b")], plan.steps) == (
        "cheap wants web1 in a or b",
        "cheap wants web2 in a or b",
    )


def test_a_former_cloud_is_taken_before_a_later_one_though_it_is_a_little_dearer() -> None:
    prices = (price("a", 0.09), price("b", 0.05), price("c", 0.05))

    plan = planned(at("b1", prices=prices), ordered())

    assert ways(plan) == {"web1": "a", "web2": "a"}
    assert {step.kind for step in plan.steps} == {MoveKind.ELECTIVE}
    assert plan.steps[0].reason == "policy cheap takes a before b"
    assert plan.before.preference == pytest.approx(0.2)
    assert plan.after.preference == 0


def test_a_former_cloud_that_is_dearer_than_its_place_is_worth_is_left_alone() -> None:
    prices = (price("a", 0.16), price("b", 0.05), price("c", 0.05))

    assert unplanned(at("b1", prices=prices), ordered()).reason.startswith("no rule is broken")


def test_a_full_former_cloud_is_no_violation_and_the_next_in_the_list_serves() -> None:
    plan = planned(at("c1", room={"a1": 1}), ordered())

    assert sorted(ways(plan).values()) == ["a", "b"]
    full = unplanned(at("b1", room={"a1": 0}), ordered())
    assert full.unplaced == {}
    assert "no host of a is large enough" in full.reason


def test_an_evacuation_follows_the_list() -> None:
    gone = world(
        {"a1": [vm("web1", tags=["web"]), vm("web2", tags=["web"])]},
        room={"a1": 4, "b1": 1, "c1": 4},
        prices=LEVEL,
        notices=[notice("a", 600)],
    )

    assert sorted(ways(planned(gone, ordered())).values()) == ["b", "c"]


def test_a_cloud_that_is_not_listed_comes_after_all_that_are() -> None:
    prices = (*LEVEL, price("d", 0.05))
    elsewhere = at("d1", room={"d1": 4}, prices=prices)

    plan = planned(elsewhere, ordered())

    assert plan.before.preference == pytest.approx(0.6)
    assert set(ways(plan).values()) == {"a"}


def test_a_move_to_a_former_cloud_is_elective_and_rests_within_the_cool_down() -> None:
    resting = world(
        {"b1": [vm("web1", tags=["web"])]},
        room={"a1": 4, "b1": 4, "c1": 4},
        prices=LEVEL,
        outcomes=[moved("web1", ago=60)],
    )

    nothing = unplanned(resting, ordered(elective=ElectiveLimits(cooldown_seconds=3600.0)))

    assert "web1 moved not long ago" in nothing.reason


def test_the_wishes_of_two_policies_add_up() -> None:
    other = Policy(
        name="other",
        source="test",
        rules=(Ordered(who=WEB, clouds=(CloudName("c"),), worth_dollars_per_hour=0.25),),
        elective=EAGER,
    )

    plan = planned(at("a1"), ordered(), other)

    assert set(ways(plan).values()) == {"c"}, "0.20 further down one list, 0.25 up the other"
    assert plan.steps[0].reason == "policy other takes c before a"


def test_the_strictest_of_several_files_wins() -> None:
    """What one allows and the other doesn't is not allowed; a quota of either counts."""
    few = policy("few", rules=(Quota(cloud=CloudName("c"), vms=1),))
    home = Policy(name="home", source="test", rules=any_of("b", "c").rules, elective=EAGER)
    away = Policy(name="away", source="test", rules=any_of("a", "c").rules, elective=EAGER)

    plan: Plan = planned(at("a1"), home, away, few)

    assert len(plan.steps) == 1
    assert set(ways(plan).values()) == {"c"}
    (why,) = plan.unplaced.values()
    assert "policy home wants" in why
    assert "policy few allows 1 VM in c" in why
    assert "policy away wants" in why
