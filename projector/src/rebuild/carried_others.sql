-- Grants, comments and owners of the functions $2 and of the types $3 in schema $1: for
-- people, and as statements that give them to those of the same names that take their place.
WITH things (kind, name, place, acl, owner, comment) AS (
    SELECT 'FUNCTION', p.proname::text, format('%I.%I(%s)', $1::text, p.proname, pg_get_function_identity_arguments(p.oid)), p.proacl, p.proowner,
           obj_description(p.oid, 'pg_proc')
      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE n.nspname = $1 AND p.proname = ANY ($2::text[])
    UNION ALL
    SELECT 'TYPE', t.typname::text, format('%I.%I', $1::text, t.typname), t.typacl, t.typowner,
           obj_description(t.oid, 'pg_type')
      FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
     WHERE n.nspname = $1 AND t.typname = ANY ($3::text[])
)
SELECT format('grants of %s %s', lower(kind), name),
       format('REVOKE ALL ON %s %s FROM PUBLIC; ', kind, place) || coalesce(string_agg(
           format('GRANT %s ON %s %s TO %s%s', a.privilege_type, kind, place,
                  CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                  CASE WHEN a.is_grantable AND a.grantee <> owner THEN ' WITH GRANT OPTION' ELSE '' END), '; '
           ORDER BY a.grantee), '')
  FROM things LEFT JOIN LATERAL aclexplode(acl) a ON true
 WHERE acl IS NOT NULL GROUP BY kind, name, place
UNION ALL
SELECT format('comment on %s %s', lower(kind), name), format('COMMENT ON %s %s IS %L', kind, place, comment)
  FROM things WHERE comment IS NOT NULL
UNION ALL
SELECT format('owner of %s %s', lower(kind), name),
       format('ALTER %s %s OWNER TO %I', kind, place, pg_get_userbyid(owner))
  FROM things WHERE owner <> (SELECT oid FROM pg_roles WHERE rolname = current_user)
 ORDER BY 1
