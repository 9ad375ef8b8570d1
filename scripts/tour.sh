#!/usr/bin/env bash
# Shows what walengine does: starts a server, a private PostgreSQL and the projector between them,
# imports transactions, asks both for balances, imports again (nothing changes), kills server and
# projector, starts them again, audits PostgreSQL against the log, and verifies every checksum.
#   scripts/tour.sh [FILE.csv[.gz]]   with your own transactions; without, with a made-up bank's
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

case "${1:-}" in
  -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;;
  -*) fail "no such option: $1 (see --help)" ;;
esac
need_rust
need_postgres
cargo build --release --package walengine --package walengine-projector
walengine="${CARGO_TARGET_DIR:-target}/release/walengine"
projector="${CARGO_TARGET_DIR:-target}/release/walengine-projector"

work=$(mktemp -d ./walengine-tour.XXXXXX)
postgres=$(mktemp -d "${TMPDIR:-/tmp}/walengine-tour.XXXXXX") # where an unprivileged user may enter
export WALENGINE_MANAGED_POSTGRES="$postgres"
server=""
projecting=""
finish() {
  [ -z "$projecting" ] || kill "$projecting" 2>/dev/null || true
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$work" "$postgres"
}
trap finish EXIT
export WALENGINE_SERVER="127.0.0.1:${WALENGINE_DEMO_PORT:-7450}"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

start() {
  "$walengine" --data "$work/data" --listen "$WALENGINE_SERVER" --reserve-mib 64 2>>"$work/log" &
  server=$!
  for _ in $(seq 100); do
    "$walengine" status >/dev/null 2>&1 && return
    kill -0 "$server" 2>/dev/null || { tail -n 3 "$work/log" >&2; server=""; exit 1; }
    sleep 0.1
  done
  fail "the server did not start: $(tail -n 1 "$work/log")"
}

project() {
  "$projector" 2>>"$work/projector.log" &
  projecting=$!
}

# Until PostgreSQL has what the log has.
catch_up() {
  local lag=
  for _ in $(seq 200); do
    lag=$("$projector" status 2>/dev/null |
      awk 'NR > 1 { sum += $4; rows++ } END { if (rows) print sum }') || true # not there yet
    [ "$lag" = 0 ] && return
    kill -0 "$projecting" 2>/dev/null || { tail -n 3 "$work/projector.log" >&2; projecting=""; exit 1; }
    sleep 0.1
  done
  fail "PostgreSQL did not catch up: $(tail -n 1 "$work/projector.log")"
}

sql() {
  psql -X -q -h "$postgres" -U walengine walengine -c "SET search_path = walengine" -c "$1"
}

# Imports the file. Some rows are refused, as in most files; the exit code then is 1.
import() {
  "$walengine" import "$file" --create-accounts --refused "$work/refused.csv" || [ $? -eq 1 ]
}

# Names of the accounts in the file, those with most rows first. The log knows ids only.
list_names() {
  local cat=cat
  [[ "$file" != *.gz ]] || cat="gzip -cd"
  echo account
  $cat "$file" | awk -F, '
    NR == 1 { for (i = 1; i <= NF; i++) if ($i == "debit_account" || $i == "credit_account") side[i] }
    NR > 1 { for (i in side) rows[$i]++ }
    END { for (name in rows) print rows[name] "\t" name }' | sort -t "$(printf '\t')" -k1,1nr -k2 | cut -f2
}

# An account's id as SQL has it: the number's hexadecimal digits.
uuid="(lpad(to_hex(div(id, 2::numeric ^ 96)::bigint), 8, '0')
    || lpad(to_hex(mod(div(id, 2::numeric ^ 64), 2::numeric ^ 32)::bigint), 8, '0')
    || lpad(to_hex(mod(div(id, 2::numeric ^ 32), 2::numeric ^ 32)::bigint), 8, '0')
    || lpad(to_hex(mod(id, 2::numeric ^ 32)::bigint), 8, '0'))::uuid"

# money AMOUNT: euros and dollars for the ledgers that have their numbers, minor units for others.
money() {
  echo "CASE WHEN ledger IN (978, 840) THEN to_char($1 / 100, 'FM999G999G990D00') ELSE ($1)::text END"
}

file="${1:-}"
booked=time
if [ -z "$file" ]; then
  file="$work/bank.csv"
  booked="to_timestamp(user_data_64)" # when the bank booked it; time is when the log has it
  "$walengine" sample --accounts 500 --transfers 20000 >"$file"
fi

say "1. A server on $WALENGINE_SERVER, and the projector with a private PostgreSQL in $postgres"
start
project
"$walengine" status | sed -n '1,12p'

say "2. Import: each transfer is decided once, and flushed to disk before it is answered"
sed -n '1,4p' "$file" 2>/dev/null | cut -c 1-100 | grep -a '^[[:print:]]*$' || true
import
[ ! -f "$work/refused.csv" ] || sed -n '1,4p' "$work/refused.csv" | cut -d, -f 1-6

say "3. Balances, from the log's own state: the busiest accounts"
list_names >"$work/names.csv"
head -n 7 "$work/names.csv" >"$work/busiest.csv"
"$walengine" accounts --from "$work/busiest.csv"

say "   and from SQL: the same, by itself"
catch_up
sql "CREATE SCHEMA demo; CREATE TABLE demo.accounts (name text, id numeric, uuid uuid)"
"$walengine" accounts --from "$work/names.csv" --format csv |
  psql -X -q -h "$postgres" -U walengine walengine -c "CREATE TEMP TABLE listed (name text, id numeric, c3
    text, c4 text, c5 text, c6 text, c7 text, c8 text, c9 text, c10 text, c11 text, c12 text, c13 text,
    c14 text, c15 text, c16 text, c17 text, c18 text, c19 text)" -c "COPY listed FROM STDIN CSV HEADER" \
    -c "INSERT INTO demo.accounts SELECT name, id, $uuid FROM listed"
sql "SELECT name, ledger, $(money debits_posted) AS debits, $(money credits_posted) AS credits,
            $(money "(debits_pending + credits_pending)") AS reserved
       FROM balances JOIN demo.accounts ON uuid = account_id ORDER BY version DESC, name LIMIT 6"

say "4. An account's statement, with the balance after each row"
sql "WITH whose AS (SELECT debit_account_id AS account_id FROM transfers WHERE kind = 'transfer'
                     ORDER BY log_offset DESC LIMIT 1),
          statement AS (SELECT s.*, t.user_data_64
                          FROM account_statements s JOIN transfers t USING (partition, log_offset)
                         WHERE s.account_id = (SELECT account_id FROM whose))
     SELECT whose.name AS account, $booked::date AS booked, other.name AS with,
            $(money debit) AS out, $(money credit) AS in, $(money balance) AS balance
       FROM statement LEFT JOIN demo.accounts whose ON whose.uuid = account_id
       LEFT JOIN demo.accounts other ON other.uuid = other_account_id
      ORDER BY log_offset LIMIT 10"

say "5. The same file again: every row gets its first verdict, nothing changes"
import

say "6. kill -9 of the server and of the projector, and start both again"
kill -9 "$projecting" "$server"
wait "$projecting" "$server" 2>/dev/null || true
server="" projecting=""
start
project
"$walengine" log --limit 5

say "7. Audit: every row of PostgreSQL against the log"
catch_up
"$projector" audit 2>/dev/null

say "8. Stop, and verify every checksum, the chain and the ledger offline"
kill "$projecting"
wait "$projecting" || true
projecting=""
kill "$server"
wait "$server" || true
server=""
"$walengine" verify "$work/data"

say "Look around: $walengine --help, $projector --help, README.md, ARCHITECTURE.md;
in psql: \\d+ walengine.transfers, SELECT * FROM walengine.pending_transfers, walengine.refused_events"
