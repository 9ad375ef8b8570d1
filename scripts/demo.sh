#!/usr/bin/env bash
# Shows what walengine does: starts a server, imports transactions, asks for balances, imports again
# (nothing changes), kills the server, starts it again, and verifies every checksum offline.
#   scripts/demo.sh [FILE.csv[.gz]]   with your own transactions, or with some that it makes
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

case "${1:-}" in
  -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;;
  -*) fail "no such option: $1 (see --help)" ;;
esac
need_rust
cargo build --release --package walengine
walengine="${CARGO_TARGET_DIR:-target}/release/walengine"

work=$(mktemp -d ./walengine-demo.XXXXXX)
server=""
finish() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$work"
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

say "1. A server on 127.0.0.1, data in $work/data"
start
"$walengine" status

say "2. Import: each transfer decided once, and flushed to disk before it is answered"
"$walengine" import "$file" --create-accounts

say "3. Balances, from the log's own state"
"$walengine" accounts | sed -n '1,8p'

say "4. The same file again: every row gets its first verdict, nothing changes"
"$walengine" import "$file" --create-accounts

say "5. kill -9, and start again"
kill -9 "$server"
wait "$server" 2>/dev/null || true
server=""
start
"$walengine" log --limit 5

say "6. Stop, and verify every checksum, the chain and the ledger offline"
kill "$server"
wait "$server" || true
server=""
"$walengine" verify "$work/data"

say "Look around: $walengine --help, README.md, ARCHITECTURE.md"
