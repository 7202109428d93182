"""A lab whose sites have agents: what they and a daemon share, and how what they do is looked at."""

import asyncio
import os
import subprocess
from pathlib import Path

import yaml

from tests.system.running import TRANSHUME, deployment_of
from transhume.lab.lab import Lab


def config_of(lab: Lab, folder: Path) -> Path:
    """Return a deployment with the knowledge that the agents share."""
    written = yaml.safe_load(lab.deployment.read_text())
    return deployment_of(lab, folder, knowledge=written["knowledge"])


def knowledge_of(lab: Lab) -> str:
    return str(yaml.safe_load(lab.deployment.read_text())["knowledge"]["url"])


def overlay(words: list[str], config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TRANSHUME, "overlay", *words, "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


async def is_consistent(config: Path) -> str | None:
    found = await asyncio.to_thread(overlay, ["check"], config)
    return found.stdout if found.returncode == 0 else None


def agents_of(site: str, state: Path) -> list[int]:
    """Return the processes that are a site's agent."""
    wanted = [b"agent", b"--site", site.encode(), b"--config", os.fsencode(state / "agents.yaml")]
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")[:-1]
            except OSError:
                continue
            if words[-len(wanted) :] == wanted:
                found.append(int(process.name))
    return found
