-- A canary that died as it was meant to leaves nothing behind.
-- RPC forget_canary(id uuid) RETURNS SETOF uuid
DELETE FROM holdfast.jobs WHERE id = %(id)s::uuid AND kind = 'holdfast.canary' AND status = 'dead' RETURNING id
