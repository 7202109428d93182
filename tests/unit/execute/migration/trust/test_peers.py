"""Names in certificates: one spelling for each, and none that could be taken for another."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transhume.execute.migration.trust import Peer, PeerKind

NAMES = st.text(min_size=1, max_size=128).filter(
    lambda name: name.isprintable() and not set(name) & set(" /*?[]")
)


@given(st.sampled_from(PeerKind), NAMES)
@example(PeerKind.SITE, "%2F")
@example(PeerKind.SITE, "..")
def test_a_peer_is_found_again_in_its_uri(kind, name) -> None:
    peer = Peer(kind=kind, name=name)
    assert Peer.from_uri(peer.uri) == peer
    assert peer.uri.isascii()


@given(st.text())
@example("transhume://site/a b")
@example("transhume://site/a%20b")
@example("transhume://site/a?b")
@example("transhume://site/é")
@example("TRANSHUME://site/a")
@example("site/a")
def test_a_text_either_is_the_uri_of_a_peer_or_is_refused(text) -> None:
    try:
        peer = Peer.from_uri(text)
    except ValueError:
        return
    assert peer.uri == text


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a*", "a\n", "\x00", "x" * 129], ids=range(7))
def test_what_is_no_name_names_nobody(name) -> None:
    with pytest.raises(ValueError, match=r"no name|characters"):
        Peer(kind=PeerKind.SITE, name=name)
