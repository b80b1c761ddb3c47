-- Change what a redrive is about to do. action: check (its canary is sent) | go_on (its canary is well) | pause | resume | watch (all is
-- sent) | finish | stop | cancel, each with its reason. What was not sent stays what it was, a dead letter. Nothing is done to one that
-- has ended. Returns its status, null where there is none.
CREATE OR REPLACE FUNCTION holdfast.change_redrive(id uuid, action text, reason text DEFAULT '') RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _now    timestamptz := holdfast.clock();
    _status text;
    _ends   boolean := action IN ('finish', 'stop', 'cancel');
BEGIN
    IF _ends THEN
        PERFORM holdfast.judge_redrive(change_redrive.id);
    END IF;
    UPDATE holdfast.redrives AS r
    SET status = CASE action WHEN 'check' THEN 'checking' WHEN 'go_on' THEN 'running' WHEN 'pause' THEN 'paused'
                             WHEN 'resume' THEN 'running' WHEN 'watch' THEN 'watching' WHEN 'finish' THEN 'done'
                             WHEN 'stop' THEN 'stopped' WHEN 'cancel' THEN 'cancelled' END,
        reason = change_redrive.reason, changed_at = _now,
        canary_at = CASE action WHEN 'check' THEN _now WHEN 'watch' THEN _now ELSE r.canary_at END,
        canary_done = r.canary_done OR action IN ('go_on', 'resume'),
        began_at = CASE WHEN action IN ('go_on', 'resume') THEN _now ELSE r.began_at END,
        began_with = CASE WHEN action IN ('go_on', 'resume') THEN (
            SELECT count(*) FROM holdfast.redrive_letters l
            WHERE l.redrive_id = r.id AND l.status IN ('sent', 'succeeded', 'returned')) ELSE r.began_with END,
        owner = CASE WHEN _ends OR action = 'pause' THEN NULL ELSE r.owner END,
        finished_at = CASE WHEN _ends THEN _now END
    WHERE r.id = change_redrive.id AND r.finished_at IS NULL
      AND (action <> 'resume' OR r.status = 'paused')
    RETURNING r.status INTO _status;
    IF FOUND AND _ends THEN
        UPDATE holdfast.redrive_letters AS l
        SET status = CASE l.status WHEN 'waiting' THEN 'left' ELSE 'failed' END, at = _now,
            detail = CASE l.status WHEN 'waiting' THEN '' ELSE 'it may have been sent, or not' END
        WHERE l.redrive_id = change_redrive.id AND l.status IN ('waiting', 'sending');
    END IF;
    IF _status IS NULL THEN
        SELECT r.status INTO _status FROM holdfast.redrives r WHERE r.id = change_redrive.id;
    END IF;
    RETURN _status;
END
$function$;
