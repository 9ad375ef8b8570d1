-- The questions of answers.sh: each five times, the first of a session apart, and once with EXPLAIN.
SET search_path = walengine;
SELECT version();
SELECT relname, pg_size_pretty(pg_relation_size(oid)) AS rows, pg_size_pretty(pg_indexes_size(oid)) AS indexes
  FROM pg_class WHERE relname ~ '_p0000$' AND relkind = 'r' AND pg_relation_size(oid) > 0 ORDER BY 1;
SELECT id AS hot FROM accounts_p0000 ORDER BY id LIMIT 1 \gset
\pset tuples_only on
CREATE FUNCTION pg_temp.asked(what text, question text) RETURNS TABLE (answer text) LANGUAGE plpgsql AS $$
DECLARE
    took numeric[];
    began timestamptz;
    line text;
BEGIN
    FOR n IN 0..5 LOOP
        began := clock_timestamp();
        EXECUTE 'SELECT count(*) FROM (' || question || ') AS q';
        IF n > 0 THEN took := took || round((extract(epoch FROM clock_timestamp() - began) * 1000)::numeric, 1); END IF;
    END LOOP;
    answer := format(E'\n## %s\n\n    %s\n\nms: %s', what, question, array_to_string(ARRAY(SELECT unnest(took) ORDER BY 1), ' '));
    RETURN NEXT;
    FOR line IN EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, COSTS off, TIMING off) ' || question LOOP
        answer := '    ' || line;
        RETURN NEXT;
    END LOOP;
END $$;
\pset format unaligned
SELECT * FROM pg_temp.asked('Statement of a month', format('SELECT * FROM statement(%L, ''2025-06-01Z'', ''2025-07-01Z'')', :'hot'));
SELECT * FROM pg_temp.asked('The same, by time of business', format('SELECT * FROM statement(%L, ''2025-06-01Z'', ''2025-07-01Z'', ''booked'')', :'hot'));
SELECT * FROM pg_temp.asked('Newest 20', format('SELECT * FROM newest_movements(%L, 20)', :'hot'));
SELECT * FROM pg_temp.asked('Newest 50', format('SELECT * FROM newest_movements(%L, 50)', :'hot'));
SELECT * FROM pg_temp.asked('Balance at a time', format('SELECT * FROM balance_at(%L, ''2025-06-17 12:00Z'')', :'hot'));
SELECT * FROM pg_temp.asked('The same, by time of business', format('SELECT * FROM balance_at(%L, ''2025-06-17 12:00Z'', ''booked'')', :'hot'));
SELECT * FROM pg_temp.asked('Balance after an offset', format('SELECT * FROM balance_after(%L, 1200000)', :'hot'));
SELECT * FROM pg_temp.asked('Present balance', format('SELECT * FROM balance_of(%L)', :'hot'));
SELECT * FROM pg_temp.asked('Balances of all accounts at a time', 'SELECT * FROM balances_at(''2025-06-17 12:00Z'')');
SELECT * FROM pg_temp.asked('The same, by time of business', 'SELECT * FROM balances_at(''2025-06-17 12:00Z'', ''booked'')');
SELECT * FROM pg_temp.asked('Trial balance', 'SELECT * FROM trial_balance');
SELECT * FROM pg_temp.asked('Daily volume', 'SELECT * FROM volume_by_day');
SELECT * FROM pg_temp.asked('The same, by day of business', 'SELECT * FROM volume_by_booked_day');
SELECT * FROM pg_temp.asked('Newest time', 'SELECT * FROM newest_time');
