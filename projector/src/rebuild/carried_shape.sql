-- How the files of table $1 and its indexes are kept, where those of $2 are kept otherwise: for people,
-- and as a statement. Indexes have the same name in both, or else the same definition.
WITH of_table AS (
    SELECT i.indrelid, i.indexrelid, c.relname, i.indisunique,
           substring(pg_get_indexdef(i.indexrelid) FROM ' (USING .*)$') AS what
      FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE i.indrelid IN ($1, $2) AND i.indisvalid
), renamed AS (
    SELECT DISTINCT ON (n.indexrelid) o.relname AS name, n.indexrelid AS new
      FROM of_table o JOIN of_table n ON (n.what, n.indisunique) = (o.what, o.indisunique)
     WHERE o.indrelid = $1 AND n.indrelid = $2
       AND o.relname NOT IN (SELECT relname FROM of_table WHERE indrelid = $2)
       AND n.relname NOT IN (SELECT relname FROM of_table WHERE indrelid = $1)
     ORDER BY n.indexrelid, o.relname
), pairs (old, new) AS (
    SELECT $1::oid, $2::oid
    UNION ALL SELECT o.indexrelid, n.indexrelid FROM of_table o JOIN of_table n ON n.relname = o.relname
               WHERE o.indrelid = $1 AND n.indrelid = $2
), kept AS (
    SELECT o.relname, o.relkind IN ('i', 'I') AS is_index, o.reltablespace, n.reltablespace AS new_reltablespace,
           o.relam, n.relam AS new_relam, o.relpersistence, n.relpersistence AS new_relpersistence,
           CASE WHEN o.relkind IN ('i', 'I') THEN 'INDEX' ELSE 'TABLE' END AS kind,
           format('%I.%I', s.nspname, n.relname) AS place,
           CASE WHEN o.relkind IN ('i', 'I') THEN ' of index ' || o.relname ELSE '' END AS of
      FROM pairs JOIN pg_class o ON o.oid = old JOIN pg_class n ON n.oid = new
      JOIN pg_namespace s ON s.oid = n.relnamespace
     WHERE o.relkind <> 'v'
)
SELECT format('name of index %s', name),
       format('ALTER INDEX %s RENAME TO %I', new::regclass, name) FROM renamed
UNION ALL
SELECT format('tablespace %s%s', t.spcname, of), format('ALTER %s %s SET TABLESPACE %I', kind, place, t.spcname)
  FROM kept JOIN pg_tablespace t ON t.oid = coalesce(nullif(reltablespace, 0),
       (SELECT dattablespace FROM pg_database WHERE datname = current_database()))
 WHERE reltablespace <> new_reltablespace
UNION ALL
SELECT format('access method %s', a.amname), format('ALTER TABLE %s SET ACCESS METHOD %I', place, a.amname)
  FROM kept JOIN pg_am a ON a.oid = relam WHERE NOT is_index AND relam <> new_relam
UNION ALL
SELECT CASE relpersistence WHEN 'u' THEN 'being unlogged' ELSE 'being logged' END,
       format('ALTER TABLE %s SET %s', place, CASE relpersistence WHEN 'u' THEN 'UNLOGGED' ELSE 'LOGGED' END)
  FROM kept WHERE NOT is_index AND relpersistence <> new_relpersistence
 ORDER BY 1
