-- Everything that table $1 has and $2 lacks, beside its indexes and how its files are kept: for people,
-- and as a statement for the table of the same name in schema $3, when the old one is in schema $4.
WITH o AS (SELECT c.*, format('%I.%I', $3::text, c.relname) AS place FROM pg_class c WHERE oid = $1),
     n AS (SELECT * FROM pg_class WHERE oid = $2),
     columns AS (
        SELECT a.*, m.attstattarget AS new_attstattarget, m.attstorage AS new_attstorage,
               m.attcompression AS new_attcompression, m.attoptions AS new_attoptions,
               pg_get_expr(d.adbin, d.adrelid) AS value, pg_get_expr(e.adbin, e.adrelid) AS new_value
          FROM pg_attribute a JOIN pg_attribute m ON m.attrelid = $2 AND m.attname = a.attname
          LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
          LEFT JOIN pg_attrdef e ON e.adrelid = m.attrelid AND e.adnum = m.attnum
         WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
     ),
     -- Indexes of the same name. Those that somebody has made have it from the start.
     indexes AS (
        SELECT c.oid AS old, d.oid AS new, c.relname, format('%I.%I', $3::text, c.relname) AS place,
               c.reloptions, d.reloptions AS new_reloptions, i.indisclustered,
               coalesce(j.indisclustered, false) AS new_indisclustered,
               obj_description(c.oid, 'pg_class') AS comment, obj_description(d.oid, 'pg_class') AS new_comment
          FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
          LEFT JOIN (pg_index j JOIN pg_class d ON d.oid = j.indexrelid)
                 ON j.indrelid = $2 AND d.relname = c.relname
         WHERE i.indrelid = $1
     )
SELECT 'grant of ' || a.privilege_type || ' to ' || w.who,
       format('GRANT %s ON TABLE %s TO %s%s', a.privilege_type, o.place, w.who,
              CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
  FROM o, n, LATERAL aclexplode(o.relacl) a,
       LATERAL (SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC'
                       ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS who) w
 WHERE a.grantee <> o.relowner
   AND NOT EXISTS (SELECT FROM aclexplode(n.relacl) b
                    WHERE (b.grantee, b.privilege_type, b.is_grantable)
                        = (a.grantee, a.privilege_type, a.is_grantable))
UNION ALL
SELECT 'grant of ' || a.privilege_type || ' (' || t.attname || ') to ' || w.who,
       format('GRANT %s (%I) ON TABLE %s TO %s%s', a.privilege_type, t.attname, o.place, w.who,
              CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
  FROM o, pg_attribute t, LATERAL aclexplode(t.attacl) a,
       LATERAL (SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC'
                       ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS who) w
 WHERE t.attrelid = o.oid AND t.attnum > 0 AND NOT t.attisdropped
   AND EXISTS (SELECT FROM pg_attribute m WHERE m.attrelid = $2 AND m.attname = t.attname)
UNION ALL
SELECT 'publication ' || quote_ident(p.pubname),
       format('ALTER PUBLICATION %1$I DROP TABLE %2$s; ALTER PUBLICATION %1$I ADD TABLE %3$s%4$s%5$s',
              p.pubname, format('%I.%I', $4::text, o.relname), o.place,
              (SELECT ' (' || string_agg(quote_ident(t.attname), ', ' ORDER BY t.attnum) || ')'
                 FROM pg_attribute t WHERE t.attrelid = o.oid AND t.attnum = ANY (r.prattrs)),
              ' WHERE (' || pg_get_expr(r.prqual, r.prrelid) || ')')
  FROM o JOIN pg_publication_rel r ON r.prrelid = o.oid JOIN pg_publication p ON p.oid = r.prpubid
 WHERE pg_has_role(p.pubowner, 'USAGE')
UNION ALL
SELECT CASE WHEN d.objsubid = 0 THEN 'comment' ELSE 'comment on column ' || t.attname END,
       CASE WHEN d.objsubid = 0 THEN format('COMMENT ON %s %s IS %L',
                CASE o.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, o.place, d.description)
            ELSE format('COMMENT ON COLUMN %s.%I IS %L', o.place, t.attname, d.description) END
  FROM o JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = o.oid
  LEFT JOIN pg_attribute t ON t.attrelid = o.oid AND t.attnum = d.objsubid AND d.objsubid > 0
 WHERE (d.objsubid = 0 OR EXISTS (SELECT FROM pg_attribute m WHERE m.attrelid = $2 AND m.attname = t.attname))
   AND d.description IS DISTINCT FROM CASE WHEN d.objsubid = 0 THEN obj_description($2, 'pg_class')
           ELSE (SELECT col_description($2, m.attnum) FROM pg_attribute m
                  WHERE m.attrelid = $2 AND m.attname = t.attname) END
UNION ALL
SELECT 'option ' || x, format('ALTER %s %s SET (%s)',
           CASE o.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, o.place, x)
  FROM o, n, unnest(o.reloptions) x WHERE NOT x = ANY (coalesce(n.reloptions, '{}'))
UNION ALL
SELECT 'replica identity',
       format('ALTER TABLE %s REPLICA IDENTITY %s', o.place,
              CASE o.relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING' WHEN 'd' THEN 'DEFAULT'
                   ELSE 'USING INDEX ' || quote_ident((SELECT c.relname FROM pg_index i
                        JOIN pg_class c ON c.oid = i.indexrelid
                       WHERE i.indrelid = o.oid AND i.indisreplident)) END)
  FROM o, n WHERE o.relkind IN ('r', 'p') AND o.relreplident <> n.relreplident
UNION ALL
SELECT 'owner ' || quote_ident(pg_get_userbyid(o.relowner)),
       format('ALTER TABLE %s OWNER TO %I', o.place, pg_get_userbyid(o.relowner))
  FROM o, n WHERE o.relowner <> n.relowner
UNION ALL
SELECT 'option ' || split_part(x, '=', 1) || ' taken away',
       format('ALTER %s %s RESET (%s)', CASE o.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, o.place,
              split_part(x, '=', 1))
  FROM o, n, unnest(n.reloptions) x
 WHERE split_part(x, '=', 1) <> ALL
       (SELECT split_part(y, '=', 1) FROM unnest(coalesce(o.reloptions, '{}')) y)
UNION ALL
SELECT 'option toast.' || x, format('ALTER TABLE %s SET (toast.%s)', o.place, x)
  FROM o JOIN pg_class t ON t.oid = o.reltoastrelid, n LEFT JOIN pg_class u ON u.oid = n.reltoastrelid,
       unnest(t.reloptions) x
 WHERE NOT x = ANY (coalesce(u.reloptions, '{}'))
UNION ALL
SELECT format(s.what, c.attname), format('ALTER TABLE %s ALTER COLUMN %I ' || s.statement, o.place, c.attname)
  FROM o, columns c, LATERAL (VALUES
       (coalesce(c.attstattarget, -1) <> coalesce(c.new_attstattarget, -1),
        'statistics target of column %s', 'SET STATISTICS ' || coalesce(c.attstattarget, -1)),
       (c.attstorage <> c.new_attstorage, 'storage of column %s', 'SET STORAGE '
        || CASE c.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'x' THEN 'EXTENDED' ELSE 'MAIN' END),
       (c.attcompression <> c.new_attcompression, 'compression of column %s', 'SET COMPRESSION '
        || CASE c.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' ELSE 'DEFAULT' END),
       (c.attoptions IS DISTINCT FROM c.new_attoptions AND c.attoptions IS NOT NULL, 'options of column %s',
        'SET (' || array_to_string(c.attoptions, ', ') || ')'),
       (c.value IS NOT NULL AND c.value IS DISTINCT FROM c.new_value AND o.relkind <> 'v',
        'default of column %s', 'SET DEFAULT ' || replace(c.value, '%', '%%'))
  ) s (differs, what, statement)
 WHERE s.differs
UNION ALL
SELECT format('state of trigger %s', t.tgname),
       format('ALTER TABLE %s %s TRIGGER %I', o.place,
              CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS'
                   ELSE 'ENABLE' END, t.tgname)
  FROM o JOIN pg_trigger t ON t.tgrelid = o.oid JOIN pg_trigger p ON p.oid = t.tgparentid
 WHERE NOT t.tgisinternal AND t.tgenabled <> p.tgenabled
UNION ALL
SELECT format('comment on trigger %s', t.tgname),
       format('COMMENT ON TRIGGER %I ON %s IS %L', t.tgname, o.place, obj_description(t.oid, 'pg_trigger'))
  FROM o JOIN pg_trigger t ON t.tgrelid = o.oid
 WHERE t.tgparentid <> 0 AND obj_description(t.oid, 'pg_trigger') IS NOT NULL
UNION ALL
SELECT format('comment on constraint %s', k.conname),
       format('COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, o.place, obj_description(k.oid, 'pg_constraint'))
  FROM o JOIN pg_constraint k ON k.conrelid = o.oid JOIN pg_constraint m ON m.conrelid = $2 AND m.conname = k.conname
 WHERE obj_description(k.oid, 'pg_constraint') IS DISTINCT FROM obj_description(m.oid, 'pg_constraint')
UNION ALL
SELECT format(s.what, i.relname), format(s.statement, i.place, i.relname)
  FROM o, indexes i, LATERAL (
       SELECT 'comment on index %s', 'COMMENT ON INDEX %s IS ' || replace(quote_literal(i.comment), '%', '%%')
        WHERE i.comment IS DISTINCT FROM i.new_comment AND i.comment IS NOT NULL
       UNION ALL SELECT 'order of index %s', 'ALTER TABLE ' || replace(o.place, '%', '%%') || ' CLUSTER ON %2$I'
        WHERE i.indisclustered AND NOT i.new_indisclustered
       UNION ALL SELECT 'option ' || x || ' of index %s', 'ALTER INDEX %s SET (' || x || ')'
         FROM unnest(i.reloptions) x WHERE NOT x = ANY (coalesce(i.new_reloptions, '{}'))
       UNION ALL SELECT 'statistics target of index %s',
              format('ALTER INDEX %%s ALTER COLUMN %s SET STATISTICS %s', a.attnum, a.attstattarget)
         FROM pg_attribute a JOIN pg_attribute m ON m.attrelid = i.new AND m.attnum = a.attnum
        WHERE a.attrelid = i.old AND coalesce(a.attstattarget, -1) <> coalesce(m.attstattarget, -1)
  ) s (what, statement)
 ORDER BY 1
