"""What a demonstration needs of its stage."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from transhume.daemon.service import Daemon
from transhume.knowledge.model import PriceTick
from transhume.knowledge.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A stage to be set up in a folder, and the price that the story turns on."""

    stage: Callable[[Path, Console], AbstractAsyncContextManager[Store]]
    rise: Callable[[], PriceTick]
    patience_seconds: float


@asynccontextmanager
async def at_work(daemon: Daemon) -> AsyncIterator[None]:
    """Have a daemon run for as long as the context lasts; moves under way are finished."""
    running = asyncio.create_task(daemon.run(), name="daemon")
    try:
        yield
    finally:
        daemon.stop()
        await running
