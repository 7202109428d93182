"""Segments on a disk: what was put there is read back, and what found no room was never put."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from transhume.execute.migration.content.vault import Vault

SEGMENT_BYTES = 1 << 16
ONE, OTHER, THIRD = (bytes([number]) * SEGMENT_BYTES for number in (1, 2, 3))


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Let the kernel write only as much of a file, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    made = Vault(tmp_path, SEGMENT_BYTES)
    yield made
    made.close()


def test_a_segment_is_read_back_from_any_place(vault: Vault) -> None:
    vault.put(7, ONE)
    vault.put(9, OTHER)
    vault.drop(7)
    vault.put(11, THIRD)

    assert vault.read(9, 32, 100) == OTHER[:100]
    assert vault.read(11, 0, SEGMENT_BYTES) == THIRD
    assert (vault.numbers(), vault.kept_bytes) == ((9, 11), 2 * SEGMENT_BYTES)


def test_the_disk_has_the_room_of_what_is_forgotten_back(vault: Vault) -> None:
    for number in range(16):
        vault.put(number, ONE)
    before = os.fstat(vault._file.fileno())
    for number in range(15):
        vault.drop(number)

    after = os.fstat(vault._file.fileno())
    assert after.st_size == before.st_size
    assert (before.st_blocks - after.st_blocks) * 512 >= 15 * SEGMENT_BYTES
    assert vault.read(15, 0, SEGMENT_BYTES) == ONE


@pytest.mark.parametrize("fits", [0.0, 0.5], ids=["nothing of it", "half of it"])
def test_a_segment_that_finds_no_room_wasnt_put(vault: Vault, fits: float) -> None:
    vault.put(1, ONE)
    with files_of_at_most(int((1 + fits) * SEGMENT_BYTES)), pytest.raises(OSError):  # noqa: PT011
        vault.put(2, OTHER)

    assert vault.numbers() == (1,)
    vault.put(2, OTHER)
    assert [vault.read(each, 0, SEGMENT_BYTES) for each in (1, 2)] == [ONE, OTHER]
