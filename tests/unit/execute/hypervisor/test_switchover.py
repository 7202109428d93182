"""When a guest may be stopped, where its transport makes much less of some of its memory than of the rest."""

import pytest

from transhume.execute.hypervisor.protocol import JobSample
from transhume.execute.hypervisor.switchover import (
    DEFAULT_LIMIT_MS,
    HELD_OFF_MS,
    Switchover,
    link_rate,
)
from transhume.execute.migration.transport import Progress
from transhume.knowledge.model import Transfer

MB = 1 << 20
LINK = 1.25 * MB
"""Bytes per second."""
PAGES = MB // 4096


def sample(
    left: float,
    *,
    rounds: int | None,
    sent: Transfer | None,
    dirty: float = 0.0,
    waiting: float = 0.0,
) -> JobSample:
    return JobSample(
        bytes_sent=0,
        bytes_remaining=int(left),
        bytes_per_second=0.0,
        dirty_bytes_per_second=dirty,
        transfer=sent,
        waiting_bytes=int(waiting),
        rounds=rounds,
    )


def gone(raw: float = 0, wire: float = 0, *, new_pages: int = 0, new_wire: float = 0.0) -> Transfer:
    return Transfer(
        raw_bytes=int(raw),
        wire_bytes=int(wire),
        new_pages=new_pages,
        new_wire_bytes=int(new_wire),
    )


def due(
    switchover: Switchover,
    seen: JobSample,
    link: float | None,
    seconds: float,
    *,
    its_turn: bool = True,
) -> int | None:
    """Return what is due, which is taken."""
    switchover.see(seen, link, seconds)
    limit_ms = switchover.due(its_turn=its_turn)
    if limit_ms is not None:
        switchover.in_force_ms = limit_ms
    return limit_ms


BULK = gone(100 * MB, 20 * MB, new_pages=50 * PAGES, new_wire=20 * MB)
"""After the first round: new pages cost 0.4."""


def test_a_limit_is_due_until_it_has_been_taken() -> None:
    switchover = Switchover(400, LINK)
    switchover.see(sample(0.9 * MB, rounds=2, sent=BULK), LINK, 12)
    assert [switchover.due(its_turn=True) for _ in range(2)] == [400, 400]
    switchover.in_force_ms = 400
    assert switchover.due(its_turn=True) is None


def test_a_guest_isnt_stopped_with_much_new_memory_left() -> None:
    switchover = Switchover(400, LINK)
    assert switchover.in_force_ms == HELD_OFF_MS
    assert due(switchover, sample(0.1 * MB, rounds=1, sent=BULK), LINK, 10) is None, "first round"
    assert due(switchover, sample(20 * MB, rounds=2, sent=BULK), LINK, 11) is None, (
        "6 seconds' worth"
    )
    assert switchover.in_force_ms == HELD_OFF_MS


def test_it_may_be_stopped_when_what_is_left_crosses_within_the_limit() -> None:
    switchover = Switchover(400, LINK)
    due(switchover, sample(20 * MB, rounds=2, sent=BULK), LINK, 11)
    assert due(switchover, sample(0.9 * MB, rounds=2, sent=BULK), LINK, 12) == 400
    assert due(switchover, sample(0.8 * MB, rounds=2, sent=BULK), LINK, 12.1) is None, "it has it"
    assert not switchover.is_near


def test_it_is_held_off_again_when_it_has_written_much_meanwhile() -> None:
    switchover = Switchover(400, LINK)
    assert due(switchover, sample(0.1 * MB, rounds=2, sent=BULK), LINK, 11) == 400
    assert due(switchover, sample(9 * MB, rounds=3, sent=BULK), LINK, 12) == HELD_OFF_MS


@pytest.mark.parametrize(
    ("limit_ms", "most_seconds"),
    [
        pytest.param(300, 0.2, id="usual"),
        pytest.param(1000, 0.9, id="long"),
        pytest.param(100, 0.05, id="short, of which half is left"),
    ],
)
def test_time_is_left_for_what_a_pause_takes_beside_and_none_is_taken_back_for_it(
    limit_ms: int, most_seconds: float
) -> None:
    def left(seconds: float) -> JobSample:
        return sample(seconds * LINK / 0.4, rounds=2, sent=BULK)

    switchover = Switchover(limit_ms, LINK)
    assert due(switchover, left(most_seconds + 0.02), LINK, 11) is None
    assert due(switchover, left(most_seconds - 0.02), LINK, 12) == limit_ms
    assert due(switchover, left(limit_ms / 1e3 - 0.02), LINK, 13) is None
    assert due(switchover, left(limit_ms / 1e3 + 0.02), LINK, 14) == HELD_OFF_MS


def test_time_for_what_a_pause_takes_beside_is_not_left_for_ever() -> None:
    switchover = Switchover(300, LINK)
    within_its_limit = sample(0.25 * LINK / 0.4, rounds=3, sent=BULK)
    taken = [due(switchover, within_its_limit, LINK, float(second)) for second in range(11, 25)]
    assert taken.index(300) == 10


def test_a_guest_that_stays_near_and_never_fits_is_left_to_its_hypervisor() -> None:
    """A limit may be shorter than what is always on its way."""
    switchover = Switchover(50, LINK)
    near, far = (sample(left * MB, rounds=3, sent=BULK) for left in (2, 20))
    assert due(switchover, far, LINK, 10) is None
    taken = [due(switchover, near, LINK, float(second)) for second in range(11, 75)]
    assert taken.index(50) == 60
    assert due(switchover, far, LINK, 80) == HELD_OFF_MS, "it has gone far again"
    assert due(switchover, near, LINK, 81) is None


def test_what_has_been_written_to_since_it_was_counted_counts() -> None:
    switchover = Switchover(400, LINK)
    due(switchover, sample(5 * MB, rounds=2, sent=BULK, dirty=MB), LINK, 10)
    assert due(switchover, sample(0, rounds=2, sent=BULK, dirty=MB), LINK, 14) is None
    assert due(switchover, sample(0, rounds=3, sent=BULK, dirty=MB), LINK, 14.1) == 400


def test_what_gateways_have_taken_and_not_sent_counts() -> None:
    switchover = Switchover(400, LINK)
    first = sample(0, rounds=2, sent=BULK, waiting=2 * MB)
    assert due(switchover, first, LINK, 10) is None
    assert due(switchover, sample(0, rounds=2, sent=BULK, waiting=0.9 * MB), LINK, 10.5) == 400


def test_memory_that_is_like_what_was_sent_before_costs_what_it_was_seen_to_cost() -> None:
    """A guest that writes 8 MB a second, each page a little: its differences are small."""
    switchover = Switchover(400, LINK)
    due(switchover, sample(40 * MB, rounds=2, sent=BULK), LINK, 20)
    later = BULK + gone(40 * MB, 1 * MB, new_pages=40 * PAGES, new_wire=1 * MB)
    assert due(switchover, sample(12 * MB, rounds=3, sent=later), LINK, 25) == 400


def test_pages_that_were_dearer_of_late_are_expected_to_go_on_being_so() -> None:
    """Those that a guest writes to last are of one kind, and what came before them of another."""
    second, dear = gone(104 * MB, 21 * MB), gone(2 * MB, 1.6 * MB, new_pages=2 * PAGES)
    course = [BULK, BULK + second, BULK + second + dear]
    switchover = Switchover(400, LINK)
    for seconds, sent in enumerate(course, 11):
        due(switchover, sample(9 * MB, rounds=2, sent=sent), LINK, seconds)
    assert due(switchover, sample(0.6 * MB, rounds=3, sent=course[-1]), LINK, 15) is None
    assert due(switchover, sample(0.4 * MB, rounds=3, sent=course[-1]), LINK, 16) == 400


def test_pages_that_were_dear_once_arent_for_ever() -> None:
    dear, cheap = gone(2 * MB, 2 * MB, new_pages=2 * PAGES), gone(2 * MB, 0.1 * MB)
    switchover = Switchover(400, LINK)
    for seconds, sent in enumerate((BULK, BULK + dear, BULK + dear + cheap), 11):
        due(switchover, sample(9 * MB, rounds=2, sent=sent), LINK, seconds)
    assert due(switchover, sample(0.9 * MB, rounds=3, sent=BULK + dear + cheap), LINK, 15) == 400


def test_where_the_link_isnt_the_narrow_place_the_hypervisor_decides() -> None:
    switchover = Switchover(None, None)
    assert switchover.in_force_ms is None, "it isn't told anything"
    assert due(switchover, sample(90 * MB, rounds=1, sent=BULK), None, 1) is None


def test_a_guest_isnt_stopped_early_where_nobody_knows_yet_what_the_link_carries() -> None:
    """What the destination has goes by first, very fast; all that is new is still to come."""
    begins = Progress(transfer=gone(), link_is_known=False)
    switchover = Switchover(400, link_rate(begins, None))
    assert switchover.in_force_ms == HELD_OFF_MS
    going = link_rate(begins, None)
    assert due(switchover, sample(48 * MB, rounds=1, sent=gone(200 * MB)), going, 1) is None
    assert due(switchover, sample(48 * MB, rounds=2, sent=gone(200 * MB)), going, 2) is None
    assert due(switchover, sample(6 * MB, rounds=2, sent=gone(200 * MB)), going, 3) == 400


def test_a_link_that_turns_out_to_be_wide_lets_go_in_the_second_round() -> None:
    switchover = Switchover(None, link_rate(Progress(transfer=gone(), link_is_known=False), None))
    wide = link_rate(Progress(transfer=gone()), None)
    assert due(switchover, sample(90 * MB, rounds=1, sent=BULK), wide, 1) is None
    assert due(switchover, sample(90 * MB, rounds=2, sent=BULK), wide, 2) == DEFAULT_LIMIT_MS


def test_a_link_that_is_known_to_be_wide_leaves_it_to_the_hypervisor() -> None:
    wide = link_rate(Progress(transfer=gone()), None)
    switchover = Switchover(None, wide)
    assert switchover.in_force_ms is None
    assert due(switchover, sample(90 * MB, rounds=1, sent=BULK), wide, 1) is None
    assert due(switchover, sample(90 * MB, rounds=1, sent=BULK), LINK, 2) == HELD_OFF_MS


@pytest.mark.parametrize(
    ("progress", "share", "reckoned"),
    [
        pytest.param(None, None, None, id="straight from host to host"),
        pytest.param(None, LINK, LINK, id="only a share"),
        pytest.param(
            Progress(transfer=gone(), link_bytes_per_second=2 * LINK), LINK, 2 * LINK, id="as seen"
        ),
        pytest.param(Progress(transfer=gone()), LINK, LINK, id="a share of a wide link"),
        pytest.param(
            Progress(transfer=gone(), link_is_known=False), LINK, LINK, id="a share, at first"
        ),
    ],
)
def test_what_is_reckoned_with(
    progress: Progress | None, share: float | None, reckoned: float | None
) -> None:
    assert link_rate(progress, share) == reckoned


def test_a_link_that_turns_out_to_be_narrow_holds_off() -> None:
    switchover = Switchover(None, None)
    assert due(switchover, sample(90 * MB, rounds=1, sent=BULK), LINK, 1) == HELD_OFF_MS
    assert due(switchover, sample(0, rounds=2, sent=BULK), None, 60) == DEFAULT_LIMIT_MS


@pytest.mark.parametrize("sent", [gone(), gone(new_pages=3, new_wire=9)])
def test_what_costs_nothing_known_is_taken_as_usual(sent: Transfer) -> None:
    switchover = Switchover(500, LINK)
    assert due(switchover, sample(1.1 * MB, rounds=2, sent=sent), LINK, 5) is None
    assert due(switchover, sample(0.9 * MB, rounds=2, sent=sent), LINK, 6) == 500


def test_what_hasnt_begun_isnt_judged() -> None:
    assert due(Switchover(400, LINK), sample(0, rounds=None, sent=gone()), LINK, 0.5) is None


def test_where_nobody_counts_any_more_the_hypervisor_decides() -> None:
    assert due(Switchover(400, LINK), sample(90 * MB, rounds=1, sent=None), None, 5) == 400


def test_it_is_looked_at_more_often_when_it_soon_may_be_stopped() -> None:
    switchover = Switchover(400, LINK)
    due(switchover, sample(40 * MB, rounds=1, sent=BULK), LINK, 10)
    assert not switchover.is_near
    due(switchover, sample(8 * MB, rounds=1, sent=BULK), LINK, 11)
    assert switchover.is_near


def test_it_is_held_off_until_its_turn_and_looked_at_often_meanwhile() -> None:
    switchover = Switchover(400, LINK)
    assert due(switchover, sample(0, rounds=2, sent=BULK), LINK, 11, its_turn=False) is None
    assert switchover.fits
    assert switchover.is_near
    assert due(switchover, sample(0, rounds=2, sent=BULK), LINK, 12, its_turn=True) == 400


def test_it_has_no_use_for_a_turn_before_what_is_left_crosses() -> None:
    switchover = Switchover(400, LINK)
    for seen in (
        sample(0, rounds=None, sent=gone()),
        sample(0, rounds=1, sent=BULK),
        sample(9 * MB, rounds=2, sent=BULK),
        sample(0, rounds=2, sent=None),
    ):
        due(switchover, seen, LINK, 11, its_turn=False)
        assert not switchover.fits, seen


def test_where_nobody_counts_any_more_the_hypervisor_decides_without_a_turn() -> None:
    switchover = Switchover(400, LINK)
    assert due(switchover, sample(9 * MB, rounds=2, sent=None), LINK, 5, its_turn=False) == 400
