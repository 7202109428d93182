"""Refusing a cloud or host that the daemon has never heard of: a typing error would be obeyed in silence."""

from transhume.errors import UsageError
from transhume.knowledge.model import CloudName, HostName, Snapshot


def known_cloud(name: str, snapshot: Snapshot) -> CloudName:
    """Return the cloud's name; before a daemon has said which clouds there are, any name will do.

    Raises:
        UsageError: there is no such cloud; says which there are.
    """
    cloud = CloudName(name)
    if snapshot.clouds and cloud not in snapshot.clouds:
        raise UsageError(
            f"there is no cloud {name}; there are {', '.join(sorted(snapshot.clouds))}"
        )
    return cloud


def known_host(name: str, cloud: CloudName, snapshot: Snapshot) -> HostName:
    """Return the name of a host of the cloud.

    Raises:
        UsageError: the cloud has no such host; says which it has.
    """
    hosts = [host.name for host in snapshot.hosts_of(cloud)]
    host = HostName(name)
    if snapshot.hosts and host not in hosts:
        raise UsageError(f"{cloud} has no host {name}; it has {', '.join(hosts) or 'none'}")
    return host
