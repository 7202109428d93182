"""Probes: only the site that they name can have written them."""

import base64

import pytest

from transhume.execute.overlay.underlay.keys import private_key, public_key
from transhume.execute.overlay.underlay.probes import Heard, ProbeKeys, ProbeKind, new_nonce
from transhume.knowledge.model import SiteName

B, C = SiteName("b"), SiteName("c")
NONCE = bytes(range(8))
FROM = "203.0.113.2:51820"


@pytest.fixture
def private(tmp_path):
    return {name: private_key(tmp_path / name) for name in "bcx"}


def keys_of(private, ours: str, *others: str) -> ProbeKeys:
    made = ProbeKeys(private[ours])
    made.know({SiteName(o): base64.b64encode(public_key(private[o])).decode() for o in others})
    return made


def test_a_probe_is_read_by_the_site_that_it_is_for(private):
    datagram = keys_of(private, "b", "c").write(ProbeKind.ASK, NONCE, C)

    assert keys_of(private, "c", "b").read(datagram, FROM) == Heard(
        site=B, kind=ProbeKind.ASK, nonce=NONCE, endpoint=FROM
    )


def test_another_site_cannot_write_in_anothers_name(private):
    true = keys_of(private, "b", "c").write(ProbeKind.ANSWER, NONCE, C)
    false = keys_of(private, "x", "c").write(ProbeKind.ANSWER, NONCE, C)
    reader = keys_of(private, "c", "b", "x")

    assert reader.read(true[:13] + false[13:], FROM) is None
    assert reader.read(true[:5] + false[5:13] + true[13:], FROM) is None


def test_a_question_is_no_answer(private):
    asked = keys_of(private, "b", "c").write(ProbeKind.ASK, NONCE, C)
    turned = asked[:4] + bytes([ProbeKind.ANSWER]) + asked[5:]

    assert keys_of(private, "c", "b").read(turned, FROM) is None


def test_a_probe_that_was_changed_anywhere_says_nothing(private):
    datagram = keys_of(private, "b", "c").write(ProbeKind.ASK, NONCE, C)
    reader = keys_of(private, "c", "b")
    for place in range(len(datagram)):
        changed = bytearray(datagram)
        changed[place] ^= 1
        assert reader.read(bytes(changed), FROM) is None
    for length in range(len(datagram)):
        assert reader.read(datagram[:length], FROM) is None


def test_a_site_that_is_not_known_any_more_is_not_heard(private):
    reader = keys_of(private, "c", "b")
    datagram = keys_of(private, "b", "c").write(ProbeKind.ASK, NONCE, C)
    reader.know({})

    assert reader.read(datagram, FROM) is None


def test_a_key_without_secrets_proves_nothing(private):
    """The all-zero point has the same secret with everybody."""
    weak = base64.b64encode(bytes(32)).decode()
    one, other = (ProbeKeys(private[name]) for name in "bc")
    one.know({C: weak})
    other.know({B: weak})

    assert other.read(one.write(ProbeKind.ASK, NONCE, C), FROM) is None


def test_questions_differ():
    assert new_nonce() != new_nonce()
