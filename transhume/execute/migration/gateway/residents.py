"""Looks into the memory of VMs that run at this site, so that others like them needn't bring the same again.

Only VMs whose tenant the gateway's configuration names are looked at. What was found is offered to a peer that
shows a ticket for a VM of the same tenant, as digests; it stays what it was while anybody may refer to it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from fnmatch import fnmatchcase

import structlog

from transhume.execute.migration.content.page_log import NotInLog, PageLog
from transhume.execute.migration.content.resident_pages import ResidentPages
from transhume.execute.migration.gateway.configuration import GatewaySettings, ResidentSettings
from transhume.execute.migration.gateway.domains import Domains
from transhume.execute.migration.gateway.relays import Relays
from transhume.execute.migration.machine.guest_memory import NoGuestMemory, Pages
from transhume.execute.migration.machine.hypervisors import Hypervisors, Part

PAUSE_SECONDS = 30.0
"""Between two looks at all VMs; longer where one takes long, so that it takes little of a processor."""
_REST = 20.0
"""Times as long as a look took."""

log = structlog.get_logger()


class Residents:
    """The VMs of one site whose memory is known to gateways elsewhere.

    Args:
        settings: the gateway's; `residents` says whose VMs they are.
        domains: which images tenants may refer to anyhow.
        relays: where they run.
    """

    def __init__(self, settings: GatewaySettings, domains: Domains, relays: Relays) -> None:
        self._settings = settings
        self._domains = domains
        self._relays = relays
        self._pages: dict[str, ResidentPages] = {}
        self._looked_at: dict[str, int] = {}
        self._looks = 0

    def of(self, tenant: str) -> ResidentPages | None:
        """Return what a tenant's VMs here have; None where nobody is to know of them."""
        if all(rule.tenant != tenant for rule in self._settings.residents):
            return None
        if tenant not in self._pages:
            self._pages[tenant] = self._empty(tenant)
        return self._pages[tenant]

    def status(self) -> list[dict[str, object]]:
        """Tell of each tenant how often all were looked at, how many VMs the last time, and what is kept."""
        return [
            {
                "tenant": tenant,
                "looks": self._looks,
                "vms": self._looked_at.get(tenant, 0),
                "pages": len(pages.digests),
                "kept_bytes": pages.kept_bytes,
                "full": pages.full,
            }
            for tenant, pages in self._pages.items()
        ]

    async def run(self) -> None:
        """Look at all of them again and again, until cancelled."""
        while self._settings.residents:
            began = time.monotonic()
            for rule in self._settings.residents:
                await self.look(rule)
            self._looks += 1
            await asyncio.sleep(max(PAUSE_SECONDS, _REST * (time.monotonic() - began)))

    async def look(self, rule: ResidentSettings) -> None:
        """Keep what is new in the memory of one rule's VMs."""
        pages = self.of(rule.tenant)
        assert pages is not None
        if pages.full:  # whoever refers to the old ones has them as long as that lasts
            pages = self._pages[rule.tenant] = self._empty(rule.tenant)
        looked_at = 0
        async for vm, hypervisors in self._running(rule):
            try:
                looked_at += 1
                await _add_memory(pages, hypervisors, vm)
            except (NoGuestMemory, OSError) as error:
                log.info("resident_not_read", vm=vm, tenant=rule.tenant, why=str(error))
            except NotInLog:  # what was kept in part, of a disk that is full, can't be taken back
                self.forget(rule.tenant)
                break
        self._looked_at[rule.tenant] = looked_at

    def forget(self, tenant: str) -> None:
        """Begin anew with a tenant's; whoever was told of the old ones has them as long as that lasts."""
        self._pages.pop(tenant, None)

    def close(self) -> None:
        """Forget everything."""
        for pages in self._pages.values():
            pages.close()

    def _empty(self, tenant: str) -> ResidentPages:
        settings = self._settings
        known = {
            digest
            for catalogue in self._domains.catalogues_for(tenant)
            for digest in catalogue.digests
        }
        room = PageLog(settings.store, memory_bytes=settings.store_memory_bytes)
        return ResidentPages(room, settings.store_residents_bytes, known)

    async def _running(self, rule: ResidentSettings) -> AsyncIterator[tuple[str, Hypervisors]]:
        """Yield a rule's VMs that run at this site, and among whose hypervisors."""
        for hypervisors in self._relays.connected():
            with suppress(OSError):  # its relay has just gone
                for vm in await hypervisors.running():
                    if any(fnmatchcase(vm, pattern) for pattern in rule.vms):
                        yield vm, hypervisors


async def _add_memory(pages: ResidentPages, hypervisors: Hypervisors, vm: str) -> None:
    async with aclosing(hypervisors.pages(vm, Part.MEMORY)) as pieces:
        async for piece in pieces:
            await asyncio.to_thread(pages.add, _each(piece))
            if pages.full:
                return


def _each(piece: Pages) -> Sequence[memoryview]:
    return [memoryview(page) for page in piece]
