"""How a command reaches the knowledge that a daemon works on: the options for it, and the connecting.

Owns `--config` and `--url`. A command gets a `Store`, does one thing with it, and lets it go.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from transhume.deployment.model import Deployment
    from transhume.knowledge.store import Store

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def config_option(function: F) -> F:
    """Give a command `--config`, the deployment file; `deployment_in` reads it."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        default=Path("transhume.yaml"),
        envvar="TRANSHUME_CONFIG",
        show_default=True,
        show_envvar=True,
        help="The deployment file: clouds, hosts, feeds.",
    )(function)


def knowledge_options(function: F) -> F:
    """Give a command `--config` and `--url`; it passes both on to `with_store`."""
    url = click.option(
        "--url",
        callback=_redis_url,
        help="The Redis of the daemon, instead of the deployment file's.",
    )
    return config_option(url(function))


def _redis_url(ctx: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    from transhume.knowledge.urls import SCHEMES, without_password

    if text is not None and not text.startswith(SCHEMES):
        raise click.BadParameter(
            f"{without_password(text)} is no URL of a Redis; write redis://HOST:PORT, rediss://HOST:PORT or "
            "unix://PATH",
            ctx,
            parameter,
        )
    return text


def deployment_in(config: Path) -> "Deployment":
    """Return what a deployment file says.

    Raises:
        UsageError: there is no such file.
        InvalidFile: with every mistake in the file.
    """
    from transhume.deployment.loader import load_deployment
    from transhume.errors import UsageError

    if not config.exists():
        raise UsageError(
            f"there is no deployment file {config}: name one with --config or TRANSHUME_CONFIG"
        )
    return load_deployment(config)


def with_store(
    config: Path,
    url: str | None,
    action: Callable[["Store"], Awaitable[T]],
    *,
    log_json: bool = False,
) -> T:
    """Run an action on the knowledge of the running daemon, and return what it returns.

    Raises:
        UsageError: there is neither a URL nor a deployment file.
        KnowledgeUnreachable: no daemon runs, or its Redis doesn't answer.
    """
    import asyncio

    from transhume.cli.logs import log_to_stderr
    from transhume.knowledge.store import Store

    # A damaged record is told of in the log, which mustn't get into what `--json` prints.
    log_to_stderr(as_json=log_json)

    async def act() -> T:
        async with Store.connect(knowledge_url(config, url)) as store:
            return await action(store)

    return asyncio.run(act())


def knowledge_url(config: Path, url: str | None) -> str:
    """Return where the knowledge of the running daemon is.

    Raises:
        UsageError: there is neither a URL nor a deployment file.
        KnowledgeUnreachable: the daemon keeps its knowledge itself, and doesn't run.
    """
    from transhume.errors import UsageError
    from transhume.knowledge.server import find_server

    if url is not None:
        return url
    if not config.exists():
        raise UsageError(
            f"there is no deployment file {config}: give --config, set TRANSHUME_CONFIG, "
            "or give the URL of the daemon's Redis with --url"
        )
    deployment = deployment_in(config)
    return find_server(deployment.knowledge_url, deployment.state_directory).url
