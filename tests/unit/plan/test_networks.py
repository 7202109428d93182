"""VMs don't go to clouds that lack a virtual network that they're on, whoever plans, and it's said why."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from tests.unit.plan.scenario import planned, policy, unplanned, ways
from tests.unit.plan.test_explain import flat
from tests.unit.plan.worlds import MB, notice, price, ring, traffic, vm, world
from transhume.knowledge.codec import decode, encode
from transhume.knowledge.model import (
    ONLY_NETWORK,
    CloudName,
    ClusterName,
    ConflictKind,
    Hindrance,
    Interface,
    MacAddress,
    NoPlan,
    Plan,
    PlanId,
    Snapshot,
    VirtualNetworkName,
    Vm,
    VmName,
)
from transhume.plan import ExactSolver, explain_vm, find_faults, make_plan, make_undo
from transhume.plan.by_size import LargeSolver
from transhume.plan.settings import PlannerSettings
from transhume.plan.situation import Situation
from transhume.plan.solver import Solver
from transhume.policies.model import Forbid, Pin, Policy, Selector, Spread
from transhume.replaying.descent import ReplaySolver

BLUE, GREEN = VirtualNetworkName("blue"), VirtualNetworkName("green")
EVERYWHERE = {"a": (BLUE, GREEN), "b": (BLUE, GREEN), "c": (BLUE, GREEN)}
NO_GREEN_IN_B = {**EVERYWHERE, "b": (BLUE,)}
PRICES = (price("a", 0.20), price("b", 0.05), price("c", 0.10))
ROOM = {"a1": 4, "b1": 4, "c1": 4}
OURS = Selector(vms=("green", "blue"))


def on(name: str, *networks: VirtualNetworkName | None) -> Vm:
    """Return a VM with an interface in each network."""
    interfaces = tuple(
        Interface(mac=MacAddress(f"52:54:00:00:00:{n:02x}"), network=network)
        for n, network in enumerate(networks)
    )
    return replace(vm(name), interfaces=interfaces)


def joined(snapshot: Snapshot, networks: Mapping[str, tuple[VirtualNetworkName, ...]]) -> Snapshot:
    """Return a snapshot whose clouds have these networks; nobody says anything of the others."""
    clouds = {
        name: replace(
            cloud, networks=frozenset(networks[name]) if name in networks else cloud.networks
        )
        for name, cloud in snapshot.clouds.items()
    }
    return replace(snapshot, clouds=clouds)


def colours(
    networks: Mapping[str, tuple[VirtualNetworkName, ...]] = NO_GREEN_IN_B,
    room: Mapping[str, int] = ROOM,
) -> Snapshot:
    """Return a VM in each network and one in both, all in a; b is the cheapest cloud and c the next."""
    vms = [on("blue", BLUE), on("both", BLUE, GREEN), on("green", GREEN)]
    return joined(world({"a1": vms}, room=room, prices=PRICES), networks)


def about(result: Plan | NoPlan, name: str = "green") -> str:
    return flat(explain_vm(result.explanations[VmName(name)], result.limits, 21600.0))


# where VMs go


def test_a_cheaper_cloud_without_the_network_isnt_chosen_and_the_other_vms_still_go_there() -> None:
    assert ways(planned(colours(), policy())) == {"blue": "b", "both": "c", "green": "c"}


@pytest.mark.parametrize(
    "networks",
    [
        pytest.param({}, id="nobody says what clouds have"),
        pytest.param(EVERYWHERE, id="every cloud has all"),
    ],
)
def test_where_no_network_is_lacking_nothing_changes(
    networks: Mapping[str, tuple[VirtualNetworkName, ...]],
) -> None:
    plan = planned(colours(networks), policy())

    assert ways(plan) == {"blue": "b", "both": "b", "green": "b"}
    assert replace(plan, id=PlanId("")) == replace(
        planned(joined(colours({}), {}), policy()), id=PlanId("")
    )


@pytest.mark.parametrize(
    "networks",
    [pytest.param((), id="no interface"), pytest.param((None, ""), id="on none, or not said")],
)
def test_a_vm_of_which_no_network_is_known_goes_anywhere(
    networks: tuple[VirtualNetworkName | None, ...],
) -> None:
    known = world({"a1": [on("vm1", *networks)]}, room=ROOM, prices=PRICES)

    assert ways(planned(joined(known, {"b": ()}), policy())) == {"vm1": "b"}


def test_within_its_cloud_a_vm_moves_whatever_networks_are_there() -> None:
    known = world(
        {"a1": [on("green", GREEN)]},
        room={"a1": 1, "a2": 1},
        prices=PRICES[:1],
        notices=[notice("a", 600, host="a1")],
    )

    assert ways(planned(joined(known, {"a": (BLUE,)}), policy())) == {"green": "a"}


SOLVERS = [
    pytest.param(ExactSolver(seconds=20.0), id="exact"),
    pytest.param(ReplaySolver(most_exact_vms=0), id="replay"),
    pytest.param(LargeSolver(seconds=0.5), id="large"),
]


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_heeds_networks(solver: Solver) -> None:
    if isinstance(solver, LargeSolver):
        pytest.importorskip("numba", reason="the extra [fast]")
    names = [f"vm{n:02}" for n in range(12)]
    vms = [on(name, GREEN if n % 2 else BLUE) for n, name in enumerate(names)]
    known = joined(
        world(
            {"a1": vms},
            room={"a1": 12, "b1": 12, "c1": 12},
            prices=PRICES,
            matrix=traffic(names, ring(names[::2], 2 * MB) | ring(names[1::2], 2 * MB)),
        ),
        NO_GREEN_IN_B,
    )

    plan = make_plan(known, [policy()], trigger="a test", solver=solver)

    assert isinstance(plan, Plan), plan.reason
    assert ways(plan) == {name: "c" if n % 2 else "b" for n, name in enumerate(names)}


# what must be


def test_an_evacuation_goes_where_the_network_is_though_that_is_dearer() -> None:
    fled = replace(colours(), notices=(notice("a", 600),))

    assert ways(planned(fled, policy())) == {"blue": "b", "both": "c", "green": "c"}


def test_a_vm_that_must_leave_and_has_no_cloud_with_its_network_is_told() -> None:
    fled = replace(
        colours({**NO_GREEN_IN_B, "c": (BLUE,)}),
        notices=(notice("a", 600),),
    )

    plan = planned(fled, policy(applies_to=OURS))

    assert ways(plan) == {"blue": "b"}
    assert plan.unplaced[VmName("green")] == (
        "a will be gone at 12:10:00 UTC; b doesn't have its network green; "
        "c doesn't have its network green"
    )
    assert plan.conflict is not None
    assert plan.conflict.sentence == (
        "these can't all hold: the revocation of a at 12:10:00 UTC; network green is in a only. "
        "Without any one of them the others could"
    )
    assert plan.conflict.members[1].kind is ConflictKind.NETWORK
    assert decode(Plan, encode(plan)) == plan


def test_a_pin_to_a_cloud_without_the_network_conflicts_with_the_network() -> None:
    rules = (Pin(who=Selector(vms=("green",)), cloud=CloudName("b")),)

    nothing = unplanned(colours(), policy(rules=rules, applies_to=Selector(vms=("green",))))

    assert nothing.unplaced[VmName("green")].startswith("policy cheap pins green to b; ")
    assert "b doesn't have its network green" in nothing.unplaced[VmName("green")]
    assert nothing.conflict is not None
    assert [member.text for member in nothing.conflict.members] == [
        "rule 1 of policy cheap (green in b only)",
        "network green is in a and c only",
    ]


def test_a_spread_over_clouds_without_the_network_conflicts_with_it() -> None:
    vms = [replace(on(f"vm{n}", GREEN), cluster=ClusterName("web")) for n in range(3)]
    known = joined(world({"a1": vms}, room=ROOM, prices=PRICES), NO_GREEN_IN_B)
    spread = Spread(who=Selector(clusters=(ClusterName("web"),)), minimum=3)

    result = make_plan(known, [policy(rules=(spread,))], trigger="a test")

    assert result.conflict is not None
    assert [member.kind for member in result.conflict.members] == [
        ConflictKind.RULE,
        ConflictKind.NETWORK,
    ]


def test_nobody_is_parked_where_its_network_isnt() -> None:
    swap = policy(
        rules=(
            Pin(who=Selector(vms=("vm1",)), cloud=CloudName("b")),
            Pin(who=Selector(vms=("vm2",)), cloud=CloudName("a")),
        )
    )

    def full(*in_c: VirtualNetworkName) -> Snapshot:
        known = world(
            {"a1": [on("vm1", GREEN)], "b1": [on("vm2", GREEN)]},
            room={"a1": 1, "b1": 1, "c1": 1},
            prices=PRICES,
        )
        return joined(known, {"a": (GREEN,), "b": (GREEN,), "c": in_c})

    assert len(planned(full(GREEN), swap).steps) == 3
    assert "no order of the moves" in unplanned(full(BLUE), swap).unplaced[VmName("vm1")]


# the checker


def faults(snapshot: Snapshot, *policies: Policy) -> tuple[str, ...]:
    """Return what is wrong in a snapshot with the plan that is made where every cloud has all networks."""
    plan = planned(joined(snapshot, EVERYWHERE), *policies)
    return find_faults(snapshot, policies, plan.steps)


def test_the_checker_refuses_a_plan_that_sends_a_vm_where_its_network_isnt() -> None:
    assert set(faults(colours(), policy())) == {
        "both goes to b, which doesn't have its network green",
        "green goes to b, which doesn't have its network green",
    }
    assert faults(colours({}), policy()) == ()


def test_a_plan_isnt_taken_back_to_where_a_network_is_gone() -> None:
    done = planned(colours(), policy())
    there = {step.vm: step.destination for step in done.steps}
    after = replace(colours(), placement=replace(colours().placement, host_of=there))

    back = make_undo(joined(after, {"a": (BLUE,)}), [policy()], done, trigger="a test")

    assert isinstance(back, str)
    assert "can't go back: a doesn't have its network green" in back


# what is said


def test_a_cheaper_cloud_is_told_with_the_network_that_it_lacks() -> None:
    plan = planned(colours(), policy())

    other = next(a for a in plan.explanations[VmName("green")].alternatives if a.cloud == "b")
    assert other.barred == "b doesn't have its network green"
    assert other.hindrances == (Hindrance.NETWORK,)
    assert "the cloud gets the network: b would save" in about(plan)
    assert decode(Plan, encode(plan)) == plan


def test_what_the_network_would_be_worth_is_told() -> None:
    plan, free = (planned(colours(n), policy(applies_to=OURS)) for n in (NO_GREEN_IN_B, EVERYWHERE))

    (limit,) = plan.limits
    assert (limit.kind, limit.about) == (Hindrance.NETWORK, "network green in b")
    assert limit.saves_dollars_per_hour == pytest.approx(plan.after.total - free.after.total)
    assert "network green in b: with it, $0.0" in about(plan)


def test_a_vm_that_stays_because_no_cloud_has_its_network_is_told_why() -> None:
    nothing = unplanned(
        colours({**NO_GREEN_IN_B, "c": (BLUE,)}), policy(applies_to=Selector(vms=("green",)))
    )

    assert nothing.reason.endswith("but b doesn't have its network green")
    reason = nothing.explanations[VmName("green")].reason
    assert reason.startswith("b would save $")
    assert reason.endswith("but b doesn't have its network green")


def test_a_policy_that_forbids_the_cloud_too_is_told_beside_the_network() -> None:
    rules = (Forbid(who=Selector(vms=("green",)), clouds=(CloudName("b"),)),)

    found = planned(colours(), policy(rules=rules)).explanations[VmName("green")]

    other = next(a for a in found.alternatives if a.cloud == "b")
    assert other.hindrances == (Hindrance.NETWORK, Hindrance.RULE)
    assert other.barred == "b doesn't have its network green; policy cheap forbids b to green"


def test_of_vms_that_go_as_one_those_are_named_that_are_on_the_network() -> None:
    names = ("blue", "green")
    known = joined(
        world(
            {"a1": [on("blue", BLUE), on("green", GREEN)]},
            room={"a1": 2, "b1": 2},
            prices=PRICES[:2],
            matrix=traffic(names, {names: 20 * MB, names[::-1]: 20 * MB}),
        ),
        NO_GREEN_IN_B,
    )

    nothing = unplanned(known, policy())

    together = next(
        a
        for a in nothing.explanations[VmName("blue")].alternatives
        if a.cloud == "b" and not a.alone
    )
    assert together.barred == "b doesn't have network green, which green is on"


def test_several_networks_that_are_lacking_are_all_named_and_an_overlay_without_names_is() -> None:
    lacking = planned(colours({**EVERYWHERE, "b": ()}), policy(applies_to=Selector(vms=("both",))))
    nameless = joined(
        world({"a1": [on("vm1", ONLY_NETWORK)]}, room={"a1": 1, "b1": 1}, prices=PRICES[:2]),
        {"a": (ONLY_NETWORK,), "b": ()},
    )

    other = next(a for a in lacking.explanations[VmName("both")].alternatives if a.cloud == "b")
    assert other.barred == "b doesn't have its network blue; b doesn't have its network green"
    assert "but b is no site of the overlay" in unplanned(nameless, policy()).reason


def test_nothing_is_reckoned_where_nobody_says_what_clouds_have() -> None:
    read = Situation.read(colours({}), [policy()], PlannerSettings())
    lacking = Situation.read(colours(), [policy()], PlannerSettings()).missing_networks

    assert read.missing_networks == {}
    assert lacking == {(1, "b"): ("green",), (2, "b"): ("green",)}
    assert np.array_equal(read.home, [0, 0, 0])
