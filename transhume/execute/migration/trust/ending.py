"""Telling in time that a certificate ends, for as long as a process uses it.

Whoever calls somebody shows what is in the identity's folder then: to one that was renewed nothing needs to be
done. One that nobody renews keeps working on connections that are open, and is refused for every new one.
"""

import asyncio
from datetime import timedelta

import structlog

from transhume.errors import IdentityUnusable
from transhume.execute.migration.trust.certificates import CertificateFacts
from transhume.execute.migration.trust.identity import Identity, load_identity

_DAY = timedelta(days=1)
_LOOKS = 6
"""Into a short life, so that two of them are into its last third."""

log = structlog.get_logger()


def pause_seconds(facts: CertificateFacts) -> float:
    """Return how long it is from one look at how long a certificate is good for to the next: a day at most."""
    return min(_DAY, (facts.ends - facts.begins) / _LOOKS).total_seconds()


async def tell_of_end(identity: Identity) -> None:
    """Log each day that a certificate ends soon, or that it can't be used any more; for ever.

    It was looked at when the identity was loaded.
    """
    latest = identity
    while True:
        await asyncio.sleep(pause_seconds(latest.facts))
        try:
            latest = load_identity(identity.folder, kind=identity.peer.kind)
        except (IdentityUnusable, OSError) as error:
            log.warning("certificate_not_renewed", folder=str(identity.folder), why=str(error))
