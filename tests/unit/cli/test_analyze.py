"""`transhume analyze`, as a user types it: tables, JSON, the report, warnings, mistakes."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.unit.monitor.capture.capture_writing import frame, pcap
from transhume.cli.analyze import command
from transhume.errors import Error, InvalidFile, UnreadableCapture, UsageError

SECOND = 1_000_000_000
T0 = 1_900_000_000 * SECOND


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Ten seconds in which 1 and 2, and 3 and 4, exchange 1,000 bytes each way every second."""
    frames = [
        (T0 + second * SECOND + number, frame(*pair, 1000))
        for second in range(11)
        for number, pair in enumerate([(1, 2), (2, 1), (3, 4), (4, 3)])
    ]
    path = tmp_path / "tap.pcap"
    path.write_bytes(pcap(frames, snaplen=96))
    return path


def run(*words: object) -> Result:
    result = CliRunner().invoke(command, [str(word) for word in words])
    if isinstance(result.exception, Error):
        raise result.exception
    return result


def test_it_shows_the_matrix_the_groups_and_the_pairs(capture: Path) -> None:
    result = run(capture)

    assert result.exit_code == 0
    assert "44 frames, 44 kB in 10s; 4 VMs, 2 groups" in result.output
    assert re.search(r"g-10\.0\.0\.1 +10\.0\.0\.1, 10\.0\.0\.2 +2\.2 kB/s", result.output)
    assert "██" in result.output
    assert "100%" in result.output


def test_json_holds_the_whole_matrix(capture: Path) -> None:
    found = json.loads(run(capture, "--json").stdout)

    assert [vm["name"] for vm in found["vms"]] == [f"10.0.0.{n}" for n in (1, 2, 3, 4)]
    assert found["bytes"][0] == [0, 11000, 0, 0]
    assert found["frames"][0] == [0, 11, 0, 0]
    assert found["seconds"] == pytest.approx(10.0)
    assert [group["vms"] for group in found["groups"]] == [
        ["10.0.0.1", "10.0.0.2"],
        ["10.0.0.3", "10.0.0.4"],
    ]
    assert found["files"][0]["frames"] == 44
    assert found["cut"] is None


def test_vms_can_be_named_and_the_rest_is_outside(capture: Path, tmp_path: Path) -> None:
    vms = tmp_path / "vms.yaml"
    vms.write_text("web: {mac: '52:54:00:00:00:01', cluster: shop}\ndb: {ips: [10.0.0.2]}\n")

    found = json.loads(run(capture, "--vms", vms, "--json").stdout)

    assert [(vm["name"], vm["cluster"]) for vm in found["vms"]] == [("web", "shop"), ("db", None)]
    assert found["bytes"] == [[0, 11000], [11000, 0]]
    assert found["unattributed_bytes"] == 22000


def test_a_placement_and_prices_tell_the_cut(capture: Path, tmp_path: Path) -> None:
    """1.1 kB/s leave the campus, 1.1 kB/s the rented cloud, which bills them."""
    placement, prices = tmp_path / "where.yaml", tmp_path / "prices.yaml"
    placement.write_text("10.0.0.1: campus\n10.0.0.2: rented\n10.0.0.3: rented\n10.0.0.4: rented\n")
    prices.write_text("prices:\n  - {cloud: rented, at: 0s, vcpu: 0.04/h, egress: 1000/GB}\n")

    result = run(capture, "--placement", placement, "--prices", prices)
    found = json.loads(run(capture, "--placement", placement, "--prices", prices, "--json").stdout)

    assert "cut: 2.2 kB/s between clouds, $3.96/h of egress" in result.output
    assert [(c["from"], c["to"]) for c in found["cut"]["crossing"]] == [
        ("campus", "rented"),
        ("rented", "campus"),
    ]
    assert found["cut"]["dollars_per_hour"] == pytest.approx(3.96)


def test_the_same_capture_twice_counts_once(capture: Path, tmp_path: Path) -> None:
    again = tmp_path / "other-tap.pcap"
    again.write_bytes(capture.read_bytes())

    found = json.loads(run(capture, again, "--json").stdout)

    assert found["bytes"][0][1] == 11000
    assert len(found["files"]) == 2


def test_a_capture_cut_short_is_analysed_with_a_warning(capture: Path) -> None:
    capture.write_bytes(capture.read_bytes()[:-5])

    result = run(capture)

    assert result.exit_code == 0
    assert "reading stopped at byte" in result.stderr
    assert "the 43 frames before that are counted" in result.stderr


def test_the_report_is_one_file_that_asks_nothing_of_the_network(
    capture: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"

    run(capture, "--html", page)

    html = page.read_text()
    assert html.startswith("<!doctype html>")
    assert "10.0.0.1 → 10.0.0.2: 1.1 kB/s" in html
    assert "http" not in html.replace("http-equiv", "")
    assert "@import" not in html
    assert "url(" not in html


@pytest.mark.parametrize("window", ["1", "fast", "-1s"])
def test_a_window_that_is_no_duration_is_a_usage_error(capture: Path, window: str) -> None:
    result = run(capture, "--window", window)

    assert result.exit_code == 2
    assert "--window" in result.stderr


def test_a_window_of_no_length_is_refused(capture: Path) -> None:
    with pytest.raises(UsageError, match="window of 0 s"):
        run(capture, "--window", "0s")


def test_what_is_no_capture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")

    with pytest.raises(UnreadableCapture, match="no pcap"):
        run(tmp_path / "letter")


def test_a_capture_that_is_not_there_is_told_before_the_others_are_read(capture: Path) -> None:
    result = run(capture, "missing.pcap")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "'missing.pcap' does not exist" in result.stderr


def test_a_capture_without_frames_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "silent.pcap").write_bytes(pcap([]))

    with pytest.raises(UnreadableCapture, match="no frame was captured; capture where"):
        run(tmp_path / "silent.pcap")


def test_a_capture_that_ends_before_its_first_frame_says_so(capture: Path) -> None:
    capture.write_bytes(capture.read_bytes()[:30])

    with pytest.raises(UnreadableCapture, match=r"no frame was captured \(reading stopped at byte"):
        run(capture)


def test_a_report_that_can_not_be_written_is_refused_before_the_work(
    capture: Path, tmp_path: Path
) -> None:
    result = run(capture, "--html", capture / "report.html")

    assert result.exit_code == 2
    assert "is no folder" in result.stderr
    assert result.stdout == ""


def test_folders_that_a_report_is_to_be_in_are_made(capture: Path, tmp_path: Path) -> None:
    run(capture, "--html", tmp_path / "new" / "report.html")

    assert (tmp_path / "new" / "report.html").exists()


def test_a_cut_without_prices_has_no_cost(capture: Path, tmp_path: Path) -> None:
    """An unknown price isn't nothing, and "$0.00/h" would say so."""
    placement = tmp_path / "where.yaml"
    placement.write_text("10.0.0.1: campus\n10.0.0.2: rented\n10.0.0.3: rented\n10.0.0.4: rented\n")

    result = run(capture, "--placement", placement, "--html", tmp_path / "report.html")
    found = json.loads(run(capture, "--placement", placement, "--json").stdout)

    assert "cut: 2.2 kB/s between clouds\n" in result.output
    assert found["cut"]["dollars_per_hour"] is None
    assert "no prices were given" in (tmp_path / "report.html").read_text()


def test_prices_without_a_placement_would_bill_nothing(capture: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--placement"):
        run(capture, "--prices", tmp_path / "prices.yaml")


def test_mistakes_in_the_vms_file_come_with_their_places(capture: Path, tmp_path: Path) -> None:
    vms = tmp_path / "vms.yaml"
    vms.write_text("web: {mac: '52:54:00', ips: [10.0.0.256]}\ndb: {colour: red}\n")

    with pytest.raises(InvalidFile) as caught:
        run(capture, "--vms", vms)

    assert [(mistake.line, mistake.column) for mistake in caught.value.mistakes] == [
        (1, 12),
        (1, 30),
        (2, 6),
    ]


def test_a_placement_without_one_of_the_vms_names_it(capture: Path, tmp_path: Path) -> None:
    placement = tmp_path / "where.yaml"
    placement.write_text("10.0.0.1: campus\n")

    with pytest.raises(UsageError, match=r"says nothing about 10\.0\.0\.2, 10\.0\.0\.3"):
        run(capture, "--placement", placement)


def test_help_shows_examples() -> None:
    result = run("--help")

    assert "Examples:" in result.output
    assert "transhume analyze tap0.pcap" in result.output
