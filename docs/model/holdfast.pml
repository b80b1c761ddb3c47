/*
 * The life of a lease, as a model that spin checks in all its histories: docs/why/leases.md says why, docs/states.md
 * what, src/holdfast/postgres/functions/ how. tests/model/test_model.py runs it.
 *
 *     spin -a holdfast.pml && gcc -O2 -DSAFETY -DNOCLAIM -DCOLLAPSE -o pan pan.c && ./pan -m100000 -n
 *     (liveness: without -DSAFETY -DNOCLAIM, with -DNFAIR=3, ./pan -a -f -N every_job_ends; a mutation: spin -DNO_LEASE_CHECK -a holdfast.pml)
 *
 * What stands for what
 *   A job, or a group of two of which one may run at a time, and two workers. A process that ends is followed by
 *   another under a new id; each id is one process here, Worker(w), together with all that can happen to it: it
 *   misses its beats, freezes, thaws, is killed.
 *   A call of the protocol is a request under way, carried out at some later moment, whatever has become of its sender
 *   by then. Its answer may be lost, and its sender may give it up while it is still under way; then it sends a settle
 *   again, and may forget a claim. So a request can arrive twice, late, and from a process that has long been dead.
 *   A call is one step on the ledger, but for the two that look before they lock: a claim locks its worker's row, and
 *   takes a job in a later step; the sweep judges a worker or a run, and acts on it in a later step.
 *   Time is the age of a worker's last accepted beat: young, older than the worker itself may trust (it stops its
 *   handlers), older than the ledger must wait. The second follows the first only when the worker has stopped, cannot
 *   act because it is frozen, or is dead: that is what the watchdog is for, and here it is assumed.
 *   What can go wrong does so at most FAULTS times in a history, in any order and at any moment.
 *
 * What is left out: the brake (it only delays), attempts beyond two, crashes and suspects (who may run, never who
 * holds), priorities, limits, transactions of handlers, and SQL itself, which is tested where it runs.
 *
 * What is shown
 *   by assertions, at the step that would break it: no lease has two ends; a write under a lease that was taken, or has
 *   ended, or is somebody else's, changes nothing; a lease that was taken is never on the row again; leases do not
 *   fall; an ended job changes by a retry only; no claim of a worker that was ever gone; no run is taken from a worker
 *   whose handler still runs, unless that worker had been frozen; of a group one runs.
 *   by the formulas at the end, under weak fairness (whoever can go on for ever does so some time): each job ends, and
 *   no run stays with a worker that is gone.
 *
 * Each of these, defined, breaks one rule, and spin finds how that ends:
 *   NO_LEASE_CHECK (settle), RESCUE_KEEPS_LEASE, CLAIM_KEEPS_LEASE, GONE_NOT_FINAL, GONE_BY_PLAIN_UPDATE,
 *   GONE_UNCOMPARED, RESCUE_UNCHECKED, SETTLE_ENDED_JOBS, UNKNOWN_CLAIMS_KEPT, ONLY_JUST_MARKED.
 */

#ifndef JOBS
#define JOBS 1
#endif
#ifndef FAULTS
#define FAULTS 2
#endif
#ifndef CANCELS
#define CANCELS 1
#endif
#ifndef RETRIES
#define RETRIES 1
#endif

#define IDS (2 + FAULTS) /* no fault costs more than one process */
#define ATTEMPTS 2
#define NOBODY 0

mtype:status = { queued, running, succeeded, dead, cancelled };
mtype:end = { complete, fail, release, taken };                         /* of a lease; taken: by a rescue */
mtype:process = { unborn, alive, frozen, ended };
mtype:doing = { idle, claiming, holding, working, settling };           /* holding: a claim's answer, not yet begun */
mtype:request = { none, claim, claim_open, settle, release_lost };      /* claim_open: its worker's row is locked */
mtype:age = { young, untrusted, lapsed };

/* The ledger: jobs, and the rows of workers. */
mtype:status status[JOBS] = queued;
byte lease[JOBS], holder[JOBS], attempts[JOBS];
mtype:end settled_as[JOBS];
bool cancel_wanted[JOBS], overdue[JOBS];
bool gone[IDS + 1];
mtype:age age[IDS + 1] = young;

/* The processes. What each holds (job, lease, and how the run ended), and its requests under way: the one that it
   waits for, and at most one that it has given up, or that its beat has sent. */
mtype:process process[IDS + 1] = unborn;
mtype:doing doing[IDS + 1] = idle;
bool knows_gone[IDS + 1];
byte my_job[IDS + 1], my_lease[IDS + 1];
mtype:end my_end[IDS + 1];
mtype:request asked[IDS + 1] = none, late[IDS + 1] = none;
byte late_job[IDS + 1], late_lease[IDS + 1];
mtype:end late_end[IDS + 1];

/* What only the assertions read: how the lease on the row ended, if it has; who was ever gone, or frozen. An older lease
   needs no memory: no write under it may be accepted at all. */
mtype:end ended_as[JOBS];
bool ever_gone[IDS + 1], ever_frozen[IDS + 1];

#ifdef ONLY_JUST_MARKED
byte just_marked;
#endif

byte faults = FAULTS, cancels = CANCELS, retries = RETRIES, born = 0, living = 0;

#define is_final(j) (status[j] == succeeded || status[j] == dead || status[j] == cancelled)
#define is_mine(w, j, l) (status[j] == running && holder[j] == w && lease[j] == l)
#define knows(w, j, l) ((doing[w] == holding || doing[w] == working || doing[w] == settling) && \
                my_job[w] == j && my_lease[w] == l)
#define has_open_claim(w) (asked[w] == claim_open || late[w] == claim_open)
#ifdef GONE_BY_PLAIN_UPDATE
#define may_mark(w) true
#else
#define may_mark(w) (!has_open_claim(w))
#endif
#define can_act(w) (process[w] == alive)
#define may_go_wrong (faults > 0)
#define trusted(w) (age[w] == young && !knows_gone[w])

#if JOBS == 1
#define some_queued (status[0] == queued)
#define none_runs (status[0] != running)
#else
#define some_queued (status[0] == queued || status[1] == queued)
#define none_runs (status[0] != running && status[1] != running)
#endif

/* Steps on the ledger */

inline raise_lease(j) {
    lease[j]++;
    ended_as[j] = 0;
    assert(lease[j] < 255)
}

inline take(w, j) { /* what a claim does to the row */
    assert(none_runs);
    assert(!ever_gone[w]);
    status[j] = running;
#ifndef CLAIM_KEEPS_LEASE
    raise_lease(j);
#endif
    assert(ended_as[j] == 0);
    holder[j] = w;
    settled_as[j] = 0;
    overdue[j] = false
}

#if defined(NO_LEASE_CHECK)
#define may_settle(w, j, l) (status[j] == running && holder[j] == w)
#elif defined(SETTLE_ENDED_JOBS)
#define may_settle(w, j, l) (holder[j] == w && lease[j] == l)
#else
#define may_settle(w, j, l) is_mine(w, j, l)
#endif

inline write_end(w, j, l, how) { /* settle */
    if
    :: may_settle(w, j, l) ->
        assert(!is_final(j));
        assert(lease[j] == l);
        assert(ended_as[j] == 0);
        ended_as[j] = how;
        settled_as[j] = how;
        overdue[j] = false;
        if
        :: how == complete -> status[j] = succeeded
        :: how != complete && cancel_wanted[j] -> status[j] = cancelled
        :: how == release && !cancel_wanted[j] -> status[j] = queued
        :: how == fail && !cancel_wanted[j] ->
            attempts[j]++;
            if
            :: attempts[j] >= ATTEMPTS -> status[j] = dead
            :: else -> status[j] = queued
            fi
        fi
    :: else -> /* told `already` by the row: then this very end was accepted before; else told `lost` */
        assert(!(lease[j] == l && holder[j] == w && settled_as[j] == how) || ended_as[j] == how)
    fi
}

inline take_back(j, costs) { /* rescue */
    assert(ended_as[j] == 0);
    ended_as[j] = taken;
#ifndef RESCUE_KEEPS_LEASE
    raise_lease(j);
#endif
    assert(ended_as[j] != taken);
    holder[j] = NOBODY;
    settled_as[j] = 0;
    overdue[j] = false;
    attempts[j] = attempts[j] + costs;
    if
    :: cancel_wanted[j] -> status[j] = cancelled
    :: !cancel_wanted[j] && attempts[j] >= ATTEMPTS -> status[j] = dead
    :: else -> status[j] = queued
    fi
}

/* Requests arrive: those waited for, and the late ones */

inline open_claim(w, request) {
    if
    :: gone[w] ->
        request = none;
        knows_gone[w] = (process[w] != ended)
    :: else -> request = claim_open
    fi
}

inline choose_job(j) { /* any of the queued ones that may run now; JOBS: none of them */
    if
    :: none_runs && status[0] == queued -> j = 0
#if JOBS == 2
    :: none_runs && status[1] == queued -> j = 1
#endif
    :: !none_runs || !some_queued -> j = JOBS
    fi
}

inline forget(w) {
    doing[w] = idle;
    my_job[w] = 0;
    my_lease[w] = 0;
    my_end[w] = 0
}

inline forget_late(w) {
    late[w] = none;
    late_job[w] = 0;
    late_lease[w] = 0;
    late_end[w] = 0
}

inline stop_process(w) { /* requests that it has sent stay under way */
    process[w] = ended;
    living--;
    knows_gone[w] = false;
    ever_frozen[w] = false;
    if
    :: asked[w] == none -> forget(w)
    :: else -> skip
    fi
}

inline end_run(w, how) { /* the handler has ended; its settle is sent */
    my_end[w] = how;
    doing[w] = settling;
    asked[w] = settle
}

inline declare_gone(w) {
    gone[w] = true;
    ever_gone[w] = true;
    age[w] = lapsed;
#ifdef ONLY_JUST_MARKED
    just_marked = w
#endif
}

#define give_back_if_unknown(w, j) \
    :: atomic { can_act(w) && trusted(w) && doing[w] != claiming && late[w] == none && \
                is_mine(w, j, lease[j]) && !knows(w, j, lease[j]) -> \
        late[w] = release_lost; \
        late_job[w] = j; \
        late_lease[w] = lease[j] }

/* One process, what the ledger does at its requests, and what happens to it. */
proctype Worker(byte w) {
    byte j;
    do
    /* it claims, when it may: the poll that finds nothing due is no step here */
    :: atomic { can_act(w) && doing[w] == idle && trusted(w) && some_queued ->
        doing[w] = claiming;
        asked[w] = claim }

    /* the answer is there: the fence is looked at once more before the handler begins */
    :: atomic { can_act(w) && doing[w] == holding && !knows_gone[w] ->
        if
        :: age[w] == young -> doing[w] = working
        :: else -> end_run(w, release)
        fi }

    /* the handler ends, well or badly, or because it was asked to: a cancel, or beats that are not accepted */
    :: atomic { can_act(w) && doing[w] == working && !knows_gone[w] ->
        if
        :: end_run(w, complete)
        :: end_run(w, fail)
        :: cancel_wanted[my_job[w]] || age[w] != young -> end_run(w, release)
        fi }

    /* a beat: it is accepted, or the worker learns that it is gone */
    :: atomic { can_act(w) && !knows_gone[w] && (age[w] != young || gone[w]) ->
        if
#ifdef GONE_NOT_FINAL
        :: gone[w] = false; age[w] = young
#else
        :: gone[w] -> knows_gone[w] = true
        :: !gone[w] -> age[w] = young
#endif
        fi }

    /* ... and reads: this lease is no longer mine. Nothing is written for it */
    :: atomic { can_act(w) && doing[w] == working && !is_mine(w, my_job[w], my_lease[w]) -> forget(w) }

    /* ... or: the ledger says that I run this, and I do not know it. No claim's answer can be under way any more */
#ifndef UNKNOWN_CLAIMS_KEPT
    give_back_if_unknown(w, 0)
#if JOBS == 2
    give_back_if_unknown(w, 1)
#endif
#endif

    /* it knows that it is gone: it stops its handler, writes nothing more, and ends */
    :: atomic { can_act(w) && knows_gone[w] -> stop_process(w) }

    /* requests arrive, also from the dead and the frozen */
    :: atomic { asked[w] == claim ->
        open_claim(w, asked[w]);
        if
        :: asked[w] == none -> forget(w)
        :: else -> skip
        fi }
    :: atomic { asked[w] == claim_open ->
        choose_job(j);
        asked[w] = none;
        if
        :: j == JOBS -> forget(w)
        :: else ->
            take(w, j);
            if
            :: process[w] == ended -> forget(w)
            :: process[w] != ended -> doing[w] = holding; my_job[w] = j; my_lease[w] = lease[j]
            :: process[w] != ended && may_go_wrong -> faults--; forget(w) /* the answer is lost */
            fi
        fi;
        j = 0 }
    :: atomic { asked[w] == settle ->
        write_end(w, my_job[w], my_lease[w], my_end[w]);
        if
        :: asked[w] = none; forget(w)
        :: process[w] != ended && may_go_wrong -> faults-- /* the answer is lost: it is sent again */
        fi }
    :: atomic { late[w] == claim ->
        open_claim(w, late[w]) }
    :: atomic { late[w] == claim_open ->
        choose_job(j);
        if
        :: j == JOBS -> skip
        :: else -> take(w, j)
        fi;
        forget_late(w);
        j = 0 }
    :: atomic { late[w] == settle ->
        write_end(w, late_job[w], late_lease[w], late_end[w]);
        forget_late(w) }
    :: atomic { late[w] == release_lost ->
        if
        :: is_mine(w, late_job[w], late_lease[w]) ->
            assert(!knows(w, late_job[w], late_lease[w]));
            take_back(late_job[w], 0)
        :: else -> skip
        fi;
        forget_late(w) }

    /* it gives up on an answer; the request is still under way */
    :: atomic { can_act(w) && may_go_wrong && late[w] == none && asked[w] != none ->
        faults--;
        late[w] = asked[w];
        if
        :: asked[w] == settle -> late_job[w] = my_job[w]; late_lease[w] = my_lease[w]; late_end[w] = my_end[w]
        :: else -> asked[w] = none; forget(w)
        fi }

    /* time: a beat is missed, by a fault or because nobody is there to send it */
    :: atomic { age[w] == young && !gone[w] && process[w] == alive && may_go_wrong -> faults--; age[w] = untrusted }
    :: atomic { age[w] == young && !gone[w] && process[w] == frozen -> age[w] = untrusted }
    :: atomic { age[w] == untrusted && !gone[w] && (process[w] == frozen || (process[w] == alive && doing[w] != working)) ->
        age[w] = lapsed }

    :: atomic { doing[w] == working && is_mine(w, my_job[w], my_lease[w]) && !overdue[my_job[w]] && may_go_wrong ->
        faults--;
        overdue[my_job[w]] = true }

    /* what happens to processes; one that stays frozen is killed by its supervisor */
    :: atomic { process[w] == alive && may_go_wrong -> faults--; process[w] = frozen; ever_frozen[w] = true }
    :: atomic { process[w] == frozen -> process[w] = alive }
    :: atomic { process[w] == frozen && age[w] != young -> stop_process(w) }
    :: atomic { process[w] == alive && may_go_wrong -> faults--; stop_process(w) }

    /* its end is seen, or comes out when its beats have stopped for long enough; the mark waits for a claim under way */
    :: atomic { process[w] == ended && !gone[w] && may_mark(w) -> declare_gone(w) }
    od
}

/* Two processes at a time; a new one has a new id. */
proctype Supervisor() {
    do
    :: atomic { born < IDS && living < 2 ->
        born++;
        living++;
        process[born] = alive }
    od
}

#ifdef ONLY_JUST_MARKED
#define is_up_for_rescue(w) (w != NOBODY && just_marked == w)
#else
#define is_up_for_rescue(w) (gone[w])
#endif
#define judge(w) :: atomic { suspect == NOBODY && age[w] == lapsed && !gone[w] -> suspect = w }
#define find_stuck(j) \
    :: atomic { seen_lease == 0 && status[j] == running && (is_up_for_rescue(holder[j]) || overdue[j]) -> \
        seen_job = j; \
        seen_lease = lease[j]; \
        for_gone = is_up_for_rescue(holder[j]) }

/* The sweep: it looks, and acts on what it saw in a later step, under a lock and after a second look. */
proctype Sweeper() {
    byte suspect, seen_job, seen_lease, w;
    bool for_gone;
    do
    judge(1)
    judge(2)
#if FAULTS >= 1
    judge(3)
#endif
#if FAULTS >= 2
    judge(4)
#endif
#if FAULTS >= 3
    judge(5)
#endif
    :: atomic { suspect != NOBODY && may_mark(suspect) ->
        if
#ifndef GONE_UNCOMPARED
        :: age[suspect] != lapsed || gone[suspect] -> skip
#endif
        :: else -> declare_gone(suspect)
        fi;
        suspect = NOBODY }
    find_stuck(0)
#if JOBS == 2
    find_stuck(1)
#endif
    :: atomic { seen_lease != 0 ->
        if
#ifndef RESCUE_UNCHECKED
        :: status[seen_job] != running || lease[seen_job] != seen_lease -> skip
#endif
        :: else ->
            w = holder[seen_job];
            assert(status[seen_job] == running);
            assert(!for_gone || !(process[w] == alive && !ever_frozen[w] && doing[w] == working &&
                my_job[w] == seen_job && my_lease[w] == lease[seen_job]));
            take_back(seen_job, (for_gone -> 0 : 1));
            w = 0
        fi;
        seen_job = 0;
        seen_lease = 0;
        for_gone = false }
    od
}

/* People: a cancel, and another life for what has ended. They may just as well not. */
#define may_cancel(j) \
    :: atomic { cancels > 0 && !is_final(j) && !cancel_wanted[j] -> \
        cancels--; \
        cancel_wanted[j] = true; \
        if \
        :: status[j] == queued -> status[j] = cancelled \
        :: else -> skip \
        fi }
#define may_retry(j) \
    :: atomic { retries > 0 && (status[j] == dead || status[j] == cancelled) -> \
        retries--; \
        raise_lease(j); \
        status[j] = queued; \
        holder[j] = NOBODY; \
        settled_as[j] = 0; \
        attempts[j] = 0; \
        cancel_wanted[j] = false }
proctype People() {
    do
    may_cancel(0)
    may_retry(0)
#if JOBS == 2
    may_cancel(1)
    may_retry(1)
#endif
    :: break
    od
}

/* Beats and polls that change nothing go on for ever: without fairness nothing else would ever have to happen. */
active proctype Elsewhere() {
    do
    :: living <= 2 /* always */
    od
}

init {
    byte w;
    atomic {
        run Sweeper();
        run Supervisor();
        run People();
        for (w : 1 .. IDS) {
            run Worker(w)
        }
        w = 0
    }
}

#if JOBS == 1
#define all_final (is_final(0))
#define orphaned (status[0] == running && gone[holder[0]])
#else
#define all_final (is_final(0) && is_final(1))
#define orphaned ((status[0] == running && gone[holder[0]]) || (status[1] == running && gone[holder[1]]))
#endif

ltl every_job_ends { [] <> all_final }
ltl no_run_stays_with_the_gone { [] (orphaned -> <> !orphaned) }
