-- A service that ends cleanly takes its row with it.
-- RPC withdraw_service(id uuid) RETURNS SETOF uuid
DELETE FROM holdfast.services AS s WHERE s.id = %(id)s RETURNING s.id
