"""Runs the matrix: every run of every fault is a job; workers, each with a cloud of its own, take them."""
import logging
import queue
import random
import re
import threading
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from deploy.processes import PartFailed
from tests.scorecard import oracle
from tests.scorecard.faults import Fault
from tests.scorecard.site import Site
from tests.scorecard.world import SharedKafka, World

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One run of one fault; `seed` makes its random instants, and repeats them."""

    fault: Fault
    number: int
    seed: int

    @property
    def name(self) -> str:
        """Short, and fit for a device's name and a directory."""
        words = re.sub(r"[^a-z0-9]+", "-", self.fault.act.__name__.replace("_", "-"))
        return f"{words}-{self.number}"


@dataclass
class Outcome:
    """All runs of one fault."""

    fault: Fault
    verdicts: list[oracle.Verdict] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """True when no run failed; of a control: when it lost something, as it must."""
        if self.fault.control:
            return any(one.lost for one in self.verdicts) and not any(one.broken for one in self.verdicts)
        return bool(self.verdicts) and not any(verdict.failures for verdict in self.verdicts)


def jobs(faults: Iterable[Fault], seed: int, full: bool) -> list[Job]:
    """The long ones first, so that no worker waits at the end for one that another has just begun."""
    made = [Job(fault, number, seed) for fault in faults
            for number in range(1, (fault.full_runs if full else fault.runs) + 1)]
    return sorted(made, key=lambda job: -job.fault.slow_s)


def run_once(job: Job, world: World, directory: Path) -> oracle.Verdict:
    """Make the site, let the fault happen, let it recover, count. A part that fails is a failure of the run."""
    site = Site(world, directory / job.name, job.name, random.Random(f"{job.seed} {job.fault.name} {job.number}"))
    recover_s = 0.0
    broken = ""
    try:
        try:
            job.fault.act(site)
            recover_s = 0.0 if job.fault.control else site.recover()
            site.drain()
        except (PartFailed, AssertionError, OSError, KeyError) as error:
            broken = f"{type(error).__name__}: {error}"
            log.error("%s: %s", job.name, traceback.format_exc())
        found = site.count()
        dropped, shown = site.dropped(), site.bridge_drops()
    finally:
        site.close()
        world.heal()
        _settle(world)
    verdict = oracle.judge(found, dropped=dropped, bridge_counted=shown, recover_s=recover_s)
    if broken:
        verdict.broken = broken.splitlines()[0]
        verdict.failures.append(verdict.broken)
    return verdict


def _settle(world: World) -> None:
    """A run that failed leaves work behind in the cloud: the next one is not to wait for it."""
    try:
        world.flush()
    except PartFailed as error:
        log.warning("the cloud is still at work: %s", str(error)[:300])


class Workers:
    """`count` workers; `run` returns when all jobs are done: one outcome per fault, in the order given."""

    def __init__(self, directory: Path, count: int) -> None:
        self._directory, self._count = directory, count
        self._kafka = SharedKafka(directory / "kafka")
        self._done: dict[str, Outcome] = {}
        self._lock = threading.Lock()
        self._faults: list[BaseException] = []

    def run(self, todo: list[Job]) -> dict[str, Outcome]:
        """Raises what stopped a worker: a cloud that does not start, for example."""
        waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        for job in todo:
            waiting.put(job)
        threads = [threading.Thread(target=self._work, args=(number, waiting), daemon=True)
                   for number in range(1, min(self._count, len(todo)) + 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._kafka.end()
        if self._faults:
            raise self._faults[0]
        return self._done

    def _work(self, number: int, waiting: "queue.SimpleQueue[Job]") -> None:
        directory = self._directory / f"world-{number}"
        world = World(directory / "cloud", self._kafka)
        try:
            with self._lock:  # one after the other: they look for free ports
                world.start()
            while not self._faults:
                try:
                    job = waiting.get_nowait()
                except queue.Empty:
                    break
                self._take(job, world, directory)
        except BaseException as error:
            self._faults.append(error)
            log.exception("worker %d", number)
        finally:
            world.close()

    def _take(self, job: Job, world: World, directory: Path) -> None:
        began_s = time.monotonic()
        verdict = run_once(job, world, directory)
        with self._lock:
            self._done.setdefault(job.fault.name, Outcome(job.fault)).verdicts.append(verdict)
        log.info("%s: %d made, %d stored, %s, %.0f s", job.name, verdict.published, verdict.stored,
                 "; ".join(verdict.failures) or "none lost, doubled or turned round", time.monotonic() - began_s)
