"""What an examination of a deployment found: one line a check, with the exact way out where something is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """`skip`: could not be looked at, for a reason that another line tells."""

    PASS = "pass"  # noqa: S105
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


_ORDER = {Verdict.SKIP: 0, Verdict.PASS: 1, Verdict.WARN: 2, Verdict.FAIL: 3}


@dataclass(frozen=True)
class Finding:
    """One line. `id` never changes; `code` is what this version brings, `found` what runs; `fix` is to be done as it
    stands.

    `repair`: the same as `fix`, as steps for a program: statements of SQL, and holdfast migrate up.
    `unreachable`: nothing answered at all, so the deployment may be well and only not be reached from here.
    """

    id: str
    component: str
    verdict: Verdict
    found: str
    code: str = ""
    fix: str = ""
    repair: tuple[str, ...] = ()
    unreachable: bool = False


@dataclass(frozen=True)
class Component:
    """A row of the table at the end: the worst of a component's findings."""

    name: str
    code: str
    found: str
    verdict: Verdict


def overall(findings: Sequence[Finding]) -> Verdict:
    """The worst of what was looked at: a line is skipped for what another line tells, or for what nobody uses here.

    >>> overall([Finding("a", "A", Verdict.PASS, ""), Finding("b", "B", Verdict.SKIP, "")])
    <Verdict.PASS: 'pass'>
    """
    return max((finding.verdict for finding in findings), key=_ORDER.__getitem__, default=Verdict.SKIP)


def exit_code(findings: Sequence[Finding], *, warns_count: bool = False) -> int:
    """0 nothing failed, 1 something did, 3 the database or the API could not be reached; 4 warnings, where they count.

    >>> exit_code([Finding("a", "A", Verdict.WARN, "")], warns_count=True)
    4
    """
    if any(finding.unreachable for finding in findings):
        return 3
    worst = overall(findings)
    return 1 if worst is Verdict.FAIL else 4 if worst is Verdict.WARN and warns_count else 0


def by_component(findings: Sequence[Finding]) -> list[Component]:
    """A row for each component, in the order in which they came."""
    rows = []
    for name in dict.fromkeys(finding.component for finding in findings):
        of_it = [finding for finding in findings if finding.component == name]
        worst = max(of_it, key=lambda finding: _ORDER[finding.verdict])
        code = next((finding.code for finding in of_it if finding.code), "")
        rows.append(Component(name, code, worst.found, worst.verdict))
    return rows
