"""`transhume ca`: who is a site, and who may control gateways; certificates for both."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from transhume.execute.migration.trust import CertificateFacts, Peer

    Shown = tuple[Path, CertificateFacts]

DEFAULT_DAYS = 90
MOST_DAYS = 3650
_FOLDER = click.Path(path_type=Path)
_ca = click.option(
    "--ca", "authority", type=_FOLDER, required=True, envvar="TRANSHUME_CA",
    metavar="DIR", help="The authority's folder (or TRANSHUME_CA).",
)  # fmt: skip
_days = click.option(
    "--days",
    type=click.IntRange(min=1, max=MOST_DAYS),
    default=DEFAULT_DAYS,
    show_default=True,
    help="How long the certificate holds.",
)


@click.group("ca")
def command() -> None:
    """Make certificates, by which gateways know each other.

    Each gateway has one that names its site, and whoever controls gateways one that names an operator. All are
    issued by one authority: a folder, best kept on a machine that does nothing else.

    \b
    Examples:
      transhume ca init /root/ca
      transhume ca issue --site a --ca /root/ca --out a-identity
      transhume ca show a-identity
    """


@command.command()
@click.argument("folder", metavar="DIR", type=_FOLDER)
def init(folder: Path) -> None:
    """Make an authority in a new folder.

    It holds for ten years. Whoever can read ca-key.pem decides who is a site; ca.pem is no secret.

    \b
    Examples:
      transhume ca init /root/ca
    """
    from transhume.execute.migration.trust import facts_of, init_authority

    facts = facts_of(init_authority(folder).certificate)
    click.echo(f"authority in {folder}, until {_at(facts.ends)}; keep ca-key.pem secret")


@command.command()
@click.option("--site", metavar="NAME", help="For the gateway of this site.")
@click.option("--host", metavar="NAME", help="For the relay at this host of a site.")
@click.option("--operator", metavar="NAME", help="For a daemon or person who controls gateways.")
@_ca
@click.option(
    "--out",
    type=_FOLDER,
    required=True,
    metavar="DIR",
    help="A new folder for key and certificate.",
)
@_days
def issue(
    *,
    site: str | None,
    host: str | None,
    operator: str | None,
    authority: Path,
    out: Path,
    days: int,
) -> None:
    """Make a key and a certificate for a site, a host or an operator.

    A site's name is that of its cloud in the deployment file, a host's its own there. The folder gets key.pem,
    certificate.pem and ca.pem; move it to the machine that will use it, and keep no copy. Nothing is ever
    written over.

    \b
    Examples:
      transhume ca issue --site a --ca /root/ca --out a-identity
      transhume ca issue --host a2 --ca /root/ca --out a2-identity
      transhume ca issue --operator daemon --ca /root/ca --out daemon --days 30
    """
    from transhume.execute.migration.trust import load_authority

    peer = _peer(site=site, host=host, operator=operator)
    now = datetime.now(UTC)
    lifetime = timedelta(days=days)
    load_authority(authority, now=now).issue(peer, out, lifetime=lifetime, now=now)
    click.echo(f"{peer} in {out}, until {_at(now + lifetime)}; keep key.pem secret")


@command.command()
@click.argument("folder", metavar="DIR", type=_FOLDER)
@_ca
@_days
def renew(*, folder: Path, authority: Path, days: int) -> None:
    """Put a later certificate in the place of one that ends.

    Its holder and key stay the same, so that only certificate.pem changes. For a new key, issue
    into a new folder.

    \b
    Examples:
      transhume ca renew a-identity --ca /root/ca
    """
    from transhume.execute.migration.trust import load_authority

    now = datetime.now(UTC)
    lifetime = timedelta(days=days)
    peer = load_authority(authority, now=now).renew(folder, lifetime=lifetime, now=now)
    click.echo(f"{peer} in {folder}, until {_at(now + lifetime)}")


@command.command()
@click.argument("paths", metavar="CERT...", nargs=-1, required=True, type=_FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(paths: tuple[Path, ...], as_json: bool) -> None:
    """Say whose certificates are, until when, and from whom.

    CERT is a file in PEM, or a folder of `ca issue` or `ca init`. The exit status is 65 where one doesn't hold
    now.

    \b
    Examples:
      transhume ca show a-identity
      transhume ca show /root/ca a-identity --json
    """
    from transhume.errors import IdentityUnusable
    from transhume.execute.migration.trust import Standing, facts_of, read_certificate

    files = [_certificate_in(path) for path in paths]
    shown = [(file, facts_of(read_certificate(file))) for file in files]
    now = datetime.now(UTC)
    if as_json:
        _print_json(shown, now)
    else:
        _print_text(shown, now)
    if any(facts.standing(now) in (Standing.EXPIRED, Standing.NOT_YET) for _, facts in shown):
        sys.exit(IdentityUnusable.exit_status)


def _peer(**names: str | None) -> "Peer":
    from transhume.errors import UsageError
    from transhume.execute.migration.trust import Peer, PeerKind

    given = {kind: name for kind, name in names.items() if name is not None}
    try:
        ((kind, name),) = given.items()
    except ValueError:
        raise UsageError("give one of --site, --host and --operator, with a name") from None
    try:
        return Peer(kind=PeerKind(kind), name=name)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _certificate_in(path: Path) -> Path:
    inside = (path / "certificate.pem", path / "ca.pem")
    return next((file for file in inside if file.exists()), path)


def _at(instant: datetime) -> str:
    return instant.isoformat(timespec="seconds")


def _print_text(shown: "Sequence[Shown]", now: datetime) -> None:
    from transhume.cli.views.harmless import harmless

    for file, facts in shown:
        line = (
            f"{file}: {_whose(facts)}, {facts.standing(now)}: {_at(facts.begins)} to {_at(facts.ends)}, "
            f"issued by {_issuer(facts)}{_remedy(facts, now)}"
        )
        click.echo(harmless(line))


def _whose(facts: "CertificateFacts") -> str:
    if facts.holder is not None:
        return str(facts.holder)
    return f"{'an authority' if facts.is_authority else 'nobody of ours'} ({facts.subject})"


def _issuer(facts: "CertificateFacts") -> str:
    return "itself" if facts.issuer == facts.subject else facts.issuer


def _remedy(facts: "CertificateFacts", now: datetime) -> str:
    from transhume.execute.migration.trust import Standing

    ending = facts.standing(now) in (Standing.ENDS_SOON, Standing.EXPIRED)
    return "; see `transhume ca renew`" if ending and facts.holder is not None else ""


def _print_json(shown: "Sequence[Shown]", now: datetime) -> None:
    certificates = [
        {
            "file": str(file),
            "kind": facts.holder.kind if facts.holder else None,
            "name": facts.holder.name if facts.holder else None,
            "authority": facts.is_authority,
            "subject": facts.subject,
            "issuer": facts.issuer,
            "begins": _at(facts.begins),
            "ends": _at(facts.ends),
            "standing": facts.standing(now),
            "sha256": facts.fingerprint,
        }
        for file, facts in shown
    ]
    click.echo(json.dumps({"certificates": certificates}, indent=2))
