-- Version 1: types of columns. A rebuild gives its new tables those of the old ones, so that the new
-- partitions fit.

CREATE TYPE transfer_kind AS ENUM ('transfer', 'pending', 'post', 'void', 'expire');
COMMENT ON TYPE transfer_kind IS
    'Effect of a record: it moved money, reserved it, or ended a reservation by posting, voiding or expiry.';

CREATE TYPE reservation_state AS ENUM ('pending', 'posted', 'voided', 'expired');
COMMENT ON TYPE reservation_state IS 'State of a pending transfer.';
