-- The longest time that a live worker has been silent, as a share of what it may be before it is declared gone.
-- RPC longest_silence() RETURNS TABLE (share double precision, seconds double precision)
SELECT max(extract(epoch FROM holdfast.clock() - w.seen_at) / extract(epoch FROM w.lost_after))::double precision,
       max(extract(epoch FROM holdfast.clock() - w.seen_at))::double precision
FROM holdfast.workers w
WHERE w.gone_at IS NULL AND NOT w.quarantine
