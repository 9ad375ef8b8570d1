#!/usr/bin/env bash
# Runs the tests: formatting, lints, dependencies, unit, property, simulation, fault and end-to-end tests.
#   scripts/test.sh          those that need no root and finish within ten minutes
#   scripts/test.sh --all    all of them; needs root, to cut power and networks and to fill disks
#   scripts/test.sh FILTER   only the integration tests whose names contain FILTER, whatever they need
# WALENGINE_TEST_DATA names the folder that has the bank's transactions in berka/. Without it, the
# tests that need them are left out, and named at the end. scripts/check.sh takes a minute or two.
set -euo pipefail
# Tests interrupt programs, which respect signals that are ignored where they are started, as they are in
# the background of a script.
if [ -z "${WALENGINE_TEST_SIGNALS:-}" ]; then
  exec env --default-signal WALENGINE_TEST_SIGNALS=default bash "$0" "$@"
fi
cd "$(dirname "$0")/.."
. scripts/lib.sh

# What tests need, by the beginnings of their names. The rest needs no more than PostgreSQL, Python, Node.js,
# openssl, curl and promtool.
needs_data=(berka:: projector_bank::)
needs_root=(
  book:: backup::a_full_disk backup::a_restored_node backup::backups_of_a_cluster bounds::a_leader_without
  berka::a_cluster_comes divergence:: export::servers::one_node export::servers::an_import_survives
  feed::every_nodes_feed health:: hostile:: join:: power::
  across_nodes:: projector_kill:: projector_trouble::a_full_disk projector_trouble::a_projector_whose_host_vanished
  process::disk::a_full_disk process::disk::a_stop_is_given_up process::disk::verify_reads
  liar:: packages::the_package replicas:: room:: scripts::a_local_cluster scripts::a_secured_cluster serve::a_full_disk serve::a_nearly_full_disk
)
# Simulations that take the processor for minutes: they run alone, beside no server under test.
clusters=(cluster::nothing_acknowledged cluster::a_member_that_lies ids::ids_are_what_they_were
  spanning::what_spans_partitions)
# What --all takes, its builds and what tests write at once, with some left.
space_gb=15
data_files=(transfers.csv.gz expected_balances.csv.gz trans.asc.gz)

all=false
filter=""
for argument in "$@"; do
  case "$argument" in
    --all) all=true ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) fail "no such option: $argument (see --help)" ;;
    *) filter="$argument" ;;
  esac
done

# Names of the integration tests that match any of the arguments, one a line.
names() {
  local line pattern
  for line in $known; do
    for pattern in "$@"; do
      [[ "$line" != *"$pattern"* ]] || { echo "$line"; break; }
    done
  done
}
# Simulations that run for minutes want an optimized build. All tests share it, so that nothing is built twice.
profile=()
built=debug
if $all; then
  profile=(--profile simulation)
  built=simulation
fi
# Each selection of packages has other features of common dependencies, for which all of it is built again.
# So the whole workspace is selected for whatever runs here.
build_programs() {
  cargo build --workspace "${profile[@]}" --bin walengine --bin walengine-projector --bin walengine-bench "$@"
}
integration_tests() {
  cargo test --workspace "${profile[@]}" --test walengine -- "$@"
}
list_tests() {
  integration_tests --list | sed -n 's/: test$//p'
}

data="${WALENGINE_TEST_DATA:-}"
if [ -n "$data" ]; then
  for file in "${data_files[@]}"; do
    [ -r "$data/berka/$file" ] || fail "WALENGINE_TEST_DATA is $data, but $data/berka/$file cannot be read"
  done
fi
need_rust
! $all || [ "$(id -u)" -eq 0 ] || fail "--all cuts the power of loop-mounted disks and fills them: run it as root"
# A disk that fills up under the tests fails dozens of them, none of which says why.
need_space() { # folder
  local free
  free="$(df --output=avail --block-size=1G "$1" | tail -n 1)"
  [ "$free" -ge "$space_gb" ] || fail "$1 has ${free# } GB free, and building and testing everything takes up to $space_gb GB"
}
need_root_commands() {
  need_commands systemd-nspawn:systemd-container dpkg-shlibdeps:dpkg-dev \
    xfs_io:xfsprogs mkfs.ext4:e2fsprogs losetup:mount ip:iproute2 nft:nftables
}

if [ -n "$filter" ]; then
  ! $all || need_root_commands
  build_programs
  known=$(list_tests)
  [ -n "$(names "$filter")" ] || fail "no integration test has $filter in its name"
  if names "$filter" | grep -Eq '^(projector_|book::)'; then
    need_postgres
    need_commands openssl:openssl
  fi
  if names "$filter" | grep -q '^metrics::'; then
    need_commands promtool:prometheus
  fi
  if names "$filter" | grep -Eq '^(python|book|demo|kafka)::'; then
    need_python
  fi
  if names "$filter" | grep -Eq '^(book|kafka)::'; then
    need_commands kcat:kcat
  fi
  if names "$filter" | grep -q '^node::'; then
    need_node
  fi
  if names "$filter" | grep -q '^console::'; then
    need_postgres
    need_node
    need_commands chromium:chromium
  fi
  if names "$filter" | grep -q '^demo::'; then
    need_postgres
    need_commands curl:curl
  fi
  integration_tests "$filter"
  exit
fi

if $all; then
  mkdir -p "${CARGO_TARGET_DIR:-target}"
  need_space "${CARGO_TARGET_DIR:-target}"
  need_space "${TMPDIR:-/tmp}"
fi
# What tests need is fetched while lints are at work.
need_everything() {
  ! $all || need_root_commands
  need_postgres
  need_python
  need_node
  need_commands pip3:python3-pip openssl:openssl curl:curl promtool:prometheus chromium:chromium kcat:kcat ip:iproute2
}
need_everything &
fetching=$!
cargo fmt --all --check
cargo fmt --manifest-path python/Cargo.toml --check
cargo clippy --workspace "${profile[@]}" --all-targets -- -D warnings
CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}" cargo clippy --manifest-path python/Cargo.toml -- -D warnings
wait "$fetching" || fail "could not get what the tests need"
need_node # once more, for the path
scripts/deny.sh
# At once, since much of each crate's build uses one processor.
cargo test --workspace "${profile[@]}" --no-run
build_programs --bin walengine-fuzz
known=$(list_tests)

left_out=()
[ -n "$data" ] || left_out+=("${needs_data[@]}")
$all || left_out+=("${needs_root[@]}")
skip=()
for pattern in "${clusters[@]}"; do
  skip+=(--skip "$pattern")
done
for pattern in "${left_out[@]}"; do
  [ -n "$(names "$pattern")" ] || fail "no integration test has $pattern in its name: correct this script"
  skip+=(--skip "$pattern")
done
# By hand: WALENGINE_SIM_SEEDS=3000 scripts/test.sh ids::ids_are, and more for whoever changes them.
cluster_seeds=(100 50 40 30)
$all && cluster_seeds=(500 100 150 300)
cargo test --workspace "${profile[@]}" --exclude walengine-tests
# With walengine-benches, which has no library: for the features of the whole workspace.
cargo test "${profile[@]}" --package walengine-tests --package walengine-benches --lib
fuzzing=()
for target in frame entry; do
  "${CARGO_TARGET_DIR:-target}/$built/walengine-fuzz" "$target" --seconds "${WALENGINE_FUZZ_SECONDS:-30}" &
  fuzzing+=($!)
done
for fuzz in "${fuzzing[@]}"; do
  wait "$fuzz" || fail "the fuzzer has found what breaks a reader: see above"
done
# Projectors, servers and PostgreSQL die under load. An acceptance run has all of it: 100.
$all && export WALENGINE_PROJECTOR_KILLS_PERCENT="${WALENGINE_PROJECTOR_KILLS_PERCENT:-50}"
# Tests of real processes wait more than they compute.
RUST_TEST_THREADS="${RUST_TEST_THREADS:-$(($(nproc) + 1))}" integration_tests "${skip[@]}"
for at in "${!clusters[@]}"; do
  WALENGINE_SIM_SEEDS="${WALENGINE_SIM_SEEDS:-${cluster_seeds[$at]}}" integration_tests "${clusters[$at]}" --nocapture
done
if $all; then
  # Bugs put in on purpose must be found, or the simulation proves nothing.
  cargo test --workspace "${profile[@]}" --features walengine-tests/planted --test planted -- --nocapture
fi

if ! $all; then
  echo "left out, since they need root or minutes (--all runs them):"
  names "${needs_root[@]}" | sed 's/^/  /'
fi
if [ -z "$data" ]; then
  echo "left out, since they need the bank's transactions (set WALENGINE_TEST_DATA):"
  names "${needs_data[@]}" | sed 's/^/  /'
fi
