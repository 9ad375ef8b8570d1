-- What version 11 brought for partition {number}; see partition.sql.

CREATE INDEX ON account_events_{suffix} (account_id, log_offset DESC) WHERE kind = 'name';
CREATE INDEX ON account_events_{suffix} (lower(name) text_pattern_ops) WHERE kind = 'name';
CREATE INDEX ON account_events_{suffix} (ledger, log_offset DESC) WHERE kind = 'describe';
