-- Declare workers gone: final, and the only step through which a job can be taken from a worker for its silence.
--
-- Two uses.
--   worker_ids given   somebody saw these processes end (their supervisor, or the worker itself at a clean stop). No
--                      brake: a death that was seen never waits. `reason`: stopped | crashed | fenced | replaced.
--   worker_ids NULL    the sweep: every worker whose last beat is older than its own `lost_after` (kept on its row, so
--                      that monitors with other settings agree) is marked `lapsed`, unless the brake holds.
--
-- Each mark is a compare-and-set: the row is locked FOR UPDATE, then judged by what it says under that lock. That
-- lock conflicts with the KEY SHARE of a claim under way, whose rows are therefore visible to every later rescue.
-- A sweep skips a locked row (a worker whose row is locked is beating or claiming at this moment) and comes back; a
-- seen death waits for the last claim of the dead, up to its lock_timeout.
--
-- The brake. Beats can stop everywhere at once for a reason that is not the workers': Postgres was away, or nobody
-- swept. Three holds, all of which end:
--   postgres_restarted  the server has been up for less than the worker's lost_after
--   sweep_resumed       sweeps paused for longer than 15 s and came back less than lost_after ago (`resumed_at`)
--   mass_lapse          4 or more workers live, over half lapsed: at first sight the set is counted and frozen, held for
--                       5 s, then a quarter of it is marked in each 5 s; all of it 25 s after first sight. Who lapses
--                       during the hold waits for its end, also in the place of one that came back. No new hold
--                       before half of the workers were seen alive.
-- Who sweeps less often than each 15 s (a cron job, each minute) is held at every second sweep only: two pauses in a
-- row are a habit, no outage. Without that such a sweep would hold for ever.
-- A clock of the database that was set back leaves stamps in the future, by which nobody would ever lapse. That counts
-- as a pause: live workers beat by the new clock during its hold; whose beat is still to come after it has lapsed.
-- A lapse that the brake held is no crash: a silence that began before Postgres or the sweeps came back proves nothing.
-- Verdict: gone | held | already | unknown.
CREATE OR REPLACE FUNCTION holdfast.mark_workers_gone(
    worker_ids uuid[] DEFAULT NULL, reason text DEFAULT 'lapsed', opts jsonb DEFAULT '{}'
) RETURNS TABLE (worker_id uuid, verdict text, cause text, seen_at timestamptz, is_crash boolean)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '2s'
SET enable_seqscan = off
AS $function$
#variable_conflict use_column
DECLARE
    _now      timestamptz;
    _monitor  record;
    _resumed  timestamptz;
    _set_back boolean;
    _hold     jsonb;
    _age      interval;
    _live     integer;
    _lapsed   integer;
    _quota    integer;
    _marked   integer := 0;
    _worker   record;
    _cause    text;
BEGIN
    IF mark_workers_gone.worker_ids IS NOT NULL THEN
        IF mark_workers_gone.reason NOT IN ('stopped', 'crashed', 'fenced', 'replaced') THEN
            RAISE EXCEPTION 'reason % is not one of stopped, crashed, fenced, replaced', mark_workers_gone.reason
                USING ERRCODE = '22023';
        END IF;
        PERFORM FROM holdfast.workers w WHERE w.id = ANY (mark_workers_gone.worker_ids) ORDER BY w.id FOR UPDATE;
        _now := holdfast.clock();
        RETURN QUERY
        WITH marked AS (
            UPDATE holdfast.workers AS w
            SET gone_at = _now, gone_reason = mark_workers_gone.reason,
                gone_is_crash = mark_workers_gone.reason = 'crashed'
            WHERE w.id = ANY (mark_workers_gone.worker_ids) AND w.gone_at IS NULL
            RETURNING w.id, w.seen_at, w.gone_is_crash
        )
        SELECT a.id,
               CASE WHEN m.id IS NOT NULL THEN 'gone' WHEN w.id IS NOT NULL THEN 'already' ELSE 'unknown' END,
               CASE WHEN m.id IS NOT NULL THEN mark_workers_gone.reason ELSE w.gone_reason END,
               w.seen_at,
               coalesce(m.gone_is_crash, w.gone_is_crash)
        FROM unnest(mark_workers_gone.worker_ids) AS a (id)
        LEFT JOIN marked m ON m.id = a.id
        LEFT JOIN holdfast.workers w ON w.id = a.id;
        RETURN;
    END IF;

    -- One sweep at a time over all processes; who comes second has nothing to do.
    SELECT m.swept_at, m.resumed_at, m.hold INTO _monitor
    FROM holdfast.monitors m WHERE m.name = 'mark_workers_gone' FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    _now := holdfast.clock();
    _set_back := coalesce(_monitor.swept_at > _now + interval '15 seconds', false);
    _resumed := CASE
        WHEN _monitor.swept_at IS NULL OR _set_back THEN _now
        WHEN _monitor.swept_at < _now - interval '15 seconds' AND _monitor.resumed_at IS DISTINCT FROM _monitor.swept_at
            THEN _now
        ELSE _monitor.resumed_at END;
    _hold := CASE WHEN NOT _set_back THEN _monitor.hold END;

    SELECT count(*), count(*) FILTER (WHERE _now NOT BETWEEN w.seen_at - w.lost_after AND w.seen_at + w.lost_after)
    INTO _live, _lapsed
    FROM holdfast.workers w WHERE w.gone_at IS NULL;

    IF _hold IS NULL AND _live >= 4 AND _lapsed * 2 > _live THEN
        _hold := jsonb_build_object('since', _now, 'size', _lapsed, 'marked', 0);
    ELSIF _hold IS NOT NULL AND _lapsed * 2 <= _live AND (_lapsed = 0 OR _hold ? 'ended') THEN
        _hold := NULL;
    END IF;
    _age := _now - (_hold ->> 'since')::timestamptz;
    IF _age >= interval '25 seconds' AND NOT _hold ? 'ended' THEN
        _hold := _hold || jsonb_build_object('ended', _now);
    END IF;
    _quota := CASE
        WHEN _hold IS NULL OR _hold ? 'ended' THEN NULL
        ELSE least(4, floor(extract(epoch FROM _age) / 5)::integer) * ceil((_hold ->> 'size')::numeric / 4)::integer
            - (_hold ->> 'marked')::integer END;

    FOR _worker IN
        SELECT w.id, w.seen_at, w.lost_after
        FROM holdfast.workers w
        WHERE w.gone_at IS NULL AND _now NOT BETWEEN w.seen_at - w.lost_after AND w.seen_at + w.lost_after
        ORDER BY w.seen_at, w.id
        LIMIT 1000
    LOOP
        _cause := CASE
            WHEN (SELECT holdfast.postgres_started_at()) BETWEEN _now - _worker.lost_after AND _now
                THEN 'postgres_restarted'
            WHEN _resumed > _now - _worker.lost_after THEN 'sweep_resumed'
            WHEN _quota IS NOT NULL AND (_marked >= _quota
                OR _worker.seen_at + _worker.lost_after >= (_hold ->> 'since')::timestamptz) THEN 'mass_lapse'
        END;
        is_crash := _cause IS NULL AND _hold IS NULL AND _worker.seen_at BETWEEN coalesce(_resumed, '-infinity') AND _now
            AND _worker.seen_at > (SELECT holdfast.postgres_started_at());
        IF _cause IS NULL THEN
            PERFORM FROM holdfast.workers w
            WHERE w.id = _worker.id AND w.gone_at IS NULL AND w.seen_at = _worker.seen_at
            FOR UPDATE SKIP LOCKED;
            CONTINUE WHEN NOT FOUND;
            UPDATE holdfast.workers AS w
            SET gone_at = _now, gone_reason = 'lapsed', gone_is_crash = is_crash
            WHERE w.id = _worker.id;
            _marked := _marked + 1;
        END IF;
        worker_id := _worker.id;
        verdict := CASE WHEN _cause IS NULL THEN 'gone' ELSE 'held' END;
        cause := coalesce(_cause, 'lapsed');
        seen_at := _worker.seen_at;
        RETURN NEXT;
    END LOOP;

    UPDATE holdfast.monitors AS m
    SET swept_at = _now,
        resumed_at = _resumed,
        hold = CASE WHEN _hold IS NULL THEN NULL
                    ELSE _hold || jsonb_build_object('marked', (_hold ->> 'marked')::integer + _marked) END
    WHERE m.name = 'mark_workers_gone';
END
$function$;
