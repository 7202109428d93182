"""Where each address is, as one site knows it, and as several agree on it whatever happens to messages."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transhume.execute.overlay.agent.events import (
    Acknowledge,
    Applied,
    Apply,
    Arriving,
    Awaited,
    Began,
    Event,
    Expect,
    Hold,
    Instruction,
    Leaving,
    Look,
    Looked,
    Offer,
    Present,
    Read,
    Retire,
    Runs,
    SendOn,
    Sighted,
    Stopped,
    Ticked,
    Told,
)
from transhume.execute.overlay.agent.site import SiteAddresses
from transhume.execute.overlay.routes import Route
from transhume.knowledge.model import (
    Binding,
    BindingState,
    Interface,
    IpAddress,
    MacAddress,
    SiteName,
    VmName,
)
from transhume.knowledge.register import Entry, Whole

A, B, C = map(SiteName, "abc")
VTEPS = {A: IpAddress("192.0.2.1"), B: IpAddress("192.0.2.2"), C: IpAddress("192.0.2.3")}
MAC = MacAddress("52:54:00:00:00:01")
VM = VmName("vm1")
TAP = Interface(mac=MAC, device="vnet0")


def site(name: SiteName = A) -> SiteAddresses:
    return SiteAddresses(name, 66, VTEPS)


def bound(
    at: SiteName,
    sequence: int = 1,
    state: BindingState = BindingState.SETTLED,
    origin: SiteName | None = None,
) -> Binding:
    return Binding(vni=66, mac=MAC, site=at, sequence=sequence, state=state, origin=origin)


def told(binding: Binding, revision: int = 1) -> Told:
    return Told(entry=Entry(binding=binding, revision=revision))


def read(*bindings: Binding, revision: int = 1) -> Read:
    entries = tuple(Entry(binding=each, revision=revision) for each in bindings)
    return Read(whole=Whole(revision=revision, entries=entries))


def after(state: SiteAddresses, *events: Event, now: float = 0.0) -> list[Instruction]:
    """Return what the last event is answered with."""
    answer: list[Instruction] = []
    for event in events:
        answer = state.handle(event, now)
        state.check_invariants()
    return answer


def offered(instructions: Sequence[Instruction]) -> list[Binding]:
    return [b for each in instructions if isinstance(each, Offer) for b in each.bindings]


def applied(instructions: Sequence[Instruction]) -> list[Route]:
    return [r for each in instructions if isinstance(each, Apply) for r in each.routes]


LEAVING = Leaving(destination_of={MAC: B})
STOPPED = Stopped(vm=VM, interfaces=(TAP,))
RUNS = Runs(vm=VM, interfaces=(TAP,))


def test_an_address_elsewhere_is_sent_there_and_the_revision_acknowledged() -> None:
    answer = after(site(), told(bound(B), revision=7))
    assert applied(answer) == [Route(mac=MAC, vtep=VTEPS[B])]
    assert answer[-1] == Acknowledge(revision=7)


def test_an_older_binding_changes_nothing() -> None:
    """Messages may come in any order."""
    assert applied(after(site(), told(bound(B, 3)), told(bound(C, 2), 2))) == []


def test_a_vm_that_starts_here_is_entered() -> None:
    assert offered(after(site(), RUNS)) == [bound(A)]


def test_when_an_announced_vm_stops_its_frames_are_sent_on_before_anybody_is_told() -> None:
    answer = after(site(), read(bound(A)), LEAVING, STOPPED)
    assert isinstance(answer[0], Apply)
    assert applied(answer) == [Route(mac=MAC, vtep=VTEPS[B], detour=True)]
    assert offered(answer) == [bound(B, 2, BindingState.MOVING, origin=A)]


def test_a_vm_that_nobody_announced_stops_for_itself_only() -> None:
    assert after(site(), read(bound(A)), STOPPED) == []


def test_a_stop_that_was_a_pause_is_undone_when_it_runs_here_again() -> None:
    answer = after(site(), read(bound(A)), LEAVING, STOPPED, RUNS)
    assert offered(answer) == [bound(A, 3)]
    assert applied(answer)[-1] == Route(mac=MAC, vtep=None, device="vnet0")


NOBODY_LEAVES = Leaving(destination_of={})
HELD = [Hold(devices={MAC: "vnet0"})]
LET_GO = [Hold(devices={})]


def test_the_tap_of_a_vm_is_held_from_when_its_move_is_announced_until_that_is_over() -> None:
    state = site()
    assert after(state, read(bound(A)), RUNS, LEAVING) == HELD
    assert after(state, LEAVING) == [], "it's said again and again"
    assert after(state, NOBODY_LEAVES) == LET_GO


def test_a_tap_that_isnt_known_yet_is_held_when_it_is() -> None:
    state = site()
    assert after(state, read(bound(A)), LEAVING) == []
    assert after(state, RUNS, LEAVING) == HELD


def test_only_the_taps_of_vms_that_are_here_are_held() -> None:
    assert after(site(), read(bound(C)), RUNS, told(bound(C, 9)), LEAVING) == []


def test_what_waits_is_sent_on_after_the_kernel_was_told() -> None:
    state = site()
    after(state, read(bound(A)), RUNS, LEAVING)
    answer = after(state, STOPPED)
    assert [type(each) for each in answer] == [Apply, Offer, SendOn]
    assert SendOn(macs=(MAC,)) in answer


def test_a_stop_that_nobody_announced_empties_no_tap() -> None:
    assert after(site(), read(bound(A)), RUNS, STOPPED) == []
    answer = after(site(), read(bound(A)), RUNS, LEAVING, NOBODY_LEAVES, STOPPED)
    assert answer == []


MIGRATES = replace(STOPPED, migrates=True)


def test_what_waits_for_a_vm_whose_migration_nobody_announced_is_sent_on_once_its_known_where() -> (
    None
):
    state = site()
    assert after(state, read(bound(A)), RUNS, MIGRATES) == HELD
    answer = after(state, told(bound(B, 2), 2))
    assert answer[:2] == [
        Apply(routes=(Route(mac=MAC, vtep=VTEPS[B], detour=True),)),
        SendOn(macs=(MAC,)),
    ]
    assert after(state, Leaving(destination_of={})) == []


def test_a_tap_is_let_go_of_when_a_migration_that_nobody_announced_has_failed() -> None:
    state = site()
    after(state, read(bound(A)), RUNS, MIGRATES)
    assert after(state, RUNS) == LET_GO
    assert not any(isinstance(each, SendOn) for each in after(state, told(bound(B, 2), 2)))


def test_a_tap_is_let_go_of_when_a_vm_that_migrated_is_told_of_nowhere() -> None:
    state = site()
    after(state, read(bound(A)), RUNS, MIGRATES, Present(macs=frozenset()))
    gone = after(state, Present(macs=frozenset()), now=state.timing.gone_seconds)
    assert gone[-1:] == LET_GO


def test_a_vm_that_goes_on_at_another_machine_of_the_site_is_behind_no_tap_of_this_one() -> None:
    """Its tap there has the name of a stranger's here, and the one that it had may be another's by now."""
    state = site()
    elsewhere = Runs(vm=VM, interfaces=(replace(TAP, device=""),))
    answer = after(state, read(bound(A)), RUNS, elsewhere)
    assert applied(answer) == [Route(mac=MAC, vtep=None)]
    assert after(state, LEAVING) == []


@pytest.mark.parametrize("device", ["", "vnet9"], ids=["at-another-machine", "at-this-one"])
def test_a_vm_that_moves_within_the_site_is_behind_no_tap_that_waits_for_it(device: str) -> None:
    """Its memory takes seconds or minutes to come there, and it runs meanwhile."""
    state, waits = site(), Awaited(vm=VM, interfaces=(TAP,))
    runs = Runs(vm=VM, interfaces=(replace(TAP, device=device),))
    after(state, read(bound(A)), runs)
    assert after(state, waits) == after(state, runs) == after(state, waits) == []
    assert applied(after(state, RUNS)) == [Route(mac=MAC, vtep=None, device="vnet0")]


def test_a_vm_that_is_on_its_way_here_is_behind_the_tap_that_waits_for_it() -> None:
    coming = told(bound(A, 2, BindingState.MOVING, origin=B), 2)
    answer = after(site(), read(bound(B)), coming, Awaited(vm=VM, interfaces=(TAP,)))
    assert applied(answer) == [Route(mac=MAC, vtep=None, device="vnet0")]


def test_a_tap_is_held_again_when_the_stop_was_none() -> None:
    state = site()
    after(state, read(bound(A)), RUNS, LEAVING, STOPPED)
    assert after(state, LEAVING) == []
    assert after(state, RUNS, LEAVING) == HELD
    assert SendOn(macs=(MAC,)) in after(state, STOPPED)


def test_a_tap_is_let_go_of_when_its_vm_is_found_elsewhere() -> None:
    state = site()
    after(state, read(bound(A)), RUNS, LEAVING)
    assert Hold(devices={}) in after(state, told(bound(C, 2)))
    assert after(state, LEAVING) == []


ARRIVING = Arriving(macs=frozenset({MAC}))
AWAITED = Awaited(vm=VM, interfaces=(TAP,))
EXPECTED = [Expect(devices={MAC: "vnet0"})]


def test_the_destination_is_ready_for_frames_once_the_vms_state_begins_to_arrive() -> None:
    state = site()
    assert after(state, told(bound(B)), ARRIVING) == []
    assert after(state, AWAITED) == EXPECTED
    assert after(state, ARRIVING, AWAITED) == []
    assert after(state, Arriving(macs=frozenset())) == [Expect(devices={})]


def test_a_new_agent_expects_nothing_until_it_is_told() -> None:
    assert after(site(), Began(routes={})) == [Expect(devices={})]


def test_a_tap_of_an_earlier_visit_isnt_taken_for_the_one_that_is_awaited() -> None:
    """By now it may be another VM's."""
    state = site()
    after(state, read(bound(A)), RUNS, LEAVING, STOPPED, AWAITED, told(bound(B, 2), 2))
    assert after(state, ARRIVING) == []


def test_the_destination_needs_no_readiness_any_more_when_the_vm_is_its_own() -> None:
    state = site()
    after(state, told(bound(B)), ARRIVING, AWAITED)
    after(state, told(bound(A, 2, BindingState.MOVING, origin=B), 2))
    assert after(state, ARRIVING) == [Expect(devices={})]


def test_a_vm_that_nobody_announced_isnt_expected() -> None:
    assert after(site(), told(bound(B)), AWAITED) == []


def test_the_destination_settles_what_runs_there() -> None:
    answer = after(site(B), told(bound(B, 2, BindingState.MOVING, origin=A)), RUNS)
    assert offered(answer) == [bound(B, 2)]


def test_a_first_frame_settles_it_too() -> None:
    answer = after(
        site(B),
        told(bound(B, 2, BindingState.MOVING, origin=A)),
        Sighted(mac=MAC, device="vnet3"),
    )
    assert offered(answer) == [bound(B, 2)]


def test_frames_are_sent_on_until_every_site_has_followed() -> None:
    state = site()
    after(state, read(bound(A)), LEAVING, STOPPED)
    after(state, told(bound(B, 2, BindingState.MOVING, origin=A), 2), told(bound(B, 2), 3))
    assert after(state, Applied(revision=1), now=60.0) == []
    assert after(state, Applied(revision=3), now=0.5) == [], "some may be on their way still"
    assert applied(after(state, Applied(revision=3), now=60.0)) == [Route(mac=MAC, vtep=VTEPS[B])]


def test_frames_are_sent_on_as_long_as_the_vm_runs_nowhere() -> None:
    state = site()
    after(state, read(bound(A)), LEAVING, STOPPED)
    after(state, told(bound(B, 2, BindingState.MOVING, origin=A), 2))
    assert after(state, Applied(revision=9), now=60.0) == []


def test_a_vm_that_doesnt_arrive_is_looked_for_here() -> None:
    state = site()
    after(state, read(bound(A)), LEAVING, STOPPED)
    assert Look(mac=MAC) in after(state, Ticked(), now=5.0)
    assert offered(after(state, Looked(mac=MAC, interface=TAP), now=5.1)) == [bound(A, 3)]


def test_it_is_looked_for_every_few_seconds_and_not_at_each_tick() -> None:
    """A hypervisor that is asked reads the XML of all its domains."""
    state = site()
    after(state, read(bound(A)), LEAVING, STOPPED)
    looks = []
    for quarter in range(4 * 60):
        answer = after(state, Ticked(), now=quarter / 4)
        looks += [quarter / 4 for each in answer if each == Look(mac=MAC)]
        if looks[-1:] == [quarter / 4]:
            after(state, Looked(mac=MAC, interface=None), now=quarter / 4)
    assert looks == [5.0 * number for number in range(1, 12)]


def test_a_frame_of_a_vm_from_elsewhere_is_no_proof_until_a_hypervisor_says_so() -> None:
    """A guest can send what it likes."""
    state = site()
    seen = Sighted(mac=MAC, device="vnet7")
    assert after(state, told(bound(B)), seen) == [Look(mac=MAC, device="vnet7")]
    assert after(state, Looked(mac=MAC, interface=None)) == []
    assert offered(after(state, seen, Looked(mac=MAC, interface=TAP))) == [bound(A, 2)]


def test_an_address_that_moves_by_itself_too_often_is_left_where_it_is() -> None:
    state = site()
    after(state, told(bound(B)))
    for number in range(5):
        after(state, Sighted(mac=MAC, device="vnet7"), Looked(mac=MAC, interface=TAP), now=number)
        after(state, told(bound(B, 2 * number + 3), number + 2), now=number)
    assert state.damped(5.0) == (MAC,)
    assert after(state, Sighted(mac=MAC, device="vnet7"), now=5.0) == []
    assert after(state, Sighted(mac=MAC, device="vnet7"), now=200.0) != []


def test_a_vm_that_runs_here_unannounced_is_claimed_at_once() -> None:
    assert offered(after(site(), told(bound(B)), RUNS)) == [bound(A, 2)]


def test_planned_moves_are_followed_however_many_there_are() -> None:
    """Also where a hypervisor is faster than the news of the stop."""
    state = site()
    for number in range(1, 20, 2):
        announced = told(bound(B, number), number), ARRIVING
        assert offered(after(state, *announced, RUNS)) == [bound(A, number + 1)]
    moving = told(bound(A, 30, BindingState.MOVING, origin=B), 30)
    assert offered(after(state, moving, RUNS)) == [bound(A, 30)]
    assert state.damped(0.0) == ()


def test_what_the_register_hasnt_taken_is_offered_again() -> None:
    state = site()
    after(state, RUNS)
    assert offered(after(state, Ticked(), now=0.5)) == []
    assert offered(after(state, Ticked(), now=1.5)) == [bound(A)]
    after(state, told(bound(A)))
    assert offered(after(state, Ticked(), now=9.0)) == []


def test_an_address_that_was_retired_is_forgotten() -> None:
    state = site()
    answer = after(state, read(bound(B)), read(revision=2))
    assert applied(answer) == [Route(mac=MAC, vtep=None)]
    assert state.wanted() == {}


def test_a_register_that_has_lost_its_memory_is_told_again() -> None:
    state = site()
    answer = after(state, read(bound(A), revision=9), read(revision=0))
    assert offered(answer) == [bound(A)]
    assert MAC in state.wanted()


def test_a_register_that_was_put_back_to_an_earlier_state_is_told_what_came_after() -> None:
    state = site()
    after(state, told(bound(B), 8), RUNS)
    answer = after(state, told(bound(A, 2), 9), read(bound(B), revision=8))
    assert offered(answer) == [bound(A, 2)]


def test_a_new_agent_goes_on_sending_on_what_the_last_one_did() -> None:
    state = site()
    left = {MAC: Route(mac=MAC, vtep=VTEPS[B], detour=True)}
    answer = after(state, Began(routes=left), read(bound(B, 2), revision=4))
    assert applied(answer) == [Route(mac=MAC, vtep=VTEPS[B], detour=True)]


def test_a_second_move_leads_the_first_sites_frames_straight_on() -> None:
    state = site()
    after(state, read(bound(A)), LEAVING, STOPPED)
    answer = after(state, told(bound(C, 3, BindingState.MOVING, origin=B), 3))
    assert applied(answer) == [Route(mac=MAC, vtep=VTEPS[C], detour=True)]


OLD_IP, NEW_IP = IpAddress("10.0.0.1"), IpAddress("10.0.0.2")


def named(binding: Binding, *ips: IpAddress, mac: MacAddress = MAC) -> Binding:
    return replace(binding, mac=mac, ips=ips)


@pytest.mark.parametrize(
    ("ips", "expected"),
    [
        ((NEW_IP,), [named(bound(A, 5), NEW_IP)]),
        ((OLD_IP, NEW_IP), [named(bound(A, 5), OLD_IP, NEW_IP)]),
        ((OLD_IP,), []),
        ((), []),
    ],
    ids=["other", "more", "same", "unknown"],
)
def test_an_address_whose_vm_has_other_ip_addresses_is_told_of_anew(
    ips: tuple[IpAddress, ...], expected: list[Binding]
) -> None:
    state = site()
    after(state, read(named(bound(A, 4), OLD_IP)))
    runs = Runs(vm=VM, interfaces=(replace(TAP, ips=ips),))
    assert offered(after(state, runs)) == expected
    assert offered(after(state, runs)) == []


@pytest.mark.parametrize(
    "known", [bound(A, 4, BindingState.GONE), bound(B, 4)], ids=["gone", "elsewhere"]
)
def test_a_vm_that_comes_brings_its_ip_addresses(known: Binding) -> None:
    """By then they may be others than the address had last."""
    runs = Runs(vm=VM, interfaces=(replace(TAP, ips=(NEW_IP,)),))
    answer = after(site(), read(named(known, OLD_IP)), runs)
    assert offered(answer) == [named(bound(A, 5), NEW_IP)]


OTHER_MAC = MacAddress("52:54:00:00:00:02")
FIRST, SECOND = named(bound(B, 9), OLD_IP), named(bound(C), OLD_IP, NEW_IP, mac=OTHER_MAC)


def known_as(state: SiteAddresses) -> dict[MacAddress, tuple[IpAddress, ...]]:
    return {mac: route.ips for mac, route in state.wanted().items() if route.ips}


def test_of_two_with_one_ip_address_the_one_that_came_last_has_it() -> None:
    state = site()
    after(state, told(FIRST, 1))
    assert applied(after(state, told(SECOND, 2))) == [
        Route(mac=OTHER_MAC, vtep=VTEPS[C], ips=(OLD_IP, NEW_IP)),
        Route(mac=MAC, vtep=VTEPS[B]),
    ]
    gone = replace(SECOND, state=BindingState.GONE)
    assert applied(after(state, told(gone, 3))) == [
        Route(mac=OTHER_MAC, vtep=None),
        Route(mac=MAC, vtep=VTEPS[B], ips=(OLD_IP,)),
    ]


def test_every_site_finds_the_same_owner_however_it_has_heard() -> None:
    whole = Whole(
        revision=2,
        entries=(Entry(binding=SECOND, revision=2), Entry(binding=FIRST, revision=1)),
    )
    has_read, has_heard, has_claimed = site(), site(), site(C)
    after(has_read, Read(whole=whole))
    after(has_heard, told(FIRST, 1), told(SECOND, 2))
    new = Interface(mac=OTHER_MAC, device="vnet1", ips=SECOND.ips)
    after(has_claimed, told(FIRST, 1), Runs(vm=VM, interfaces=(new,)), told(SECOND, 2))
    for state in (has_read, has_heard, has_claimed):
        assert known_as(state) == {OTHER_MAC: (OLD_IP, NEW_IP)}


def test_an_ip_address_goes_to_whose_word_the_register_takes_later() -> None:
    """What was claimed here counts as newest only until the register has taken it."""
    state = site(C)
    new = Interface(mac=OTHER_MAC, device="vnet1", ips=SECOND.ips)
    after(state, Runs(vm=VM, interfaces=(new,)), told(FIRST, 2))
    assert known_as(state) == {OTHER_MAC: (OLD_IP, NEW_IP)}
    after(state, told(SECOND, 3))
    assert known_as(state) == {OTHER_MAC: (OLD_IP, NEW_IP)}
    answer = after(state, told(replace(FIRST, sequence=10), 4))
    assert known_as(state) == {MAC: (OLD_IP,), OTHER_MAC: (NEW_IP,)}
    assert [route.mac for route in applied(answer)] == [MAC, OTHER_MAC]


def test_a_register_that_has_lost_its_memory_is_believed_on_whose_ip_address_it_is() -> None:
    state = site()
    after(state, read(FIRST, revision=90), told(SECOND, 91))
    after(state, read(SECOND, revision=1), told(FIRST, 2))
    assert known_as(state) == {MAC: (OLD_IP,), OTHER_MAC: (NEW_IP,)}


def test_a_site_without_hypervisors_gives_up_what_is_listed_there_no_more() -> None:
    """A router, say, that was replaced by another one with the same IP address."""
    state = SiteAddresses(A, 66, VTEPS, fixed=frozenset({OTHER_MAC}), only_fixed=True)
    fixed = bound(A, 1)
    answer = after(state, read(replace(fixed, mac=OTHER_MAC), bound(A, 4)))
    assert offered(answer) == [GONE]
    assert Route(mac=MAC, vtep=None) in applied(answer)
    assert [each.mac for each in state.book.bound] == [OTHER_MAC]
    assert offered(after(state, told(bound(A, 5), 2), read(bound(A, 5), revision=2))) == []


@pytest.mark.parametrize(
    "known", [bound(B), bound(A, 2, BindingState.MOVING, origin=B)], ids=["there", "on its way"]
)
def test_it_gives_up_nothing_else(known: Binding) -> None:
    state = SiteAddresses(A, 66, VTEPS, only_fixed=True)
    assert offered(after(state, read(known))) == []


NOBODY, UNSURE = Present(macs=frozenset()), Present(macs=None)
GONE = bound(A, 4, BindingState.GONE)


def test_an_address_leaves_when_no_hypervisor_has_had_its_vm_for_a_minute() -> None:
    state = site()
    after(state, read(bound(A, 4)))
    assert after(state, NOBODY, now=0.0) == []
    assert after(state, NOBODY, now=59.0) == []
    answer = after(state, NOBODY, now=60.0)
    assert offered(answer) == [GONE]
    assert applied(answer) == [Route(mac=MAC, vtep=None)]
    assert state.book.bound == ()


@pytest.mark.parametrize(
    "between", [Present(macs=frozenset({MAC})), UNSURE, RUNS], ids=["there", "unsure", "runs"]
)
def test_what_was_there_or_may_have_been_meanwhile_stays(between: Event) -> None:
    state = site()
    after(state, read(bound(A, 4)), NOBODY)
    after(state, between, now=50.0)
    assert offered(after(state, NOBODY, now=61.0)) == []
    assert offered(after(state, NOBODY, now=121.0)) == [GONE]


@pytest.mark.parametrize(
    "known", [bound(B), bound(B, 2, BindingState.MOVING, origin=A)], ids=["there", "going there"]
)
def test_an_address_that_is_elsewhere_is_not_for_us_to_retire(known: Binding) -> None:
    state = site()
    after(state, told(known), NOBODY)
    assert offered(after(state, NOBODY, now=600.0)) == []


def test_an_address_leaves_when_its_vm_has_ended_on_its_way_here() -> None:
    state = site()
    after(state, told(bound(A, 4, BindingState.MOVING, origin=B)))
    after(state, Present(macs=frozenset({MAC})), now=1.0)
    assert offered(after(state, NOBODY, now=2.0)) == []
    assert offered(after(state, NOBODY, now=61.0)) == []
    assert offered(after(state, NOBODY, now=62.0)) == [bound(A, 4, BindingState.GONE, origin=B)]


def test_a_vm_that_is_about_to_leave_keeps_its_address() -> None:
    state = site()
    after(state, read(bound(A)), LEAVING, NOBODY)
    assert offered(after(state, NOBODY, now=600.0)) == []


def test_an_address_that_no_hypervisor_has_ever_had_may_be_fixed() -> None:
    state = SiteAddresses(A, 66, VTEPS, fixed=frozenset({MAC}))
    after(state, read(bound(A)), NOBODY)
    assert offered(after(state, NOBODY, now=600.0)) == []


def test_a_vm_that_starts_after_its_address_has_left_draws_a_higher_sequence() -> None:
    assert offered(after(site(), told(GONE), RUNS)) == [bound(A, 5)]
    assert offered(after(site(B), told(GONE), RUNS)) == [bound(B, 5)]


def test_stale_news_of_an_address_that_has_left_are_not_believed() -> None:
    state = site(C)
    assert applied(after(state, told(GONE, 2), told(bound(B, 3), 3))) == []
    assert state.wanted() == {MAC: Route(mac=MAC, vtep=None)}


def test_a_frame_from_an_address_that_has_left_is_no_proof_either() -> None:
    state = site()
    seen = Sighted(mac=MAC, device="vnet7")
    assert after(state, told(GONE), seen) == [Look(mac=MAC, device="vnet7")]
    assert offered(after(state, Looked(mac=MAC, interface=TAP))) == [bound(A, 5)]


def test_nothing_is_sent_on_for_an_address_that_has_left() -> None:
    state = site()
    after(state, read(bound(A)), LEAVING, STOPPED)
    gone = bound(B, 2, BindingState.GONE)
    assert applied(after(state, told(gone, 3))) == [Route(mac=MAC, vtep=None)]
    assert state.book.detours == {}


def test_the_sequence_of_an_address_that_has_left_is_forgotten_after_an_hour() -> None:
    state = site()
    after(state, told(GONE))
    assert after(state, Ticked(), now=3599.0) == []
    assert after(state, Ticked(), now=3600.0) == [Retire(bindings=(GONE,))]
    after(state, read(revision=2), now=3601.0)
    assert state.wanted() == {}


def test_an_address_that_has_left_is_no_news_to_a_register_that_never_knew_it() -> None:
    state = site()
    after(state, told(GONE, 9))
    assert offered(after(state, read(revision=0))) == []
    assert offered(after(state, read(bound(A, 4), revision=1))) == [GONE]


def test_a_site_that_is_silent_for_long_is_waited_for_no_more() -> None:
    state = site()
    after(state, read(bound(A)), LEAVING, STOPPED)
    after(state, told(bound(B, 2, BindingState.MOVING, origin=A), 2), told(bound(B, 2), 3))
    assert after(state, Applied(revision=0, by_heard=3), now=599.0) == []
    assert after(state, Applied(revision=0, by_heard=2), now=600.0) == []
    ended = after(state, Applied(revision=0, by_heard=3), now=600.0)
    assert applied(ended) == [Route(mac=MAC, vtep=VTEPS[B])]


# --- several sites ------------------------------------------------------------------------------


@dataclass
class Federation:
    """Three sites and a register; what is published may be lost, or late, and then all is read."""

    sites: dict[SiteName, SiteAddresses] = field(
        default_factory=lambda: {n: site(n) for n in VTEPS}
    )
    register: dict[MacAddress, Binding] = field(default_factory=dict)
    revision: int = 0
    waiting: dict[SiteName, deque[Event]] = field(
        default_factory=lambda: {n: deque() for n in VTEPS}
    )
    offers: deque[Binding] = field(default_factory=deque)
    home: SiteName | None = A
    now: float = 0.0

    def event(self, name: SiteName, event: Event) -> None:
        state = self.sites[name]
        instructions = state.handle(event, self.now)
        state.check_invariants()
        for each in instructions:
            match each:
                case Offer(bindings=bindings):
                    self.offers.extend(bindings)
                case Retire(bindings=bindings):
                    self.retire(bindings)
                case Look(mac=mac):
                    found = TAP if name == self.home else None
                    self.event(name, Looked(mac=mac, interface=found))

    def register_takes(self, number: int) -> None:
        """Take one of the offers, in any order."""
        if self.offers:
            self.offers.rotate(-number)
            binding = self.offers.popleft()
            if binding.supersedes(self.register.get(binding.mac)):
                self.register[binding.mac] = binding
                self.revision += 1
                for queue in self.waiting.values():
                    queue.append(told(binding, self.revision))

    def retire(self, bindings: Sequence[Binding]) -> None:
        """Let the register forget what hasn't moved since, and all read it anew."""
        for each in bindings:
            if self.register.get(each.mac, each).sequence <= each.sequence:
                self.register.pop(each.mac, None)
        self.revision += 1
        for queue in self.waiting.values():
            queue.append(self.whole())

    def whole(self) -> Read:
        everything = tuple(Entry(binding=b, revision=self.revision) for b in self.register.values())
        return Read(whole=Whole(revision=self.revision, entries=everything))

    def ask(self, name: SiteName) -> None:
        """Ask a site's hypervisors."""
        here = name == self.home
        if here:
            self.event(name, RUNS)
        self.event(name, Present(macs=frozenset({MAC} if here else ())))

    def hear(self, name: SiteName) -> None:
        if self.waiting[name]:
            self.event(name, self.waiting[name].popleft())

    def hear_all(self) -> None:
        while self.offers:
            self.register_takes(0)
        for name in VTEPS:
            while self.waiting[name]:
                self.hear(name)

    def lose(self, name: SiteName) -> None:
        self.waiting[name].clear()
        if self.offers:
            self.offers.popleft()

    def move(self, destination: SiteName) -> None:
        """Let the VM stop here and run there, with all announcements made."""
        source, self.home = self.home, destination
        if source is not None and source != destination:
            self.event(source, Leaving(destination_of={MAC: destination}))
            self.event(source, STOPPED)
            self.event(source, Leaving(destination_of={}))
        self.event(destination, RUNS)

    def move_silently(self, destination: SiteName) -> None:
        """Let it be moved by somebody else."""
        if self.home is not None:
            self.event(self.home, MIGRATES)
        self.home = destination
        self.event(destination, RUNS)

    def lose_memory(self) -> None:
        """Let the register begin anew, and all sites read it."""
        self.register.clear()
        self.revision = 0
        for name, queue in self.waiting.items():
            queue.clear()
            self.event(name, self.whole())

    def begin_anew(self, name: SiteName) -> None:
        """Let a site's agent end, and another one begin."""
        left = {mac: route for mac, route in self.sites[name].wanted().items() if route.detour}
        self.sites[name] = site(name)
        self.waiting[name].clear()
        self.event(name, Began(routes=left))
        self.event(name, self.whole())

    def settle(self) -> None:
        """Let messages through, and time pass, for longer than what moved too often is left where it is."""
        for _ in range(24):
            self.now += 10.0
            for name in VTEPS:
                self.ask(name)
                self.event(name, Ticked())
            while self.offers:
                self.register_takes(0)
            for name in VTEPS:
                self.waiting[name].clear()
                self.event(name, self.whole())
        for name in VTEPS:
            self.event(name, Applied(revision=self.revision))


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("move"), st.sampled_from([A, B, C])),
            st.tuples(st.just("silent"), st.sampled_from([A, B, C])),
            st.tuples(st.just("take"), st.integers(0, 3)),
            st.tuples(st.just("hear"), st.sampled_from([A, B, C])),
            st.tuples(st.just("lose"), st.sampled_from([A, B, C])),
            st.tuples(st.just("seen"), st.sampled_from([A, B, C])),
            st.tuples(st.just("ask"), st.sampled_from([A, B, C])),
            st.tuples(st.just("unsure"), st.sampled_from([A, B, C])),
            st.tuples(st.just("wait"), st.sampled_from([30, 70, 4000])),
            st.tuples(st.just("end"), st.just(A)),
            st.tuples(st.just("lost memory"), st.just(A)),
            st.tuples(st.just("begin anew"), st.sampled_from([A, B, C])),
        ),
        max_size=40,
    )
)
@settings(deadline=None, max_examples=300)
def test_whatever_is_lost_or_late_all_sites_find_the_vm_in_the_end(
    happens: list[tuple[str, SiteName | int]],
) -> None:
    world = Federation()
    world.event(A, RUNS)
    for what, value in happens:
        world.now += 0.1
        match what, value:
            case "move", str():
                world.move(SiteName(value))
            case "silent", str():
                world.move_silently(SiteName(value))
            case "take", int():
                world.register_takes(value)
            case "hear", str():
                world.hear(SiteName(value))
            case "lose", str():
                world.lose(SiteName(value))
            case "seen", str():
                world.event(SiteName(value), Sighted(mac=MAC, device="vnet0"))
            case "ask", str():
                world.ask(SiteName(value))
            case "unsure", str():
                world.event(SiteName(value), UNSURE)
            case "wait", int():
                world.now += value
                for name in VTEPS:
                    world.event(name, Ticked())
            case "end", _:
                world.home = None
            case "lost memory", _:
                world.lose_memory()
            case "begin anew", str():
                world.begin_anew(SiteName(value))
    world.settle()
    if world.home is None:
        # What has left one site and never ran at the other is waited for.
        ended = world.register.get(MAC, GONE)
        assert ended.state in (BindingState.GONE, BindingState.MOVING)
        if ended.state is BindingState.GONE:
            routes = [each for state in world.sites.values() for each in state.wanted().values()]
            assert all(each == Route(mac=MAC, vtep=None) for each in routes)
        return
    for name, state in world.sites.items():
        route = state.wanted()[MAC]
        expected = None if name == world.home else VTEPS[world.home]
        assert (route.vtep, route.detour) == (expected, False), (name, route)


@pytest.mark.parametrize("loser", [A, B, C], ids=str)
def test_a_partition_that_heals_ends_with_the_newest_move(loser: SiteName) -> None:
    world = Federation()
    world.event(A, RUNS)
    world.settle()
    world.move(B)
    world.lose(loser)
    world.move(C)
    world.settle()
    assert {state.book.known[MAC].site for state in world.sites.values()} == {C}


def test_a_site_that_knows_more_than_an_emptied_register_follows_who_begins_anew() -> None:
    """Nobody is left who would tell of the sequence that it has heard last."""
    world = Federation()
    world.event(A, RUNS)
    for destination in (B, A, B, A):
        world.move(destination)
        world.hear_all()
    world.sites |= {A: site(A), B: site(B)}
    world.lose_memory()
    world.event(A, RUNS)
    world.hear_all()
    assert world.sites[C].wanted()[MAC].vtep == VTEPS[A]
    world.move(B)
    world.hear_all()
    assert world.register == {MAC: bound(B, 2)}
    assert world.sites[C].wanted()[MAC].vtep == VTEPS[B]


def test_a_site_that_has_heard_that_an_address_is_gone_follows_who_begins_anew() -> None:
    world = Federation(register={MAC: GONE}, revision=1)
    for name in VTEPS:
        world.event(name, world.whole())
    world.sites[A] = site(A)
    world.lose_memory()
    world.event(A, RUNS)
    world.hear_all()
    assert world.register == {MAC: bound(A)}
    assert world.sites[C].wanted()[MAC].vtep == VTEPS[A]


@pytest.mark.parametrize("anew", [A, B], ids=["where it was", "elsewhere"])
@pytest.mark.parametrize("last", [bound(A, 3), bound(A, 1, BindingState.GONE)], ids=["3", "gone"])
def test_a_site_that_was_cut_off_finds_an_address_that_was_retired_and_began_anew(
    last: Binding, anew: SiteName
) -> None:
    """What it has known last ranks above what is so now, and would be believed for ever."""
    world = Federation(register={MAC: last}, revision=1)
    for name in VTEPS:
        world.event(name, world.whole())
    world.retire([last])
    for name in (A, B):
        world.hear(name)
    world.home = anew
    world.event(anew, RUNS)
    world.register_takes(0)
    assert world.register == {MAC: bound(anew)}, "as if it had never been"
    world.lose(C)
    world.event(C, world.whole())
    assert world.sites[C].wanted() == {MAC: Route(mac=MAC, vtep=VTEPS[anew])}


def test_a_site_whose_own_word_was_retired_believes_who_has_the_address_since() -> None:
    """It was cut off when its retirement was taken, and must not say once more that the address is gone."""
    last = bound(A, 7, BindingState.GONE)
    state = site()
    after(state, read(last))
    offers = after(state, read(bound(B), revision=2))
    assert not any(isinstance(each, Offer) for each in offers)
    assert state.wanted() == {MAC: Route(mac=MAC, vtep=VTEPS[B])}


def test_ip_addresses_that_change_dont_count_as_moves_that_nobody_announced() -> None:
    state = site()
    after(state, read(), RUNS)
    for number in range(9):
        changed = Interface(mac=MAC, ips=(IpAddress(f"10.66.0.{number + 20}"),), device="vnet0")
        after(state, Runs(vm=VM, interfaces=(changed,)))
    assert state.damped(0.0) == ()
    settled = state.book.known[MAC]
    assert settled.sequence == 1 + state.timing.moves, "nor are they followed without end"
    after(state, Told(entry=Entry(binding=replace(settled, site=B, sequence=99), revision=9)))
    after(state, RUNS)
    assert state.book.known[MAC].site == A


def test_what_the_register_hasnt_taken_yet_isnt_taken_for_retired() -> None:
    state = site()
    after(state, read(bound(A)), LEAVING, STOPPED)
    assert applied(after(state, read(bound(A), revision=2))) == []
    assert state.book.detours.keys() == {MAC}


def test_two_vms_with_one_address_dont_fight_for_it_for_ever() -> None:
    world = Federation()
    sequences = []
    for _ in range(60):
        for name in (A, B):
            world.event(name, RUNS)
            world.hear_all()
        sequences.append(world.register[MAC].sequence)
        world.now += 3.0
    assert sequences[-1] <= 11, "five claims of each, after the first"
    assert sequences[10:] == sequences[-1:] * 50
    assert MAC in world.sites[A].damped(world.now - 3.0) + world.sites[B].damped(world.now - 3.0)
