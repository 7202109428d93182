"""`transhume overlay`, where there is nothing to look at."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from transhume.cli.overlay import command
from transhume.errors import UsageError

WITHOUT = "clouds: {a: {}}\n"
WITHOUT_AGENTS = """
clouds: {a: {overlay: {bridge: br0, underlay: wan0, vtep: 192.0.2.1}}}
overlay: {vni: 66}
"""
WITH_AGENTS = WITHOUT_AGENTS.replace("{vni: 66}", "{vni: 66, agents: true}")


def invoke(tmp_path: Path, text: str, *words: str) -> None:
    config = tmp_path / "transhume.yaml"
    config.write_text(text)
    CliRunner().invoke(command, [*words, "--config", str(config)], catch_exceptions=False)


@pytest.mark.parametrize("words", [("status",), ("check",), ("trace", "vm1", "vm2")])
@pytest.mark.parametrize("text", [WITHOUT, WITHOUT_AGENTS], ids=["no-overlay", "no-agents"])
def test_a_deployment_without_agents_is_told_how_to_have_them(
    tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    url = ("--url", f"unix://{tmp_path}/none")
    with pytest.raises(UsageError, match="agents: true"):
        invoke(tmp_path, text, *words, *url)


def test_an_agent_of_an_unknown_site_is_told_the_sites_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no site z; it has a"):
        invoke(tmp_path, WITH_AGENTS, "agent", "--site", "z")


def test_an_unknown_network_is_told_the_networks_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no network red; it has overlay"):
        invoke(tmp_path, WITH_AGENTS, "status", "--network", "red")
