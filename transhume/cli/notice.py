"""`transhume notice`: tell the daemon that a cloud, or one of its hosts, will be gone."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from transhume.cli.connection import knowledge_options, with_store

if TYPE_CHECKING:
    from transhume.knowledge.model import RevocationNotice
    from transhume.knowledge.store import Store


@click.command("notice")
@click.argument("cloud")
@click.option("--in", "within", metavar="DURATION", help="Until it is gone: 120s, 10m, 1h 30m.")
@click.option("--host", help="Only this host of the cloud.")
@click.option("--withdraw", is_flag=True, help="It stays after all.")
@click.option("--json", "as_json", is_flag=True, help="Print the notice as JSON.")
@knowledge_options
def command(
    *,
    cloud: str,
    within: str | None,
    host: str | None,
    withdraw: bool,
    as_json: bool,
    config: Path,
    url: str | None,
) -> None:
    """Tell that CLOUD takes its machines back, or keeps them.

    The daemon moves VMs out before the deadline where a policy says so, and nobody in. Two minutes after it the
    notice is over, and a host that still answers counts as one that stays. A withdrawal cancels the notice for
    the same cloud and host.

    \b
    Examples:
      transhume notice rented --in 120s
      transhume notice rented --in 10m --host rented-3
      transhume notice rented --withdraw
    """
    from transhume.errors import UsageError

    if (within is None) is not withdraw:
        raise UsageError("give either --in with the time that is left, or --withdraw")
    seconds = _seconds(within) if within is not None else 0.0

    async def tell(store: "Store") -> "tuple[RevocationNotice, list[RevocationNotice]]":
        from datetime import timedelta

        from transhume.cli.known_names import known_cloud, known_host
        from transhume.knowledge.model import RevocationNotice

        snapshot, daemon = await store.snapshot(), await store.status()
        name = known_cloud(cloud, snapshot)
        # By our own clock, if that is behind, the deadline might be over for the daemon.
        at = max(snapshot.at, daemon.at) if daemon is not None else snapshot.at
        notice = RevocationNotice(
            cloud=name,
            host=known_host(host, name, snapshot) if host is not None else None,
            at=at,
            deadline=at + timedelta(seconds=seconds),
            withdrawn=withdraw,
        )
        await store.put_notice(notice)
        others = [
            each
            for each in snapshot.notices
            if each.cloud == name and each.host != notice.host and None in (each.host, notice.host)
        ]
        return notice, others

    _print(*with_store(config, url, tell), as_json=as_json)


def _seconds(within: str) -> float:
    from transhume.deployment.fields import more_than_nothing
    from transhume.errors import UsageError
    from transhume.quantities import parse_duration

    try:
        return more_than_nothing(parse_duration(within))
    except ValueError as error:
        raise UsageError(f"--in: {error}") from error


def _print(notice: "RevocationNotice", others: "list[RevocationNotice]", *, as_json: bool) -> None:
    from transhume.cli.watching import warn
    from transhume.knowledge.codec import encode

    if as_json:
        click.echo(encode(notice))
    elif notice.withdrawn:
        click.echo(f"{_what(notice)} stays")
    else:
        click.echo(_gone(notice))
    if notice.withdrawn:
        warn(f"another notice is in force: {_gone(each)}" for each in others)


def _gone(notice: "RevocationNotice") -> str:
    return f"{_what(notice)} will be gone at {notice.deadline.isoformat(timespec='seconds')}"


def _what(notice: "RevocationNotice") -> str:
    return notice.cloud if notice.host is None else f"{notice.host} of {notice.cloud}"
