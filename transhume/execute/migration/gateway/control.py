"""What a daemon, or a person, asks of a gateway: one JSON object a line, one line of answer each.

    {"do": "admit", "vm": …, "tenant": …, "source": …, "most_bytes": …}   at the destination: a ticket
    {"do": "withdraw", "admission": …}     there, too: nobody shows that ticket any more
    {"do": "open", "migration": …, "vm": …, "tenant": …, "destination": …, "ticket": …}   at the source, and
        in both {"host": …}, at which of the site's hosts the hypervisor is;
        {"share": {"gang": …, "bytes_per_second": …}}   with what it may use of the link, and together with whom
    {"do": "progress", "migration": …}     what a migration has sent so far; {"remaining_bytes": …} tells what
        its hypervisor has still to send
    {"do": "pause", "migration": …, "stands_still": true}   its guest has stopped, and what is left of it goes
        before all else, until it's told with false that it runs
    {"do": "close", "migration": …}        what it has sent, and its route is taken away
    {"do": "warm", "vm": …, "tenant": …, "destination": …, "ticket": …}   send its memory beforehand, and with
        {"disks": true} its own images after it; {"bytes_per_second": …} is for all VMs that are sent ahead
        to that destination, and the lowest that is given counts
    {"do": "cool", "vm": …, "destination": …}   stop that; told is what was sent
    {"do": "status"}                       the store, links, routes, warming

An answer is `{"ok": …}`, or `{"error": …, "code": …}`.
"""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import structlog

from transhume.errors import Error, Refused, UsageError
from transhume.execute.migration.gateway.gateway import Gateway, Route
from transhume.execute.migration.gateway.link import LinkLost
from transhume.execute.migration.gateway.messages import ProtocolError
from transhume.execute.migration.gateway.warming import Warmer
from transhume.execute.migration.machine.hypervisors import SOCKETS
from transhume.execute.migration.transport import Share
from transhume.execute.migration.trust.admission import AdmissionRequest, TenantName
from transhume.execute.migration.trust.peers import Peer
from transhume.execute.migration.trust.tickets import AdmissionId
from transhume.knowledge.model import VmName

MOST_LINE_BYTES = 64 << 10

log = structlog.get_logger()

Words = dict[str, Any]


class Control:
    """Answers for one gateway."""

    def __init__(self, gateway: Gateway, warmth: Warmer) -> None:
        self._gateway = gateway
        self._warmth = warmth
        self._answers: dict[str, Callable[[Words, Peer], Awaitable[Words]]] = {
            "admit": self._admit,
            "withdraw": self._withdraw,
            "open": self._open,
            "progress": self._progress,
            "pause": self._pause,
            "close": self._close,
            "warm": self._warm,
            "cool": self._cool,
            "status": self._status,
        }

    async def serve(
        self, operator: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer until the operator hangs up; routes that were opened stay."""
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self.answer(line, operator)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError) as error:  # ValueError: a line without end
            log.warning("operator_lost", operator=operator.name, why=str(error))
        finally:
            writer.close()

    async def answer(self, line: bytes, operator: Peer) -> Words:
        """Return what one request is answered with."""
        try:
            words = json.loads(line)
            if not isinstance(words, dict) or words.get("do") not in self._answers:
                known = ", ".join(self._answers)
                raise UsageError(f"a request is an object in which `do` is one of: {known}")
            return {"ok": await self._answers[words["do"]](words, operator)}
        except Refused as refused:
            return {
                "error": refused.seen,
                "code": refused.code,
                "reason": str(refused.reason),
                "vm": refused.vm,
                "source": refused.source,
            }
        except Error as error:
            return {"error": str(error), "code": error.code}
        except (LinkLost, ProtocolError, OSError) as error:
            return {"error": str(error), "code": "unreachable"}
        except (KeyError, TypeError, ValueError) as error:
            return {"error": f"the request lacks something: {error!r}", "code": "bad_request"}

    async def _admit(self, words: Words, operator: Peer) -> Words:
        gateway = self._gateway
        migration = str(words["migration"])
        host, sockets = _host_in(words), gateway.sockets_of(migration)
        gateway.relays.at(host)  # refused now, rather than when its memory comes
        ticket = gateway.admissions.grant(
            AdmissionRequest(
                vm=VmName(words["vm"]),
                tenant=TenantName(words["tenant"]),
                source=str(words["source"]),
                host=host,
                sockets=() if words.get("warm") else sockets,
                most_bytes=int(most) if (most := words.get("most_bytes")) is not None else None,
            ),
            operator=operator,
        )
        return {
            "ticket": ticket.token.hex(),
            "admission": ticket.admission,
            "sockets": dict(zip(SOCKETS, map(str, sockets), strict=True)),
        }

    async def _withdraw(self, words: Words, _operator: Peer) -> Words:
        admission = AdmissionId(str(words["admission"]))
        return {"withdrawn": self._gateway.admissions.withdraw(admission)}

    async def _open(self, words: Words, _operator: Peer) -> Words:
        await self._gateway.open_route(
            str(words["migration"]),
            str(words["vm"]),
            str(words["tenant"]),
            str(words["destination"]),
            bytes.fromhex(words["ticket"]),
            host=_host_in(words),
            share=_share_of(words),
        )
        return {}

    async def _progress(self, words: Words, _operator: Peer) -> Words:
        route = self._route_in(words)
        if words.get("remaining_bytes"):
            route.departure.remains(int(words["remaining_bytes"]))
        return {
            "transfer": asdict(route.departure.sent),
            "disks": asdict(route.departure.disks),
            "waiting_bytes": route.departure.waiting_bytes,
            "link_bytes_per_second": route.departures.link_bytes_per_second,
            "link_is_known": route.departures.link_is_known,
            "broken": route.departure.broken,
        }

    async def _pause(self, words: Words, _operator: Peer) -> Words:
        departure = self._route_in(words).departure
        if words["stands_still"] is True:
            departure.stands_still()
        else:
            departure.goes_on()
        return {}

    async def _close(self, words: Words, _operator: Peer) -> Words:
        route = self._gateway.close_route(str(words["migration"]))
        if route is None:
            return {}
        return {**asdict(route.departure.sent), "broken": route.departure.broken}

    def _route_in(self, words: Words) -> Route:
        route = self._gateway.routes.get(str(words["migration"]))
        if route is None:
            raise UsageError(f"there is no migration {words['migration']}")
        return route

    async def _warm(self, words: Words, _operator: Peer) -> Words:
        await self._warmth.begin(
            str(words["vm"]),
            str(words["tenant"]),
            str(words["destination"]),
            bytes.fromhex(words["ticket"]),
            most_wire_bytes=words.get("most_wire_bytes"),
            bytes_per_second=_rate_of(words),
            passes=words.get("passes"),
            disks=words.get("disks") is True,
        )
        return {}

    async def _cool(self, words: Words, _operator: Peer) -> Words:
        sent = self._warmth.stop(str(words["vm"]), str(words["destination"]))
        return {} if sent is None else asdict(sent)

    async def _status(self, _words: Words, _operator: Peer) -> Words:
        gateway = self._gateway
        return {
            "site": gateway.site,
            "domains": [
                {
                    "peer": domain.peer,
                    "tenant": domain.tenant,
                    "memory_bytes": domain.memory_bytes,
                    "disk_bytes": domain.disk_bytes,
                    "sent_pages": domain.sender.log.next - domain.sender.log.first,
                    "received_pages": (
                        domain.receiver.log.next - domain.receiver.log.first
                        if domain.receiver
                        else 0
                    ),
                    "known_pages": len(domain.sender.index),
                    "sent": asdict(domain.sent),
                }
                for domain in gateway.domains
            ],
            "images": [
                {
                    "path": str(image.catalogue.path),
                    "blocks": len(image.catalogue.digests),
                    "tenants": list(image.tenants),
                }
                for image in gateway.domains.images
            ],
            "hosts": gateway.relays.status(),
            "residents": gateway.residents.status(),
            "routes": [
                {
                    "migration": route.id,
                    "vm": route.vm,
                    "destination": route.departures.link.peer,
                    "connections": route.connections,
                    "broken": route.departure.broken,
                    "share": asdict(route.share) if route.share else None,
                    "sent": asdict(route.departure.sent),
                }
                for route in gateway.routes.values()
            ],
            "warming": self._warmth.status(),
            "admissions": [
                {"vm": each.vm, "tenant": each.tenant, "source": each.source}
                for each in gateway.admissions.open
            ],
        }


def _host_in(words: Words) -> str | None:
    host = words.get("host")
    return None if host is None else str(host)


def _share_of(words: Words) -> Share | None:
    match words.get("share"):
        case None:
            return None
        case {"gang": str(gang), "bytes_per_second": None}:
            return Share(gang=gang)
        case {"gang": str(gang), "bytes_per_second": float() | int() as rate} if (
            0 < rate < math.inf
        ):
            return Share(gang=gang, bytes_per_second=float(rate))
        case share:
            raise ValueError(f"{share!r} is no share of a link")


def _rate_of(words: Words) -> float | None:
    match words.get("bytes_per_second"):
        case None:
            return None
        case float() | int() as rate if 0 < rate < math.inf:
            return float(rate)
        case rate:
            raise ValueError(f"{rate!r} is no rate")
