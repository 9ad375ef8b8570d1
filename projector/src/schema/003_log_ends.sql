-- Version 3: what the projector knows of the log, for `walengine-projector status` while no server
-- answers; and a wait that ends in time, whoever holds a lock.

CREATE TABLE log_ends (
    partition  integer PRIMARY KEY,
    log_end    bigint NOT NULL,
    seen_at    timestamptz NOT NULL,
    gone_since timestamptz,
    noted_at   timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 10);
COMMENT ON TABLE log_ends IS
    'What the projector last knew of the log itself. Written every few seconds, apart from the rows.';
COMMENT ON COLUMN log_ends.partition IS 'Partition of the log.';
COMMENT ON COLUMN log_ends.log_end IS 'Offset after the newest committed record that was seen.';
COMMENT ON COLUMN log_ends.seen_at IS 'When a server of walengine last said so.';
COMMENT ON COLUMN log_ends.gone_since IS 'Since when no server of walengine answers; null while one does.';
COMMENT ON COLUMN log_ends.noted_at IS 'When the projector wrote the row: an old time means that no projector runs.';

CREATE OR REPLACE FUNCTION walengine_wait_for(token text, timeout interval DEFAULT '10 seconds')
RETURNS boolean LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT SET lock_timeout = '10s'
AS $$
DECLARE
    parts   text[] := regexp_match(token, '^([0-9a-fA-F]{1,32})-([0-9]{1,5})-([0-9]{1,20})$');
    give_up timestamptz := clock_timestamp() + timeout;
    ours    uuid;
    millis  numeric;
BEGIN
    IF parts IS NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = format('%s is not a token', token),
            HINT = 'A token is cluster-partition-offset, as walengine''s acknowledgements carry it.';
    END IF;
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE feature_not_supported USING
            MESSAGE = 'this transaction can''t see what is committed while it waits',
            HINT = 'Wait before the transaction, or use READ COMMITTED.';
    END IF;
    LOOP
        -- A lock on the tables is waited for no longer than until the end.
        millis := ceil(extract(epoch FROM give_up - clock_timestamp()) * 1000);
        PERFORM set_config('lock_timeout', least(greatest(millis, 1), 2000000000)::bigint::text, true);
        BEGIN
            IF ours IS NULL THEN
                SELECT cluster INTO ours FROM log;
                IF ours IS DISTINCT FROM lpad(parts[1], 32, '0')::uuid THEN
                    RAISE invalid_parameter_value USING
                        MESSAGE = format('the token is of cluster %s, this database of %s', parts[1], ours),
                        HINT = 'Ask the database that is derived from that cluster.';
                END IF;
            END IF;
            PERFORM FROM positions
              WHERE partition = parts[2]::integer AND next_offset > parts[3]::numeric;
            IF FOUND THEN
                RETURN true;
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            NULL;
        END;
        IF clock_timestamp() >= give_up THEN
            RETURN false;
        END IF;
        PERFORM pg_sleep(0.005);
    END LOOP;
END $$;
