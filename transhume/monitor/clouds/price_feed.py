"""Prices that a server tells: a JSON list of the same rows that a schedule holds, read over HTTP.

An `at` without a date counts from the moment of reading: `0s` is now. Of several rows of a cloud the one counts
that is in force, whatever their order: markets tell their history, the newest first, and tariffs what is to
come. Whatever is wrong with the server or its answer is temporary: the last prices stay in force until it
answers well again.
"""

import asyncio
import time
from datetime import datetime, timedelta
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from pydantic import TypeAdapter, ValidationError

from transhume.errors import TemporaryError
from transhume.knowledge.model import PriceTick
from transhume.monitor.clouds.price_rows import PriceRow

_ROWS = TypeAdapter(list[PriceRow])
_CHUNK_BYTES = 1 << 16
_CLOCKS_DIFFER = timedelta(minutes=1)
"""By so much a server's clock may be ahead: what begins a little later has begun."""


class HttpPriceFeed:
    """Reads one feed, within bounds of time and size."""

    def __init__(
        self, url: str, *, timeout_seconds: float = 10.0, max_bytes: int = 1 << 20
    ) -> None:
        self.url = url
        self._timeout_seconds = timeout_seconds
        self._max_bytes = max_bytes

    async def fetch(self, now: datetime) -> tuple[PriceTick, ...]:
        """Return the prices in force at `now`, one of each cloud of which the server tells any.

        A cancelled fetch leaves its thread to end by itself within the time-out.

        Raises:
            TemporaryError: there was no answer in time, or none that holds prices.
        """
        raw = await asyncio.to_thread(self._answer)
        try:
            rows = _ROWS.validate_json(raw)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = "".join(f"[{part}]" for part in first["loc"]) or "the answer"
            raise self._failure(f"{where}: {first['msg']}") from error
        ticks = sorted((row.tick(now) for row in rows), key=lambda tick: tick.at)
        begun = [tick for tick in ticks if tick.at <= now + _CLOCKS_DIFFER]
        return tuple({tick.cloud: tick for tick in begun}.values())

    def _answer(self) -> bytes:
        ends = time.monotonic() + self._timeout_seconds
        request = Request(self.url, headers={"Accept": "application/json"})
        found = bytearray()
        try:
            with urlopen(request, timeout=self._timeout_seconds) as answer:
                while chunk := answer.read1(_CHUNK_BYTES):
                    found += chunk
                    if len(found) > self._max_bytes:
                        raise self._failure(f"the answer is larger than {self._max_bytes} bytes")
                    if time.monotonic() > ends:  # the socket's time-out is for each read alone
                        raise self._failure("the answer takes too long")
        except HTTPError as error:
            with error:  # it holds the connection
                raise self._failure(f"HTTP status {error.code}") from error
        except (OSError, HTTPException, ValueError) as error:
            raise self._failure(str(error) or type(error).__name__) from error
        return bytes(found)

    def _failure(self, seen: str) -> TemporaryError:
        return TemporaryError(f"price feed {self.url}: {seen}; the last prices stay in force")
