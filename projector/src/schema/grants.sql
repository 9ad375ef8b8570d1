-- Run at every start, so that a role that is created later gets its rights. Only the owner of the
-- tables, the role that the projector connects as, can write to them.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'walengine_reader') THEN
        GRANT USAGE ON SCHEMA {schema} TO walengine_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO walengine_reader;
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO walengine_reader;
    END IF;
END $$;
