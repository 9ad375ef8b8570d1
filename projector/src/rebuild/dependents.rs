//! What hangs on tables that a rebuild replaces, and is not the projector's: what can be carried
//! over to the new tables, and what stops the rebuild.

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::database::{Database, within};
use crate::fatal::{Fatal, Reason};
use crate::schema::own::{self, listed};
use crate::trouble::Trouble;

/// A table that is replaced, and the one that takes its place.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Name of both, without the schema.
    pub name: String,
    /// The table that is replaced.
    pub old: u32,
    /// The one that takes its place.
    pub new: u32,
}

/// How much of the schema is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The partitions of the tables. The tables themselves stay, and all that hangs on them.
    Parts,
    /// Tables, views and function, because the tables are not what this program makes.
    Everything,
}

/// All pairs of tables, found by name.
pub async fn pairs(
    old: &Database,
    fresh: &Database,
    client: &Client,
    extent: Extent,
) -> Result<Vec<Pair>, Trouble> {
    let statement = "SELECT o.relname::text, o.oid, n.oid
          FROM pg_class o JOIN pg_class n USING (relname)
         WHERE o.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
           AND n.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $2)
           AND (o.relname ~ $3 OR $4 AND o.relname = ANY ($5)) ORDER BY 1";
    let all = extent == Extent::Everything;
    let (schema, to, parts, names) = (old.schema(), fresh.schema(), own::parts(), own::relations());
    let rows = within(client.query(statement, &[&schema, &to, &parts, &all, &names])).await?;
    let pair = |row: &tokio_postgres::Row| {
        Ok(Pair { name: row.try_get(0)?, old: row.try_get(1)?, new: row.try_get(2)? })
    };
    rows.iter().map(pair).collect()
}

/// What hangs on the old schema.
#[derive(Clone, Debug, Default)]
pub struct Dependents {
    /// What hangs on tables that stay, for people.
    pub staying: Vec<String>,
    /// What will be carried over, for people.
    pub carried: Vec<String>,
    /// What can't be carried over.
    pub stopping: Vec<String>,
}

impl Dependents {
    /// Finds all of them, and changes nothing.
    pub async fn find(
        old: &Database,
        client: &Client,
        pairs: &[Pair],
        extent: Extent,
    ) -> Result<Self, Trouble> {
        let replaced: Vec<u32> = pairs.iter().map(|pair| pair.old).collect();
        let (parts, names) = (own::parts(), own::relations());
        let ours = within(client.query(OURS, &[&old.schema(), &parts, &names])).await?;
        let ours: Vec<u32> = ours.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let whole = extent == Extent::Everything;
        let hangs = hanging(client, old.schema(), &replaced, &ours, whole).await?;
        let mut stopping = hangs;
        let mut staying = Vec::new();
        if extent == Extent::Parts {
            let tables: Vec<u32> =
                ours.iter().filter(|oid| !replaced.contains(oid)).copied().collect();
            staying = hanging(client, old.schema(), &tables, &ours, true).await?;
            // A partition is put in place only if it has the constraints of its table, and taken
            // out only if no foreign key points to the table.
            let is_bound = |what: &String| what.contains("table constraint ");
            stopping.extend(staying.iter().filter(|what| is_bound(what)).cloned());
            staying.retain(|what| !is_bound(what));
        }
        for row in within(client.query(PUBLISHED_BY_OTHERS, &[&replaced])).await? {
            stopping.push(row.try_get(0)?);
        }
        let mut carried = Vec::new();
        for pair in pairs {
            carried.extend(carried_of(client, old, pair).await?);
        }
        Ok(Self { staying, carried, stopping })
    }

    /// Tells all of them, and stops the rebuild if there is something that can't be carried over.
    pub fn tell(&self, schema: &str, leaves_behind: bool) -> Result<(), Fatal> {
        if !self.staying.is_empty() {
            tracing::info!("stays attached to the tables of {schema}: {}", self.staying.join(", "));
        }
        if !self.carried.is_empty() {
            tracing::info!("is carried over to the new tables: {}", self.carried.join(", "));
        }
        if self.stopping.is_empty() {
            return Ok(());
        }
        if leaves_behind {
            tracing::warn!(
                "stays with the replaced tables, in schema {schema}_old: {}",
                self.stopping.join(", ")
            );
            return Ok(());
        }
        let message = format!(
            "something hangs on tables of schema {schema} that are replaced, and can't be carried \
             over ({}): nothing was changed; drop it and make it again afterwards, or run this with \
             --leave-behind, and it stays with the replaced tables in schema {schema}_old",
            listed(&self.stopping)
        );
        Err(Fatal::new(Reason::Schema, message))
    }
}

/// Everything that the projector has made, as numbers of `pg_class`.
const OURS: &str = "SELECT oid FROM pg_class
     WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
       AND (relname ~ $2 OR relname = ANY ($3))";

/// What depends on any of these tables, on its rows' type or on its indexes, without what the
/// projector has made and without what [`carried_of`] finds.
async fn hanging(
    client: &Client,
    schema: &str,
    tables: &[u32],
    ours: &[u32],
    with_function: bool,
) -> Result<Vec<String>, Trouble> {
    let rows = within(client.query(HANGING, &[&tables, &ours, &with_function, &schema])).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

const HANGING: &str = "
WITH replaced AS (SELECT oid FROM pg_class WHERE oid = ANY ($1::oid[])),
     ours AS (SELECT unnest($2::oid[]) AS oid),
     targets (classid, objid) AS (
        SELECT 'pg_class'::regclass::oid, oid FROM replaced
        UNION ALL SELECT 'pg_class'::regclass, indexrelid FROM pg_index JOIN replaced ON oid = indrelid
        UNION ALL SELECT 'pg_type'::regclass, t.oid FROM pg_type t JOIN replaced r ON t.typrelid = r.oid
        UNION ALL SELECT 'pg_type'::regclass, t.typarray FROM pg_type t JOIN replaced r ON t.typrelid = r.oid
        UNION ALL SELECT 'pg_proc'::regclass, p.oid FROM pg_proc p
                   WHERE $3 AND p.proname = 'walengine_wait_for'
                     AND p.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $4)
     ),
     found AS (
        SELECT DISTINCT CASE WHEN w.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass END AS classid,
               coalesce(w.ev_class, d.objid) AS objid,
               CASE WHEN w.oid IS NULL THEN d.objsubid ELSE 0 END AS objsubid
          FROM pg_depend d JOIN targets t ON d.refclassid = t.classid AND d.refobjid = t.objid
          LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
                                AND w.rulename = '_RETURN'
         WHERE d.deptype IN ('n', 'a')
     )
SELECT DISTINCT i.type || ' ' || i.identity
  FROM found f CROSS JOIN LATERAL pg_identify_object(f.classid, f.objid, f.objsubid) i
  LEFT JOIN pg_class c ON f.classid = 'pg_class'::regclass AND c.oid = f.objid
  LEFT JOIN pg_constraint k ON f.classid = 'pg_constraint'::regclass AND k.oid = f.objid
  LEFT JOIN pg_class kc ON kc.oid = k.conrelid
  LEFT JOIN pg_trigger g ON f.classid = 'pg_trigger'::regclass AND g.oid = f.objid
 WHERE f.classid NOT IN ('pg_publication_rel'::regclass, 'pg_attrdef'::regclass)
   AND NOT (f.classid = 'pg_class'::regclass
            AND (f.objid IN (SELECT oid FROM ours) OR c.relkind IN ('i', 'I', 't')))
   AND NOT coalesce(k.conrelid IN (SELECT oid FROM ours)
                    AND (k.contype IN ('p', 'n') OR k.conname = 'walengine_part'
                         OR kc.relname = 'positions' AND k.conname LIKE 'positions\\_%check'), false)
   AND NOT coalesce(g.tgisinternal OR g.tgparentid <> 0, false)
UNION
SELECT 'row security of table ' || oid::regclass::text FROM pg_class
 WHERE oid = ANY ($1::oid[]) AND (relrowsecurity OR relforcerowsecurity)
 ORDER BY 1";

/// Publications of single tables that only another role can change.
const PUBLISHED_BY_OTHERS: &str = "
SELECT DISTINCT format('publication %I, which belongs to role %I', p.pubname, pg_get_userbyid(p.pubowner))
  FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
 WHERE r.prrelid = ANY ($1::oid[]) AND NOT pg_has_role(p.pubowner, 'USAGE')
 ORDER BY 1";

/// What is carried over from one table to its successor, for people.
async fn carried_of(client: &Client, old: &Database, pair: &Pair) -> Result<Vec<String>, Trouble> {
    let mut found = Vec::new();
    let name = format!("{}.{}", old.schema(), pair.name);
    for row in within(client.query(INDEXES, &[&pair.old, &pair.new])).await? {
        found.push(format!("index {} of {name}", row.try_get::<_, String>(0)?));
    }
    for row in within(client.query(SETTINGS, &[&pair.old, &pair.new, &"", &""])).await? {
        found.push(format!("{} of {name}", row.try_get::<_, String>(0)?));
    }
    Ok(found)
}

/// Makes the indexes that somebody has added to the old table on the new one, before it is filled
/// with more than it needs and before anything is locked.
pub async fn carry_indexes(client: &Client, pairs: &[Pair]) -> Result<(), Trouble> {
    for pair in pairs {
        for row in within(client.query(INDEXES, &[&pair.old, &pair.new])).await? {
            let (name, statement): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            tracing::info!("index {name} of {}: making it for the new table", pair.name);
            // An index takes as long as its table is large.
            within(client.batch_execute("SET statement_timeout = 0")).await?;
            client.batch_execute(&statement).await?;
        }
    }
    Ok(())
}

/// Statements that give the new tables the grants, publications, comments, options and owners of the
/// old ones, once they are in place: the new ones in `schema`, the old ones in `replaced`. Read with
/// the old tables locked, so that nothing is missed.
pub async fn settings(
    client: &Client,
    schema: &str,
    replaced: &str,
    pairs: &[Pair],
) -> Result<Vec<String>, Trouble> {
    let mut found = Vec::new();
    for pair in pairs {
        let parameters: [&(dyn ToSql + Sync); 4] = [&pair.old, &pair.new, &schema, &replaced];
        for row in within(client.query(SETTINGS, &parameters)).await? {
            found.push(row.try_get(1)?);
        }
    }
    Ok(found)
}

/// Indexes of table $1 that $2 lacks, and how to make them there. What an index is begins at USING;
/// its name, and that of its table, stand before that. Constraints bring their indexes themselves.
const INDEXES: &str = "
SELECT c.relname::text,
       format('CREATE %sINDEX %I ON %I.%I %s', CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END,
              c.relname, tn.nspname, t.relname,
              substring(pg_get_indexdef(i.indexrelid) FROM ' (USING .*)$'))
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid,
       pg_class t JOIN pg_namespace tn ON tn.oid = t.relnamespace
 WHERE i.indrelid = $1 AND t.oid = $2 AND i.indisvalid
   AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.conrelid = $1)
   AND NOT EXISTS (
       SELECT FROM pg_index n
        WHERE n.indrelid = $2 AND n.indisunique = i.indisunique
          AND substring(pg_get_indexdef(n.indexrelid) FROM ' (USING .*)$')
            = substring(pg_get_indexdef(i.indexrelid) FROM ' (USING .*)$'))
 ORDER BY 1";

/// Everything else that table $1 has and $2 lacks: for people, and as a statement for the table of
/// the same name in schema $3, when the old one is in schema $4.
const SETTINGS: &str = "
WITH o AS (SELECT c.*, format('%I.%I', $3::text, c.relname) AS place FROM pg_class c WHERE oid = $1),
     n AS (SELECT * FROM pg_class WHERE oid = $2)
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
 ORDER BY 1";
