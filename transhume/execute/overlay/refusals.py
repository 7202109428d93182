"""What a site's kernel refuses, in words that name the site."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from transhume.errors import OverlayError, UsageError
from transhume.execute.overlay.nftables import RulesRefused


@contextmanager
def explained(site: str, refused: str = "refused") -> Iterator[None]:
    """Have whatever a kernel doesn't take raised as an OverlayError; `refused` is what it did."""
    try:
        yield
    except (UsageError, RulesRefused) as error:
        raise OverlayError(f"site {site}: {error}") from error
    except OSError as error:
        said = os.strerror(error.errno or errno.EIO)
        raise OverlayError(f"site {site}: the kernel {refused}: {said}") from error
