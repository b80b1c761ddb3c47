"""What a fault did to the jobs, read from what the jobs noted and from what was done to the processes. No I/O."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

#: Seconds: two runs that share less are not said to have run at once, since deaths are only seen by looking.
SLACK = 0.2


@dataclass(frozen=True)
class Note:
    """One line of the table: `what` is begin, end or cut (its handler was cancelled); `at` in seconds."""

    job: str
    run: str
    pid: int
    what: str
    at: float


@dataclass(frozen=True)
class Hit:
    """A run that was under way on a process when that was killed or frozen."""

    job: str
    run: str
    at: float


@dataclass
class Events:
    """What happened around the jobs, in seconds of the same clock."""

    fault_at: float
    over_at: float
    seen_until: float
    jobs: Collection[str]
    hits: Sequence[Hit] = ()
    deaths: Mapping[int, float] = field(default_factory=dict)
    frozen: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    #: Jobs that the ledger still holds as unfinished at the end, and those that it called finished while a later run
    #: of theirs was under way.
    unfinished: Collection[str] = ()
    finished_early: Collection[str] = ()


@dataclass(frozen=True)
class Findings:
    """Of one cell. Seconds are from the fault on; None: it did not happen. `resumed`: the first begin after it."""

    jobs: int
    hit: int
    lost: int
    forgotten: int
    stuck: int
    overlaps: int
    twice: int
    late_writes: int
    again: float | None
    not_again: int
    resumed: float | None
    all_ended: float | None


@dataclass(frozen=True)
class Run:
    """From its begin to its last sign; `ended`: it came to its end."""

    job: str
    id: str
    pid: int
    begin: float
    stop: float
    ended: bool


def judge(notes: Sequence[Note], events: Events) -> Findings:
    """The findings of a cell."""
    runs = runs_of(notes, events)
    by_job: dict[str, list[Run]] = {job: [] for job in events.jobs}
    for run in runs:
        by_job.setdefault(run.job, []).append(run)
    done = {job for job, each in by_job.items() if any(run.ended for run in each)}
    lost = set(by_job) - done
    again = [_again(hit, by_job[hit.job]) for hit in events.hits]
    seen = [seconds for seconds in again if seconds is not None]
    begun = [run.begin - events.fault_at for run in runs if run.begin > events.over_at]
    ends = [run.stop - events.fault_at for run in runs if run.ended]
    return Findings(
        jobs=len(by_job),
        hit=len(events.hits),
        lost=len(lost),
        forgotten=len(lost - set(events.unfinished)),
        stuck=len(done & set(events.unfinished)),
        overlaps=sum(_overlap(each, events) for each in by_job.values()),
        twice=sum(sum(run.ended for run in each) > 1 for each in by_job.values()),
        late_writes=len(set(events.finished_early)),
        again=max(seen, default=None),
        not_again=len(again) - len(seen),
        resumed=min(begun, default=None),
        all_ended=max(ends) if ends and not lost else None,
    )


def runs_of(notes: Sequence[Note], events: Events) -> list[Run]:
    """Each run once, in the order of its begin."""
    last = {note.run: note for note in notes if note.what != "begin"}
    found = []
    for note in notes:
        if note.what == "begin":
            end = last.get(note.run)
            stop = end.at if end else events.deaths.get(note.pid, events.seen_until)
            found.append(Run(note.job, note.run, note.pid, note.at, stop, end is not None and end.what == "end"))
    return sorted(found, key=lambda run: run.begin)


def _again(hit: Hit, runs: Sequence[Run]) -> float | None:
    """Seconds from a hit to the job's next run; a run that went on to its end needs none."""
    if any(run.id == hit.run and run.ended for run in runs):
        later = [run.begin - hit.at for run in runs if run.begin > hit.at and run.id != hit.run]
        return min(later, default=0.0)
    return min((run.begin - hit.at for run in runs if run.begin > hit.at), default=None)


def _overlap(runs: Sequence[Run], events: Events) -> bool:
    """Whether two runs of one job were at work at once: a frozen process is not at work while it is frozen."""
    for one, other in combinations(runs, 2):
        if any(a.ended and b.begin < a.stop < b.stop for a, b in ((one, other), (other, one))):
            return True
        if _shared(one, other, events) > SLACK:
            return True
    return False


def _shared(one: Run, other: Run, events: Events) -> float:
    return sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in _awake(one, events) for b in _awake(other, events))


def _awake(run: Run, events: Events) -> list[tuple[float, float]]:
    frozen = events.frozen.get(run.pid)
    if frozen is None or not run.begin < frozen[0] < run.stop:
        return [(run.begin, run.stop)]
    return [(run.begin, frozen[0]), (frozen[1], max(frozen[1], run.stop))]
