"""What the interfaces in one file are called as capture points."""

from pathlib import Path

import pytest

from tests.unit.monitor.capture.capture_writing import block as raw_block
from tests.unit.monitor.capture.capture_writing import frame, packet, pcap, pcapng, section
from transhume.monitor.capture.files import read_windows
from transhume.monitor.capture.point_names import point_name
from transhume.monitor.capture.scan import FileHead, Form, Interface, Link

AT = 1_900_000_000_000_000_000


def head(*names: str, link: int = Link.ETHERNET) -> FileHead:
    return FileHead(
        form=Form.PCAPNG,
        order="<",
        interfaces=tuple(Interface(link=link, name=name) for name in names),
    )


@pytest.mark.parametrize(
    ("front", "names"),
    [
        pytest.param(head("eth0"), ["tap"], id="one interface: the file's name"),
        pytest.param(
            head("eth0", "eth1"), ["tap:eth0", "tap:eth1"], id="several: each by its name"
        ),
        pytest.param(head("", ""), ["tap:0", "tap:1"], id="without names"),
        pytest.param(
            head("eth0", "eth1", "eth0"),
            ["tap:eth0", "tap:eth1", "tap:eth0#2"],
            id="the same name twice, as mergecap writes it: told apart",
        ),
        pytest.param(head("any", link=Link.LINUX_SLL2), ["tap:0", "tap:1", "tap:2"], id="cooked"),
    ],
)
def test_interfaces_at_the_front(front: FileHead, names: list[str]) -> None:
    assert [point_name("tap", front, front, number) for number in range(len(names))] == names


@pytest.mark.parametrize(
    ("front", "later", "name"),
    [
        pytest.param(head("eth0"), head("eth0", "eth0"), "tap", id="the first one again"),
        pytest.param(head(""), head("", ""), "tap", id="the first one again, without a name"),
        pytest.param(head("eth0"), head("eth0", "eth1"), "tap:eth1", id="another one"),
    ],
)
def test_an_interface_that_comes_later(front: FileHead, later: FileHead, name: str) -> None:
    """In a section behind the first, as when captures are written one behind the other."""
    assert point_name("tap", front, later, 1) == name
    assert point_name("tap", front, later, 0) == "tap"


def test_captures_written_one_behind_the_other_are_one_capture_point(tmp_path: Path) -> None:
    path = tmp_path / "both.pcapng"
    path.write_bytes(pcapng([(AT, frame(1, 2))]) + pcapng([(AT, frame(2, 1))], order=">"))

    windows, _ = read_windows(path, 1.0)

    assert {window.capture_point for window in windows} == {str(path)}
    assert sum(window.total_frames for window in windows) == 2


def test_an_interface_that_was_described_without_a_name_goes_by_its_number(tmp_path: Path) -> None:
    described = raw_block(1, b"\1\0\0\0\0\0\0\0")
    path = tmp_path / "two.pcapng"
    path.write_bytes(
        section()
        + described
        + described
        + packet(frame(1, 2), 0)
        + packet(frame(1, 2), 0, number=1)
    )

    windows, _ = read_windows(path, 1.0)

    assert {window.capture_point for window in windows} == {f"{path}:0", f"{path}:1"}


def test_a_plain_file_goes_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "tap.pcap"
    path.write_bytes(pcap([(AT, frame(1, 2))]))

    ((window,), _) = read_windows(path, 1.0)

    assert window.capture_point == str(path)
