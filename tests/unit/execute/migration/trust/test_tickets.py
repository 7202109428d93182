"""Tickets: good once, for one VM of one site, for a while; each refusal is told and logged."""

import pickle
import uuid
from dataclasses import replace
from hashlib import sha256
from pathlib import PurePosixPath

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from structlog.testing import capture_logs

from tests.unit.execute.migration.trust.meeting import operator, site
from transhume.errors import Refused
from transhume.execute.migration.trust import (
    AdmissionPolicy,
    AdmissionRequest,
    AdmissionRule,
    Admissions,
    Refusal,
    TenantName,
)
from transhume.execute.migration.trust.tickets import (
    LONGEST_LIFETIME_SECONDS,
    TOKEN_BYTES,
)
from transhume.knowledge.model import VmName

SOCKETS = PurePosixPath("/run/transhume/gateway")
REQUEST = AdmissionRequest(
    vm=VmName("web-1"),
    vm_uuid="5a1d7b0e-0000-4000-8000-00000000c0de",
    tenant=TenantName("shop"),
    source="b",
    sockets=(SOCKETS / "web-1.sock",),
    most_bytes=4 << 30,
)
ANYBODY = AdmissionPolicy(rules=(AdmissionRule(sources=("*",)),), socket_folders=(SOCKETS,))
ANNE = operator("anne")


class Clock:
    """A monotonic clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admissions(clock) -> Admissions:
    return Admissions(policy=ANYBODY, clock=clock, most_open=3)


def refusal(admissions, token, *, peer=site("b"), vm=REQUEST.vm, vm_uuid=None):  # noqa: B008
    """Redeem what has to be refused; return the reason, after a look at what was logged of it."""
    with capture_logs() as logs, pytest.raises(Refused) as refused:
        admissions.redeem(token, peer=peer, vm=vm, vm_uuid=vm_uuid)
    logged = [each for each in logs if each["event"] == "ticket_refused"]
    assert [(each["reason"], each["peer"], each["vm"]) for each in logged] == [
        (refused.value.reason, str(peer), vm)
    ]
    assert logged[0]["log_level"] == "warning"
    return refused.value.reason


def test_a_ticket_gives_what_was_granted(admissions) -> None:
    ticket = admissions.grant(REQUEST, operator=ANNE)
    assert len(ticket.token) == TOKEN_BYTES
    admission = admissions.redeem(
        ticket.token, peer=site("b"), vm=REQUEST.vm, vm_uuid=REQUEST.vm_uuid
    )
    assert (admission.id, admission.operator) == (ticket.admission, "anne")
    for field in ("vm", "vm_uuid", "tenant", "source", "sockets", "most_bytes"):
        assert getattr(admission, field) == getattr(REQUEST, field)


def test_grants_and_redemptions_are_logged_without_the_token(admissions) -> None:
    with capture_logs() as logs:
        ticket = admissions.grant(REQUEST, operator=ANNE)
        admissions.redeem(ticket.token, peer=site("b"), vm=REQUEST.vm)
    who = {"vm": "web-1", "source": "b", "tenant": "shop", "admission": ticket.admission}
    granted, redeemed = logs
    assert granted.items() >= ({"event": "admission_granted", "operator": "anne"} | who).items()
    assert redeemed.items() >= ({"event": "ticket_redeemed"} | who).items()
    assert_secret(ticket.token, repr(logs))
    assert_secret(ticket.token, repr(ticket))


def assert_secret(token: bytes, words: str) -> None:
    for secret in (token, sha256(token).digest()):
        assert repr(secret) not in words
        assert secret.hex() not in words


def test_what_is_kept_of_a_ticket_cant_redeem_it(admissions) -> None:
    ticket = admissions.grant(REQUEST, operator=ANNE)
    assert ticket.token not in pickle.dumps(admissions.open)
    assert ticket.token not in pickle.dumps(list(vars(admissions)["_open"]))


def test_a_replayed_ticket_is_refused(admissions) -> None:
    ticket = admissions.grant(REQUEST, operator=ANNE)
    admissions.redeem(ticket.token, peer=site("b"), vm=REQUEST.vm)
    assert refusal(admissions, ticket.token) is Refusal.USED


def test_a_ticket_that_has_expired_is_refused(admissions, clock) -> None:
    ticket = admissions.grant(REQUEST, operator=ANNE, lifetime_seconds=30)
    clock.now += 30
    assert refusal(admissions, ticket.token) is Refusal.EXPIRED
    assert admissions.open == ()


def test_a_ticket_is_good_until_its_last_instant(admissions, clock) -> None:
    ticket = admissions.grant(REQUEST, operator=ANNE, lifetime_seconds=30)
    clock.now += 29.999
    assert admissions.redeem(ticket.token, peer=site("b"), vm=REQUEST.vm).vm == REQUEST.vm


def test_a_ticket_that_expires_unused_is_logged_once(admissions, clock) -> None:
    ticket = admissions.grant(REQUEST, operator=ANNE, lifetime_seconds=30)
    clock.now += 31
    with capture_logs() as logs:
        assert admissions.open == admissions.open == ()
    assert [(each["event"], each["admission"]) for each in logs] == [
        ("ticket_expired", ticket.admission)
    ]


def test_no_ticket_is_good_for_longer_than_an_hour(admissions, clock) -> None:
    ticket = admissions.grant(REQUEST, operator=ANNE, lifetime_seconds=1e9)
    assert ticket.lifetime_seconds == LONGEST_LIFETIME_SECONDS
    clock.now += LONGEST_LIFETIME_SECONDS
    assert refusal(admissions, ticket.token) is Refusal.EXPIRED


@pytest.mark.parametrize("lifetime", [0.0, -1.0, float("nan")])
def test_a_ticket_without_a_lifetime_is_a_mistake_of_the_caller(admissions, lifetime) -> None:
    with pytest.raises(ValueError, match="lifetime"):
        admissions.grant(REQUEST, operator=ANNE, lifetime_seconds=lifetime)
    assert admissions.open == ()


def test_the_ticket_of_another_vm_is_refused(admissions) -> None:
    ticket = admissions.grant(REQUEST, operator=ANNE)
    assert refusal(admissions, ticket.token, vm=VmName("web-2")) is Refusal.OTHER_VM


def test_a_vm_of_the_same_name_with_another_uuid_is_refused(admissions) -> None:
    ticket = admissions.grant(REQUEST, operator=ANNE)
    other = str(uuid.UUID(int=1))
    assert refusal(admissions, ticket.token, vm_uuid=other) is Refusal.OTHER_VM


@pytest.mark.parametrize(
    ("granted", "told"),
    [
        pytest.param(None, REQUEST.vm_uuid, id="the operator doesn't know it"),
        pytest.param(REQUEST.vm_uuid, None, id="the source doesn't know it"),
        pytest.param(REQUEST.vm_uuid, str(REQUEST.vm_uuid).upper(), id="in other letters"),
    ],
)
def test_a_uuid_is_compared_where_both_know_it(admissions, granted, told) -> None:
    ticket = admissions.grant(replace(REQUEST, vm_uuid=granted), operator=ANNE)
    admission = admissions.redeem(ticket.token, peer=site("b"), vm=REQUEST.vm, vm_uuid=told)
    assert admission.vm_uuid == granted


def test_the_ticket_of_another_site_is_refused(admissions) -> None:
    ticket = admissions.grant(REQUEST, operator=ANNE)
    assert refusal(admissions, ticket.token, peer=site("c")) is Refusal.OTHER_SITE


def test_an_operator_called_as_the_site_cant_redeem_its_ticket(admissions) -> None:
    ticket = admissions.grant(REQUEST, operator=operator("b"))
    assert refusal(admissions, ticket.token, peer=operator("b")) is Refusal.OTHER_SITE


def test_a_ticket_shown_by_the_wrong_one_isnt_spent(admissions) -> None:
    """Else whoever sees a ticket could stop a migration that isn't theirs."""
    ticket = admissions.grant(REQUEST, operator=ANNE)
    refusal(admissions, ticket.token, peer=site("c"))
    refusal(admissions, ticket.token, vm=VmName("web-2"))
    assert admissions.redeem(ticket.token, peer=site("b"), vm=REQUEST.vm).id == ticket.admission


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(b"", id="empty"),
        pytest.param(bytes(TOKEN_BYTES), id="zeros"),
        pytest.param(bytes(1 << 20), id="a megabyte"),
    ],
)
def test_an_unknown_ticket_is_refused(admissions, token) -> None:
    admissions.grant(REQUEST, operator=ANNE)
    assert refusal(admissions, token) is Refusal.UNKNOWN


def test_the_hash_of_a_ticket_is_no_ticket(admissions) -> None:
    ticket = admissions.grant(REQUEST, operator=ANNE)
    assert refusal(admissions, sha256(ticket.token).digest()) is Refusal.UNKNOWN


@pytest.mark.parametrize("vm", ["\udcff", "web-1\n", "wéb-1", "x" * 150])
def test_any_name_a_source_may_send_is_refused_in_order(admissions, vm) -> None:
    ticket = admissions.grant(REQUEST, operator=ANNE)
    assert refusal(admissions, ticket.token, vm=VmName(vm)) is Refusal.OTHER_VM


def test_an_endless_name_of_a_vm_isnt_logged_whole(admissions) -> None:
    ticket = admissions.grant(REQUEST, operator=ANNE)
    with capture_logs() as logs, pytest.raises(Refused) as refused:
        admissions.redeem(ticket.token, peer=site("b"), vm=VmName("x" * (1 << 20)))
    assert len(repr(logs)) + len(str(refused.value)) < 1000


def test_a_withdrawn_ticket_is_refused(admissions) -> None:
    ticket = admissions.grant(REQUEST, operator=ANNE)
    with capture_logs() as logs:
        assert admissions.withdraw(ticket.admission)
    assert [(each["event"], each["admission"]) for each in logs] == [
        ("admission_withdrawn", ticket.admission)
    ]
    assert refusal(admissions, ticket.token) is Refusal.WITHDRAWN


def test_what_isnt_open_any_more_cant_be_withdrawn(admissions) -> None:
    ticket = admissions.grant(REQUEST, operator=ANNE)
    admissions.redeem(ticket.token, peer=site("b"), vm=REQUEST.vm)
    assert not admissions.withdraw(ticket.admission)
    assert refusal(admissions, ticket.token) is Refusal.USED


def test_what_the_policy_refuses_gets_no_ticket_and_is_logged(admissions) -> None:
    admissions.policy = AdmissionPolicy(socket_folders=(SOCKETS,))
    with capture_logs() as logs, pytest.raises(Refused) as refused:
        admissions.grant(REQUEST, operator=ANNE)
    assert refused.value.reason is Refusal.NO_RULE
    assert [(each["event"], each["reason"], each["operator"]) for each in logs] == [
        ("admission_refused", "no_rule", "anne")
    ]
    assert admissions.open == ()


def test_only_so_many_tickets_are_out_at_once(admissions, clock) -> None:
    for _ in range(3):
        admissions.grant(REQUEST, operator=ANNE, lifetime_seconds=30)
    with capture_logs() as logs, pytest.raises(Refused) as refused:
        admissions.grant(REQUEST, operator=ANNE)
    assert refused.value.reason is Refusal.TOO_MANY
    assert [each["reason"] for each in logs] == ["too_many"]
    clock.now += 30
    assert admissions.grant(REQUEST, operator=ANNE)


class AnyOrder(RuleBasedStateMachine):
    """Tickets in any order of events: each redeemed at most once, and only by whom and for what it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.admissions = Admissions(policy=ANYBODY, clock=self.clock, most_open=4)
        self.tickets = []
        self.good = {}

    @rule(source=st.sampled_from("bc"), vm=st.sampled_from(["v", "w"]), seconds=st.integers(1, 9))
    def grant(self, source, vm, seconds) -> None:
        request = replace(REQUEST, source=source, vm=VmName(vm))
        room = len(self._alive()) < 4
        try:
            ticket = self.admissions.grant(request, operator=ANNE, lifetime_seconds=seconds)
        except Refused:
            assert not room
            return
        assert room
        self.tickets.append(ticket)
        self.good[ticket.token] = (source, vm, self.clock.now + seconds)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), source=st.sampled_from("bc"), vm=st.sampled_from(["v", "w"]))
    def redeem(self, data, source, vm) -> None:
        token = data.draw(st.sampled_from(self.tickets)).token
        wanted = self._alive().get(token) == (source, vm)
        try:
            self.admissions.redeem(token, peer=site(source), vm=VmName(vm))
        except Refused:
            assert not wanted
            return
        assert wanted
        del self.good[token]

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def withdraw(self, data) -> None:
        ticket = data.draw(st.sampled_from(self.tickets))
        alive = ticket.token in self._alive()
        assert self.admissions.withdraw(ticket.admission) is alive
        self.good.pop(ticket.token, None)

    @rule(seconds=st.integers(1, 5))
    def wait(self, seconds) -> None:
        self.clock.now += seconds

    @invariant()
    def what_is_open_is_what_is_good(self) -> None:
        self.admissions.check_invariants()
        found = [(each.source, each.vm) for each in self.admissions.open]
        assert found == list(self._alive().values())

    def _alive(self):
        return {
            token: (source, vm)
            for token, (source, vm, end) in self.good.items()
            if self.clock.now < end
        }


TestAnyOrder = AnyOrder.TestCase
