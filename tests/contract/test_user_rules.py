"""Rules in Python under the daemon: what fails in one keeps its VMs where they are, and the daemon alive."""

from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from tests.contract.daemon_stage import (
    B1,
    DEAR,
    ENDED,
    ONE_SERVER,
    VMS,
    A,
    Stage,
    hurry,
    set_stage,
    so,
    until,
)
from transhume.knowledge.model import NoPlan
from transhume.knowledge.store import Store

MODULE = """\
from pathlib import Path
from transhume.policies.extension import Verdict

class Moody:
    def __init__(self, parameters):
        self.ill = Path(parameters["ill"])

    def judge(self, view):
        if self.ill.exists():
            raise SystemExit("ill")
        return Verdict()
"""
POLICY = """\
policy: moody
mode: auto
elective: {{min_gain: 5%, cooldown: 6h}}
rules:
  - python: {{name: {name}, ill: {ill}}}
"""


@pytest.fixture
async def stage(client: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    info = tmp_path / "site" / "moody-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: moody\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[transhume.policies]\nmoody = moody_rule:Moody\n")
    (tmp_path / "site" / "moody_rule.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path / "site")
    hurry(monkeypatch)
    return await set_stage(Store(client), tmp_path)


@ONE_SERVER
async def test_a_rule_that_fails_moves_nothing_and_once_it_is_well_again_the_daemon_goes_on(
    stage: Stage, tmp_path: Path
) -> None:
    ill = tmp_path / "ill"
    ill.touch()
    stage.replace_policy(POLICY.format(name="moody", ill=ill))

    async def told() -> str | None:
        latest = await stage.store.latest_plan()
        found = latest.plan.reason if latest and isinstance(latest.plan, NoPlan) else ""
        return found if "moody" in found else None

    async with stage.daemon():
        await stage.price(A, DEAR)
        assert await until(told, "what failed") == (
            "policy moody: python rule moody failed: SystemExit: ill; its VMs stay where they are"
        )
        assert stage.at(B1) == set()
        ill.unlink()
        await stage.plan(*ENDED)
    assert stage.at(B1) == set(VMS)


@ONE_SERVER
async def test_a_rule_that_is_not_installed_refuses_the_file_and_the_old_one_stays(
    stage: Stage, tmp_path: Path
) -> None:
    with capture_logs() as logs:
        async with stage.daemon():
            await stage.calm()
            stage.replace_policy(POLICY.format(name="mody", ill=tmp_path / "ill"))
            await until(
                so(lambda: any(line["event"] == "policy_refused" for line in logs)), "a refusal"
            )
            status = await stage.store.policies()
            assert status is not None
            assert [policy.name for policy in status.in_force] == ["cheap-but-together"]
    (refused,) = [line for line in logs if line["event"] == "policy_refused"]
    assert refused["mistake"].startswith(f"{stage.policy}:5:20: rules[0].python: no installed")
