"""Writes docs/why/proof-peers.md from docs/peers.json: `python -m bench.faults.page`."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.faults.record import FILE, Worst, worst

PAGE = FILE.parent / "why" / "proof-peers.md"
HEAD = """# The same faults, beside its peers

Written from [docs/peers.json](../peers.json) by `python -m bench.faults.page`; do not edit. `./bench/run faults`
measures all of it again. [What happens when it breaks](proof.md) is about Holdfast alone and has more faults.

Everybody gets the same: a Postgres of its own, two worker processes of 10 slots each, and 60 jobs (200 where there
must be work left afterwards, 120 under the snapshot). A job notes its begin in a table of that Postgres, sleeps a
second, and notes its end; the notes are tried again until they are written, so that no job fails because of them. Where
a worker is frozen, the next run of a job sleeps 55 s, so that it is still at it when the frozen one wakes up. When both
workers are busy, the fault strikes. What ends by itself is started again a second later, as a service manager does it.
Then everybody has {wait:g} s. The same checker reads the notes of all; of each ledger it asks only which jobs are
unfinished.

- *lost*: jobs that did not come to their end within {wait:g} s. *stuck*: jobs that did, and that the ledger still holds
  as unfinished then.
- *runs again*: seconds from the fault until the last of the jobs that the killed or frozen worker held was begun anew.
  A job of a frozen worker that nobody took, and that went on afterwards, counts with 0.
- *goes on*: seconds from the fault until, when it was over, the next job was begun.
- *all done*: seconds from the fault until the last job ended.
- *at once*: jobs of which two runs were at work at the same time. *twice*: jobs that came to their end more than once.
- *late*: jobs that the ledger called finished on the word of a worker that had been frozen, while the run that had
  taken its place was still under way.
- *restarted*: how often the service manager had to start a process. A supervisor of its own needs none.

Of several rounds the worst figure is shown. *Quick* is told to be quick: 10 s of silence is a dead worker, which is
the least that pg-boss takes, and whatever looks for the dead does it each second. The machine has {cores} cores and
other work (its load was {load:.0f} at the start), and several cells ran at once: read the times to about a second.
"""
STRUCK = (
    "| system | lost | stuck | runs again | all done | at once | twice | late | restarted | rounds |\n" + "|---" * 10
)
SHORT = (
    "| system | killed worker's jobs run again | frozen: two runs at once | frozen: late word taken"
    " | Postgres away (three faults): lost | goes on after, at most | restarted |\n" + "|---" * 7
)
KILLED, WHOLE, FROZEN = "worker SIGKILL", "worker and its supervisor SIGKILL", "worker SIGSTOP for 60 s"
FROZEN_WHOLE = "worker and its supervisor SIGSTOP for 60 s"
AWAY = ("Postgres restarted", "Postgres SIGKILL and restart", "all sessions terminated")
TWIN = "The others have no supervisor: for them it is the same fault as without one.\n\n"
WHO = "\n## Who takes part\n\n| system | version | settings |\n|---|---|---|\n"
OTHERS = "| system | lost | stuck | goes on | all done | at once | twice | restarted | rounds |\n" + "|---" * 9


def page(known: Mapping[str, Any]) -> str:
    """The page: who takes part, a table for each fault, and what to make of it."""
    parts = [HEAD.format(wait=known["wait"], **known["machine"]), f"\n## In short\n\n{short(known)}", WHO]
    for title, system in sorted(known["systems"].items(), key=_order):
        parts.append(f"| {title} | {system['version']} | {system['said']} |\n")
    parts += [_fault(fault, cells, known["wait"]) for fault, cells in known["cells"].items()]
    return "".join(parts) + JUDGEMENT


def _order(item: tuple[str, Any]) -> tuple[bool, str]:
    """Ours first, then the others by their names, defaults before quick."""
    return (not item[0].startswith("Holdfast"), item[0])


def short(known: Mapping[str, Any]) -> str:
    """The one table for those who read one."""
    lines = []
    for title, _ in sorted(known["systems"].items(), key=_order):
        of = {fault: worst(title, cells[title]) for fault, cells in known["cells"].items() if title in cells}
        killed, frozen = of[KILLED], of[FROZEN]
        away = [of[fault] for fault in AWAY]
        slowest = max((each.resumed or 0.0 for each in away), default=0.0)
        lines.append(
            _row(
                title, _again(killed, known["wait"]) + _with(of, WHOLE, lambda each: _seconds(each.again)),
                _at_once(frozen) + _with(of, FROZEN_WHOLE, _at_once),
                f"{frozen.late_writes} of {frozen.hit}", str(sum(each.lost for each in away)), _seconds(slowest),
                str(sum(each.restarts for each in away)),
            )
        )  # fmt: skip
    return f"{SHORT}|\n{''.join(lines)}"


def _with(of: Mapping[str, Worst], fault: str, shown: Callable[[Worst], str]) -> str:
    return f", with its supervisor {shown(of[fault])}" if fault in of else ""


def _at_once(each: Worst) -> str:
    return f"{each.overlaps} of {each.hit}"


def _fault(fault: str, cells: Mapping[str, Sequence[Mapping[str, Any]]], wait: float) -> str:
    lines = [worst(title, rounds) for title, rounds in sorted(cells.items(), key=_order)]
    is_struck = any(each.hit for each in lines)
    table = [_struck(each, wait) if is_struck else _other(each, wait) for each in lines]
    alone = TWIN if all(each.title.startswith("Holdfast") for each in lines) else ""
    return f"\n## {fault[0].upper()}{fault[1:]}\n\n{alone}{STRUCK if is_struck else OTHERS}|\n{''.join(table)}"


def _struck(each: Worst, wait: float) -> str:
    return _row(
        each.title, _bad(each.lost), _bad(each.stuck), _again(each, wait), _all_done(each, wait), _bad(each.overlaps),
        _bad(each.twice), _bad(each.late_writes), str(each.restarts), str(each.rounds),
    )  # fmt: skip


def _again(each: Worst, wait: float) -> str:
    return f"**{each.not_again} not in {wait:g} s**" if each.not_again else _seconds(each.again)


def _other(each: Worst, wait: float) -> str:
    return _row(
        each.title, _bad(each.lost), _bad(each.stuck), _seconds(each.resumed), _all_done(each, wait),
        _bad(each.overlaps), _bad(each.twice), str(each.restarts), str(each.rounds),
    )  # fmt: skip


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def _all_done(each: Worst, wait: float) -> str:
    return _seconds(each.all_ended) if not each.lost else f"not in {wait:g} s"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


def _bad(count: int) -> str:
    return f"**{count}**" if count else "0"


JUDGEMENT = """
## What to make of it

**Where a peer is better, or as good.**

- Postgres restarted, killed, or all its sessions ended: nobody lost a job. The processes of graphile-worker and pg-boss
  stayed up and went on about as soon as Holdfast's, with no supervisor to help them. PgQueuer with its defaults ends
  itself then, and Procrastinate does where a beat or its listener fails: they need a service manager, and with one they
  came back.
- When nothing is left that saw a worker die (it and its supervisor are gone), Holdfast waits for silence as the others
  do: about 25 s with its defaults, about 10 s when told to be quick, as PgQueuer, Procrastinate and pg-boss.
- pg-boss refuses the late word of a frozen worker, as Holdfast does: its writes name the attempt.
- Who takes no job from a silent worker runs none at once: graphile-worker, and pg-boss and Procrastinate with their
  defaults, had no overlap. The price is in the tables of the killed worker.
- Fewer parts: each peer's worker is one process. Two workers of Holdfast are two supervisors, two workers and two
  processes that sweep.

**Where Holdfast is better.**

- Its supervisor sees a worker die: the jobs run again after about a second, without any setting. With defaults, only
  PgQueuer of the others runs them again within the wait.
- A frozen worker is killed by its supervisor before its jobs run again. Where both were frozen, the worker ends itself
  as it wakes up; a handler that had only its last step left may be quicker, and its late word is refused. PgQueuer and
  Procrastinate, told to be quick, take that word for a job that another worker is in the middle of; so does PgQueuer
  with its defaults. With pg-boss the handlers run on to their ends.
- What ended while Postgres was away is settled when it is back. PgQueuer with its defaults ran such jobs again half a
  minute later, and of Procrastinate with its defaults one stayed unfinished in the ledger.

*Not in 150 s* is not never. pg-boss with its defaults runs such a job again after 15 minutes, graphile-worker after 4
hours, and the task that Procrastinate's documentation gives every 10 minutes; without that task it stays.

**What is true of all.** A job whose worker dies between its end and the ledger's knowledge of it runs once more: that
is *twice* after a SIGKILL. Handlers should be idempotent.

**What this does not show.** A snapshot that is held for a minute does nothing at this load; at thousands of jobs a
second the dead rows that it keeps slow a queue in Postgres down. Networks that lose packets, replicas, days of load:
not tried with peers. Each peer in one version, with settings that we took from its documentation; who knows better
ones, tell us.
"""

if __name__ == "__main__":
    PAGE.write_text(page(json.loads(FILE.read_text())))
