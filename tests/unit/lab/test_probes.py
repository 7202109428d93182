"""What probes report, as it is read."""

from transhume.lab.probes import Loss, Silence, read_pings

TOLD = {
    "sent": 100,
    "received": 93,
    "duplicates": 1,
    "reordered": 2,
    "skipped": 3,
    "least_trip": 0.02,
    "median_trip": 0.021,
    "losses": [[10.0, 2], [11.0, 5]],
    "longest": [10.5, 0.2],
    "gaps": [[9.0, 0.02], [10.5, 0.2]],
}


def test_what_is_lost_is_told_by_when_it_was_sent():
    pings = read_pings(TOLD)

    assert pings.lost == 7
    assert pings.losses == (Loss(began=10.0, count=2), Loss(began=11.0, count=5))
    assert pings.lost_between(10.5, 12.0) == 5
    assert pings.lost_between(12.0, 13.0) == 0


def test_the_longest_silence_is_sought_among_those_that_touch_the_time():
    pings = read_pings(TOLD)

    assert pings.longest_between(10.6, 10.65) == Silence(began=10.5, seconds=0.2)
    assert pings.longest_between(8.0, 9.01) == Silence(began=9.0, seconds=0.02)
    assert pings.longest_between(9.5, 10.0).seconds == 0
