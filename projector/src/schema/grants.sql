-- Run at every start, so that a role that is created later gets its rights. Only the owner of the
-- tables, the role that the projector connects as, can write to them. What is granted already is not
-- granted again: that would change rows of the catalog, and fail whoever changes a table meanwhile.
DO $$
DECLARE
    lacking text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'walengine_reader') THEN
        RETURN;
    END IF;
    IF NOT has_schema_privilege('walengine_reader', '{schema}'::regnamespace::oid, 'USAGE') THEN
        GRANT USAGE ON SCHEMA {schema} TO walengine_reader;
    END IF;
    FOR lacking IN
        SELECT format('SELECT ON TABLE %s', c.oid::regclass)
        FROM pg_class c
        WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND NOT has_table_privilege('walengine_reader', c.oid, 'SELECT')
        UNION ALL
        SELECT format('EXECUTE ON ROUTINE %s', p.oid::regprocedure)
        FROM pg_proc p
        WHERE p.pronamespace = '{schema}'::regnamespace
          AND NOT has_function_privilege('walengine_reader', p.oid, 'EXECUTE')
    LOOP
        EXECUTE format('GRANT %s TO walengine_reader', lacking);
    END LOOP;
END $$;
