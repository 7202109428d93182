"""Of several signs of the same thing the first is told, and nothing new is ever held back."""

from hypothesis import given
from hypothesis import strategies as st

from transhume.execute.overlay.sightings import How, Sighting
from transhume.execute.overlay.sightings.damping import Damper
from transhume.knowledge.model import IpAddress, MacAddress

MAC = MacAddress("52:54:00:00:00:01")
WITHIN = 1.0


def seen(port: str = "tap0", ip: str | None = None, mac: MacAddress = MAC) -> Sighting:
    return Sighting(mac=mac, port=port, ip=IpAddress(ip) if ip else None, how=How.ARP)


def test_the_five_announcements_of_a_hypervisor_are_one_sighting():
    damper = Damper(WITHIN)

    passed = [damper.passes(seen(), 100 + at) for at in (0.0, 0.05, 0.2, 0.45, 0.8)]

    assert passed == [True, False, False, False, False]


def test_a_sign_passes_again_after_a_while_however_many_came_between():
    damper = Damper(WITHIN)

    passed = [damper.passes(seen(), at / 10) for at in range(31)]

    assert [at for at, each in enumerate(passed) if each] == [0, 10, 20, 30]


def test_another_port_is_news():
    damper = Damper(WITHIN)

    assert [damper.passes(seen(port), 0.0) for port in ("tap0", "tap1", "tap0")] == [True] * 3


def test_an_ip_address_is_news_once():
    damper = Damper(WITHIN)
    ips = [None, "10.0.0.1", None, "10.0.0.1", "10.0.0.2", "10.0.0.1"]

    assert [damper.passes(seen(ip=ip), 0.1) for ip in ips] == [
        True,
        True,
        False,
        False,
        True,
        False,
    ]


def test_what_has_gone_is_news_when_it_comes_back():
    damper = Damper(WITHIN)
    damper.passes(seen(), 0.0)

    damper.forget(MAC)

    assert damper.passes(seen(), 0.1)


def test_thousands_of_addresses_are_not_remembered_for_ever():
    damper = Damper(WITHIN)
    for number in range(5000):
        damper.passes(
            seen(mac=MacAddress(f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}")), number
        )

    assert len(damper._told) <= 1025


def test_thousands_of_addresses_at_once_arent_looked_through_for_each():
    """A guest can send from as many as it likes."""
    looked = 0

    class Looking(Damper):
        def _drop_old(self, now_seconds):
            nonlocal looked
            looked += 1
            super()._drop_old(now_seconds)

    damper = Looking(WITHIN)
    for number in range(20000):
        damper.passes(
            seen(mac=MacAddress(f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}")), 0.0
        )

    assert looked < 10


@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 0.7),
            st.sampled_from(["tap0", "tap1"]),
            st.sampled_from([None, "10.0.0.1", "10.0.0.2"]),
        )
    )
)
def test_the_last_port_that_was_told_is_where_it_was_seen_last(signs):
    damper, now, told, told_at = Damper(WITHIN), 0.0, None, -WITHIN

    for after, port, ip in signs:
        now += after
        if damper.passes(seen(port, ip), now):
            told, told_at = port, now

        assert told == port
        assert now - told_at <= WITHIN
