//! Does a rebuild leave alone what the projector did not make: objects in its schema, and what hangs
//! on its tables?

use walengine_tests::projected_node::ProjectedNode;
use walengine_tests::server::TestDir;

/// Exit code of [`walengine_net::cli::Reason::Schema`].
const SCHEMA: i32 = 13;
const EVENTS: usize = 300;

/// Runs a rebuild. Returns its exit code and what it said.
fn rebuild(node: &ProjectedNode, more: &[&str]) -> (Option<i32>, String) {
    let arguments = [&["rebuild"], more].concat();
    let output = node.projecting.run(&arguments);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn rebuilds(node: &ProjectedNode, more: &[&str]) -> String {
    let (code, said) = rebuild(node, more);
    assert_eq!(code, Some(0), "{said}");
    said
}

fn refuses(node: &ProjectedNode, more: &[&str]) -> String {
    let (code, said) = rebuild(node, more);
    assert_eq!(code, Some(SCHEMA), "{said}");
    said
}

/// Everything that a user can see of what hangs on the tables, in a form that does not change when
/// a table is replaced by an equal one.
const INVENTORY: &str = "
SELECT 'view', schemaname || '.' || viewname, definition FROM pg_views WHERE schemaname IN ('mine', 'walengine')
UNION ALL SELECT 'matview', schemaname || '.' || matviewname, definition FROM pg_matviews
UNION ALL SELECT 'index', schemaname || '.' || indexname, indexdef FROM pg_indexes
           WHERE schemaname IN ('mine', 'walengine')
UNION ALL SELECT 'grant', c.oid::regclass::text, a::text FROM pg_class c, unnest(c.relacl) a
           WHERE c.relnamespace IN ('mine'::regnamespace, 'walengine'::regnamespace)
UNION ALL SELECT 'column grant', t.attrelid::regclass::text || '.' || t.attname, a::text
            FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid, unnest(t.attacl) a
           WHERE c.relnamespace = 'walengine'::regnamespace
UNION ALL SELECT 'schema grant', nspname, nspacl::text FROM pg_namespace WHERE nspname = 'walengine'
UNION ALL SELECT 'published', pubname, format('%s.%s %s %s', schemaname, tablename, attnames, rowfilter)
            FROM pg_publication_tables
UNION ALL SELECT 'comment', d.objoid::regclass::text || '.' || d.objsubid, d.description FROM pg_description d
           JOIN pg_class c ON c.oid = d.objoid WHERE d.classoid = 'pg_class'::regclass
            AND c.relnamespace = 'walengine'::regnamespace
UNION ALL SELECT 'policy', tablename || '.' || policyname, qual FROM pg_policies WHERE schemaname = 'walengine'
UNION ALL SELECT 'trigger', tgrelid::regclass::text || '.' || tgname, tgenabled::text FROM pg_trigger
           WHERE NOT tgisinternal
UNION ALL SELECT 'column', a.attrelid::regclass::text || '.' || a.attname, format_type(atttypid, atttypmod)
            FROM pg_attribute a WHERE a.attrelid = 'mine.kept'::regclass AND attnum > 0
UNION ALL SELECT 'option', oid::regclass::text, coalesce(reloptions::text, '') || relreplident::text FROM pg_class
           WHERE relnamespace = 'walengine'::regnamespace AND relkind IN ('r', 'p')
UNION ALL SELECT 'data', 'mine.kept', count(*)::text FROM mine.kept
ORDER BY 1, 2, 3";

#[test]
fn views_grants_publications_and_indexes_survive_two_rebuilds() {
    let dir = TestDir::new("projector-dependents");
    let (mut setup, mut projector) = ProjectedNode::projected(&dir, 0x5eed_1100, 1, EVENTS);
    setup.postgres.ask(
        "CREATE ROLE alice; CREATE ROLE bob; CREATE SCHEMA mine;
         CREATE VIEW mine.daily AS SELECT date(time) AS day, kind, sum(amount) FROM walengine.transfers GROUP BY 1, 2;
         CREATE VIEW mine.rich AS SELECT * FROM walengine.balances WHERE balance > 0;
         CREATE VIEW walengine.inside AS SELECT id, a AS whole FROM walengine.accounts a;
         CREATE MATERIALIZED VIEW mine.counted AS SELECT count(*) FROM walengine.refused_events;
         CREATE TABLE mine.kept (account walengine.accounts, kind walengine.transfer_kind);
         INSERT INTO mine.kept SELECT a, 'post' FROM walengine.accounts a LIMIT 3;
         CREATE FUNCTION mine.of(walengine.accounts) RETURNS text LANGUAGE sql AS 'SELECT ($1).id::text';
         GRANT USAGE ON SCHEMA walengine TO alice;
         GRANT SELECT ON mine.daily, walengine.balances, walengine.transfers TO alice;
         GRANT SELECT ON ALL TABLES IN SCHEMA walengine TO bob;
         GRANT SELECT ON walengine.transfers_p0000 TO alice WITH GRANT OPTION;
         GRANT SELECT (id, time), REFERENCES (id) ON walengine.accounts_p0000 TO alice;
         CREATE PUBLICATION whole FOR TABLE walengine.transfers, walengine.accounts
           WITH (publish_via_partition_root = true);
         CREATE PUBLICATION part FOR TABLE walengine.refused_events_p0000 (log_offset, name) WHERE (log_offset > 5);
         CREATE INDEX by_code ON walengine.transfers (code) WHERE kind <> 'expire';
         CREATE INDEX by_time ON walengine.accounts_p0000 (time DESC, code) INCLUDE (ledger);
         CREATE UNIQUE INDEX only_one ON walengine.opaque_records_p0000 (log_offset, id);
         ALTER TABLE walengine.opaque_records_p0000 REPLICA IDENTITY FULL;
         ALTER TABLE walengine.transfers_p0000 SET (autovacuum_enabled = false);
         CREATE POLICY own ON walengine.accounts TO alice USING (code = 1);
         CREATE FUNCTION mine.noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER noted AFTER INSERT ON walengine.transfers FOR EACH ROW EXECUTE FUNCTION mine.noted();
         COMMENT ON TABLE walengine.transfers_p0000 IS 'Mine, too.';
         COMMENT ON COLUMN walengine.transfers.code IS 'See the handbook.'",
    );
    let before = setup.postgres.rows(INVENTORY);
    assert!(before.len() > 100, "{} things", before.len());
    for _ in 0..2 {
        let said = rebuilds(&setup, &[]);
        for what in
            ["index by_time", "publication part", "grant of SELECT to bob", "view mine.daily"]
        {
            assert!(said.contains(what), "{what} is not told: {said}");
        }
        let after = setup.postgres.rows(INVENTORY);
        let lost: Vec<_> = before.iter().filter(|row| !after.contains(row)).collect();
        let new: Vec<_> = after.iter().filter(|row| !before.contains(row)).collect();
        assert!(lost.is_empty() && new.is_empty(), "lost {lost:#?}, new {new:#?}");
        // Views show the new rows, also those that are written afterwards.
        setup.load(1, EVENTS);
        setup.comes_to_the_end(&mut projector);
        let counted = "SELECT (SELECT sum(sum) FROM mine.daily) = (SELECT sum(amount) FROM walengine.transfers)
                          AND (SELECT count(*) FROM walengine.inside) = (SELECT count(*) FROM walengine.accounts)";
        assert_eq!(setup.postgres.ask(counted), "t");
        setup.projecting.audit_finds_no_difference();
    }
    projector.stop();
    setup.server.stop();
}

#[test]
fn what_cannot_be_carried_over_stops_a_rebuild_before_it_begins() {
    let dir = TestDir::new("projector-stopping");
    let (mut setup, mut projector) = ProjectedNode::projected(&dir, 0x5eed_1101, 1, EVENTS);
    let cases = [
        (
            "CREATE VIEW mine.part AS SELECT * FROM walengine.transfers_p0000",
            "view mine.part",
            "DROP VIEW mine.part",
        ),
        (
            "CREATE TABLE mine.rows (one walengine.accounts_p0000)",
            "table column mine.rows.one",
            "DROP TABLE mine.rows",
        ),
        (
            "CREATE TABLE mine.keyed (id uuid REFERENCES walengine.accounts_p0000 (id))",
            "table constraint keyed_id_fkey on mine.keyed",
            "DROP TABLE mine.keyed",
        ),
        (
            "CREATE TRIGGER mine AFTER INSERT ON walengine.accounts_p0000 FOR EACH ROW EXECUTE FUNCTION mine.noted()",
            "trigger mine on walengine.accounts_p0000",
            "DROP TRIGGER mine ON walengine.accounts_p0000",
        ),
        (
            "CREATE POLICY mine ON walengine.accounts_p0000 USING (true)",
            "policy mine on walengine.accounts_p0000",
            "DROP POLICY mine ON walengine.accounts_p0000",
        ),
        (
            "CREATE RULE mine AS ON DELETE TO walengine.accounts_p0000 DO ALSO NOTHING",
            "rule mine on walengine.accounts_p0000",
            "DROP RULE mine ON walengine.accounts_p0000",
        ),
        (
            "CREATE STATISTICS mine.codes ON code, ledger FROM walengine.transfers_p0000",
            "statistics object mine.codes",
            "DROP STATISTICS mine.codes",
        ),
        (
            "UPDATE pg_attribute SET attnotnull = true WHERE attrelid = 'walengine.refused_events_p0000'::regclass AND attname = 'amount'",
            "NOT NULL of column amount of table walengine.refused_events_p0000",
            "ALTER TABLE walengine.refused_events_p0000 ALTER amount DROP NOT NULL",
        ),
        (
            "CREATE EXTENSION hstore; ALTER EXTENSION hstore ADD TABLE walengine.transfers_p0000",
            "extension hstore, which has as a member walengine.transfers_p0000",
            "ALTER EXTENSION hstore DROP TABLE walengine.transfers_p0000; DROP EXTENSION hstore",
        ),
        (
            "INSERT INTO pg_seclabel VALUES ('walengine.transfers_p0000'::regclass, 'pg_class'::regclass, 0, 'lsm', 'x')",
            "security label of lsm for table walengine.transfers_p0000",
            "DELETE FROM pg_seclabel",
        ),
        (
            "ALTER TABLE walengine.accounts_p0000 ADD CONSTRAINT one UNIQUE (log_offset, id)",
            "table constraint one on walengine.accounts_p0000",
            "ALTER TABLE walengine.accounts_p0000 DROP CONSTRAINT one",
        ),
        (
            "ALTER TABLE walengine.transfers ADD CONSTRAINT small CHECK (amount < 1e38)",
            "table constraint small on walengine.transfers",
            "ALTER TABLE walengine.transfers DROP CONSTRAINT small",
        ),
    ];
    setup.postgres.ask(
        "CREATE SCHEMA mine;
         CREATE FUNCTION mine.noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    );
    for (make, name, unmake) in cases {
        setup.postgres.ask(make);
        let said = refuses(&setup, &[]);
        assert!(said.contains(name) && said.contains("--leave-behind"), "{name}: {said}");
        setup.postgres.ask(unmake);
    }
    setup.load(1, EVENTS);
    setup.comes_to_the_end(&mut projector);

    // Left behind on purpose, it stays with the old tables, and nothing drops it later.
    setup.postgres.ask(cases[0].0);
    let rows = setup.postgres.ask("SELECT count(*) FROM mine.part");
    rebuilds(&setup, &["--leave-behind"]);
    assert_eq!(setup.postgres.ask("SELECT count(*) FROM mine.part"), rows);
    let said = refuses(&setup, &[]);
    assert!(said.contains("walengine_old") && said.contains("mine.part"), "{said}");
    setup.postgres.ask("DROP VIEW mine.part");
    rebuilds(&setup, &[]);

    // Tables that are changed by hand are replaced as a whole, unless something hangs on them.
    setup.postgres.ask("CREATE VIEW mine.every AS SELECT id FROM walengine.transfers; GRANT SELECT ON walengine.transfers TO PUBLIC");
    projector.stop();
    setup.postgres.ask("ALTER TABLE walengine.transfers RENAME COLUMN amount TO sum");
    let said = refuses(&setup, &[]);
    assert!(said.contains("view mine.every") && said.contains("transfers.sum differs"), "{said}");
    setup.postgres.ask("DROP VIEW mine.every");
    let audits =
        || setup.postgres.ask("SELECT count(*) FROM walengine.audits WHERE outcome = 'equal'");
    let known: u64 = audits().parse().unwrap();
    rebuilds(&setup, &[]);
    assert_eq!(
        audits(),
        (known + 1).to_string(),
        "what is known of audits is carried over, and ends with the rebuild's"
    );
    let granted = "SELECT has_table_privilege('public', 'walengine.transfers', 'SELECT')";
    assert_eq!(setup.postgres.ask(granted), "t");
    let mut projector = setup.projecting.spawn();
    setup.load(1, EVENTS);
    setup.comes_to_the_end(&mut projector);
    rebuilds(&setup, &[]);
    setup.projecting.audit_finds_no_difference();
    projector.stop();
    setup.server.stop();
}

#[test]
fn a_schema_that_is_not_the_projectors_own_is_refused() {
    let dir = TestDir::new("projector-public");
    let mut setup = ProjectedNode::start(&dir, 0x5eed_1102);
    let data = "SELECT count(*) FROM public.accounts";
    setup.postgres.ask(
        "CREATE EXTENSION citext;
         CREATE TABLE accounts (id citext PRIMARY KEY); INSERT INTO accounts VALUES ('a'), ('b')",
    );
    let public = setup.projecting.clone().set("--schema", "public");
    let line = public.fails_with(SCHEMA);
    assert!(line.contains("extension citext") && line.contains("--schema"), "{line}");
    setup.postgres.ask("ALTER EXTENSION citext SET SCHEMA pg_catalog");
    let line = public.fails_with(SCHEMA);
    assert!(line.contains("table accounts"), "{line}");
    for _ in 0..2 {
        let output = public.run(&["rebuild"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(SCHEMA), "{said}");
        assert!(said.contains("table accounts"), "{said}");
        assert_eq!(setup.postgres.ask(data), "2");
    }

    // An empty schema is taken, and what is put there afterwards is safe.
    setup.postgres.ask("CREATE SCHEMA theirs; ALTER TABLE accounts SET SCHEMA theirs");
    let mut projector = public.clone().log_to(&dir.path().join("public.log")).spawn();
    projector.wait_to_say("projecting 1 partitions");
    setup.postgres.ask("CREATE TABLE public.mine AS SELECT 1 AS one; CREATE EXTENSION hstore");
    for _ in 0..2 {
        let output = public.run(&["rebuild"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(SCHEMA), "{said}");
        for what in ["table public.mine", "extension hstore"] {
            assert!(said.contains(what), "{what}: {said}");
        }
        assert_eq!(setup.postgres.ask("SELECT one FROM public.mine"), "1");
    }
    projector.stop();

    // So are schemas whose names a rebuild uses.
    setup
        .postgres
        .ask("CREATE SCHEMA walengine_old; CREATE TABLE walengine_old.mine AS SELECT 1 AS one");
    let mut projector = setup.projecting.spawn();
    setup.load(1, EVENTS);
    setup.comes_to_the_end(&mut projector);
    let said = refuses(&setup, &[]);
    assert!(said.contains("walengine_old.mine"), "{said}");
    setup.postgres.ask("ALTER SCHEMA walengine_old RENAME TO walengine_rebuild");
    for more in [&[][..], &["--anew"]] {
        let said = refuses(&setup, more);
        assert!(said.contains("walengine_rebuild.mine"), "{said}");
        assert_eq!(setup.postgres.ask("SELECT one FROM walengine_rebuild.mine"), "1");
    }
    for name in ["pg_foo", "information_schema"] {
        let line = setup.projecting.clone().set("--schema", name).fails_with(2);
        assert!(line.contains("reserved"), "{line}");
    }
    projector.stop();
    setup.server.stop();
}

/// What somebody may set on tables and indexes that a rebuild replaces, and how the rebuild calls it.
const SET: &[(&str, &str)] = &[
    ("ALTER TABLE walengine.transfers_p0000 ALTER code SET STATISTICS 900", "statistics target of column code"),
    ("ALTER TABLE walengine.transfers_p0000 SET TABLESPACE elsewhere", "tablespace elsewhere of walengine.transfers_p0000"),
    ("ALTER INDEX walengine.accounts_p0000_pkey SET TABLESPACE elsewhere", "tablespace elsewhere of index accounts_p0000_pkey"),
    ("CREATE INDEX there ON walengine.reservations_p0000 (code) TABLESPACE elsewhere", "index there"),
    ("CREATE INDEX twin ON walengine.accounts_p0000 (log_offset); CREATE UNIQUE INDEX twin_too ON walengine.accounts_p0000 (log_offset)", "index twin_too"),
    ("CREATE INDEX computed ON walengine.accounts_p0000 ((code + 1)); ALTER INDEX walengine.computed ALTER COLUMN 1 SET STATISTICS 700", "index computed"),
    ("COMMENT ON INDEX walengine.computed IS 'by hand'", "index computed"),
    ("COMMENT ON INDEX walengine.accounts_p0000_pkey IS 'the key'", "comment on index accounts_p0000_pkey"),
    ("COMMENT ON CONSTRAINT transfers_p0000_pkey ON walengine.transfers_p0000 IS 'a key'", "comment on constraint transfers_p0000_pkey"),
    ("ALTER INDEX walengine.transfers_p0000_pkey SET (fillfactor = 70)", "option fillfactor=70 of index transfers_p0000_pkey"),
    ("ALTER INDEX walengine.transfers_p0000_id_idx RENAME TO by_id", "name of index by_id"),
    ("ALTER TABLE walengine.transfers_p0000 CLUSTER ON transfers_p0000_pkey", "order of index transfers_p0000_pkey"),
    ("ALTER TABLE walengine.refused_events_p0000 ALTER name SET STORAGE EXTERNAL", "storage of column name"),
    ("ALTER TABLE walengine.refused_events_p0000 ALTER name SET COMPRESSION pglz", "compression of column name"),
    ("ALTER TABLE walengine.transfers_p0000 ALTER ledger SET (n_distinct = 7)", "options of column ledger"),
    ("ALTER TABLE walengine.transfers_p0000 ALTER code SET DEFAULT 5 % 3", "default of column code"),
    ("ALTER TABLE walengine.opaque_records_p0000 SET UNLOGGED", "being unlogged"),
    ("ALTER TABLE walengine.account_events_p0000 SET ACCESS METHOD other_heap", "access method other_heap"),
    ("ALTER TABLE walengine.opaque_records_p0000 SET (toast.autovacuum_enabled = false)", "option toast.autovacuum_enabled=false"),
    ("ALTER TABLE walengine.accounts_p0000 RESET (fillfactor)", "option fillfactor taken away"),
    ("CREATE TRIGGER told AFTER INSERT ON walengine.transfers FOR EACH ROW EXECUTE FUNCTION mine.noted();
      ALTER TABLE walengine.transfers_p0000 DISABLE TRIGGER told;
      COMMENT ON TRIGGER told ON walengine.transfers_p0000 IS 'off'", "state of trigger told"),
    ("CREATE PUBLICATION of_all FOR ALL TABLES; CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA walengine", ""),
    ("CREATE TABLE mine.part PARTITION OF walengine.transfers FOR VALUES IN (4096)", ""),
];

#[test]
fn what_pg_dump_knows_of_the_tables_is_the_same_after_a_rebuild() {
    let dir = TestDir::new("projector-dump");
    let (mut setup, mut projector) = ProjectedNode::projected(&dir, 0x5eed_1103, 1, EVENTS);
    setup.postgres.ask(
        "CREATE SCHEMA mine; CREATE ROLE alice;
         CREATE FUNCTION mine.noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE ACCESS METHOD other_heap TYPE TABLE HANDLER heap_tableam_handler",
    );
    setup.postgres.ask("ALTER ROLE owner SET allow_in_place_tablespaces = on");
    setup.postgres.ask("CREATE TABLESPACE elsewhere LOCATION ''");
    setup.postgres.ask("ALTER ROLE owner RESET ALL");
    for (set, _) in SET {
        setup.postgres.ask(set);
    }
    let before = setup.postgres.dump("walengine");
    for _ in 0..2 {
        let said = rebuilds(&setup, &[]);
        let missing: Vec<_> = SET.iter().filter(|(_, told)| !said.contains(told)).collect();
        assert!(missing.is_empty(), "not told: {missing:?} {said}");
        let after = setup.postgres.dump("walengine");
        let lost: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
        let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
        assert!(lost.is_empty() && new.is_empty(), "lost {lost:#?}, new {new:#?}");
        assert_eq!(before.len(), after.len());
    }
    // Where tables are replaced as a whole, so are the function and the types.
    setup.postgres.ask(
        "DROP TABLE mine.part; DROP TRIGGER told ON walengine.transfers; CREATE ROLE bob;
         GRANT SELECT (code) ON walengine.transfers TO bob;
         REVOKE ALL ON FUNCTION walengine.walengine_wait_for FROM PUBLIC;
         GRANT EXECUTE ON FUNCTION walengine.walengine_wait_for TO alice WITH GRANT OPTION;
         GRANT USAGE ON TYPE walengine.transfer_kind TO alice;
         COMMENT ON TYPE walengine.reservation_state IS 'See the handbook.';
         ALTER TABLE walengine.log ALTER started_at SET STATISTICS 9;
         COMMENT ON VIEW walengine.balances IS 'Mine.'",
    );
    projector.stop();
    let before = setup.postgres.dump("walengine");
    setup.postgres.ask("ALTER TABLE walengine.transfers RENAME COLUMN amount TO sum");
    let said = rebuilds(&setup, &[]);
    assert!(said.contains("grants of function walengine_wait_for"), "{said}");
    let after = setup.postgres.dump("walengine");
    let lost: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
    let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    assert!(lost.is_empty() && new.is_empty(), "lost {lost:#?}, new {new:#?}");
    setup.projecting.audit_finds_no_difference();
    setup.server.stop();
}
