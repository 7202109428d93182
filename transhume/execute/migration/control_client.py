"""Speaks to a site's gateway on behalf of an operator: one request, one answer.

Each request has a connection of its own: a gateway that was restarted meanwhile makes no difference.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from transhume.deployment.addresses import parse_address
from transhume.deployment.model import Deployment, GatewayPoint
from transhume.errors import GatewayFailed, GatewayUnreachable, Refused
from transhume.execute.migration.machine.sockets import short_path
from transhume.execute.migration.splitting import PAGE_BYTES
from transhume.execute.migration.transport import Progress
from transhume.execute.migration.trust import (
    Identity,
    Peer,
    PeerKind,
    load_identity,
)
from transhume.execute.migration.trust.calling import call
from transhume.knowledge.codec import decode
from transhume.knowledge.model import CloudName, Transfer, VmName, Warmth

ANSWER_SECONDS = 60.0
_MOST_LINE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAddress:
    """How a site's gateway is reached: by its unix socket here, or over TLS."""

    site: str
    socket: Path | None = None
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return str(self.socket) if self.socket else f"{self.host}:{self.port}"


def address_of(point: GatewayPoint) -> GatewayAddress:
    """Return where a deployment's gateway is."""
    if point.address is None:
        return GatewayAddress(site=point.cloud, socket=point.socket)
    found = parse_address(point.address)
    return GatewayAddress(site=point.cloud, host=found.host, port=found.port)


class GatewayClient:
    """Asks one gateway.

    Args:
        address: where it is.
        identity: the operator's, for TLS.
    """

    def __init__(self, address: GatewayAddress, identity: Identity | None = None) -> None:
        self.address = address
        self.identity = identity

    async def ask(self, do: str, **words: Any) -> dict[str, Any]:
        """Return what the gateway answers.

        Raises:
            GatewayUnreachable: it doesn't answer.
            PeerRefused: somebody else is there.
            IdentityUnusable: our certificate has ended.
            Refused: a site doesn't admit the migration.
            GatewayFailed: it can't do that.
        """
        request = json.dumps({"do": do, **words}).encode() + b"\n"
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                line = await self._exchange(request)
            if not line:
                by_tls = self.address.socket is None
                why = "; who refuses our certificate says no more" if by_tls else ""
                raise OSError(f"it hung up{why}")
            answer = json.loads(line)
        except (OSError, TimeoutError, ValueError) as error:
            seen = str(error) or "no answer"
            raise GatewayUnreachable(self.address.site, str(self.address), seen) from error
        if "ok" in answer:
            found: dict[str, Any] = answer["ok"]
            return found
        if "reason" in answer:
            raise Refused(answer["vm"], answer["source"], answer["reason"], answer["error"])
        raise GatewayFailed(self.address.site, do, str(answer.get("error")))

    async def _exchange(self, request: bytes) -> bytes:
        reader, writer = await self._connect()
        try:
            writer.write(request)
            await writer.drain()
            return await reader.readline()
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.address.socket is not None:
            with short_path(self.address.socket) as name:
                return await asyncio.open_unix_connection(name, limit=_MOST_LINE_BYTES)
        if self.identity is None:
            raise OSError("an operator's certificate is needed to reach it over TLS")
        expected = Peer(kind=PeerKind.SITE, name=self.address.site)
        return await call(
            self.identity,
            self.address.host,
            self.address.port,
            expected,
            limit_bytes=_MOST_LINE_BYTES,
        )


def clients_of(deployment: Deployment) -> dict[CloudName, GatewayClient]:
    """Return how each of a deployment's gateways is asked.

    Raises:
        IdentityUnusable: our operator's certificate can't be used.
    """
    identity = None
    if deployment.identity is not None:
        identity = load_identity(deployment.identity, kind=PeerKind.OPERATOR)
    return {
        point.cloud: GatewayClient(address_of(point), identity) for point in deployment.gateways
    }


def transfer_of(answer: Mapping[str, object]) -> Transfer:
    """Read what a gateway tells of a transfer.

    Raises:
        UnreadableRecord: it tells something else.
    """
    return decode(Transfer, json.dumps(answer))


def progress_of(answer: Mapping[str, Any]) -> Progress:
    """Read what a gateway tells of a migration under way.

    Raises:
        UnreadableRecord: it tells something else.
    """
    link = answer.get("link_bytes_per_second")
    return Progress(
        transfer=transfer_of(answer["transfer"]),
        disks=transfer_of(answer["disks"]) if "disks" in answer else None,
        waiting_bytes=int(answer.get("waiting_bytes", 0)),
        link_bytes_per_second=None if link is None else float(link),
        link_is_known=answer.get("link_is_known") is not False,
    )


async def warm_vms(client: GatewayClient, at: datetime) -> list[Warmth]:
    """Return what is known elsewhere of the memory of VMs that a gateway keeps warm.

    Raises:
        GatewayUnreachable, GatewayFailed: it doesn't say.
    """
    return [
        Warmth(
            vm=VmName(kept["vm"]),
            cloud=CloudName(kept["destination"]),
            at=at,
            known_share=min(1.0, kept["known_pages"] / kept["scanned_pages"]),
            known_disk_bytes=kept.get("image_pages", 0) * PAGE_BYTES,
        )
        for kept in (await client.ask("status"))["warming"]
        if kept["scanned_pages"]
    ]
