"""A file for us alone, by flock: the kernel lets go of it with the last process that has it open."""

import asyncio
import fcntl

LOOK_SECONDS = 0.02


async def lock(file: int, patience_seconds: float) -> None:
    """Lock an open file, or folder; whoever lets go of it in a moment is waited for.

    Raises:
        BlockingIOError: somebody has it still.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + patience_seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if loop.time() > until:
                raise
            await asyncio.sleep(LOOK_SECONDS)
        else:
            return
