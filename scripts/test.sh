#!/usr/bin/env bash
# Passes all tests: formatting, lints, unit, property, simulation, fault and end-to-end tests.
#   scripts/test.sh          the tests that need no root and finish in a few minutes
#   scripts/test.sh --all    all of them, as .ci/run does: needs root, to cut power and networks and fill disks
#   scripts/test.sh FILTER   only the integration tests whose name contains FILTER
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

all=false
filter=""
for argument in "$@"; do
  case "$argument" in
    --all) all=true ;;
    -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) fail "no such option: $argument (see --help)" ;;
    *) filter="$argument" ;;
  esac
done

need_rust
if [ -z "${WALENGINE_TEST_DATA:-}" ]; then
  fail "set WALENGINE_TEST_DATA to the folder with berka/ (the bank's transactions) in it"
fi
if $all; then
  [ "$(id -u)" -eq 0 ] || fail "--all cuts the power of loop-mounted disks and fills them: run it as root"
  need_commands xfs_io:xfsprogs mkfs.ext4:e2fsprogs losetup:mount ip:iproute2
fi

if [ -z "$filter" ]; then
  cargo fmt --all --check
  cargo clippy --workspace --all-targets -- -D warnings
fi
need_postgres
need_commands openssl:openssl
cargo build --package walengine --package walengine-projector
if [ -n "$filter" ]; then
  exec cargo test --package walengine-tests --test walengine -- "$filter"
fi
# Simulated clusters take the processor for minutes: by themselves, beside no server under test.
clusters=cluster::nothing_acknowledged
skip=(--skip "$clusters")
# What needs root: loop-mounted disks, network namespaces, frozen processes.
$all || for test in power full_disk a_cluster_comes replicas:: hostile:: join:: divergence:: scripts:: projector_kill every_nodes_feed whose_host_vanished room::; do
  skip+=(--skip "$test")
done
cluster_seeds=100
$all && cluster_seeds=1500
cargo test --workspace --exclude walengine-tests
# Projectors, servers and PostgreSQL die under load: all of it counts in an acceptance run only.
$all && export WALENGINE_PROJECTOR_KILLS_PERCENT="${WALENGINE_PROJECTOR_KILLS_PERCENT:-100}"
cargo test --package walengine-tests -- "${skip[@]}"
WALENGINE_SIM_SEEDS="${WALENGINE_SIM_SEEDS:-$cluster_seeds}" \
  cargo test --package walengine-tests --test walengine -- "$clusters" --nocapture
if $all; then
  # Bugs put in on purpose must be found, or the simulation proves nothing.
  cargo test --package walengine-tests --features planted --test walengine -- planted:: --nocapture
fi
for target in frame entry; do
  cargo run --quiet --package walengine-fuzz -- "$target" --seconds "${WALENGINE_FUZZ_SECONDS:-30}"
done
