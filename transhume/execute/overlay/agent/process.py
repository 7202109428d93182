"""The process that is a site's agent: waits for the knowledge, works until it's told to stop."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import structlog

from transhume.deployment.model import Deployment
from transhume.errors import KnowledgeUnreachable
from transhume.execute.overlay.agent.assembly import agents_of, parts_of
from transhume.knowledge.server import find_server
from transhume.knowledge.store import Store, utc_now
from transhume.reach.signals import run_until_told

_RETRY_SECONDS = 1.0
_NICENESS = -10

log = structlog.get_logger()


async def run_agent(deployment: Deployment, site: str) -> None:
    """Look after a site until SIGINT or SIGTERM.

    Raises:
        UsageError: the deployment has no such site, or no overlay.
        OverlayError: the site's kernel can't be set up.
        LeaseLost: another agent of this site has taken over.
    """
    parts_of(deployment, site)
    with suppress(PermissionError):
        # Between a VM's stop and our word to the kernel its frames are lost.
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    await run_until_told(_work(deployment, site))
    log.info("agent_ended", site=site)


async def _work(deployment: Deployment, site: str) -> None:
    async with (
        _knowledge(deployment) as store,
        agents_of(deployment, site, store, utc_now) as agents,
    ):
        await agents.run()


@asynccontextmanager
async def _knowledge(deployment: Deployment) -> AsyncIterator[Store]:
    """Wait until the knowledge is there: a daemon that runs it may begin after us."""
    async with AsyncExitStack() as stack:
        yield await _connected(deployment, stack)


async def _connected(deployment: Deployment, stack: AsyncExitStack) -> Store:
    told = False
    while True:
        try:
            server = find_server(deployment.knowledge_url, deployment.state_directory)
            return await stack.enter_async_context(Store.connect(server.url))
        except KnowledgeUnreachable as error:
            if not told:
                log.warning("knowledge_awaited", why=str(error))
            told = True
        await asyncio.sleep(_RETRY_SECONDS)
