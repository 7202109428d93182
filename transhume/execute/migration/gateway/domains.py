"""All domains of a gateway, the threads that code for them, and the images that tenants may refer to."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from transhume.execute.migration.content.catalogue import Catalogue
from transhume.execute.migration.gateway.domain import Domain, StoreLimits


@dataclass(frozen=True, slots=True)
class SharedImage:
    """An image at this site, and the tenants that may know what is in it, by patterns."""

    catalogue: Catalogue
    tenants: tuple[str, ...] = ("*",)

    def is_for(self, tenant: str) -> bool:
        """Say whether a tenant may."""
        return any(fnmatchcase(tenant, pattern) for pattern in self.tenants)


@dataclass(frozen=True, slots=True)
class Desk:
    """A domain, and the two threads in which all work on it is done, each thing after the other."""

    domain: Domain
    coder: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="coder")
    )
    """For whatever touches the sender."""
    decoder: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="decoder")
    )
    """For whatever touches the receiver."""


class Domains:
    """Domains by peer and tenant, made when they are needed."""

    def __init__(self, limits: StoreLimits, images: Sequence[SharedImage] = ()) -> None:
        self._limits = limits
        self.images = tuple(images)
        self._desks: dict[tuple[str, str], Desk] = {}
        self._digests: dict[str, Sequence[bytes]] = {
            image.catalogue.name.hex(): image.catalogue.digests for image in images
        }
        """Of images here and elsewhere, by the names of their catalogues."""
        self._own = frozenset(self._digests)
        self._listed: dict[tuple[str, str], frozenset[str]] = {}
        """The catalogues that each peer has listed last for each tenant."""

    def __iter__(self) -> Iterator[Domain]:
        return iter([desk.domain for desk in self._desks.values()])

    def desk(self, peer: str, tenant: str) -> Desk:
        """Return what two sites have in common of a tenant's."""
        found = self._desks.get((peer, tenant))
        if found is None:
            domain = Domain(peer=peer, tenant=tenant, limits=self._limits)
            found = self._desks[peer, tenant] = Desk(domain)
        return found

    def catalogues_for(self, tenant: str) -> list[Catalogue]:
        """Return the images that a tenant may refer to."""
        return [image.catalogue for image in self.images if image.is_for(tenant)]

    def distrust(self, path: Path) -> None:
        """Let nobody refer any more to an image that isn't what it was when it was indexed.

        Peers to which it was listed before don't know that until their next links.
        """
        self.images = tuple(each for each in self.images if each.catalogue.path != path)

    def find(self, peer: str, tenant: str) -> Desk | None:
        """Return what two sites have in common of a tenant's, if they have anything yet."""
        return self._desks.get((peer, tenant))

    def let_go(self, peer: str, words: Mapping[str, Any]) -> None:
        """Take a peer's word that it refers no more to what is below a position of a tenant's.

        The pages go when whatever is encoded now has been, which may wait for a disk.
        """
        match words:
            case {"tenant": str(tenant), "below": int(below)}:
                desk = self.find(peer, tenant)
                if desk is not None:
                    desk.coder.submit(desk.domain.let_go, below)

    def digests(self, catalogue: str) -> Sequence[bytes] | None:
        """Return what a catalogue lists, if that is known here."""
        return self._digests.get(catalogue)

    def listed(self, peer: str, tenant: str, catalogues: Collection[str]) -> None:
        """Take note of what a peer lists from now on, and forget what nobody lists any more."""
        self._listed[peer, tenant] = frozenset(catalogues)
        kept = self._own.union(*self._listed.values())
        self._digests = {name: found for name, found in self._digests.items() if name in kept}

    def learn(self, catalogue: str, digests: Sequence[bytes]) -> None:
        """Keep what a peer's catalogue lists, as long as a peer lists it."""
        self._digests[catalogue] = digests

    def close(self) -> None:
        """End the threads, and forget all pages."""
        for desk in self._desks.values():
            desk.coder.shutdown(wait=False, cancel_futures=True)
            desk.decoder.shutdown(wait=False, cancel_futures=True)
            desk.domain.close()
