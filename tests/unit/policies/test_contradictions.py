"""Rules that can't both hold, as far as the words alone say."""

import pytest

from transhume.knowledge.model import CloudName
from transhume.policies.contradictions import contradictions
from transhume.policies.model import (
    EVERYTHING,
    AnyOf,
    Forbid,
    Ordered,
    Pin,
    Quota,
    Selector,
    Spread,
    Together,
)

A, B = CloudName("a"), CloudName("b")
VM, WEB, WEB_1 = Selector(vms=("vm",)), Selector(vms=("web-*",)), Selector(vms=("web-1",))
DB, GDPR = Selector(tags=("db",)), Selector(tags=("gdpr",))
DB_OR_GDPR = Selector(tags=("db", "gdpr"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(Pin(who=VM, cloud=A), Pin(who=VM, cloud=B), id="two pins of a VM"),
        pytest.param(Pin(who=WEB, cloud=A), Pin(who=WEB_1, cloud=B), id="pins by pattern and name"),
        pytest.param(
            Pin(who=DB, cloud=A), Pin(who=DB_OR_GDPR, cloud=B), id="pins that share a tag"
        ),
        pytest.param(Pin(who=EVERYTHING, cloud=A), Pin(who=DB, cloud=B), id="pin of everything"),
        pytest.param(Pin(who=DB, cloud=A), Forbid(who=DB, clouds=(B, A)), id="pin where forbidden"),
        pytest.param(Spread(who=DB, minimum=2), Together(who=DB), id="spread and together"),
        pytest.param(
            Spread(who=WEB_1, minimum=2),
            Together(who=WEB),
            id="spread of a part of what is together",
        ),
        pytest.param(
            Spread(who=DB, minimum=2), Pin(who=EVERYTHING, cloud=A), id="spread, but pinned"
        ),
        pytest.param(
            Pin(who=DB, cloud=A), AnyOf(who=DB, clouds=(B,)), id="pinned outside its clouds"
        ),
        pytest.param(AnyOf(who=DB, clouds=(A,)), AnyOf(who=DB, clouds=(B,)), id="no common cloud"),
        pytest.param(
            AnyOf(who=DB, clouds=(A,)), Forbid(who=DB, clouds=(A, B)), id="all its clouds forbidden"
        ),
        pytest.param(
            Spread(who=DB, minimum=2), AnyOf(who=DB, clouds=(A,)), id="spread over too few clouds"
        ),
    ],
)
def test_a_contradiction_is_found_in_either_order(one, other):
    assert [found[:2] for found in contradictions([one, other])] == [(0, 1)]
    assert [found[:2] for found in contradictions([other, one])] == [(0, 1)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(Pin(who=VM, cloud=A), Pin(who=VM, cloud=A), id="a pin twice"),
        pytest.param(Pin(who=VM, cloud=A), Pin(who=WEB, cloud=B), id="pins of others"),
        pytest.param(Pin(who=DB, cloud=A), Pin(who=GDPR, cloud=B), id="pins of other tags"),
        pytest.param(Pin(who=DB, cloud=A), Forbid(who=DB, clouds=(B,)), id="forbidden elsewhere"),
        pytest.param(
            Spread(who=WEB, minimum=2), Pin(who=WEB_1, cloud=A), id="one of several pinned"
        ),
        pytest.param(Spread(who=EVERYTHING, minimum=2), Together(who=DB), id="a part is together"),
        pytest.param(
            AnyOf(who=DB, clouds=(A, B)), Forbid(who=DB, clouds=(A,)), id="one of its clouds left"
        ),
        pytest.param(
            Ordered(who=DB, clouds=(A, B)), Pin(who=DB, cloud=B), id="a wish gives way to a rule"
        ),
        pytest.param(
            Quota(cloud=A, vms=1), Quota(cloud=A, vms=2), id="quotas: the stricter counts"
        ),
    ],
)
def test_rules_that_can_both_hold_are_left_alone(one, other):
    assert list(contradictions([one, other])) == []
    assert list(contradictions([other, one])) == []
