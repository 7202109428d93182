"""Which process has which tap open, by what the kernel says of its descriptors."""

from transhume.execute.overlay.salvage.holders import tap_in


def test_a_descriptor_of_a_tap_tells_its_name() -> None:
    told = "pos:\t0\nflags:\t02104002\nmnt_id:\t26\nino:\t142\niff:\tvnet12\n"
    assert tap_in(told) == "vnet12"


def test_one_that_was_opened_and_never_attached_is_of_no_tap() -> None:
    assert tap_in("pos:\t0\nflags:\t02104002\niff:\t\n") == ""
    assert tap_in("pos:\t0\nflags:\t02104002\n") == ""
