-- Incidents for people: the open ones first, then those that ended last, with how many were told of each.
SELECT i.id, i.kind, i.key, i.status, i.title, i.details, i.arrivals, i.opened_at, i.changed_at, i.resolved_at, n.told, n.waiting
FROM (
    (SELECT o.* FROM holdfast.incidents o WHERE o.status = 'open' ORDER BY o.opened_at LIMIT %(limit)s)
    UNION ALL
    (SELECT r.* FROM holdfast.incidents r WHERE r.status = 'resolved' ORDER BY r.changed_at DESC LIMIT %(limit)s)) i
CROSS JOIN LATERAL (
    SELECT count(*) AS told, count(*) FILTER (WHERE t.delivered_at IS NULL) AS waiting
    FROM (SELECT s.delivered_at FROM holdfast.notifications s WHERE s.incident_id = i.id LIMIT 1000) t) n
ORDER BY i.status, CASE i.status WHEN 'open' THEN i.opened_at END, i.changed_at DESC, i.id
