"""Questions to a peer, each with a number that its answer has, too."""

import asyncio
from collections.abc import Mapping

from transhume.execute.migration.gateway.link import Link, LinkLost
from transhume.execute.migration.gateway.messages import Kind, Message


class Questions:
    """What was asked over one link, and has no answer yet.

    Args:
        link: to ask over.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._last_number = 0
        self._answers: dict[int, asyncio.Future[Message]] = {}

    def number(self) -> int:
        """Return a number that nothing has yet that was said over this link."""
        self._last_number += 1
        return self._last_number

    async def ask(self, kind: Kind, words: Mapping[str, object]) -> Message:
        """Return the answer.

        Raises:
            LinkLost: there will be none.
        """
        if self._link.lost is not None:
            raise LinkLost(self._link.lost)
        number = self.number()
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            self._link.say_words(kind, number, words)
            return await answer
        finally:
            self._answers.pop(number, None)

    def take(self, message: Message) -> None:
        """Give an answer to whoever asked, if anybody still waits for it."""
        answer = self._answers.get(message.number)
        if answer is not None and not answer.done():
            answer.set_result(message)

    def end(self, why: str) -> None:
        """Leave all questions without an answer."""
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(LinkLost(why))
