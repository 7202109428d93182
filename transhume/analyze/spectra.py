"""Spectra: eigenvectors and products of small arrays, on one processor.

OpenBLAS splits even a 64 by 64 array over all processors, and its threads spin while they wait for each other:
where another process is on one of them (on a hypervisor there always is) a millisecond becomes fifty. So it is
held to one thread here.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


def eigenvectors(symmetrical: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Return the eigenvalues, ascending, and their vectors as columns."""
    with _processors().limit(limits=1, user_api="blas"):
        values, vectors = np.linalg.eigh(symmetrical)
    return values, vectors


def gram(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the scalar product of each two rows."""
    with _processors().limit(limits=1, user_api="blas"):
        return np.asarray(rows @ rows.T)


@cache
def _processors() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
