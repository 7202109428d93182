"""`transhume analyze`, as a user types it: tables, JSON, the report, warnings, mistakes."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
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
    assert [pair[:3] for pair in found["pairs"]] == [
        [0, 1, 11000],
        [1, 0, 11000],
        [2, 3, 11000],
        [3, 2, 11000],
    ]
    assert found["pairs"][0][4] == 11
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
    assert [pair[:3] for pair in found["pairs"]] == [[0, 1, 11000], [1, 0, 11000]]
    assert found["unattributed"]["bytes"] == 22000
    assert sum(pair["bytes"] for pair in found["unattributed"]["top"]) == 22000
    strangers = {pair["source"]["ip"] for pair in found["unattributed"]["top"]}
    assert strangers == {"10.0.0.3", "10.0.0.4"}


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


@pytest.mark.parametrize(
    "price", ["{cloud: rented, at: 2100-01-01T00:00Z, ", "{cloud: rentde, at: 0s, "]
)
def test_a_price_that_is_not_there_is_told(capture: Path, tmp_path: Path, price: str) -> None:
    """Not yet, or not of a cloud of that name: the bill would seem to be small."""
    placement, prices = tmp_path / "where.yaml", tmp_path / "prices.yaml"
    placement.write_text("10.0.0.1: campus\n10.0.0.2: rented\n10.0.0.3: rented\n10.0.0.4: rented\n")
    prices.write_text(
        f"prices:\n  - {price}vcpu: 0.04/h, egress: 1000/GB}}\n"
        "  - {cloud: campus, at: 0s, vcpu: 0.04/h}\n"
    )

    result = run(capture, "--placement", placement, "--prices", prices)

    assert "no price of rented was in force when the capture began" in result.stderr
    assert "no price of campus" not in result.stderr


def test_the_same_capture_twice_counts_once(capture: Path, tmp_path: Path) -> None:
    again = tmp_path / "other-tap.pcap"
    again.write_bytes(capture.read_bytes())

    found = json.loads(run(capture, again, "--json").stdout)

    assert found["pairs"][0][:3] == [0, 1, 11000]
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
    with pytest.raises(UnreadableCapture, match=r"missing\.pcap: No such file"):
        run(capture, "missing.pcap")


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


def test_networks_give_parts_of_the_outside_a_name(capture: Path, tmp_path: Path) -> None:
    vms, networks = tmp_path / "vms.yaml", tmp_path / "networks.yaml"
    vms.write_text("web: {ips: [10.0.0.1]}\n")
    networks.write_text("db: [10.0.0.2/32]\nrest: [10.0.0.0/8]\n")

    given = (capture, "--vms", vms, "--networks", networks)
    found = json.loads(run(*given, "--json").stdout)

    assert found["to_outside"] == [11000]
    assert {each["name"]: each["to"] for each in found["networks"]}["db"] == [11000]
    assert re.search(r"db +11 kB +11 kB", run(*given).output)


def test_a_network_with_two_names_is_refused(capture: Path, tmp_path: Path) -> None:
    networks = tmp_path / "networks.yaml"
    networks.write_text("a: [10.0.0.0/8]\nb: [10.0.0.0/8]\n")

    with pytest.raises(UsageError, match=r"networks\.yaml: 10\.0\.0\.0/8 is in a and in b"):
        run(capture, "--networks", networks)


def test_what_is_no_network_is_told_with_its_place(capture: Path, tmp_path: Path) -> None:
    networks = tmp_path / "networks.yaml"
    networks.write_text("campus: [10.8.0.1/16]\n")

    with pytest.raises(InvalidFile, match=r"networks\.yaml:1:10: .* has host bits set"):
        run(capture, "--networks", networks)


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


def test_a_mac_address_of_two_vms_is_a_mistake(capture: Path, tmp_path: Path) -> None:
    vms = tmp_path / "vms.yaml"
    vms.write_text("web: {mac: '52:54:00:00:00:0a'}\ndb: {mac: '52:54:00:00:00:0A'}\n")

    with pytest.raises(InvalidFile, match=r"vms\.yaml:2:11: the VM in line 1 has"):
        run(capture, "--vms", vms)


def test_a_placement_without_one_of_the_vms_names_it(capture: Path, tmp_path: Path) -> None:
    placement = tmp_path / "where.yaml"
    placement.write_text("10.0.0.1: campus\n")

    with pytest.raises(UsageError, match=r"says nothing about 10\.0\.0\.2, 10\.0\.0\.3"):
        run(capture, "--placement", placement)


# --- where captures are ------------------------------------------------------------------------------


def test_a_folder_a_pattern_and_the_files_say_the_same(capture: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a capture")

    given = ([capture], [tmp_path], [f"{tmp_path}/t*.pcap"], [f"tap={capture}"])
    found = [json.loads(run(*words, "--json").stdout)["pairs"] for words in given]

    assert found[0][0][:3] == [0, 1, 11000]
    assert found == [found[0]] * 4


def test_a_folder_without_captures_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnreadableCapture, match="no file in this folder is a capture"):
        run(tmp_path)


def test_standard_input_is_read(capture: Path) -> None:
    """In a process of its own: what click's runner puts in its place has no file number."""
    told = subprocess.run(
        [sys.executable, "-m", "transhume", "analyze", "-", "--json"],
        input=capture.read_bytes(),
        capture_output=True,
        check=True,
    )

    found = json.loads(told.stdout)
    assert found["files"][0]["path"] == "standard input"
    assert found["pairs"] == json.loads(run(capture, "--json").stdout)["pairs"]


def test_bytes_can_be_counted_as_captured(capture: Path) -> None:
    found = json.loads(run(capture, "--captured-length", "--json").stdout)

    assert found["pairs"][0][2] == 11 * 96


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_every_engine_finds_the_same(capture: Path, engine: str) -> None:
    if engine == "numba":
        pytest.importorskip("numba", reason="the extra [fast]")

    found = json.loads(run(capture, "--engine", engine, "--json").stdout)

    assert found["pairs"] == json.loads(run(capture, "--json").stdout)["pairs"]


# --- several processes -------------------------------------------------------------------------------


def test_two_workers_find_what_one_process_finds(capture: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="the extra [dask]")
    again = tmp_path / "other-tap.pcap"
    again.write_bytes(capture.read_bytes())

    given = [sys.executable, "-m", "transhume", "analyze", str(capture), str(again), "--json"]
    one = subprocess.run(given, capture_output=True, check=True)
    two = subprocess.run([*given, "--workers", "2"], capture_output=True, check=True)

    assert two.stdout == one.stdout


def test_a_scheduler_that_does_not_answer_is_told(capture: Path) -> None:
    pytest.importorskip("distributed", reason="the extra [dask]")

    with pytest.raises(UsageError, match=r"tcp://127\.0\.0\.1:9"):
        run(capture, "--dask", "tcp://127.0.0.1:9")


@pytest.mark.parametrize(
    "options",
    [
        ("--workers", 2, "--dask", "tcp://127.0.0.1:9"),
        ("--workers", 2, "--follow"),
        ("--dask", "tcp://127.0.0.1:9", "--follow"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    capture: Path, options: tuple[object, ...]
) -> None:
    with pytest.raises(UsageError, match=r"--dask"):
        run(capture, *options)


# --- exports -----------------------------------------------------------------------------------------


def test_several_files_can_be_written_at_once(capture: Path, tmp_path: Path) -> None:
    out = [tmp_path / "out" / name for name in ("t.csv", "t.graphml", "t.mtx", "t.json")]

    run(capture, *(word for path in out for word in ("--export", path)))

    assert all(path.stat().st_size for path in out)
    assert out[0].read_text().count("\n") == 1 + 11 * 4
    assert json.loads(out[3].read_text()) == json.loads(run(capture, "--json").stdout)


def test_an_export_of_no_known_format_is_refused_before_the_work(capture: Path) -> None:
    result = run(capture, "--export", "traffic.xlsx")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "has no ending that names a format" in result.stderr


# --- files that grow ---------------------------------------------------------------------------------


class Terminal:
    """A terminal that a command runs in, and what it has shown."""

    def __init__(self, *words: object) -> None:
        ours, theirs = os.openpty()
        self._ours = ours
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "transhume", *map(str, words)],
            stdout=theirs,
            stderr=theirs,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "60"},
        )
        os.close(theirs)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def wait_for(self, words: str) -> None:
        """Return when the words were shown since the last time."""
        since = len(self.shown)
        while words not in self.shown[since:]:
            assert self._more(), f"it ended, and showed: {self.shown}"

    def to_the_end(self) -> str:
        """Return what is shown from now on until the command ends."""
        since = len(self.shown)
        while self._more():
            pass
        return self.shown[since:]

    def _more(self) -> bool:
        with suppress(OSError):  # what a terminal says that nobody uses any more
            read = os.read(self._ours, 65536).decode(errors="replace")
            self.shown += read
            return bool(read)
        return False


def test_a_reading_that_takes_its_time_has_a_bar(capture: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    with Terminal("analyze", pipe) as terminal:
        with pipe.open("wb", buffering=0) as writer:
            writer.write(capture.read_bytes()[:1000])
            terminal.wait_for("reading")
            writer.write(capture.read_bytes()[1000:])
        told = terminal.to_the_end()

        assert terminal.process.wait() == 0
    assert "44 frames, 44 kB in 10s" in told


def test_a_file_that_grows_is_watched_until_ctrl_c(capture: Path) -> None:
    whole = capture.read_bytes()
    capture.write_bytes(whole[: 24 + 3 * (16 + 96)])

    with Terminal("analyze", capture, "--follow") as terminal:
        terminal.wait_for("3 frames")
        with capture.open("ab") as file:
            file.write(whole[24 + 3 * (16 + 96) :])
        terminal.wait_for("44 frames")
        terminal.process.send_signal(signal.SIGINT)
        told = terminal.to_the_end()

        assert terminal.process.wait() == 0
    assert "Who exchanges most" in told
    assert "g-10.0.0.3" in told


def test_several_growing_files_that_fell_silent_are_told_of(capture: Path, tmp_path: Path) -> None:
    """Each is followed at the same time; SIGTERM ends the reading as Ctrl-C does."""
    other = tmp_path / "other.pcap"
    other.write_bytes(pcap([(T0, frame(8, 9, 500))]))

    with Terminal("analyze", capture, other, "--follow") as terminal:
        terminal.wait_for("45 frames")
        terminal.process.terminate()
        told = terminal.to_the_end()

        assert terminal.process.wait() == 0
    assert "g-10.0.0.8" in told


def test_a_followed_file_that_is_no_capture_ends_the_others(capture: Path, tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear Sir or Madam, this is a letter")

    with pytest.raises(UnreadableCapture, match="letter: is no pcap"):
        run(capture, tmp_path / "letter", "--follow")


def test_help_shows_examples() -> None:
    result = run("--help")

    assert "Examples:" in result.output
    assert "transhume analyze tap0.pcap" in result.output
