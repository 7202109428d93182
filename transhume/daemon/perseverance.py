"""Going on in spite of trouble: told once when it begins, once when it is over, and tried again in between.

Owns the pauses between attempts and what the log says of them. Leaves out what is attempted. A lease that is
lost is no trouble to get over: it ends the daemon.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import structlog

from transhume.errors import Error, LeaseLost, PermanentError

log = structlog.get_logger()


class Trouble:
    """Something that may fail time and again; a failure of another kind is told anew."""

    def __init__(self, began: str, over: str, **about: object) -> None:
        self._began, self._over, self._about = began, over, about
        self._told: type[BaseException] | None = None

    def tell(self, error: BaseException) -> None:
        """Say what went wrong, unless that was said; what nobody foresaw comes with its traceback."""
        if self._told is type(error):
            return
        self._told = type(error)
        if isinstance(error, Error):
            log.warning(self._began, why=str(error), **self._about)
        else:
            log.error(self._began, why=repr(error), exc_info=error, **self._about)

    def over(self) -> None:
        """Say that it goes well again, where it did not."""
        if self._told is not None:
            log.info(self._over, **self._about)
        self._told = None


async def persevere(
    attempt: Callable[[], AsyncIterator[None]],
    trouble: Trouble,
    *,
    first_pause: float,
    longest_pause: float,
) -> None:
    """Run something without end, and begin it again after a fault; each time it yields, all is well.

    Raises `LeaseLost`; and whatever a person has to mend (`PermanentError`) before it was well for the first
    time. What breaks later is outlived: a cloud that vanishes must not end the evacuation of another.
    """
    pause, worked = first_pause, False
    while True:
        try:
            async for _ in attempt():
                trouble.over()
                pause, worked = first_pause, True
        except LeaseLost:
            raise
        except Exception as error:
            if isinstance(error, PermanentError) and not worked:
                raise
            trouble.tell(error)
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))
        pause = min(pause * 2, longest_pause)


def first_cause(error: BaseException) -> BaseException:
    """Return what a group of errors comes down to: a lost lease before all else, then what was foreseen."""
    causes = list(_causes(error))
    for kind in (LeaseLost, Error):
        for cause in causes:
            if isinstance(cause, kind):
                return cause
    return causes[0]


def _causes(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [cause for each in error.exceptions for cause in _causes(each)]
    return [error]
