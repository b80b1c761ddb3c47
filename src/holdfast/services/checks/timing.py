"""Do the times fit together: beats often enough, and a drain that ends before the platform kills?"""

from collections.abc import Mapping

from holdfast.core.findings import Finding, Verdict
from holdfast.postgres.examine import longest_silence
from holdfast.services.checks.deployment import Deployment
from holdfast.services.supervisor import GRACE

NAMES: Mapping[str, str] = {"workers.beats": "workers", "workers.drain": "workers"}
_COMPONENT = "workers"
_SHARE = 1 / 3


async def check_beats(deployment: Deployment) -> Finding:
    """Whether beats come more often than each third of the time after which a worker may be declared gone."""
    id, code = "workers.beats", "a beat each 5 s, where 25 s of silence are the end"
    found = await deployment.ledger.one(longest_silence())
    if found.share is None or found.seconds is None:
        return Finding(id, _COMPONENT, Verdict.SKIP, "no worker lives", code)
    words = f"the quietest worker beat {found.seconds:.1f} s ago, {found.share:.0%} of what it may be silent"
    if found.share > _SHARE:
        verdict = Verdict.FAIL if found.share > 2 * _SHARE else Verdict.WARN
        fix = "is the database slow, or the machine overloaded? Else raise HOLDFAST_LOST_AFTER, or beat more often"
        return Finding(id, _COMPONENT, verdict, words, code, fix)
    return Finding(id, _COMPONENT, Verdict.PASS, words, code)


async def check_drain(deployment: Deployment) -> Finding:
    """Whether a stopping worker has time to let its jobs finish."""
    id, least = "workers.drain", deployment.drain_timeout + GRACE
    code = f"{deployment.drain_timeout:g} s to finish jobs, and {GRACE:g} s for last words"
    grace = deployment.termination_grace
    if grace is None:
        found = (
            f"the platform's grace period is not known; it must be at least {least:g} s (HOLDFAST_TERMINATION_GRACE)"
        )
        return Finding(id, _COMPONENT, Verdict.SKIP, found, code)
    if grace < least:
        fix = f"set terminationGracePeriodSeconds (Kubernetes) or TimeoutStopSec (systemd) to {least:g}"
        found = f"the platform kills after {grace:g} s"
        return Finding(id, _COMPONENT, Verdict.FAIL, found, code, f"{fix}, or lower HOLDFAST_DRAIN_TIMEOUT")
    return Finding(id, _COMPONENT, Verdict.PASS, f"the platform waits {grace:g} s", code)
