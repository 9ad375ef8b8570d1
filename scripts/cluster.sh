#!/usr/bin/env bash
# A cluster on this machine, to look at and to break. Nodes are numbered from 1.
#   scripts/cluster.sh up            starts three nodes, or five with NODES=5; later, those missing
#   scripts/cluster.sh up --secure   the same, with certificates on every connection
#   scripts/cluster.sh status        shows what runs, and the cluster as its nodes see it
#   scripts/cluster.sh kill N        kills node N with kill -9
#   scripts/cluster.sh pause N       stops node N's process; it keeps its connections
#   scripts/cluster.sh partition N   cuts node N off from the other nodes; clients still reach it
#   scripts/cluster.sh heal          starts killed nodes, resumes paused ones, reconnects cut ones
#   scripts/cluster.sh down          stops all nodes and removes their data
# As root, each node gets a network namespace. Otherwise all share the loopback interface, and
# "partition" is not available. State is kept in WALENGINE_CLUSTER_DIR (default
# ./walengine-cluster); WALENGINE_BINARY names another binary than the one that is built here.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/scripts/lib.sh"

dir="${WALENGINE_CLUSTER_DIR:-./walengine-cluster}"
binary="${WALENGINE_BINARY:-${CARGO_TARGET_DIR:-$here/target}/release/walengine}"
certs="$dir/certs"
nobody="02:00:00:00:00:fe" # no card has this address
client_port=7450
peer_port=7550
http_port=7480
form_seconds=30
stop_seconds=20

# Names of namespaces, bridge and addresses depend on the directory, so that clusters do not meet.
name_network() {
  number=$(($(printf '%s' "$(cd "$dir" && pwd)" | cksum | cut -d' ' -f1) % 50000))
  name="wc$number"
  subnet="10.$((150 + number / 250 % 50)).$((number % 250))"
}

load() {
  [ -f "$dir/nodes" ] || fail "no cluster in $dir: scripts/cluster.sh up starts one"
  read -r count mode secure <"$dir/nodes"
  secure="${secure:-open}"
  name_network
  # What asks the nodes does so as their operator.
  [ "$secure" = open ] || export WALENGINE_TLS="$certs/admin-operator"
}

each() { seq "$count"; }
space() { echo "${name}n$1"; }
card() { printf '02:00:00:00:01:%02x' "$1"; }

host() {
  if [ "$mode" = namespaces ]; then echo "$subnet.$1"; else echo 127.0.0.1; fi
}
client_address() {
  if [ "$mode" = namespaces ]; then echo "$(host "$1"):$client_port"; else echo "127.0.0.1:$((client_port + $1))"; fi
}
peer_address() {
  if [ "$mode" = namespaces ]; then echo "$(host "$1"):$peer_port"; else echo "127.0.0.1:$((peer_port + $1))"; fi
}
http_address() {
  if [ "$mode" = namespaces ]; then echo "$(host "$1"):$http_port"; else echo "127.0.0.1:$((http_port + $1))"; fi
}
client_addresses() {
  local node list=""
  for node in $(each); do list="$list,$(client_address "$node")"; done
  echo "${list#,}"
}

# The process of a node, if it runs.
process() {
  local id
  id=$(cat "$dir/node$1/pid" 2>/dev/null) || return 1
  [ "$(cat "/proc/$id/comm" 2>/dev/null)" = walengine ] || return 1
  # A zombie does not run.
  ! grep -q '^State:[[:space:]]*[ZX]' "/proc/$id/status" 2>/dev/null && echo "$id"
}

is_paused() { grep -q '^State:[[:space:]]*T' "/proc/$1/status" 2>/dev/null; }

is_cut() {
  local cut
  [ "$mode" = namespaces ] || return
  cut=$(ip -n "$(space "$1")" neigh show 2>/dev/null | grep -c "$nobody")
  [ "$cut" -eq $((count - 1)) ]
}

# node N: checks an argument.
node() {
  [[ "${1:-}" =~ ^[0-9]+$ ]] && [ "$1" -ge 1 ] && [ "$1" -le "$count" ] ||
    fail "name a node from 1 to $count"
}

# link FROM TO CARD: sends frames from FROM to TO to this card.
link() {
  ip -n "$(space "$1")" neigh replace "$(host "$2")" lladdr "$3" dev eth0 nud permanent
}

join_all() {
  local from to
  for from in $(each); do
    for to in $(each); do
      [ "$from" = "$to" ] || link "$from" "$to" "$(card "$to")"
    done
  done
}

make_network() {
  local node
  ip link show "$name" >/dev/null 2>&1 && return
  ip link add "$name" type bridge
  ip address add "$subnet.254/24" dev "$name"
  ip link set "$name" up
  for node in $(each); do
    ip netns add "$(space "$node")"
    ip link add "${name}v$node" type veth peer name eth0 address "$(card "$node")" netns "$(space "$node")"
    ip link set "${name}v$node" master "$name" up
    ip -n "$(space "$node")" link set lo up
    ip -n "$(space "$node")" address add "$(host "$node")/24" dev eth0
    ip -n "$(space "$node")" link set eth0 up
  done
  join_all
}

remove_network() {
  local node
  for node in $(each); do
    ip netns delete "$(space "$node")" 2>/dev/null || true
    ip link delete "${name}v$node" 2>/dev/null || true
  done
  ip link delete "$name" 2>/dev/null || true
}

start() {
  local node=$1 other peers="" through=() secrets=() cores
  process "$node" >/dev/null && return
  for other in $(each); do
    [ "$other" = "$node" ] || peers="$peers,$(peer_address "$other")"
  done
  cores=$(nproc)
  [ "$mode" = namespaces ] && through=(ip netns exec "$(space "$node")")
  if [ "$secure" = secure ]; then
    secrets=(--tls "$certs/node-$node")
  elif [ "$mode" = namespaces ]; then
    secrets=(--insecure) # nobody else is in there
  fi
  mkdir -p "$dir/node$node"
  # In a session of its own, so that an interrupt at the terminal does not reach the nodes.
  setsid "${through[@]}" "$binary" --data "$dir/node$node/data" --cores 1 \
    --first-core $(((node - 1) % cores)) --partitions 3 --reserve-mib 64 --segment-mib 16 \
    --listen "$(client_address "$node")" --peer-listen "$(peer_address "$node")" \
    --http "$(http_address "$node")" --join "${peers#,}" --expect "$count" --replicas "$((count < 5 ? 3 : 5))" "${secrets[@]}" \
    </dev/null >/dev/null 2>>"$dir/node$node/log" &
  echo $! >"$dir/node$node/pid"
}

# Waits until the nodes in the arguments serve.
await() {
  local node tries
  for node in "$@"; do
    for ((tries = 0; ; tries++)); do
      "$binary" status --server "$(client_address "$node")" >/dev/null 2>&1 && break
      process "$node" >/dev/null || [ $tries -lt 10 ] ||
        fail "node $node has ended: $(tail -n 1 "$dir/node$node/log")"
      [ $tries -lt $((form_seconds * 10)) ] ||
        fail "node $node does not serve: $(tail -n 1 "$dir/node$node/log")"
      sleep 0.1
    done
  done
}

# An authority for this cluster, and credentials for its nodes, an operator and a program that may do
# everything to accounts.
make_certificates() {
  local node addresses=()
  [ ! -d "$certs/client-app" ] || return 0 # it is made last
  rm -rf "$certs"
  for node in $(each); do addresses+=(--address "$node=$(host "$node")"); done
  "$binary" cert ca --cluster local --dir "$certs" >/dev/null
  cat >>"$certs/ca/policy.toml" <<'END'

[[allow]]
who = "client/app"
may = ["write", "read"]
books = "all"
ledgers = "all"
END
  "$binary" cert node $(each) --dir "$certs" "${addresses[@]}" >/dev/null
  "$binary" cert admin operator --dir "$certs" >/dev/null
  "$binary" cert client app --dir "$certs" >/dev/null
}

up() {
  local wanted_secure=open
  case "${1:-}" in
    "") ;;
    --secure) wanted_secure=secure ;;
    *) fail "no such option: $1 (see --help)" ;;
  esac
  if [ ! -f "$dir/nodes" ]; then
    local wanted="${NODES:-3}"
    [ "$wanted" = 3 ] || [ "$wanted" = 5 ] ||
      fail "NODES is $wanted; it must be 3 or 5"
    mkdir -p "$dir"
    mode=loopback
    if [ "$(id -u)" -eq 0 ]; then
      need_commands ip:iproute2
      mode=namespaces
    fi
    echo "$wanted $mode $wanted_secure" >"$dir/nodes"
  fi
  load
  [ $# -eq 0 ] || [ "$secure" = "$wanted_secure" ] ||
    fail "the cluster in $dir was started without --secure: scripts/cluster.sh down ends it"
  if [ ! -x "$binary" ]; then
    need_rust
    (cd "$here" && cargo build --release --package walengine)
  fi
  if [ "$mode" = namespaces ]; then
    [ "$(id -u)" -eq 0 ] || fail "the cluster in $dir was started by root: run this as root"
    make_network
  else
    echo "not root: all nodes on loopback; partition needs root" >&2
  fi
  [ "$secure" = open ] || make_certificates
  local node
  for node in $(each); do start "$node"; done
  await $(each)
  echo "$count nodes serve; try: export WALENGINE_SERVER=$(client_addresses)"
  [ "$secure" = open ] ||
    echo "as a client: export WALENGINE_TLS=$(cd "$certs" && pwd)/client-app, or admin-operator as an operator"
}

status() {
  local node id state
  for node in $(each); do
    if ! id=$(process "$node"); then
      state="does not run"
    elif is_paused "$id"; then
      state="paused, process $id"
    else
      state="runs, process $id"
    fi
    is_cut "$node" && state="$state, cut off"
    echo "node $node at $(client_address "$node"): $state"
  done
  "$binary" cluster --server "$(client_addresses)"
}

signal() {
  local id
  id=$(process "$2") || fail "node $2 does not run"
  kill "-$1" "$id"
}

kill_node() {
  signal KILL "$1"
  while process "$1" >/dev/null; do sleep 0.01; done
}

partition() {
  local other
  [ "$mode" = namespaces ] ||
    fail "these nodes share one loopback: to cut one off, scripts/cluster.sh down, then up as root"
  for other in $(each); do
    [ "$other" = "$1" ] && continue
    link "$1" "$other" "$nobody"
    link "$other" "$1" "$nobody"
  done
}

heal() {
  local node id
  [ "$mode" = loopback ] || join_all
  for node in $(each); do
    if id=$(process "$node"); then kill -CONT "$id"; else start "$node"; fi
  done
  await $(each)
}

down() {
  local node id tries
  for node in $(each); do
    id=$(process "$node") || continue
    kill -CONT "$id"
    kill "$id"
  done
  for node in $(each); do
    for ((tries = 0; tries < stop_seconds * 10; tries++)); do
      process "$node" >/dev/null || break
      sleep 0.1
    done
    id=$(process "$node") || continue
    echo "node $node does not stop: killed" >&2
    kill -9 "$id"
  done
  [ "$mode" = loopback ] || remove_network
  for node in $(each); do rm -rf "$dir/node$node"; done
  rm -rf "$certs"
  rm -f "$dir/nodes"
  rmdir "$dir" 2>/dev/null || true # what else is in it is not ours
}

command="${1:-}"
case "$command" in
  up) up "${@:2}" ;;
  down | status | heal) load; "$command" ;;
  kill) load; node "${2:-}"; kill_node "$2" ;;
  pause) load; node "${2:-}"; signal STOP "$2" ;;
  partition) load; node "${2:-}"; partition "$2" ;;
  *)
    sed -n '2,13p' "$0" | sed 's/^# \{0,1\}//'
    [ "$command" = -h ] || [ "$command" = --help ] || exit 2
    ;;
esac
