"""The splitter's count of pages beside QEMU's own, for every kind of stream that a real QEMU sends."""

import os
from pathlib import Path

import pytest

from tests.system.qemu_streams import Recording, recordings
from tests.unit.execute.migration.stream.feeding import Fed
from tests.unit.execute.migration.stream.reference import pages_of
from transhume.execute.migration.stream import END_OF_MEMORY
from transhume.lab.root import cached_root

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="the lab's root needs root"),
]

PIECE_BYTES = 200_000
COMPRESSED = {"multifd-zstd"}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    folder: Path = tmp_path_factory.mktemp("streams")
    return dict(recordings(cached_root(lambda *_: None), folder))


def split(channel: bytes) -> Fed:
    found, view = Fed(), memoryview(channel)
    for at in range(0, len(channel), PIECE_BYTES):
        found.split(view[at : at + PIECE_BYTES])
    found.flush()
    assert found.given == channel
    return found


def test_pages_and_zero_pages_are_as_many_as_qemu_counts(recorded):
    for name, recording in recorded.items():
        found = [split(channel) for channel in recording.channels]
        if name not in COMPRESSED:
            counts = [f.understanding for f in found]
            assert sum(c.pages for c in counts) == recording.normal, name
            assert sum(c.zero_pages for c in counts) == recording.duplicate, name
            assert sum(len(f.pages) for f in found) == recording.normal, name


def test_pages_are_where_a_slow_reader_finds_them(recorded):
    for recording in recorded.values():
        for channel in recording.channels:
            assert split(channel).pages == pages_of(channel)


def test_all_is_understood_up_to_the_end_of_memory(recorded):
    for name, recording in recorded.items():
        main, *channels = (split(channel).understanding for channel in recording.channels)
        assert main.why_opaque == END_OF_MEMORY, name
        if name not in COMPRESSED:
            assert [c.why_opaque for c in channels] == [""] * len(channels), name


def test_compressed_channels_say_why_nothing_is_found_in_them(recorded):
    for name in COMPRESSED:
        for channel in recorded[name].channels[1:]:
            assert "multifd-compression is on" in split(channel).understanding.why_opaque
