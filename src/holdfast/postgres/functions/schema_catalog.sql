-- What the schema consists of, a line each object: what `migrate verify` compares with what this version's files make.
-- The same text on Postgres 15 to 18: not null is told with the column, a function by the hash of its body, whose line ends
-- are what an editor or a browser made of them. Grants are told
-- for the roles that matter and are there.
-- A function, since how Postgres prints an expression depends on the search path, which is pinned here.
CREATE OR REPLACE FUNCTION holdfast.schema_catalog() RETURNS TABLE (kind text, name text, definition text)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH ours AS (
        SELECT n.nspname || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' AS name, p.*
        FROM pg_catalog.pg_proc p
        JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = 'holdfast' OR (n.nspname = 'public' AND (p.proname ^@ 'holdfast_'
              OR p.proname = 'find_stale_jobs' AND p.prosrc LIKE '%holdfast.find_stale_jobs(%'))
    ), relations AS (
        SELECT n.nspname || '.' || c.relname AS name, c.*
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'holdfast' OR (n.nspname = 'public' AND c.relname = 'stale_jobs_view' AND c.relkind = 'v'
              AND pg_get_viewdef(c.oid) LIKE '%holdfast.find_stale_jobs(%')
    ), roles AS (
        SELECT r.oid, r.rolname AS name FROM pg_catalog.pg_roles r
        WHERE r.rolname IN ('holdfast_app', 'service_role', 'anon', 'authenticated')
        UNION ALL SELECT 0, 'PUBLIC'
    )
    SELECT 'table' AS kind, r.name, concat_ws(', ',
               CASE WHEN r.relrowsecurity THEN 'row level security' END, array_to_string(r.reloptions, ', ')) AS definition
    FROM relations r WHERE r.relkind IN ('r', 'p')
    UNION ALL
    SELECT 'column', r.name || '.' || a.attname, concat_ws(' ',
               format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'NOT NULL' END,
               CASE WHEN l.collname <> 'default' THEN 'COLLATE ' || l.collname END,
               CASE a.attidentity WHEN 'a' THEN 'IDENTITY ALWAYS' WHEN 'd' THEN 'IDENTITY BY DEFAULT' END,
               CASE WHEN a.attgenerated = 's' THEN 'GENERATED' WHEN a.attgenerated <> '' THEN 'VIRTUAL' WHEN d.oid IS NOT NULL THEN 'DEFAULT' END,
               pg_get_expr(d.adbin, d.adrelid))
    FROM relations r
    JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
    LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
    WHERE r.relkind IN ('r', 'p', 'v')
    UNION ALL
    SELECT 'constraint', r.name || '.' || k.conname, pg_get_constraintdef(k.oid)
    FROM relations r JOIN pg_catalog.pg_constraint k ON k.conrelid = r.oid WHERE k.contype <> 'n'
    UNION ALL
    SELECT 'index', r.name, pg_get_indexdef(r.oid) || CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END
    FROM relations r JOIN pg_catalog.pg_index i ON i.indexrelid = r.oid WHERE r.relkind IN ('i', 'I')
    UNION ALL
    SELECT 'view', r.name, concat_ws(', ', array_to_string(r.reloptions, ', '), md5(pg_get_viewdef(r.oid)))
    FROM relations r WHERE r.relkind = 'v'
    UNION ALL
    SELECT 'function', o.name, concat_ws(', ',
               pg_get_function_result(o.oid), CASE o.provolatile WHEN 'v' THEN 'volatile' WHEN 's' THEN 'stable' ELSE 'immutable' END,
               CASE WHEN o.prosecdef THEN 'security definer' END, array_to_string(o.proconfig, ', '),
               pg_get_expr(o.proargdefaults, 0), md5(replace(o.prosrc, chr(13), '')))
    FROM ours o
    UNION ALL
    SELECT 'policy', r.name || '.' || y.polname, concat_ws(', ',
               y.polcmd, (SELECT string_agg(CASE g WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(g) END, ' ') FROM unnest(y.polroles) AS g),
               pg_get_expr(y.polqual, y.polrelid), pg_get_expr(y.polwithcheck, y.polrelid))
    FROM relations r JOIN pg_catalog.pg_policy y ON y.polrelid = r.oid
    UNION ALL
    SELECT 'grant', g.name || ' on ' || r.name, string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type)
    FROM relations r
    CROSS JOIN LATERAL aclexplode(r.relacl) AS x
    JOIN roles g ON g.oid = x.grantee
    WHERE r.relkind IN ('r', 'p', 'v', 'S')
    GROUP BY g.name, r.name
    UNION ALL
    SELECT 'grant', g.name || ' on ' || o.name, string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type)
    FROM ours o
    CROSS JOIN LATERAL aclexplode(coalesce(o.proacl, acldefault('f', o.proowner))) AS x
    JOIN roles g ON g.oid = x.grantee
    GROUP BY g.name, o.name
    UNION ALL
    SELECT 'grant', g.name || ' on schema holdfast', string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type)
    FROM pg_catalog.pg_namespace n
    CROSS JOIN LATERAL aclexplode(n.nspacl) AS x
    JOIN roles g ON g.oid = x.grantee
    WHERE n.nspname = 'holdfast'
    GROUP BY g.name
    UNION ALL
    SELECT 'role', g.name, '' FROM roles g WHERE g.oid <> 0
$function$;
