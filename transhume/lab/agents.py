"""The lab's site agents, and the Redis that they share: one agent for each cloud, one for the gateway site.

An agent is the same program as anywhere else. All outlive whoever started the lab; `leftovers` ends them.
"""

import sys
import time
from collections.abc import Iterable
from pathlib import Path

from transhume.errors import LabError
from transhume.execute.migration.machine.sockets import is_listening
from transhume.lab.detached import start_detached

KNOWLEDGE = "knowledge.conf"
SOCKET = "knowledge.sock"
CONFIGURATION = "agents.yaml"
"""In the lab's state: the deployment file once more, by which agents are known for the lab's."""
_PATIENCE_SECONDS = 60.0

_REDIS = """port 0
unixsocket {state}/knowledge.sock
unixsocketperm 700
dir {state}
save ""
appendonly no
set-proc-title no
"""


def start_knowledge(state: Path) -> None:
    """Start a Redis on a socket in the lab's state.

    Raises:
        LabError: it doesn't start.
    """
    (state / KNOWLEDGE).write_text(_REDIS.format(state=state))
    start_detached(["redis-server", str(state / KNOWLEDGE)], state / "knowledge.log")
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not is_listening(state / SOCKET):
        if time.monotonic() > deadline:
            raise LabError(f"the lab's Redis doesn't start; see {state / 'knowledge.log'}")
        time.sleep(0.05)


def start_agent(site: str, state: Path) -> int:
    """Start a site's agent; return its process number."""
    words = [sys.executable, "-m", "transhume", "overlay", "agent", "--site", site]
    return start_detached([*words, "--config", str(state / CONFIGURATION)], log_of(site, state))


def wait_for_agents(sites: Iterable[str], state: Path) -> None:
    """Wait until each site's agent has set up its kernel.

    Raises:
        LabError: one doesn't get it.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    for site in sites:
        while b"agent_began" not in log_of(site, state).read_bytes():
            if time.monotonic() > deadline:
                told = log_of(site, state).read_text()[-500:]
                raise LabError(f"the agent of site {site} doesn't begin: {told}")
            time.sleep(0.05)


def log_of(site: str, state: Path) -> Path:
    """Return where a site's agent writes its log."""
    return state / f"agent-{site}.log"
