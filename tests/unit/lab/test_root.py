"""The clouds' root: where it comes from, and which QEMU may run in it."""

import pytest

from transhume.errors import LabError
from transhume.lab.root import debian_mirror, refuse_old_qemu


def test_a_qemu_that_would_destroy_guests_is_refused_with_the_reason():
    with pytest.raises(LabError, match=r"QEMU 7\.2\.22 loses dirty pages"):
        refuse_old_qemu((7, 2, 22))


@pytest.mark.parametrize("version", [(9, 0, 0), (10, 0, 13)], ids=str)
def test_a_newer_qemu_is_let_pass(version):
    refuse_old_qemu(version)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        pytest.param(
            "Debian-Security|http://m/debian-security/\nDebian|http://m/archive/\n",
            "http://m/archive",
            id="by-label",
        ),
        pytest.param(
            "|http://m/debian-security/\n|http://m/debian/\n", "http://m/debian", id="by-name"
        ),
        pytest.param("Ubuntu|http://m/ubuntu/\n", None, id="no-debian"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_the_mirror_is_the_one_that_apt_uses_for_debian_itself(targets, expected):
    assert debian_mirror(targets) == expected
