"""The object that is loaded into the kernel: whether it is what its source says, and how it is read."""

import hashlib
import re
from pathlib import Path

import pytest

from transhume.monitor.capture.bpf.counting import OBJECT, SOURCE, Counter
from transhume.monitor.capture.bpf.objects import DamagedObjectError, ObjectFile
from transhume.monitor.capture.bpf.shared import CONTROL_BYTES, COUNTS, PLACE, places_of_a_cpu

MAPS = {"pairs_0": 11, "pairs_1": 12, "recent": 13, "no_room": 14, ".bss": 15}
LOAD_ADDRESS = 0x18


def test_the_object_was_built_from_the_source_beside_it() -> None:
    """Else somebody changed the one and forgot `make bpf`."""
    built_from = ObjectFile(OBJECT.read_bytes()).section("source_sha256").rstrip(b"\0")

    assert built_from.decode() == hashlib.sha256(SOURCE.read_bytes()).hexdigest()


def test_the_object_is_small() -> None:
    assert OBJECT.stat().st_size < 16_000


def test_maps_are_named_by_their_descriptors() -> None:
    """An instruction that loads an address says whether of a map (1) or within its first value (2)."""
    code = ObjectFile(OBJECT.read_bytes()).program("tc", MAPS.__getitem__)
    loads = [
        (code[at + 1] >> 4, int.from_bytes(code[at + 4 : at + 8], "little"))
        for at in range(0, len(code), 8)
        if code[at] == LOAD_ADDRESS and code[at + 1] >> 4
    ]

    assert {descriptor for kind, descriptor in loads if kind == 1} == {11, 12, 13, 14}
    assert {descriptor for kind, descriptor in loads if kind == 2} == {15}


def test_the_layout_is_that_of_the_source() -> None:
    source = SOURCE.read_text("utf-8")

    counts = re.search(r"struct counts \{(.*?)\n\};", source, re.DOTALL)
    assert counts is not None
    assert counts[1].count("__u64") == COUNTS
    assert PLACE.itemsize == 48 + 2 * 8 * COUNTS
    assert PLACE.itemsize % 64 == 0  # two whole cache lines
    control = re.search(r"struct \{([^}]*)\} volatile control", source)
    assert control is not None
    words = re.findall(r"__u(\d+) \w+(?:\[(\d)\])?;", control[1])
    assert sum(int(bits) // 8 * int(times or 1) for bits, times in words) == CONTROL_BYTES


@pytest.mark.parametrize(("cpus", "places"), [(1, 1024), (16, 1024), (64, 256), (4096, 64)])
def test_many_cpus_remember_fewer_pairs_each(cpus: int, places: int) -> None:
    assert places_of_a_cpu(cpus) == places


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "isn't whole", id="nothing"),
        pytest.param(b"\x7fELF" + bytes(100), "no object file for BPF", id="no BPF"),
        pytest.param(OBJECT.read_bytes()[:-100], "isn't whole", id="cut off"),
    ],
)
def test_a_damaged_object_is_told_from_a_whole_one(content: bytes, said: str) -> None:
    with pytest.raises(DamagedObjectError, match=said):
        ObjectFile(content)


def test_a_section_that_is_not_there_is_named() -> None:
    with pytest.raises(DamagedObjectError, match="no section xdp"):
        ObjectFile(OBJECT.read_bytes()).section("xdp")


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_kernel_takes_the_program_and_lets_go_of_it() -> None:
    before = open_descriptors()
    try:
        counter = Counter(has_link_layer=True)
    except PermissionError:
        pytest.skip("takes root")
    assert counter.run_time().runs == 0
    assert open_descriptors() > before
    counter.close()
    assert open_descriptors() == before


def test_nothing_counted_is_nothing_told() -> None:
    try:
        counter = Counter(has_link_layer=False)
    except PermissionError:
        pytest.skip("takes root")
    try:
        found = counter.take(0)
    finally:
        counter.close()

    assert len(found.pairs) == 0
    assert found.runs == found.no_room_frames == 0
