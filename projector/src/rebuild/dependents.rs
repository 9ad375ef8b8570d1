//! What hangs on tables that a rebuild replaces, and is not the projector's: what can be carried
//! over to the new tables, and what stops the rebuild.

use tokio_postgres::Client;

use super::carried;
use super::pairs::{Extent, Pair};
use crate::database::{Database, within};
use crate::fatal::{Fatal, Reason};
use crate::schema::own::{self, listed};
use crate::trouble::Trouble;

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
        for pair in pairs {
            for row in within(client.query(STRICTER, &[&pair.old, &pair.new])).await? {
                stopping.push(row.try_get(0)?);
            }
        }
        let carried = carried::told(client, old.schema(), pairs, extent).await?;
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
/// projector has made and without what [`carried::told`] finds.
async fn hanging(
    client: &Client,
    schema: &str,
    tables: &[u32],
    ours: &[u32],
    with_function: bool,
) -> Result<Vec<String>, Trouble> {
    let rows = within(
        client.query(HANGING, &[&tables, &ours, &with_function, &schema, &own::functions()]),
    )
    .await?;
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
                   WHERE $3 AND p.proname = ANY ($5::text[])
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
UNION
SELECT format('extension %I, which %s %s', e.extname,
              CASE d.deptype WHEN 'e' THEN 'has as a member' ELSE 'is needed by' END, i.identity)
  FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
  JOIN targets t ON t.classid = d.classid AND t.objid = d.objid,
       pg_identify_object(d.classid, d.objid, 0) i
 WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_extension'::regclass
   AND d.deptype IN ('e', 'x')
UNION
SELECT format('security label of %s for table %s', s.provider, i.identity)
  FROM pg_seclabel s, pg_identify_object(s.classoid, s.objoid, 0) i
 WHERE s.classoid = 'pg_class'::regclass AND s.objoid = ANY ($1::oid[])
 ORDER BY 1";

/// Columns of table $1 that may not be null and that may be in $2. To demand it of the new table,
/// PostgreSQL would have to read it under a lock.
const STRICTER: &str = "
SELECT format('NOT NULL of column %I of table %s', a.attname, i.identity)
  FROM pg_attribute a JOIN pg_attribute m ON m.attrelid = $2 AND m.attname = a.attname,
       pg_identify_object('pg_class'::regclass, a.attrelid, 0) i
 WHERE a.attrelid = $1 AND a.attnum > 0 AND a.attnotnull AND NOT m.attnotnull
 ORDER BY 1";

/// Publications of single tables that only another role can change.
const PUBLISHED_BY_OTHERS: &str = "
SELECT DISTINCT format('publication %I, which belongs to role %I', p.pubname, pg_get_userbyid(p.pubowner))
  FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
 WHERE r.prrelid = ANY ($1::oid[]) AND NOT pg_has_role(p.pubowner, 'USAGE')
 ORDER BY 1";
