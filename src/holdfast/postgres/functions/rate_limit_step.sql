-- The rule: what becomes of one identity's counts when it asks for `wanted` requests of `cost` units each, under the
-- limits first to last of the arrays. As many whole requests are granted as every limit has room for; what is refused
-- costs nothing. `debt` are units that were admitted while Postgres did not answer: they are charged in any case.
--   log    never more than its limit in any window of its length (promise P9): a difference of two sums of the log
--   fixed  never more in one window, which begins with its first request
--   gcra   an even flow with bursts: `marks` holds until when the flow is paid for, in microseconds and parts of one;
--          of a debt, what is more than a burst and a window's worth is forgiven
-- A stamp is never older than the one before it, so waiting for a lock admits nobody too early. The answer: what was
-- granted, at which stamp, and for each limit what is left, and the microseconds until the same request fits and until all is free.
-- The same rule is in Python, for processes on their own (core/tally.py); one suite of tests holds both to one model.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_step(
    now_micro bigint, INOUT base bigint, INOUT stamps bigint[], INOUT sums bigint[], INOUT marks bigint[],
    mosts integer[], spans bigint[], kinds text[], bursts integer[], first integer, last integer,
    cost integer, wanted integer, debt integer, OUT granted integer, OUT answer bigint[], OUT idle_at bigint
) LANGUAGE plpgsql IMMUTABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _n      integer := cardinality(stamps);
    _total  bigint;
    _before bigint;
    _least  bigint := 2147483647;
    _room   bigint;
    _rooms  bigint[] := '{}';
    _need   integer := 64;
    _span   bigint := 0;
    _grain  bigint;
    _cut    integer;
    _wait   bigint;
    _reset  bigint;
    _mark   integer;
    _ahead  numeric;
BEGIN
    first := greatest(first, 1);
    last := least(last, coalesce(cardinality(mosts), 0));
    IF stamps[_n] > now_micro + 1000000 THEN
        SELECT t.base, t.stamps, t.sums INTO base, stamps, sums
        FROM holdfast.rate_limit_thin(now_micro, base, stamps, sums, mosts, spans, kinds, first, last) t;
        _n := cardinality(stamps);
    END IF;
    _before := CASE _n WHEN 0 THEN base ELSE sums[_n] END;
    _total := _before + debt;

    -- What each limit has room for.
    FOR _i IN first .. last LOOP
        IF kinds[_i] = 'log' THEN
            _span := greatest(_span, spans[_i]);
            _grain := least(_grain, CASE WHEN mosts[_i] <= 250 THEN 0 ELSE spans[_i] / 60 END);
            _need := _need + CASE WHEN mosts[_i] <= 250 THEN mosts[_i] ELSE 61 END;
            _cut := width_bucket(now_micro - spans[_i], stamps);
            _room := mosts[_i] - _total + CASE _cut WHEN 0 THEN base ELSE sums[_cut] END;
        ELSE
            _mark := 2 * (_i - first) + 1;
            marks := coalesce(marks, array_fill(NULL::bigint, ARRAY[2 * (last - first + 1)]));
            IF kinds[_i] = 'fixed' THEN
                IF marks[_mark] > now_micro + 1000000 THEN
                    marks[_mark] := now_micro;
                ELSIF marks[_mark] IS NULL OR marks[_mark] + spans[_i] <= now_micro THEN
                    marks[_mark] := NULL;
                    marks[_mark + 1] := _before;
                END IF;
                _room := mosts[_i] - _total + marks[_mark + 1];
            ELSE
                _ahead := (coalesce(marks[_mark], 0) - now_micro)::numeric * mosts[_i] + coalesce(marks[_mark + 1], 0);
                _ahead := least(greatest(_ahead, 0), (bursts[_i]::numeric + mosts[_i]) * spans[_i]);
                marks[_mark] := now_micro + div(_ahead, mosts[_i]);
                marks[_mark + 1] := mod(_ahead, mosts[_i]);
                _room := bursts[_i] - debt - ceil(_ahead / spans[_i]);
            END IF;
        END IF;
        _least := least(_least, _room);
        _rooms := _rooms || _room;
    END LOOP;

    -- Charge it.
    granted := least(wanted, greatest(_least, 0) / cost) * cost;
    _total := _total + granted;
    IF _span = 0 THEN
        base := _total;
        stamps := '{}';
        sums := '{}';
        _n := 0;
    ELSIF granted + debt > 0 THEN
        IF stamps[_n] / nullif(_grain, 0) = greatest(now_micro, stamps[_n]) / nullif(_grain, 0) THEN
            stamps[_n] := greatest(now_micro, stamps[_n]);
            sums[_n] := _total;
        ELSE
            stamps := stamps || greatest(now_micro, stamps[_n]);
            sums := sums || _total;
            _n := _n + 1;
        END IF;
    END IF;
    IF _n > 0 THEN
        _cut := width_bucket(now_micro - _span, stamps);
        IF _cut > 0 THEN
            base := sums[_cut];
            stamps := stamps[_cut + 1 :];
            sums := sums[_cut + 1 :];
            _n := _n - _cut;
        END IF;
        IF _n > _need THEN
            SELECT t.base, t.stamps, t.sums INTO base, stamps, sums
            FROM holdfast.rate_limit_thin(now_micro, base, stamps, sums, mosts, spans, kinds, first, last) t;
            _n := cardinality(stamps);
        END IF;
    END IF;

    -- How each limit stands now.
    answer := ARRAY[granted, CASE _n WHEN 0 THEN now_micro ELSE stamps[_n] END];
    idle_at := now_micro;
    FOR _i IN first .. last LOOP
        _room := _rooms[_i - first + 1] - granted;
        _wait := 0;
        IF kinds[_i] = 'log' THEN
            -- Whoever had the lock before may have a later time than ours, which was read before we waited.
            _reset := CASE WHEN _room < mosts[_i] THEN least(stamps[_n] - now_micro, 0) + spans[_i] ELSE 0 END;
            IF cost > _room THEN
                _wait := coalesce(least(stamps[width_bucket(_total + cost - mosts[_i] - 1, sums) + 1] - now_micro, 0), 0)
                    + spans[_i];
            END IF;
        ELSE
            _mark := 2 * (_i - first) + 1;
            IF kinds[_i] = 'fixed' THEN
                IF marks[_mark] IS NULL AND granted + debt > 0 THEN
                    marks[_mark] := now_micro;
                END IF;
                _reset := coalesce(marks[_mark] + spans[_i] - now_micro, 0);
                _wait := CASE WHEN cost > _room THEN _reset ELSE 0 END;
            ELSE
                _ahead := (marks[_mark] - now_micro)::numeric * mosts[_i] + marks[_mark + 1]
                    + (granted + debt)::numeric * spans[_i];
                _ahead := least(_ahead, (bursts[_i]::numeric + mosts[_i]) * spans[_i]);
                marks[_mark] := now_micro + div(_ahead, mosts[_i]);
                marks[_mark + 1] := mod(_ahead, mosts[_i]);
                _reset := ceil(_ahead / mosts[_i]);
                _wait := greatest(ceil((_ahead - (bursts[_i] - cost)::numeric * spans[_i]) / mosts[_i]), 0);
            END IF;
        END IF;
        answer := answer || ARRAY[greatest(_room, 0), _wait, _reset];
        idle_at := greatest(idle_at, now_micro + _reset);
    END LOOP;
END
$function$;
