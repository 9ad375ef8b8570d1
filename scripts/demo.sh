#!/usr/bin/env bash
# Runs a server, a private PostgreSQL and the projector between them, with a small made-up bank whose customers go on
# paying, and says how to look at it: console, SQL, curl, command line, Python. Until Ctrl-C, which removes all of it.
#   scripts/demo.sh            the ports are 7450 (clients), 7480 (HTTP) and 7481 (the projector's metrics), unless
#                              WALENGINE_DEMO_PORT, WALENGINE_DEMO_HTTP_PORT and WALENGINE_DEMO_METRICS_PORT name others
#   scripts/demo.sh --check [FILE.csv[.gz]]    scripts/tour.sh: imports, kills, audits, verifies, and ends
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

case "${1:-}" in
  "") ;;
  -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
  --check) shift; exec scripts/tour.sh "$@" ;;
  *) fail "no such option: $1 (see --help)" ;;
esac
need_rust
need_postgres
need_commands curl:curl
programs="${WALENGINE_DEMO_PROGRAMS:-}" # built already: for tests, as is the package for Python
package="${WALENGINE_DEMO_WHEEL:-./python}"
if [ -z "$programs" ]; then
  cargo build --release --package walengine --package walengine-projector
  programs="${CARGO_TARGET_DIR:-target}/release"
fi
walengine="$programs/walengine"

work=$(mktemp -d ./walengine-demo.XXXXXX)
postgres=$(mktemp -d "${TMPDIR:-/tmp}/walengine-demo.XXXXXX") # where an unprivileged user may enter
server=""
projecting=""
finish() {
  [ -z "$projecting" ] || kill "$projecting" 2>/dev/null || true
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$work" "$postgres"
}
trap finish EXIT
trap 'echo >&2; exit 0' INT TERM

export WALENGINE_SERVER="127.0.0.1:${WALENGINE_DEMO_PORT:-7450}"
http="127.0.0.1:${WALENGINE_DEMO_HTTP_PORT:-7480}"
metrics="127.0.0.1:${WALENGINE_DEMO_METRICS_PORT:-7481}"
# Payments of the made-up bank, after which it rests: the demonstration fills no disk.
payments_max=1000000

"$walengine" --data "$work/data" --listen "$WALENGINE_SERVER" --http "$http" --projector-metrics "$metrics" --reserve-mib 64 2>"$work/log" &
server=$!
WALENGINE_MANAGED_POSTGRES="$postgres" "$programs/walengine-projector" --metrics "$metrics" 2>"$work/projector.log" &
projecting=$!
for attempt in $(seq 300); do
  # Only what is ours counts: another server may have the address.
  kill -0 "$server" 2>/dev/null || fail "the server ended: $(tail -n 1 "$work/log")"
  kill -0 "$projecting" 2>/dev/null || fail "the projector ended: $(tail -n 1 "$work/projector.log")"
  ! { curl -sf "http://$http/health/ready" && psql -X -q -h "$postgres" -U walengine walengine \
    -c 'SELECT 1 FROM walengine.balances LIMIT 1'; } >/dev/null 2>&1 || break
  [ "$attempt" -lt 300 ] || fail "not ready: $(tail -n 1 "$work/log") $(tail -n 1 "$work/projector.log")"
  sleep 0.1
done

# send METHOD PATH: what is on standard input, as JSON.
send() {
  curl -s --max-time 10 -o "$work/answer" -w '%{http_code}' -X "$1" "http://$http/api/v1$2" -H 'Content-Type: application/json' --data-binary @-
}

people="anna:Anna Novak|ben:Ben Okafor|clara:Clara Jansen|david:David Silva|emma:Emma Lind|felix:Felix Braun|greta:Greta Hansen|hugo:Hugo Costa"
shops="bakery:Corner Bakery|grocer:Green Grocer|cinema:Odeon Cinema|rail:City Rail|landlord:Linden Homes|payroll:Acme Payroll"
# Customers can't spend what they do not have: some of what they try is refused.
{
  echo '{"events": ['
  tr '|' '\n' <<<"$people" | sed 's/:.*//' | while read -r id; do
    echo "{\"type\": \"account\", \"id\": \"$id\", \"ledger\": 978, \"code\": 1, \"flags\": [\"debits_must_not_exceed_credits\"]},"
  done
  tr '|' '\n' <<<"$shops" | sed 's/:.*//' | while read -r id; do
    [ "$id" = bakery ] || echo ","
    echo "{\"type\": \"account\", \"id\": \"$id\", \"ledger\": 978, \"code\": 2}"
  done
  echo ']}'
} | send POST /events >"$work/status"
[ "$(cat "$work/status")" = 200 ] || fail "no accounts: $(cat "$work/answer")"
# Names, and where the point stands in amounts. Shown by everything; no request takes a name for an id.
said=$(echo '{"id": "euros", "name": "EUR", "scale": 2}' | send PUT /ledgers/978)
[ "$said" = 201 ] || fail "the ledger has no description: $(cat "$work/answer")"
tr '|' '\n' <<<"$people|$shops" | while IFS=: read -r id name; do
  said=$(echo "{\"id\": \"name of $id\", \"name\": \"$name\"}" | send PUT "/accounts/$id/name")
  [ "$said" = 201 ] || fail "$id has no name: $(cat "$work/answer")"
done

# A second's payments: salaries, shopping, tickets that are held and mostly taken, rent, and some that can't be paid.
payments() {
  awk -v seed="$1" -v run="$2" 'BEGIN {
    srand(seed); split("anna ben clara david emma felix greta hugo", person, " "); split("bakery grocer cinema", shop, " ")
    count = 6 + int(rand() * 12); printf "{\"events\": ["
    for (n = 1; n <= count; n++) {
      who = person[1 + int(rand() * 8)]; chance = rand(); flags = ""; more = ""; cents = 180 + int(rand() * 6000)
      from = who; to = shop[1 + int(rand() * 3)]
      if (chance < 0.12 || seed <= 3) { from = "payroll"; to = who; cents = 90000 + int(rand() * 200000) }
      else if (chance < 0.22) { to = "rail"; flags = "\"pending\""; more = sprintf(", \"timeout_seconds\": %d", 60 + int(rand() * 3600)) }
      else if (chance < 0.25) { to = "landlord"; cents = 45000 + int(rand() * 40000) }
      else if (chance < 0.27) { cents = 90000000 }
      printf "%s{\"type\": \"transfer\", \"id\": \"%s-%d-%d\", \"debit_account\": \"%s\", \"credit_account\": \"%s\", \"amount\": \"%d\", \"ledger\": 978, \"code\": 1, \"flags\": [%s]%s}", (n > 1 ? ", " : ""), run, seed, n, from, to, cents, flags, more
      if (flags != "" && rand() < 0.7) printf ", {\"type\": \"transfer\", \"id\": \"%s-%d-%d-taken\", \"debit_account\": \"%s\", \"credit_account\": \"rail\", \"amount\": \"0\", \"pending_id\": \"%s-%d-%d\", \"flags\": [\"post_pending\"]}", run, seed, n, from, run, seed, n
    }
    print "]}" }'
}
payments 1 seed | send POST /events >/dev/null

python="$work/python"
cat <<TEXT

A bank of eight customers is open, and they pay. Look at it:

  Console       http://$http/console
  PostgreSQL    psql -h $postgres -U walengine walengine -c 'SELECT name, balance, ledger_name FROM walengine.named_balances LIMIT 5'

A first transfer, from here and in another terminal. Sent again, it moves nothing more.

  By curl
    curl -s http://$http/api/v1/transfers -H 'Content-Type: application/json' \\
      -d '{"id": "first-by-curl", "debit_account": "payroll", "credit_account": "anna", "amount_decimal": "12.50", "ledger": 978, "code": 1}'

  By command line
    $walengine transfer payroll anna 12.50 --server $WALENGINE_SERVER --id first-by-hand

  By Python
    python3 -m venv $python && $python/bin/pip install -q $package
    $python/bin/python -c 'from walengine import Client; print(Client.connect("$WALENGINE_SERVER").transfer("payroll", "anna", 12_50, ledger=978, code=1).verdict.name)'

Ctrl-C stops all of it and removes what it wrote.
TEXT

# About a dozen a second. One that gets no answer is left out: the page shows why.
for ((second = 2; second * 12 < payments_max; second++)); do
  payments "$second" live | send POST /events >/dev/null || true
  for process in "$server" "$projecting"; do
    kill -0 "$process" 2>/dev/null || fail "a program ended: $(tail -n 1 "$work/log") $(tail -n 1 "$work/projector.log")"
  done
  sleep 1
done
echo "The customers have paid enough. Everything else goes on until Ctrl-C."
wait
