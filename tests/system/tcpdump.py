"""tcpdump at a device: it ends when it has written down all that passed, however busy the machine is."""

import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Self

_COUNTS = re.compile(
    r"(\d+) packets? captured, (\d+) packets? received by filter, (\d+) packets? dropped by kernel"
)


class Tcpdump:
    """One that runs until it's asked to end, or until the `with` block is left."""

    def __init__(self, netns: str, device: str, file: Path, *options: str) -> None:
        words = ["tcpdump", "-n", "-i", device, "-w", str(file), "--immediate-mode", *options]
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", netns, *words], stderr=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def wait_until_it_listens(self) -> None:
        """Return when nothing that passes is missed any more."""
        while "listening on" not in self._line():
            pass

    def end(self) -> str:
        """End it, and return its last words.

        Not before it has read all that the kernel has for it: told to end, it leaves the rest.
        """
        while self._is_behind():
            time.sleep(0.05)
        self._process.send_signal(signal.SIGINT)
        return self._process.communicate(timeout=60)[1]

    def _is_behind(self) -> bool:
        self._process.send_signal(signal.SIGUSR1)
        while (found := _COUNTS.search(self._line())) is None:
            pass
        captured, received, dropped = map(int, found.groups())
        return captured < received - dropped

    def _line(self) -> str:
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        assert line, "tcpdump has ended"
        return line
