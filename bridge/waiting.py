"""What waits for its verdict: bounded, so that a surplus costs itself its verdict and nobody else."""

from __future__ import annotations

from dataclasses import replace

from bridge.domain.messages import Arrival
from bridge.domain.part import Part
from bridge.domain.verdict import Judgement, VerdictCode
from bridge.ports import Loaded
from bridge.station import Job

MAX_WAITING = 64
"""Parts with their pictures that may wait; beyond that a part gets ERROR at once and its picture is let go."""


class Waiting:
    """Makes the jobs of accepted parts.

    Only parts that are to be judged count: one that has its verdict at once, as every part of a backlog has, keeps its
    place in the order of the triggers, takes next to no time there, and needs no picture.
    """

    def __init__(self) -> None:
        self._count = 0

    def job(self, arrival: Arrival, part: Part, loaded: Loaded, at_once: Judgement | None) -> tuple[Job, bool]:
        """Give the job of a part, and whether it is one too many."""
        surplus = at_once is None and self._count >= MAX_WAITING
        if at_once is None and not surplus:
            self._count += 1
            return Job(arrival=arrival, part=part, loaded=loaded, at_once=None), False
        bare = replace(part.trigger, image=None)
        overload = Judgement(code=VerdictCode.ERROR, reason=f"overload: {MAX_WAITING} parts were waiting")
        job = Job(
            arrival=Arrival(trigger=bare, acknowledge=arrival.acknowledge),
            part=replace(part, trigger=bare),
            loaded=loaded,
            at_once=at_once or overload,
        )
        return job, surplus

    def done(self, job: Job) -> None:
        """Note that a job has left."""
        self._count -= job.at_once is None
