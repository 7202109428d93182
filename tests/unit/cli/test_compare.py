"""`transhume compare`, as a user types it: captures and results, alike and changed."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.unit.analyze.traffic import matrix_of
from tests.unit.cli.analyses import analysis
from tests.unit.monitor.capture.capture_writing import frame, pcap
from transhume.cli.analyze import command as analyze
from transhume.cli.changed_pairs import ChangedPair, changed_pairs
from transhume.cli.compare import command
from transhume.cli.exports import Export
from transhume.errors import Error, UnreadableCapture, UsageError
from transhume.knowledge.model import VmName

SECOND = 1_000_000_000
T0 = 1_900_000_000 * SECOND


def capture(path: Path, *pairs: tuple[int, int], length: int = 1000) -> Path:
    """Write ten seconds in which each pair exchanges a frame each way every second."""
    frames = [
        (T0 + second * SECOND + number, frame(*way, length))
        for second in range(11)
        for number, way in enumerate(
            way for one, other in pairs for way in ((one, other), (other, one))
        )
    ]
    path.write_bytes(pcap(frames, snaplen=96))
    return path


def run(*words: object) -> Result:
    result = CliRunner().invoke(command, [str(word) for word in words])
    if isinstance(result.exception, Error):
        raise result.exception
    return result


def test_a_capture_is_like_itself(tmp_path: Path) -> None:
    monday = capture(tmp_path / "monday.pcap", (1, 2), (3, 4))

    result = run(monday, monday)
    found = json.loads(run(monday, monday, "--json").stdout)

    assert result.exit_code == 0
    assert "Changed company" not in result.output
    assert "What changed most" not in result.output
    assert found["cosine"] == pytest.approx(1.0)
    assert (found["distance"], found["changed_groups"], found["changed_pairs"]) == (0.0, [], [])


def test_what_changed_is_named(tmp_path: Path) -> None:
    monday = capture(tmp_path / "monday.pcap", (1, 2), (3, 4))
    tuesday = capture(tmp_path / "tuesday.pcap", (1, 3), (2, 4), (5, 4), length=500)

    result = run(monday, tuesday)
    found = json.loads(run(monday, tuesday, "--json").stdout)

    assert "only in B: 10.0.0.5" in result.output
    assert "Changed company" in result.output
    assert found["cosine"] == 0.0
    assert found["only_in_b"] == ["10.0.0.5"]
    assert found["changed_pairs"][0] == {
        "source": "10.0.0.1",
        "destination": "10.0.0.2",
        "before": 1100.0,
        "after": 0.0,
    }
    assert "-1.1 kB/s" in result.output


def test_results_compare_like_the_captures_that_they_were_made_of(tmp_path: Path) -> None:
    captures = [
        capture(tmp_path / "monday.pcap", (1, 2), (3, 4), (1, 3)),
        capture(tmp_path / "tuesday.pcap", (1, 3), (2, 4), length=300),
    ]
    results = [path.with_suffix(".json") for path in captures]
    for path, result in zip(captures, results, strict=True):
        CliRunner().invoke(analyze, [str(path), "--export", str(result)], catch_exceptions=False)

    read = [json.loads(run(*pair, "--json").stdout) for pair in (captures, results)]

    assert read[0] == read[1]
    assert 0.0 < read[0]["cosine"] < 1.0


def test_a_silent_capture_has_no_distance(tmp_path: Path) -> None:
    """JSON knows no infinity."""
    talking = analysis()
    nobody = replace(
        talking,
        matrix=matrix_of(np.zeros((3, 3))),
        groups=(),
    )
    for name, each in (
        ("silent", nobody),
        ("talking", replace(talking, matrix=matrix_of(np.ones((3, 3))))),
    ):
        Export("json", tmp_path / f"{name}.json").write(each)

    words = (tmp_path / "silent.json", tmp_path / "talking.json")
    found = json.loads(run(*words, "--json").stdout)

    assert found["distance"] is None
    assert run(*words).exit_code == 0


def test_vms_are_known_again_by_the_names_of_a_file(tmp_path: Path) -> None:
    monday = capture(tmp_path / "monday.pcap", (1, 2))
    tuesday = capture(tmp_path / "tuesday.pcap", (1, 2))
    vms = tmp_path / "vms.yaml"
    vms.write_text("web: {mac: '52:54:00:00:00:01'}\ndb: {mac: '52:54:00:00:00:02'}\n")

    found = json.loads(run(monday, tuesday, "--vms", vms, "--json").stdout)

    assert found["shared_vms"] == 2
    assert found["cosine"] == pytest.approx(1.0)


def test_what_was_cut_short_is_compared_with_a_warning(tmp_path: Path) -> None:
    monday = capture(tmp_path / "monday.pcap", (1, 2))
    monday.write_bytes(monday.read_bytes()[:-5])

    result = run(monday, monday)

    assert result.exit_code == 0
    assert result.stderr.count("reading stopped at byte") == 2


def test_what_is_neither_a_capture_nor_a_result_is_refused(tmp_path: Path) -> None:
    monday = capture(tmp_path / "monday.pcap", (1, 2))
    letter, other = tmp_path / "letter", tmp_path / "other.json"
    letter.write_text("dear")
    other.write_text("{}")

    with pytest.raises(UnreadableCapture, match="no pcap"):
        run(monday, letter)
    with pytest.raises(UsageError, match="was not written by `transhume analyze --json`"):
        run(monday, other)


def test_help_shows_examples() -> None:
    assert "transhume compare monday.pcap tuesday.pcap" in run("--help").output


# --- pairs -------------------------------------------------------------------------------------------


def test_the_pairs_that_changed_most_come_first_and_those_that_did_not_are_left_out() -> None:
    before = matrix_of([[0, 10, 5], [0, 0, 7], [0, 0, 0]])
    after = replace(
        matrix_of([[0, 40, 5], [0, 0, 0], [0, 0, 0]], seconds=2.0),
        vms=tuple(map(VmName, ("vm0", "vm1", "vm9"))),
    )

    found = changed_pairs(before, after, 9)

    vm0, vm1, vm2, vm9 = map(VmName, ("vm0", "vm1", "vm2", "vm9"))
    assert found == (
        ChangedPair(vm0, vm1, 10.0, 20.0),
        ChangedPair(vm1, vm2, 7.0, 0.0),
        ChangedPair(vm0, vm2, 5.0, 0.0),
        ChangedPair(vm0, vm9, 0.0, 2.5),
    )
    assert changed_pairs(before, after, 1) == found[:1]
    assert changed_pairs(before, before, 9) == ()
    assert not math.isnan(found[0].after)
