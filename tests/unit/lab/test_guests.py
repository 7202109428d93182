"""Which guests a hypervisor runs, while they come and go."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from transhume.lab import guests

libvirt = pytest.importorskip("libvirt")


class Domain:
    def __init__(self, name: str, *, active: bool) -> None:
        self._name, self.active = name, active

    def name(self) -> str:
        return self._name

    def isActive(self) -> bool:  # noqa: N802
        raise libvirt.libvirtError("Domain not found: it has left meanwhile")


class Hypervisor:
    def __init__(self, *domains: Domain) -> None:
        self._domains = domains

    def listAllDomains(self, flags: int = 0) -> list[Domain]:  # noqa: N802
        only_active = flags == libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
        return [domain for domain in self._domains if domain.active or not only_active]


def test_one_that_leaves_while_a_host_is_asked_stands_in_nobodys_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def hypervisor(_uri: str) -> Iterator[Hypervisor]:
        yield Hypervisor(
            Domain("vm2", active=True), Domain("vm1", active=True), Domain("off", active=False)
        )

    monkeypatch.setattr(guests, "hypervisor", hypervisor)

    assert guests.running("qemu:///system") == ("vm1", "vm2")
