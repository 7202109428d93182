"""`transhume replay`, and the files of availability that it reads."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from transhume.cli.availability_files import load_availability
from transhume.cli.replay import NAMES, command
from transhume.errors import Error, InvalidFile, UsageError
from transhume.plan.deadline import POLICIES

JOB = ("--job", "8h", "--deadline", "10h", "--policy", "greedy", "--policy", "uniform-progress")


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """Return two zones, of which one is there for the first half and the other for the second."""
    for name, row in (("east", [1] * 60 + [0] * 60), ("west", [0] * 60 + [2] * 61)):
        series = {"metadata": {"gap_seconds": 600}, "data": row}
        (tmp_path / f"{name}.json").write_text(json.dumps(series))
    return tmp_path


def run(*words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def test_the_command_offers_the_policies_that_there_are() -> None:
    assert tuple(POLICIES) == NAMES


def test_a_table_shows_what_each_policy_costs(traces: Path) -> None:
    shown = run(*JOB, "--traces", traces).stdout
    lines = shown.splitlines()
    assert lines[0].split()[:3] == ["policy", "cost", "share"]
    assert [line.split("  ")[0] for line in lines[2:5]] == [
        "greedy",
        "uniform-progress",
        "lower bound",
    ]
    assert "0 of 20" in lines[2]
    assert max(map(len, lines)) <= 80


def test_json_has_the_same_to_the_last_digit_each_time(traces: Path) -> None:
    first, again = (run(*JOB, "--traces", traces, "--json", "--seed", 4).stdout for _ in "ab")
    assert first == again
    found = json.loads(first)
    assert found["cases"] == 20
    assert [each["policy"] for each in found["averages"]] == ["greedy", "uniform-progress"]
    assert all(each["missed"] == 0 for each in found["averages"])
    assert found["averages"][0]["cost_dollars"] >= found["bound_dollars"]


def test_each_zone_can_be_replayed_by_itself(traces: Path) -> None:
    assert json.loads(run(*JOB, "--traces", traces, "--json", "--alone").stdout)["cases"] == 40


def test_without_traces_it_says_that_availability_is_generated() -> None:
    result = run(*JOB, "--json", "--starts", 1)
    assert "generated availability" in result.stderr
    assert json.loads(result.stdout)["cases"] == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(("--job", "48h", "--deadline", "48h"), "even on demand", id="too soon"),
        pytest.param(("--job", "0h", "--deadline", "48h"), "no work", id="nothing to do"),
        pytest.param(
            ("--job", "48h", "--deadline", "60h", "--spot", "9"),
            "no less than",
            id="spot is dearer",
        ),
        pytest.param(("--job", "48h", "--deadline", "60d"), "lasts 672.0 h", id="too long"),
        pytest.param(
            ("--job", "1h", "--deadline", "2h", "--traces", "nowhere"), "no folder", id="no folder"
        ),
    ],
)
def test_what_makes_no_sense_is_refused(words: tuple[str, ...], told: str) -> None:
    result = run(*words)
    assert isinstance(result.exception, UsageError)
    assert told in str(result.exception)


def test_a_duration_without_unit_is_refused() -> None:
    result = run("--job", "48", "--deadline", "60h")
    assert result.exit_code == 2
    assert "no unit" in result.stderr


def test_series_are_cut_to_the_shortest_and_named_by_their_files(traces: Path) -> None:
    found = load_availability(traces)
    assert (found.zones, found.tick_seconds, len(found)) == (("east", "west"), 600.0, 120)
    assert found.there[0].tolist() == [True, False]
    assert found.there[119].tolist() == [False, True]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param('{"metadata": {"gap_seconds": 6}, "data": [1,', ":1:45: ", id="cut short"),
        pytest.param("[1, 0]", "the whole: ", id="a list"),
        pytest.param('{"data": [1]}', "metadata: Field required", id="no metadata"),
        pytest.param('{"metadata": {"gap_seconds": 0}, "data": [1]}', "but 0 was", id="no tick"),
        pytest.param('{"metadata": {"gap_seconds": 6}, "data": []}', "data: ", id="no data"),
        pytest.param('{"metadata": {"gap_seconds": 6}, "data": [1, "x"]}', "data.1: ", id="a word"),
        pytest.param("[" * 100_000, "no JSON", id="too deep"),
        pytest.param("\xff", "no JSON", id="no UTF-8"),
    ],
)
def test_a_file_that_is_no_series_is_told_with_what_was_seen(
    words: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "zone.json").write_bytes(words.encode("latin-1"))
    with pytest.raises(InvalidFile) as caught:
        load_availability(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/zone.json:")
    assert told in str(caught.value)


def test_series_with_different_ticks_and_empty_folders_are_refused(
    traces: Path, tmp_path: Path
) -> None:
    (traces / "north.json").write_text('{"metadata": {"gap_seconds": 60}, "data": [1]}')
    with pytest.raises(Error, match="keep series with different ticks"):
        load_availability(traces)
    (tmp_path / "empty").mkdir()
    with pytest.raises(Error, match="holds no"):
        load_availability(tmp_path / "empty")
