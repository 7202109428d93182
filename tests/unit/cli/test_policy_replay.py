"""`transhume replay` of policy files, and the folders of traces that it reads."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.unit.plan.worlds import moved
from transhume.cli.replay import command
from transhume.cli.trace_files import load_trace
from transhume.errors import Error, InvalidFile, UsageError
from transhume.knowledge.codec import encode
from transhume.knowledge.model import Measurement, Resources
from transhume.policies.loader import load_policies
from transhume.replaying import Alternative, HostRoom, JobPace, compare
from transhume.replaying.comparison import Manner

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "traces" / "three-days"
CHEAP, CAREFUL = (
    ROOT / "policies" / f"{name}.yaml" for name in ("cheap-but-on-time", "evacuate-on-notice")
)
IN_TIME = EXAMPLE / "render-in-time.yaml"
BOTH = ("--policy", CHEAP, "--policy", CAREFUL, "--traces", EXAMPLE)
START = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Return a trace that may be written to: the example's."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "trace"))


def run(*words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def runs(*words: object) -> dict[str, dict[str, object]]:
    shown = run(*words, "--json")
    assert shown.exception is None, shown.exception
    return {each["name"]: each for each in json.loads(shown.stdout)["runs"]}


# --- the command -------------------------------------------------------------------------------------


def test_policy_files_are_compared_with_staying_put() -> None:
    shown = run(*BOTH).stdout
    lines = shown.splitlines()
    assert lines[0] == "6 VMs in 3 clouds, 3d from 2026-03-02 00:00 UTC"
    assert [line.split()[0] for line in lines[4:7]] == [
        "stay",
        "cheap-but-on-time",
        "evacuate-on-notice",
    ]
    assert max(map(len, lines)) <= 80


def test_the_json_has_what_each_policy_did(trace: Path) -> None:
    """With longer ticks: a policy with a deadline is asked at each of them."""
    with (trace / "federation.yaml").open("a") as file:
        file.write("tick: 30m\n")
    files = ("--policy", CHEAP, "--policy", CAREFUL, "--policy", IN_TIME)
    found = runs(*files, "--traces", trace)
    stay, cheap, careful = found["stay"], found["cheap-but-on-time"], found["evacuate-on-notice"]
    assert stay["lost_vms"] == 4
    assert stay["moves"] == []
    assert [each["job"] for each in stay["missed"]] == ["frames"]  # type: ignore[attr-defined]
    assert careful["lost_vms"] == cheap["lost_vms"] == 0
    assert careful["elective_moves"] == 0
    assert careful["mandatory_moves"] == 4
    assert cheap["paid_dollars"] < careful["paid_dollars"]  # type: ignore[operator]
    for each in found.values():
        assert each["moves_within_cooldown"] == 0
        assert each["paid_dollars"] == pytest.approx(
            sum(each[f"{cause}_dollars"] for cause in ("compute", "egress", "migration"))  # type: ignore[misc]
        )


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    reports = [tmp_path / "one.html", tmp_path / "two.html"]
    shown = [run(*BOTH, "--json", "--report", report).stdout for report in reports]
    assert shown[0] == shown[1]
    assert reports[0].read_bytes() == reports[1].read_bytes()


def test_the_report_draws_cost_and_moves_of_each_policy(tmp_path: Path) -> None:
    report = tmp_path / "out.html"
    assert run(*BOTH, "--report", report).exit_code == 0
    page = report.read_text()
    assert page.count("<polyline") == 2 * 3
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")
    assert "evacuate-on-notice" in page


def test_a_folder_of_policies_acts_together(tmp_path: Path) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    for policy in (CHEAP, CAREFUL):
        shutil.copy(policy, folder)
    found = runs("--policy", folder, "--policy", CAREFUL, "--traces", EXAMPLE)
    assert list(found) == ["stay", "both", "evacuate-on-notice"]
    assert found["both"]["elective_moves"] == 0, "the stricter one wins"


def test_the_solver_of_the_daemon_decides_the_same_among_so_few() -> None:
    quick, daemon = (
        runs("--policy", CHEAP, "--traces", EXAMPLE, "--solver", solver)
        for solver in ("quick", "daemon")
    )
    assert quick == daemon


def test_rules_are_judged_in_every_run(trace: Path) -> None:
    (trace / "apart.yaml").write_text(
        "policy: apart\nmode: auto\nrules:\n  - spread: {tag: db, over: cloud, min: 2}\n"
    )
    found = runs("--policy", trace / "apart.yaml", "--traces", trace)
    name = "apart: rule 1 (spread)"
    assert found["stay"]["violation_seconds"] == {name: 3 * 86400.0}
    assert 0 < found["apart"]["violation_seconds"][name] < 600  # type: ignore[index]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(("--policy", CHEAP), "--traces", id="no-trace"),
        pytest.param(("--policy", CHEAP, "--traces", ROOT), "federation.yaml", id="another-folder"),
        pytest.param((*BOTH, "--job", "3h"), "--job", id="an-option-of-jobs"),
        pytest.param((*BOTH, "--policy", "greedy"), "deadline policy", id="both-kinds"),
        pytest.param((*BOTH, "--policy", CHEAP), "rename", id="one-twice"),
        pytest.param((), "--job", id="nothing"),
        pytest.param(
            ("--job", "1h", "--deadline", "2h", "--solver", "daemon"), "--solver", id="no-files"
        ),
    ],
)
def test_what_makes_no_sense_is_told_with_the_remedy(words: tuple[object, ...], told: str) -> None:
    failed = run(*words)
    assert isinstance(failed.exception, UsageError)
    assert told in str(failed.exception)


def test_a_policy_that_is_neither_a_file_nor_a_name_is_refused() -> None:
    failed = run("--policy", "greedi", "--traces", EXAMPLE)
    assert failed.exit_code == 2
    assert "uniform-progress" in failed.stderr


def test_a_policy_that_governs_nobody_is_warned_of(trace: Path) -> None:
    (trace / "idle.yaml").write_text("policy: idle\napplies_to: {vm: nobody}\n")
    assert (
        "idle.yaml) governs no VM" in run("--policy", trace / "idle.yaml", "--traces", trace).stderr
    )


def test_clouds_without_a_price_are_warned_of(trace: Path) -> None:
    assert run("--policy", CAREFUL, "--traces", trace).stderr == ""
    lines = (trace / "prices.csv").read_text().splitlines(keepends=True)
    (trace / "prices.csv").write_text("".join(each for each in lines if "spot" not in each))
    assert "no price of spot:" in run("--policy", CAREFUL, "--traces", trace).stderr


@pytest.mark.parametrize("done", [30, 120])
def test_a_deadline_before_the_trace_is_none_of_it(trace: Path, done: int) -> None:
    """Whether its job was done in time can't be told any more. Ticks are long: a job is asked about at each."""
    with (trace / "federation.yaml").open("a") as file:
        file.write("tick: 6h\n")
    (trace / "progress.csv").write_text(f"job,at,done,total\nframes,0h,{done},120\n")
    policy = trace / "late.yaml"
    policy.write_text(
        "policy: late\ndeadline: {at: 2026-03-01T00:00Z, work: 1h, progress: {job: frames}}\n"
    )
    found = runs("--policy", policy, "--traces", trace)
    assert [(each["deadlines"], each["lateness_dollars"]) for each in found.values()] == [
        (0, 0)
    ] * 2


@pytest.mark.parametrize("at", ["2026-03-01T00:00Z", "2026-03-03T12:10Z"])
def test_a_deadline_that_is_over_is_not_asked_about(trace: Path, at: str) -> None:
    """The job isn't done, and never is; and asking at every tick makes the same moves."""
    with (trace / "federation.yaml").open("a") as file:
        file.write("tick: 30m\n")
    (trace / "progress.csv").write_text("job,at,done,total\nframes,0h,30,120\n")
    text = IN_TIME.read_text().replace("2026-03-03T20:00Z", at)
    (trace / "late.yaml").write_text(text)
    policies = load_policies([trace / "late.yaml"])
    alternatives = [Alternative(name="late", policies=policies)]
    seldom, always = (
        compare(load_trace(trace), alternatives, manner=Manner(every_tick=each)).runs[1]
        for each in (False, True)
    )
    assert seldom.asked < always.asked / 1.5
    assert seldom.moves == always.moves
    assert seldom.paid_dollars == pytest.approx(always.paid_dollars)


# --- the files of a trace ----------------------------------------------------------------------------


def test_a_trace_has_what_its_files_say() -> None:
    found = load_trace(EXAMPLE)
    assert (found.start, found.end) == (START, START + timedelta(days=3))
    facts = found.at_start()
    assert facts.prices["spot"].dollars_per_vcpu_hour == 0.014
    assert facts.links[0].bytes_per_second == 125e6
    assert facts.vms["db-1"].tags == {"db"}
    assert found.host_of["render-2"] == "spot-1"
    later = dict(found.batches())
    assert [n.cloud for n in later[START + timedelta(hours=16)].notices] == ["spot"]
    assert later[START + timedelta(hours=20)].notices == ()
    day = later[START + timedelta(hours=8)].traffic
    assert day is not None
    assert day.matrix.bytes_per_second.sum() == pytest.approx(6.7e6)
    assert day.matrix.to_outside.sum() / day.matrix.seconds == pytest.approx(8e5)


def test_progress_becomes_the_pace_in_between() -> None:
    paces = [each for each in load_trace(EXAMPLE).changes if isinstance(each, JobPace)]
    assert [each.share_per_second for each in paces] == pytest.approx(
        [0.0, 1 / 3 / (12 * 3600), 2 / 3 / (24 * 3600)]
    )


def test_traffic_of_vms_by_other_names_is_warned_of(trace: Path) -> None:
    """An analysis names VMs by their addresses where nobody gives it their names: all would be free."""
    analysis = {
        "format": "transhume-analysis",
        "version": 1,
        "start": "2026-03-02T00:00:00+00:00",
        "seconds": 300.0,
        "vms": [{"name": name} for name in ("10.0.0.1", "10.0.0.2", "web-1")],
        "pairs": [[0, 1, 10**12, 10**12, 10**9]],
        "to_outside": [0, 0, 0],
        "from_outside": [0, 0, 0],
        "multicast_bytes": 0,
        "unattributed": {"bytes": 0},
        "dropped_frames": 0,
        "groups": [],
    }
    (trace / "traffic" / "day.csv").unlink()
    (trace / "traffic" / "day.json").write_text(json.dumps(analysis))
    told = run("--policy", CAREFUL, "--traces", trace).stderr
    assert "day.json: 2 of its 3 VMs aren't in federation.yaml (10.0.0.1, 10.0.0.2)" in told


def test_capacity_changes_and_a_host_without_any_is_gone(trace: Path) -> None:
    (trace / "capacity.csv").write_text(
        "host,at,vcpus,memory\nspot-1,1h,8,32GiB\nspot-1,2026-03-02T02:00Z,0,0GiB\n"
    )
    found = load_trace(trace)
    rooms = [each for each in found.changes if isinstance(each, HostRoom)]
    assert rooms[0].total == Resources(vcpus=8, memory_bytes=32 << 30)
    assert rooms[1].at == START + timedelta(hours=2)
    facts = found.at_start().after(rooms)
    assert facts.is_gone(rooms[1].host, rooms[1].at)


def test_a_stretch_without_machines_is_a_notice_and_its_withdrawal(trace: Path) -> None:
    (trace / "notices.csv").unlink()
    (trace / "availability").mkdir()
    series = {"metadata": {"gap_seconds": 3600}, "data": [1, 0, 0, 2]}
    (trace / "availability" / "spot.json").write_text(json.dumps(series))
    text = (trace / "federation.yaml").read_text()
    (trace / "federation.yaml").write_text(text + "\nnotice: 2m\n")
    later = dict(load_trace(trace).batches())
    hour = timedelta(hours=1)
    (notice,) = later[START + hour - timedelta(minutes=2)].notices
    assert notice.deadline == START + hour
    assert later[START + 3 * hour].notices == ()


def test_recorded_moves_calibrate_the_model(trace: Path) -> None:
    measured = Measurement(bytes=2 << 30, seconds=20.0, downtime_seconds=0.2)
    outcome = moved("web-1", ago=60.0, source="rented-1", destination="campus-1", measured=measured)
    (trace / "outcomes.json").write_bytes(b"[" + encode(outcome) + b"]")
    found = json.loads(run("--policy", CAREFUL, "--traces", trace, "--json").stdout)
    assert found["learnt_from"] == 1
    assert found["memory_factor"] == pytest.approx(1 - 2 / 125, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        pytest.param("capacity.csv", "host,at,vcpus\nspot-9,1h,8\n", "memory", id="no-memory"),
        pytest.param(
            "capacity.csv",
            "host,at,vcpus,memory\n\nspot-9,1h,8,1GiB\n",
            "capacity.csv:3:1: there is no host spot-9 in the trace; known there: campus-1",
            id="unknown-host",
        ),
        pytest.param(
            "notices.csv",
            "cloud,at,deadline\nspot,2h,1h\n",
            "notices.csv:2:9: the deadline or the end is before the notice",
            id="backwards",
        ),
        pytest.param(
            "notices.csv", "cloud,at,deadline\nmoon,2h,3h\n", "no cloud moon", id="unknown-cloud"
        ),
        pytest.param(
            "traffic.csv", "at,matrix\n0h,noon\n", "known there: day, night", id="unknown-matrix"
        ),
        pytest.param(
            "traffic/day.csv",
            "source,destination,rate\nweb-1,db-9,1kB/s\n",
            "day.csv:2:7: there is no destination db-9",
            id="unknown-vm",
        ),
        pytest.param(
            "traffic/day.csv",
            "source,destination,rate\nweb-1,db-1,7\n",
            "day.csv:2:12: rows[0].rate",
            id="no-unit",
        ),
        pytest.param(
            "progress.csv", "job,at,done,total\nx,1h,3,0\n", "progress.csv:2:8", id="no-total"
        ),
        pytest.param(
            "progress.csv",
            "job,at,done,total\nx,1h,nan,3\n",
            "progress.csv:2:6: rows[0].done: 'nan' is no amount",
            id="no-number",
        ),
        pytest.param(
            "capacity.csv",
            "host,at,vcpus,memory\nspot-1,1h,-8,32GiB\n",
            "capacity.csv:2:11: rows[0].vcpus: '-8' is no count",
            id="less-than-nothing",
        ),
        pytest.param("prices.csv", "cloud,at,vcpu\nmoon,0h,1/h\n", "no such cloud", id="price"),
        pytest.param("prices.csv", "cloud,when\n", "write cloud,at,vcpu", id="header"),
        pytest.param("outcomes.json", "[{}]", "transhume history --json", id="outcomes"),
        pytest.param("notices.csv", "", "begin it with cloud,host,at,deadline,until", id="empty"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_the_remedy(
    trace: Path, name: str, text: str, told: str
) -> None:
    (trace / name).write_text(text)
    with pytest.raises(Error) as failed:
        load_trace(trace)
    assert told in str(failed.value)


def test_every_mistake_of_the_federation_is_told(trace: Path) -> None:
    text = (trace / "federation.yaml").read_text()
    broken = text.replace("host: spot-1, vcpus: 4", "host: spot-7, vcpus: 0").replace(
        "[rented, spot]", "[rented, moon]"
    )
    (trace / "federation.yaml").write_text(broken)
    with pytest.raises(InvalidFile) as failed:
        load_trace(trace)
    told = str(failed.value)
    assert told.count("there is no host spot-7") == 2
    assert "there is no cloud moon" in told
    assert "vcpus" in told


def test_a_network_of_a_vm_that_no_cloud_has_is_told(trace: Path) -> None:
    path = trace / "federation.yaml"
    written = yaml.safe_load(path.read_text())
    for cloud in written["clouds"].values():
        cloud["networks"] = ["blue"]
    next(iter(written["vms"].values()))["networks"] = ["blue", "grene"]
    path.write_text(yaml.safe_dump(written, sort_keys=False))
    with pytest.raises(InvalidFile) as failed:
        load_trace(trace)
    assert "no cloud has a network grene; known here: blue" in str(failed.value)

    del next(iter(written["clouds"].values()))["networks"]
    path.write_text(yaml.safe_dump(written, sort_keys=False))
    load_trace(trace)
