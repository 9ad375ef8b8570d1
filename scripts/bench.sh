#!/bin/sh
# Builds server and benchmark, and measures floor and engine in turn. Prints a table and, at the
# end, the targets; writes JSON and SVG to bench-results/. Arguments are passed on.
set -eu

cd "$(dirname "$0")/.."

if [ "${1:-}" = "--help" ] || [ "${1:-}" = "-h" ]; then
    cat <<'HELP'
scripts/bench.sh [OPTIONS]      measure everything (about a quarter of an hour)
scripts/bench.sh --quick        a first look (about a minute)
scripts/bench.sh --case NAME    only cases whose name contains NAME
scripts/bench.sh --nodes 3      a cluster on this machine: the same table, its targets, and faults
scripts/bench.sh --memory       also memory and restart
scripts/bench.sh --peers        also Redis Streams, etcd and PostgreSQL, if installed
scripts/bench.sh --postgres [OPTIONS]   the projector beside a bare COPY, its latency, its cost
scripts/bench.sh --growth [OPTIONS]     do rate, CPU and memory stay as the history grows? (a minute or two;
                                        by hand: --growth --transfers 300M --dir DIR)
scripts/bench.sh load|log|memory|growth|cluster-faults|postgres|peers [OPTIONS]   a part (load needs a running server)

WALENGINE_BENCH names a walengine-bench that is built already, with the servers beside it.

HELP
fi

# Said before the build, which takes minutes; the program itself says what else is wrong.
case "${1:-}" in
    --growth | growth) ;;
    --g* | g*)
        echo "bench.sh: there is no $1; did you mean --growth? See scripts/bench.sh --help" >&2
        exit 2
        ;;
esac

bench="${WALENGINE_BENCH:-}"
if [ -z "$bench" ]; then
    if ! command -v cargo >/dev/null; then
        echo "bench.sh: cargo is missing; install Rust: https://rustup.rs" >&2
        exit 1
    fi
    cargo build --release --quiet -p walengine -p walengine-projector -p walengine-benches
    bench="${CARGO_TARGET_DIR:-target}/release/walengine-bench"
fi

case "${1:-}" in
    run | load | log | memory | growth | cluster-faults | postgres | peers) exec "$bench" "$@" ;;
    --growth)
        shift
        exec "$bench" growth "$@"
        ;;
    --nodes)
        "$bench" run "$@"
        [ $# -gt 2 ] || [ "$2" = 1 ] || exec "$bench" cluster-faults
        ;;
    --postgres)
        shift
        exec "$bench" postgres "$@"
        ;;
    *) exec "$bench" run "$@" ;;
esac
