"""wireguard-go: WireGuard in a program of its own, where the kernel has none.

Owns that program's life: it is our child, dies when we do, and is started again where it has ended, which takes
the device with it. Talks to it by its socket, whose path knows no namespaces: hence one name a machine.
"""

import errno
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from transhume.errors import OverlayError
from transhume.execute.overlay.underlay.device import DeviceSetting, PeerReport, PeerSetting
from transhume.execute.overlay.underlay.wireguard_text import peers_text, reports_of, setting_text
from transhume.knowledge import die_with_parent
from transhume.reach.netns import inside

PROGRAM = "wireguard-go"
SOCKETS = Path("/var/run/wireguard")
START_SECONDS, STOP_SECONDS, ANSWER_SECONDS, POLL_SECONDS = 20.0, 5.0, 10.0, 0.02
LONGEST_LOG_BYTES = 64 << 10
TUN = Path("/dev/net/tun")


class UserspaceDevice:
    """A device that wireguard-go serves. `ensure` belongs in the thread that lives longest."""

    kind = PROGRAM

    def __init__(self, name: str, netns: str | None) -> None:
        self._name = name
        self._netns = netns
        self._socket = SOCKETS / f"{name}.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The program's process, while it runs."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process else None

    def ensure(self) -> bool:
        """Have the program running; True where it had to be started, and knows nothing yet."""
        if self.pid is not None:
            self._shorten_log()
            return False
        self._forget()
        program = shutil.which(PROGRAM)
        if program is None:
            raise OverlayError(
                f"this kernel has no WireGuard, and there is no {PROGRAM}; install it (Debian: apt install "
                f"{PROGRAM}), or a kernel with the module wireguard"
            )
        if not TUN.exists():
            raise OverlayError(f"{PROGRAM} needs {TUN}; load the module tun")
        if self._answers():
            raise OverlayError(
                f"another WireGuard device {self._name} is served on this machine ({self._socket}); give "
                "this one another name, or stop the agent that has it"
            )
        self._start(program)
        return True

    def configure(self, setting: DeviceSetting) -> None:
        """Set the private key and the port."""
        self._ask(setting_text(setting))

    def change(self, peers: Sequence[PeerSetting], gone: Sequence[str] = ()) -> None:
        """Set peers, and remove those that are gone."""
        self._ask(peers_text(peers, gone))

    def peers(self) -> tuple[PeerReport, ...]:
        """Return what it has."""
        return reports_of(self._ask("get=1\n\n"))

    def remove(self) -> None:
        """End the program, and the device with it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._forget()

    def _start(self, program: str) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (it lives as long as the program)
        with inside(self._netns):
            self._process = subprocess.Popen(
                [*die_with_parent.launcher(), program, "--foreground", self._name],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env={**os.environ, "LOG_LEVEL": "error"},
                # A Ctrl-C in the terminal is for us.
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                seen = self._end_of_log()
                self.remove()
                raise OverlayError(f"{PROGRAM} doesn't serve {self._name}: {seen}")
            time.sleep(POLL_SECONDS)

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(ANSWER_SECONDS)
                probe.connect(str(self._socket))
        except OSError:
            return False
        return True

    def _ask(self, request: str) -> str:
        with socket.socket(socket.AF_UNIX) as talk:
            talk.settimeout(ANSWER_SECONDS)
            talk.connect(str(self._socket))
            talk.sendall(request.encode())
            answer = b""
            while not answer.endswith(b"\n\n"):
                piece = talk.recv(65536)
                if not piece:
                    raise OSError(errno.EPIPE, f"{PROGRAM} closed its socket", str(self._socket))
                answer += piece
        text = answer.decode()
        _, _, status = text.rpartition("errno=")
        if status.strip() != "0":
            raise OSError(abs(int(status)), f"{PROGRAM} refused a request", self._name)
        return text

    def _forget(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def _shorten_log(self) -> None:
        if self._log is not None and os.fstat(self._log.fileno()).st_size > LONGEST_LOG_BYTES:
            self._log.truncate(0)
            self._log.seek(0)  # the program writes where we are: the file was opened once, for both

    def _end_of_log(self) -> str:
        if self._log is None:
            return "it left no word"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "it left no word"
