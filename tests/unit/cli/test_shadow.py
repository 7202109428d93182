"""`transhume shadow` and the options of `transhume run` that it stands on; the rest is in `tests/contract`."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from transhume.cli.run import _with_asides
from transhume.cli.shadow import _show_latest, command
from transhume.deployment.model import Deployment, RecordingSettings, ShadowSettings
from transhume.errors import UsageError
from transhume.knowledge.records import ShadowStatus

NOWHERE = Deployment(source="t.yaml", clouds=(), hosts=(), hypervisors=())
ONE, OTHER = Path("one.yaml"), Path("other.yaml")


def refusal(*words: object) -> str:
    error = CliRunner().invoke(command, [str(word) for word in words]).exception
    assert isinstance(error, UsageError)
    return str(error)


def test_a_folder_without_a_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("policy: a\n")
    said = refusal("--policy", tmp_path / "a.yaml", "--traces", tmp_path)
    assert "holds no recording of a daemon" in said


def test_traces_without_a_policy_say_nothing(tmp_path: Path) -> None:
    assert "--traces says nothing without --policy" in refusal("--traces", tmp_path)


def test_before_a_first_comparison_one_is_told_what_to_do() -> None:
    with pytest.raises(UsageError, match="transhume run --shadow"):
        _show_latest(None, None, as_json=True)


def test_why_there_is_no_comparison_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    status = ShadowStatus(
        at=datetime(2030, 1, 1, tzinfo=UTC),
        trace="t",
        policies=(),
        refused=("a.yaml:1:1: odd",),
        why="it took too long",
    )
    with pytest.raises(UsageError, match="no comparison has come about"):
        _show_latest(status, None, as_json=True)
    told = capsys.readouterr().err
    assert "a.yaml:1:1: odd" in told
    assert "it took too long" in told


def test_options_of_run_add_to_what_the_deployment_file_says(tmp_path: Path) -> None:
    assert _with_asides(NOWHERE, None, ()) == NOWHERE
    asked = _with_asides(NOWHERE, tmp_path, (ONE,))
    assert asked.recording == RecordingSettings(folder=tmp_path)
    assert asked.shadow == ShadowSettings(policies=(ONE,))
    again = _with_asides(asked, tmp_path / "rec", (OTHER,))
    assert again.recording == RecordingSettings(folder=tmp_path / "rec")
    assert again.shadow == ShadowSettings(policies=(ONE, OTHER))
