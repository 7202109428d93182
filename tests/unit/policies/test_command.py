"""`transhume policy`, as a user sees it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from transhume.cli.policy import command
from transhume.located_yaml import json_schema
from transhume.policies.schema import PolicySchema

POLICIES = Path(__file__).parents[3] / "policies"


@pytest.fixture
def run():
    return lambda *words: CliRunner().invoke(command, [str(word) for word in words])


@pytest.fixture
def bad(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("policy: p\nmode: automatic\nprice: {budget: 12}\n")
    return path


def test_a_valid_policy_is_told_in_plain_english(run):
    done = run("check", POLICIES)
    assert done.exit_code == 0
    assert len(done.output.splitlines()) == 3
    assert "stay-legal governs all VMs; plans wait for a person's approval." in done.output


def test_mistakes_are_told_with_their_places_beside_what_is_valid(run, bad):
    done = run("check", bad, POLICIES / "stay-legal.yaml")
    assert done.exit_code == 65
    first, second, third = done.output.splitlines()
    assert first.startswith(f"{bad}:2:7: mode is automatic; did you mean auto?")
    assert second.startswith(f"{bad}:3:17: price.budget: 12 has no unit")
    assert "stay-legal governs" in third


def test_a_deadline_in_the_past_is_a_warning(run, tmp_path):
    path = tmp_path / "late.yaml"
    path.write_text("policy: late\ndeadline: {at: 2001-01-01T00:00Z, work: 1h}\n")
    done = run("check", path)
    assert done.exit_code == 0
    assert done.output.startswith(f"{path}:2:16: warning: deadline.at is in the past")


def test_json_tells_the_same(run, bad):
    done = run("check", "--json", bad, POLICIES / "stay-legal.yaml")
    found = json.loads(done.output)
    assert done.exit_code == 65
    assert [(m["line"], m["column"]) for m in found["mistakes"]] == [(2, 7), (3, 17)]
    (policy,) = found["policies"]
    assert (policy["policy"], policy["mode"], policy["warnings"]) == ("stay-legal", "approve", [])


def test_the_schema_is_the_one_that_files_are_checked_with(run):
    assert json.loads(run("schema").output) == json_schema(PolicySchema)


def test_help_imports_nothing_heavy():
    code = (
        "import sys, transhume.cli.policy; print('pydantic' in sys.modules, 'yaml' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_with_a_deployment_a_cloud_that_is_not_in_it_is_a_mistake(run, tmp_path):
    (tmp_path / "site.yaml").write_text("clouds: {campus: {}}")
    (tmp_path / "p.yaml").write_text("policy: p\nrules:\n  - pin: {vm: a, cloud: capmus}")
    policy, site = tmp_path / "p.yaml", tmp_path / "site.yaml"

    assert run("check", policy).exit_code == 0
    done = run("check", policy, "--config", site)
    assert done.exit_code == 65
    assert f"{policy}:3:25: there is no cloud capmus; did you mean campus?" in done.output
