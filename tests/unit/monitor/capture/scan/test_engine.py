"""Which engine is chosen, and how the compiled one is kept, lost, and done without."""

import os
from pathlib import Path

import pytest

from tests.unit.monitor.capture.capture_writing import frame, pcap
from tests.unit.monitor.capture.scan.scanning import scanned
from transhume.errors import ExtraMissing
from transhume.monitor.capture.scan import Engine, choose_engine, compile_needed
from transhume.monitor.capture.scan import engine as engines
from transhume.monitor.capture.scan.compiled import kept, machine_code
from transhume.monitor.capture.scan.vectors.engine import VectorCounting

CONTENT = pcap([(0, frame(1, 2)), (1000, frame(2, 1))])


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Have code kept in two folders of our own, nothing remembered, and none that came with the package."""
    found = [tmp_path / "first", tmp_path / "second"]
    monkeypatch.setattr(kept, "_folders", lambda: iter(found))
    monkeypatch.setattr(kept, "_SHIPPED", tmp_path / "kernel.o")
    return found


@pytest.mark.parametrize(
    ("frames", "is_kept", "expected"),
    [
        pytest.param(1000, True, Engine.NUMPY, id="little"),
        pytest.param(1_000_000, True, Engine.NUMBA, id="much"),
        pytest.param(1_000_000, False, Engine.NUMPY, id="not enough to compile for"),
        pytest.param(50_000_000, False, Engine.NUMBA, id="enough to compile for"),
        pytest.param(None, False, Engine.NUMBA, id="nobody knows"),
    ],
)
def test_much_work_is_for_compiled_code(
    folders: list[Path], frames: int | None, is_kept: bool, expected: Engine
) -> None:
    if is_kept:
        kept.keep(b"code", "some processor")

    assert choose_engine(frames) is expected


def test_what_was_asked_for_is_chosen() -> None:
    assert choose_engine(10, Engine.NUMBA) is Engine.NUMBA
    assert choose_engine(None, Engine.NUMPY) is Engine.NUMPY


def test_without_numba_numpy_counts_and_asking_for_it_tells_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engines, "_has_numba", lambda: False)

    assert choose_engine(None) is Engine.NUMPY
    with pytest.raises(ExtraMissing, match=r"pip install 'transhume\[fast\]'"):
        choose_engine(None, Engine.NUMBA)


def test_code_is_kept_for_its_processor_alone(folders: list[Path]) -> None:
    kept.keep(b"machine code", "this processor")

    assert kept.code("this processor") == b"machine code"
    assert kept.code("another processor") is None
    assert kept.probably_kept()


def test_code_that_came_with_the_package_is_for_every_processor(folders: list[Path]) -> None:
    kept.ship(b"machine code")

    assert kept.code("any processor") == b"machine code"
    assert kept.probably_kept()


def test_code_of_other_sources_is_not_used(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.ship(b"machine code")
    monkeypatch.setattr(kept, "_sources", lambda: "others")

    assert kept.code("any processor") is None


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="code comes for x86-64 only")
def test_the_code_that_comes_with_the_package_is_of_its_sources() -> None:
    assert kept.shipped() is not None, "the scanner's sources have changed: make kernel"


def test_half_a_file_is_no_code(folders: list[Path]) -> None:
    kept.keep(b"machine code", "this processor")
    (path,) = folders[0].iterdir()
    path.write_bytes(path.read_bytes()[:-1])

    assert kept.code("this processor") is None


def test_code_is_kept_in_the_users_cache_where_the_package_cant_be_written(
    folders: list[Path],
) -> None:
    folders[0].write_text("a file where the folder should be")
    kept.keep(b"machine code", "this processor")

    assert kept.code("this processor") == b"machine code"
    assert [path.suffix for path in folders[1].iterdir()] == [".o"]


def test_nothing_fails_where_nothing_can_be_kept(folders: list[Path]) -> None:
    for folder in folders:
        folder.write_text("a file where the folder should be")

    kept.keep(b"machine code", "this processor")

    assert kept.code("this processor") is None
    assert not kept.probably_kept()
    assert compile_needed()


def test_the_code_is_compiled_once_and_found_again(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bytes] = []

    def compiled() -> bytes:
        made.append(real)
        return real

    monkeypatch.undo()
    machine_code.kernel()
    real = kept.code(machine_code._processor())
    assert real is not None
    monkeypatch.setattr(kept, "_folders", lambda: iter(folders))
    monkeypatch.setattr(kept, "_SHIPPED", folders[0] / "kernel.o")
    monkeypatch.setattr(machine_code, "_compiled", compiled)

    for _ in range(2):
        machine_code.kernel.cache_clear()
        assert scanned(CONTENT, Engine.NUMBA).scanner.frames == 2

    assert len(made) == 1
    assert not compile_needed()


def test_where_nothing_can_be_compiled_numpy_counts(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_code, "_BUILDER", "transhume.no_such_module")
    machine_code.kernel.cache_clear()

    found = scanned(CONTENT, Engine.NUMBA)

    assert found.scanner.frames == 2
    assert isinstance(found.scanner._counting, VectorCounting)
