"""What a prover is asked, and what it answers, as bytes that pass between processes: arrays, JSON."""

import io
import json
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from transhume.plan.scale.certificate import Certificate
from transhume.plan.scale.instance import Instance, Integers


@dataclass(frozen=True, kw_only=True)
class Job:
    """An instance, and what is known of it already."""

    instance: Instance
    known: Integers
    """The best assignment so far."""
    bound: int
    """No assignment costs less."""
    messages: Integers
    """By pair, end and cloud of that end: what the pair's costs give to the VM's, in whole units of money."""
    room_price: Integers
    """By cloud and resource."""
    move_price: int
    seconds: float
    """After this, nobody waits for an answer."""

    @classmethod
    def of(
        cls,
        instance: Instance,
        known: Integers,
        bound: int,
        certificate: Certificate,
        seconds: float,
    ) -> "Job":
        """Round a certificate to whole units: it may prove less then, but is as good a beginning."""
        whole = 1 << certificate.fraction_bits
        return cls(
            instance=instance,
            known=known,
            bound=bound,
            messages=certificate.messages // whole,
            room_price=certificate.room_price // whole,
            move_price=certificate.move_price // whole,
            seconds=seconds,
        )

    @cached_property
    def cost(self) -> int:
        """What the best assignment so far costs."""
        return self.instance.cost(self.known)

    def to_bytes(self) -> bytes:
        """Return the job in NumPy's archive format."""
        parts = {f"instance.{f.name}": getattr(self.instance, f.name) for f in fields(Instance)}
        parts |= {f.name: getattr(self, f.name) for f in fields(Job) if f.name != "instance"}
        target = io.BytesIO()
        np.savez(target, **parts)
        return target.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Job":
        """Read what `to_bytes` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as parts:
            found = {name: parts[name] for name in parts.files}
        numbers = {name: value if value.ndim else value.item() for name, value in found.items()}
        told = {f.name: numbers.pop(f"instance.{f.name}") for f in fields(Instance)}
        return cls(instance=Instance(**told), **numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a prover found."""

    assignment: tuple[int, ...]
    """The best that it knows of, what it was given included."""
    bound: int
    """No assignment costs less, as far as it can tell."""
    proved: bool
    """That assignment is the best there is; then the bound is what it costs."""

    def to_line(self) -> bytes:
        """Return the answer as a line of JSON."""
        told = {"assignment": self.assignment, "bound": self.bound, "proved": self.proved}
        return json.dumps(told).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Answer":
        """Read what `to_line` wrote.

        Raises:
            ValueError: the line is no whole answer.
        """
        told = json.loads(line)
        return cls(assignment=tuple(told["assignment"]), bound=told["bound"], proved=told["proved"])
