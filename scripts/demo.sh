#!/usr/bin/env bash
# Shows what walengine does: starts a server, a private PostgreSQL and the projector between them,
# imports transactions, asks both for balances, imports again (nothing changes), kills server and
# projector, starts them again, audits PostgreSQL against the log, and verifies every checksum.
#   scripts/demo.sh [FILE.csv[.gz]]   with your own transactions, or with some that it makes
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

work=$(mktemp -d ./walengine-demo.XXXXXX)
postgres=$(mktemp -d "${TMPDIR:-/tmp}/walengine-demo.XXXXXX") # where an unprivileged user may enter
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
  psql -X -h "$postgres" -U walengine walengine -c "SET search_path = walengine" -c "$1" | sed 1d
}

file="${1:-}"
if [ -z "$file" ]; then
  file="$work/transactions.csv"
  # Salaries come in, rents and shopping go out: 20,000 transfers of 500 customers.
  awk 'BEGIN {
    srand(7); print "id,debit_account,credit_account,amount,ledger,code"
    for (i = 1; i <= 20000; i++) {
      customer = "customer:" int(rand() * 500); kind = rand()
      if (i <= 5000) print i ",bank:cash," customer "," int(100000 + rand() * 400000) ",978,1"
      else if (kind < 0.3) print i "," customer ",landlord:" int(rand() * 20) "," int(40000 + rand() * 60000) ",978,2"
      else print i "," customer ",shop:" int(rand() * 100) "," int(100 + rand() * 9900) ",978,3"
    }
  }' >"$file"
fi

say "1. A server on $WALENGINE_SERVER, and the projector with a private PostgreSQL in $postgres"
start
project
"$walengine" status | sed -n '1,12p'

say "2. Import: each transfer decided once, and flushed to disk before it is answered"
"$walengine" import "$file" --create-accounts

say "3. Balances, from the log's own state"
"$walengine" accounts | sed -n '1,6p'

say "   and from SQL: the same, by itself"
catch_up
sql "SELECT id, ledger, debits_pending, debits_posted, credits_pending, credits_posted, version
       FROM accounts ORDER BY log_offset LIMIT 5"

say "4. An account's statement, with the balance after each row"
sql "SELECT time, debit, credit, balance FROM account_statements
      WHERE account_id = (SELECT debit_account_id FROM transfers ORDER BY log_offset DESC LIMIT 1)
      ORDER BY log_offset LIMIT 8"

say "5. The same file again: every row gets its first verdict, nothing changes"
"$walengine" import "$file" --create-accounts

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
