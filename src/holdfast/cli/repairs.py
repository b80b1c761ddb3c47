"""Carrying out what an examination named as the way out, for `holdfast doctor --fix`."""

import sys
from collections.abc import Sequence

from holdfast.cli.output import clean
from holdfast.core.findings import Finding, Verdict
from holdfast.errors import HoldfastError
from holdfast.postgres.examine import repair
from holdfast.postgres.migrate import migrate_up
from holdfast.services.checks.drift import AGAIN


def repairs_of(findings: Sequence[Finding]) -> list[str]:
    """The steps, each once, in order; migrating comes last."""
    steps = [step for each in findings if each.verdict in (Verdict.WARN, Verdict.FAIL) for step in each.repair]
    return sorted(dict.fromkeys(steps), key=lambda step: step == AGAIN)


def carry_out(steps: Sequence[str], dsn: str, *, dry_run: bool) -> bool:
    """Do them, and say each; whether anything was done. The first that fails ends it, and says why."""
    for number, step in enumerate(steps):
        print(f"{'would do' if dry_run else 'doing'}: {clean(step)}", file=sys.stderr)
        if dry_run:
            continue
        try:
            if step == AGAIN:
                migrate_up(dsn)
            else:
                repair(dsn, step)
        except HoldfastError as error:
            print(f"that did not work: {clean(str(error))}", file=sys.stderr)
            return number > 0
    return not dry_run
