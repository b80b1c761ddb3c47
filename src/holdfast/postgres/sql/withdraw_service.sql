-- A service that ends cleanly takes its row with it.
DELETE FROM holdfast.services AS s WHERE s.id = %(id)s RETURNING s.id
