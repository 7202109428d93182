"""Hubs: a master and its workers, who talk to the master and hardly to each other."""

import numpy as np

from transhume.analyze.patterns.flow import Flow, Shape, evenness
from transhume.analyze.patterns.lines import pipeline
from transhume.knowledge.model import PatternKind

LOYAL = 0.9
"""The share of the workers whose heaviest link must be the one to the master."""


def master_worker(flow: Flow) -> Shape | None:
    """Recognise a star; workers may have very different loads."""
    if flow.count < 3 or (flow.count == 3 and pipeline(flow) is not None):
        return None
    links = flow.links
    strength = np.bincount(links.one, links.weight, flow.count)
    strength += np.bincount(links.other, links.weight, flow.count)
    master = int(np.argmax(strength))
    of_master = (links.one == master) | (links.other == master)
    worker = np.where(links.one == master, links.other, links.one)[of_master]
    load = np.zeros(flow.count)
    load[worker] = links.weight[of_master]
    heaviest = np.zeros(flow.count)
    np.maximum.at(heaviest, links.one, links.weight)
    np.maximum.at(heaviest, links.other, links.weight)
    others = np.delete(np.arange(flow.count), master)
    if (load[others] >= heaviest[others]).mean() < LOYAL:
        return None
    explained = float(load.sum()) / flow.total
    fits = (1.0 + evenness(load[others])) / 2
    return Shape(PatternKind.MASTER_WORKER, np.concatenate(([master], others)), explained * fits)
