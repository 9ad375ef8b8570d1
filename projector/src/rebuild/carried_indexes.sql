-- Indexes of table $1 that $2 lacks, and how to make them there. What an index is begins at USING; its
-- name, and that of its table, stand before that. Constraints bring their indexes themselves.
WITH of_table AS (
    SELECT i.indrelid, c.relname, i.indisunique, i.indexrelid,
           substring(pg_get_indexdef(i.indexrelid) FROM ' (USING .*)$') AS what
      FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE i.indrelid IN ($1, $2) AND i.indisvalid
)
SELECT format('index %s', o.relname),
       format('CREATE %sINDEX %I ON %I.%I %s', CASE WHEN o.indisunique THEN 'UNIQUE ' ELSE '' END,
              o.relname, tn.nspname, t.relname, o.what)
  FROM of_table o, pg_class t JOIN pg_namespace tn ON tn.oid = t.relnamespace
 WHERE o.indrelid = $1 AND t.oid = $2
   AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = o.indexrelid AND k.conrelid = $1)
   AND NOT EXISTS (SELECT FROM of_table n WHERE n.indrelid = $2 AND n.relname = o.relname)
   AND (SELECT count(*) FROM of_table n WHERE n.indrelid = $2 AND (n.what, n.indisunique) = (o.what, o.indisunique))
     < (SELECT count(*) FROM of_table n WHERE n.indrelid = $1 AND (n.what, n.indisunique) = (o.what, o.indisunique))
 ORDER BY 1
