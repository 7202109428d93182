"""Builds series of windows for the tests of what changes with time."""

from collections.abc import Iterable
from datetime import timedelta

import numpy as np
from numpy.random import Generator

from tests.unit.analyze.drawn_shapes import Weights
from tests.unit.analyze.traffic import START
from transhume.knowledge.model import CommunicationMatrix, MatrixSeries, VmName


def series_of(windows: Iterable[Weights], seconds: float = 1.0) -> MatrixSeries:
    """Return a series of square arrays of bytes over VMs called vm0, vm1 and so on."""
    given = list(windows)
    names = tuple(VmName(f"vm{i}") for i in range(len(given[0]) if given else 0))
    matrices = tuple(
        CommunicationMatrix.of_dense(
            window, start=START + at * timedelta(seconds=seconds), seconds=seconds, vms=names
        )
        for at, window in enumerate(given)
    )
    return MatrixSeries(vms=names, seconds=seconds, matrices=matrices)


def fluctuating(weights: Weights, spread: float, random: Generator) -> Weights:
    """Return a megabyte for each unit of weight, more or less, and a little between all."""
    chatter = random.exponential(1e3, weights.shape) * (1.0 - np.eye(len(weights)))
    return weights * 1e6 * random.lognormal(0.0, spread, weights.shape) + chatter
