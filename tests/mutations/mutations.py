"""The ways in which the protocol could be wrong, as data: what is broken, whose promise that is, and who must notice.

Each entry is applied alone, to a copy. `old` is text that stands exactly once in the file; when the code moves on, the
entry must move with it. `killed_by` names tests by their node ids, and every one of them must fail. One without
brackets stands for all its cases, of which at least one must fail.
"""

from dataclasses import dataclass

PROTOCOL = "tests/postgres/test_protocol.py::"
TRANSITIONS = "tests/postgres/test_transitions.py::"
PROMISES = "tests/mutations/test_promises.py::"
WORKER = "tests/services/test_worker.py::"
SUPERVISOR = "tests/services/test_supervisor.py::"
SETTLER = "tests/services/test_settler.py::"
WATCHDOG = "tests/services/test_watchdog.py::"
LEASE = "tests/core/test_lease.py::"
CONTRACT = "tests/postgres/test_rate_limit_contract.py::"
OUTAGE = "tests/services/test_limiter_outage.py::"
HEALTH = "tests/services/test_health.py::"

BEAT = "postgres/functions/beat.sql"
CANCEL = "postgres/functions/cancel_jobs.sql"
CHECK = "postgres/functions/check_leases.sql"
CLAIM = "postgres/functions/claim.sql"
GONE = "postgres/functions/mark_workers_gone.sql"
PROGRESS = "postgres/functions/progress.sql"
REGISTER = "postgres/functions/register_worker.sql"
RELEASE = "postgres/functions/release_lost_claims.sql"
RESCUE = "postgres/functions/rescue_jobs.sql"
RETRY = "postgres/functions/retry_jobs.sql"
SETTLE = "postgres/functions/settle.sql"
STALE = "postgres/functions/stale_jobs.sql"
SWEEP = "postgres/functions/rescue_stale_jobs.sql"
STEP = "postgres/functions/rate_limit_step.sql"
TABLES = "postgres/migrations/001_ledger.sql"


@dataclass(frozen=True)
class Edit:
    """`file` is below src/holdfast."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutation:
    name: str
    promise: str
    edits: tuple[Edit, ...]
    killed_by: tuple[str, ...]


def broken(name: str, promise: str, *edits: tuple[str, str, str], killed_by: tuple[str, ...]) -> Mutation:
    return Mutation(name, promise, tuple(Edit(*edit) for edit in edits), killed_by)


MUTATIONS = (
    # P1: no job is lost
    broken(
        "a claim whose answer was lost is never given back",
        "P1",
        (
            CHECK,
            "      AND NOT EXISTS (SELECT FROM known k WHERE k.id = m.id AND k.lease = m.lease);",
            "      AND false;",
        ),
        killed_by=(
            PROTOCOL + "test_a_claim_that_its_worker_does_not_know_is_unknown_after_15_seconds_only",
            WORKER + "test_a_claim_whose_answer_was_lost_is_given_back_and_run_later",
        ),
    ),
    broken(
        "a beat by worker id keeps its silent runs alive",
        "P1",
        (
            BEAT,
            "    RETURN FOUND;",
            "    UPDATE holdfast.jobs AS j SET heartbeat_at = holdfast.clock()\n"
            "    WHERE j.worker_id = beat.worker_id AND j.status = 'running';\n"
            "    RETURN true;",
        ),
        killed_by=(
            PROTOCOL + "test_a_job_without_any_sign_of_life_is_taken_after_stale_after",
            PROTOCOL + "test_a_job_that_owes_heartbeats_is_taken_after_silent_after_for_one_attempt",
        ),
    ),
    broken(
        "an end that could not be told is forgotten",
        "P1",
        (
            "services/settler.py",
            '                self._sinks.emit(LedgerLost("settle", str(error)))',
            '                self._sinks.emit(LedgerLost("settle", str(error)))\n'
            '                return [calls.Settled(each.id, each.lease, "lost", None) for each in batch]',
        ),
        killed_by=(
            SETTLER + "test_results_wait_through_an_outage_and_are_told_on_return",
            SETTLER + "test_an_answer_that_was_lost_is_asked_for_again_and_counts_once",
        ),
    ),
    broken(
        "a rescue ignores a wanted cancel",
        "P1",
        (RESCUE, "CASE WHEN c.cancel_requested_at IS NOT NULL THEN 'cancelled'", "CASE WHEN false THEN 'cancelled'"),
        killed_by=(PROTOCOL + "test_a_cancelled_job_that_is_rescued_ends_cancelled",),
    ),
    broken(
        "a cancel ends a run at once, whatever its handler does",
        "P1",
        (
            CANCEL,
            "SET status = CASE j.status WHEN 'queued' THEN 'cancelled' ELSE j.status END,\n"
            "            finished_at = CASE j.status WHEN 'queued' THEN _now END,",
            "SET status = 'cancelled',\n            finished_at = _now,",
        ),
        killed_by=(PROTOCOL + "test_a_cancel_of_a_running_job_is_told_to_its_worker",),
    ),
    # P2: one holder
    broken(
        "settle without a check of the lease",
        "P2",
        (
            SETTLE,
            "WHERE j.id = s.id AND j.lease = s.lease AND j.worker_id = settle.worker_id\n",
            "WHERE j.id = s.id AND j.worker_id = settle.worker_id\n",
        ),
        killed_by=(PROMISES + "test_a_late_end_of_a_worker_s_own_earlier_lease_is_lost",),
    ),
    broken(
        "settle accepts another worker",
        "P2",
        (
            SETTLE,
            "WHERE j.id = s.id AND j.lease = s.lease AND j.worker_id = settle.worker_id\n",
            "WHERE j.id = s.id AND j.lease = s.lease\n",
        ),
        killed_by=(PROTOCOL + "test_a_settle_under_the_right_lease_by_another_worker_is_lost",),
    ),
    broken(
        "settle changes what has ended",
        "P2",
        (
            SETTLE,
            "AND j.worker_id = settle.worker_id\n          AND j.status IS NOT DISTINCT FROM 'running'",
            "AND j.worker_id = settle.worker_id",
        ),
        killed_by=(
            PROTOCOL + "test_a_settle_is_applied_once_and_its_repetition_is_known",
            PROTOCOL + "test_a_settle_that_names_another_outcome_than_the_recorded_one_is_lost",
        ),
    ),
    broken(
        "`already` by lease and worker alone, whatever the outcome",
        "P2",
        (SETTLE, "AND j.settled_as = s.outcome, false)", "AND j.settled_as IS NOT NULL, false)"),
        killed_by=(PROTOCOL + "test_a_settle_that_names_another_outcome_than_the_recorded_one_is_lost",),
    ),
    broken(
        "`already` from the history, whatever the outcome",
        "P2",
        (SETTLE, "AND e.event IN ('failure', 'snooze') AND e.reason = s.outcome) AS repeated", ") AS repeated"),
        killed_by=(PROTOCOL + "test_a_settle_of_an_earlier_run_that_names_another_outcome_is_lost",),
    ),
    broken(
        "a claim takes a job that became suspect since it looked",
        "P5",
        (CLAIM, "              AND f.suspect = _quarantine\n", ""),
        killed_by=(
            PROTOCOL + "test_a_job_that_becomes_suspect_between_a_claims_look_and_its_lock_is_left_to_quarantine",
        ),
    ),
    broken(
        "progress without a check of the lease",
        "P2",
        (PROGRESS, "JOIN holdfast.jobs f ON f.id = n.id AND f.lease = n.lease", "JOIN holdfast.jobs f ON f.id = n.id"),
        killed_by=(PROTOCOL + "test_progress_under_an_old_lease_or_of_another_worker_is_lost",),
    ),
    broken(
        "a rescue does not raise the lease",
        "P2",
        (
            RESCUE,
            "SET lease = j.lease + 1,\n            worker_id = NULL,",
            "SET lease = j.lease,\n            worker_id = NULL,",
        ),
        killed_by=(
            PROTOCOL + "test_the_lease_grows_with_each_claim_rescue_and_retry_and_never_falls",
            PROTOCOL + "test_a_lost_claim_is_free_and_keeps_its_place",
        ),
    ),
    broken(
        "a retry does not raise the lease",
        "P2",
        (RETRY, "SET status = 'queued', lease = j.lease + 1,", "SET status = 'queued', lease = j.lease,"),
        killed_by=(
            PROTOCOL + "test_the_lease_grows_with_each_claim_rescue_and_retry_and_never_falls",
            PROTOCOL + "test_a_retry_gives_all_budgets_anew_under_a_higher_lease",
        ),
    ),
    broken(
        "a beat brings a gone worker back",
        "P2",
        (
            BEAT,
            "SET seen_at = (SELECT holdfast.clock()),",
            "SET gone_at = NULL, seen_at = (SELECT holdfast.clock()),",
        ),
        (BEAT, "WHERE w.id = beat.worker_id AND w.gone_at IS NULL;", "WHERE w.id = beat.worker_id;"),
        killed_by=(PROTOCOL + "test_a_worker_that_is_gone_stays_gone",),
    ),
    broken(
        "a registration brings a gone worker back",
        "P2",
        (REGISTER, "ON CONFLICT (id) DO NOTHING;", "ON CONFLICT (id) DO UPDATE SET gone_at = NULL, seen_at = _now;"),
        killed_by=(
            PROTOCOL + "test_a_worker_that_is_gone_stays_gone",
            WORKER + "test_an_id_that_is_gone_cannot_be_used_again",
        ),
    ),
    broken(
        "a claim does not check that its worker is gone",
        "P2",
        (CLAIM, "w.gone_at IS NULL INTO", "true INTO"),
        (CLAIM, "WHERE w.id = claim.worker_id AND w.gone_at IS NULL\n", "WHERE w.id = claim.worker_id\n"),
        killed_by=(PROTOCOL + "test_a_worker_that_is_gone_or_unknown_cannot_claim",),
    ),
    broken(
        "a claim does not lock its worker's row",
        "P2",
        (CLAIM, "AND w.gone_at IS NULL\n            FOR KEY SHARE;", "AND w.gone_at IS NULL;"),
        killed_by=(
            PROTOCOL + "test_a_mark_waits_for_a_claim_under_way_and_the_next_rescue_sees_its_rows",
            PROTOCOL + "test_a_claim_waits_for_a_mark_under_way_and_finds_its_worker_gone",
        ),
    ),
    broken(
        "a seen death by a plain UPDATE, which passes a claim under way",
        "P2",
        (
            GONE,
            "        PERFORM FROM holdfast.workers w"
            " WHERE w.id = ANY (mark_workers_gone.worker_ids) ORDER BY w.id FOR UPDATE;\n",
            "",
        ),
        killed_by=(PROTOCOL + "test_a_mark_waits_for_a_claim_under_way_and_the_next_rescue_sees_its_rows",),
    ),
    broken(
        "a lapse by a plain UPDATE, which passes a claim under way",
        "P2",
        (
            GONE,
            "            WHERE w.id = _worker.id AND w.gone_at IS NULL AND w.seen_at = _worker.seen_at\n"
            "            FOR UPDATE SKIP LOCKED;",
            "            WHERE w.id = _worker.id AND w.gone_at IS NULL AND w.seen_at = _worker.seen_at;",
        ),
        killed_by=(PROTOCOL + "test_a_sweep_skips_a_worker_with_a_claim_under_way_and_comes_back",),
    ),
    broken(
        "a job is begun beside its own older run in the same process",
        "P2",
        ("services/worker.py", "        if earlier is not None:", "        if False:"),
        (
            "services/worker.py",
            "        del self._runs[run.job.id]",
            "        self._runs.pop(run.job.id, None)",
        ),
        killed_by=(PROMISES + "test_a_job_whose_older_run_has_not_ended_in_this_process_is_not_begun_beside_it",),
    ),
    # P3: quick rescue
    broken(
        "a sweep takes only the jobs of workers just declared gone",
        "P3",
        (STALE, "WHEN w.id IS NULL OR w.gone_at IS NOT NULL THEN", "WHEN w.gone_at > _now - interval '1 second' THEN"),
        killed_by=(
            PROMISES + "test_a_job_is_taken_from_a_worker_that_was_declared_gone_long_ago",
            PROTOCOL + "test_a_job_of_a_worker_that_was_pruned_is_taken",
        ),
    ),
    broken(
        "the hold of a mass lapse never ends",
        "P3",
        (GONE, "    IF _age >= interval '25 seconds' AND NOT _hold ? 'ended' THEN", "    IF false THEN"),
        killed_by=(PROTOCOL + "test_workers_that_lapse_during_the_hold_wait_for_its_end",),
    ),
    broken(
        "the hold after a restart of Postgres never ends",
        "P3",
        (
            GONE,
            "WHEN (SELECT holdfast.postgres_started_at()) BETWEEN _now - _worker.lost_after AND _now\n",
            "WHEN (SELECT holdfast.postgres_started_at()) > '-infinity'\n",
        ),
        killed_by=(PROTOCOL + "test_nobody_is_marked_before_postgres_was_up_for_lost_after",),
    ),
    broken(
        "the hold after a pause of the sweeps never ends",
        "P3",
        (GONE, "WHEN _resumed > _now - _worker.lost_after THEN", "WHEN _resumed IS NOT NULL THEN"),
        killed_by=(PROTOCOL + "test_nobody_is_marked_when_sweeps_come_back_after_a_pause",),
    ),
    broken(
        "a deadline is nobody's business",
        "P3",
        (STALE, "        WHEN j.deadline_at < _now THEN 'deadline_passed'\n", ""),
        killed_by=(PROTOCOL + "test_a_job_past_its_deadline_is_taken_for_one_attempt",),
    ),
    broken(
        "a supervisor buries its worker and leaves the jobs to the sweep",
        "P3",
        (
            "services/supervisor.py",
            "                await rescue_all(self._ledger, self._sinks, stale_after=self._settings.stale_after)\n",
            "",
        ),
        killed_by=(SUPERVISOR + "test_the_lease_of_a_thread_that_ignores_its_cancellation_is_given_up_after_its_end",),
    ),
    # P4: no false rescue
    broken(
        "a rescue without a second look under the lock",
        "P4",
        (
            RESCUE,
            "JOIN holdfast.jobs j ON j.id = s.id AND j.lease = s.lease AND j.status IS NOT DISTINCT FROM 'running'",
            "JOIN holdfast.jobs j ON j.id = s.id",
        ),
        killed_by=(PROMISES + "test_a_rescue_that_was_decided_about_an_older_lease_changes_nothing",),
    ),
    broken(
        "a sweep without a second look at the lease",
        "P4",
        (
            RESCUE,
            "JOIN holdfast.jobs j ON j.id = s.id AND j.lease = s.lease AND j.status IS NOT DISTINCT FROM 'running'\n"
            "            AND (rescue_jobs.seen IS NULL OR j.heartbeat_at IS NOT DISTINCT FROM s.seen)",
            "JOIN holdfast.jobs j ON j.id = s.id",
        ),
        killed_by=(
            PROMISES + "test_a_run_that_began_between_a_sweep_s_look_and_its_lock_is_not_taken_for_the_one_before",
        ),
    ),
    broken(
        "a sweep without a second look at the heartbeat",
        "P4",
        (SWEEP, "rescue_jobs(_ids, _leases, _reasons, opts, _seen)", "rescue_jobs(_ids, _leases, _reasons, opts)"),
        killed_by=(PROMISES + "test_a_heartbeat_between_a_sweep_s_look_and_its_lock_saves_the_run",),
    ),
    broken(
        "a lapse that is not compared with the beat it was judged by",
        "P4",
        (
            GONE,
            "            WHERE w.id = _worker.id AND w.gone_at IS NULL AND w.seen_at = _worker.seen_at\n"
            "            FOR UPDATE SKIP LOCKED;",
            "            WHERE w.id = _worker.id;",
        ),
        killed_by=(PROTOCOL + "test_a_worker_that_beats_while_the_sweep_looks_is_not_marked",),
    ),
    broken(
        "no brake on a mass lapse",
        "P4",
        (GONE, "IF _hold IS NULL AND _live >= 4 AND _lapsed * 2 > _live THEN", "IF false THEN"),
        killed_by=(PROTOCOL + "test_a_mass_lapse_is_held_for_5_seconds_then_marked_by_quarters",),
    ),
    broken(
        "anybody gives back the claim of another worker",
        "P4",
        (RELEASE, " AND j.worker_id = release_lost_claims.worker_id\n", "\n"),
        killed_by=(PROTOCOL + "test_nobody_releases_the_claim_of_another_worker_or_an_older_lease",),
    ),
    broken(
        "a young claim counts as lost",
        "P4",
        (CHECK, "m.claimed_at < (SELECT holdfast.clock()) - check_leases.unknown_after", "true"),
        killed_by=(PROTOCOL + "test_a_claim_that_its_worker_does_not_know_is_unknown_after_15_seconds_only",),
    ),
    broken(
        "a beat brings the worker's own time",
        "P4",
        (
            BEAT,
            "SET seen_at = (SELECT holdfast.clock()),",
            "SET seen_at = coalesce((opts ->> 'seen_at')::timestamptz, (SELECT holdfast.clock())),",
        ),
        (
            "services/worker.py",
            '        return {"loop_lag": round(self._loop_lag, 3),',
            '        from datetime import UTC, datetime\n\n        return {"seen_at": datetime.now(UTC).isoformat(),'
            ' "loop_lag": round(self._loop_lag, 3),',
        ),
        killed_by=(PROMISES + "test_no_time_in_the_ledger_comes_from_a_worker_s_own_clock",),
    ),
    broken(
        "a claim counts its deadline from the worker's own time",
        "P4",
        (
            CLAIM,
            "    _now := holdfast.clock();\n",
            "    _now := coalesce((opts ->> 'now')::timestamptz, holdfast.clock());\n",
        ),
        (
            "postgres/calls.py",
            "max_jobs, json.dumps(options)),\n        Claimed,",
            'max_jobs, json.dumps({**options, "now": str(datetime.now().astimezone())})),\n        Claimed,',
        ),
        killed_by=(PROMISES + "test_no_time_in_the_ledger_comes_from_a_worker_s_own_clock",),
    ),
    broken(
        "trust is counted on a clock that can be set",
        "P4",
        ("services/pulse.py", 'getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)', "time.CLOCK_REALTIME"),
        killed_by=(PROMISES + "test_trust_is_counted_on_a_clock_that_nobody_sets",),
    ),
    broken(
        "trust is counted from the answer of a beat",
        "P4",
        ("services/beat.py", "self._pulse.beat_accepted(sent_at)", "self._pulse.beat_accepted(steady_now())"),
        killed_by=(PROMISES + "test_trust_is_counted_from_when_a_beat_was_sent_however_late_its_answer_came",),
    ),
    broken(
        "a worker exits after it may be declared gone",
        "P4",
        ("core/lease.py", "return self.lost_after * 0.88", "return self.lost_after * 1.08"),
        killed_by=(LEASE + "test_a_worker_has_exited_before_the_ledger_may_declare_it_gone",),
    ),
    broken(
        "the watchdog tells and does not act",
        "P4",
        ("services/watchdog.py", "                self._exit(FENCED_EXIT_CODE)\n", ""),
        killed_by=(
            WATCHDOG + "test_the_process_ends_only_while_handlers_run",
            WATCHDOG + "test_handlers_that_run_do_not_end_the_process_before_its_time",
        ),
    ),
    broken(
        "a claim that came back behind the fence is begun",
        "P4",
        (
            "services/worker.py",
            "        may_begin = self._watchdog.trust is Trust.HEALTHY and not self._gone",
            "        may_begin = not self._gone",
        ),
        (
            "services/worker.py",
            "            return 0\n        slots = self._settings.slots",
            "            pass\n        slots = self._settings.slots",
        ),
        killed_by=(WORKER + "test_a_claim_under_way_when_the_fence_falls_is_given_back_unstarted",),
    ),
    broken(
        "a drain gives up leases whose handlers still run",
        "P4",
        (
            "services/run.py",
            "may_cancel = self.begun and self._thread is None and not self.finished",
            "may_cancel = self.begun and not self.finished",
        ),
        killed_by=(SUPERVISOR + "test_the_lease_of_a_thread_that_ignores_its_cancellation_is_given_up_after_its_end",),
    ),
    broken(
        "a worker says that it has stopped while a handler still runs",
        "P4",
        ("services/worker.py", "        if leftovers or self._runs:", "        if False:"),
        killed_by=(SUPERVISOR + "test_the_lease_of_a_thread_that_ignores_its_cancellation_is_given_up_after_its_end",),
    ),
    # P5: poison stays contained
    broken(
        "a shared crash counts as a lone one",
        "P5",
        (
            RESCUE,
            "coalesce(w.gone_is_crash AND w.quarantine AND w.gone_reason = 'crashed', false) AS alone",
            "coalesce(w.gone_is_crash, false) AS alone",
        ),
        killed_by=(
            PROTOCOL + "test_a_first_shared_crash_requeues_and_a_second_makes_the_job_suspect",
            PROTOCOL + "test_three_crashes_alone_make_a_suspect_dead_with_the_evidence",
        ),
    ),
    broken(
        "suspects run beside others",
        "P5",
        (CLAIM, "\n              AND f.suspect = _quarantine", ""),
        (TABLES, "WHEN suspect THEN '!'", "WHEN false THEN '!'"),
        killed_by=(PROTOCOL + "test_a_first_shared_crash_requeues_and_a_second_makes_the_job_suspect",),
    ),
    broken(
        "a quarantine worker runs several suspects at once",
        "P5",
        (CLAIM, "    IF _quarantine THEN\n", "    IF false THEN\n"),
        killed_by=(PROTOCOL + "test_a_quarantine_worker_runs_one_suspect_at_a_time",),
    ),
    broken(
        "a lapse that the brake held counts as a crash",
        "P5",
        (
            GONE,
            "is_crash := _cause IS NULL AND _hold IS NULL AND",
            "is_crash := _cause IS NULL; PERFORM _hold IS NULL AND",
        ),
        killed_by=(
            PROTOCOL + "test_nobody_is_marked_before_postgres_was_up_for_lost_after",
            PROTOCOL + "test_a_mass_lapse_is_all_marked_within_25_seconds_of_its_first_sight",
        ),
    ),
    broken(
        "a clean stop counts as a crash",
        "P5",
        (GONE, "gone_is_crash = mark_workers_gone.reason = 'crashed'", "gone_is_crash = true"),
        killed_by=(PROTOCOL + "test_a_worker_that_ended_without_a_crash_costs_its_jobs_nothing",),
    ),
    broken(
        "a job may be rescued without end",
        "P5",
        (RESCUE, "WHEN c.rescues + 1 >= _max_rescues THEN", "WHEN c.rescues + 1 >= 1000 * _max_rescues THEN"),
        killed_by=(PROTOCOL + "test_the_twentieth_rescue_of_any_kind_is_dead",),
    ),
    # P9: limits hold
    broken(
        "a request leaves its window a second early",
        "P9",
        (
            STEP,
            "            _cut := width_bucket(now_micro - spans[_i], stamps);\n            _room",
            "            _cut := width_bucket(now_micro - spans[_i] + 1000000, stamps);\n            _room",
        ),
        killed_by=(CONTRACT + "test_each_request_is_decided_as_the_model_decides",),
    ),
    broken(
        "what has left the longest window still counts",
        "P9",
        (STEP, "            base := sums[_cut];\n            stamps := stamps", "            stamps := stamps"),
        killed_by=(CONTRACT + "test_each_request_is_decided_as_the_model_decides",),
    ),
    broken(
        "one limit of several decides alone",
        "P9",
        (STEP, "        _least := least(_least, _room);", "        _least := _room;"),
        killed_by=(CONTRACT + "test_each_request_is_decided_as_the_model_decides",),
    ),
    broken(
        "a debt is forgiven",
        "P9",
        (
            "services/flights.py",
            "        identity.charging, identity.lent = identity.lent, None\n",
            "        identity.charging, identity.lent, debt = identity.lent, None, 0\n",
        ),
        killed_by=(OUTAGE + "test_what_was_admitted_is_paid_back",),
    ),
    broken(
        "memory forgets what it has admitted while a flight pays it back",
        "P9",
        ("services/alone.py", "in (*(identity.charging or ()), *(identity.lent or ())):", "in identity.lent or ():"),
        killed_by=(OUTAGE + "test_what_memory_admitted_counts_in_memory_until_postgres_is_known_to_have_it",),
    ),
    broken(
        "each process keeps the whole limit while Postgres is away",
        "P9",
        ("core/ratelimit.py", "        if instances == 1:\n            return self", "        return self"),
        killed_by=(OUTAGE + "test_processes_share_what_is_left",),
    ),
    broken(
        "what is refused from memory is refused for ever",
        "P9",
        (
            "services/limiter.py",
            "        elif identity.full_until > now and",
            "        elif identity.full_until > 0 and",
        ),
        killed_by=(
            "tests/services/test_limiter.py::test_several_limits_hold_at_once_and_a_refusal_costs_none_of_them",
        ),
    ),
    # P10: health never hangs
    broken(
        "while the ledger is away no look gets its turn, and this process calls itself stuck",
        "P10",
        (
            "services/health.py",
            "                await self.ping()\n            due = [",
            "                await self.ping()\n                continue\n            due = [",
        ),
        killed_by=(HEALTH + "test_an_outage_however_long_is_no_fault_of_this_process",),
    ),
    broken(
        "an outage of the database takes every instance out of its load balancer",
        "P10",
        ("core/readiness.py", "    if database:\n", "    if True:\n"),
        killed_by=("tests/core/test_readiness.py::test_an_outage_is_no_reason_unless_it_is_asked_for",),
    ),
    broken(
        "a check that nobody judged for a while is told as it was",
        "P10",
        ("services/health.py", "        if now - look.judged_at > self._rhythm.stuck:\n", "        if False:\n"),
        killed_by=(HEALTH + "test_a_check_that_nobody_judged_for_a_while_fails",),
    ),
    broken(
        "what was seen long ago is told as if it were so now",
        "P10",
        ("core/health_checks.py", "    return age is None or age > limits.blind_after", "    return age is None"),
        killed_by=("tests/core/test_health.py::test_what_was_not_seen_for_a_while_is_not_known_and_no_pass",),
    ),
    broken(
        "strangers see every check",
        "P10",
        ("web/health.py", "    if not caller_of(request.scope).may_look:", "    if False:"),
        killed_by=(
            "tests/web/test_health.py::test_who_has_no_key_learns_the_status_only_and_may_keep_it_for_a_moment",
        ),
    ),
    broken(
        "the text of an error is told instead of its number",
        "P10",
        (
            "services/health.py",
            'return replace(check, output=f"{check.output} (error {error_id} in the log)")',
            "return check",
        ),
        killed_by=(HEALTH + "test_an_error_of_a_look_is_told_by_its_number_only",),
    ),
    broken(
        "a loop that is wedged passes as long as its process ticks",
        "P10",
        ("web/probes.py", 'return "stuck" if find_stuck(processes) else None', "return None"),
        killed_by=("tests/web/test_probes.py::test_each_probe_means_one_thing",),
    ),
)
