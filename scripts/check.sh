#!/usr/bin/env bash
# Checks what every commit must keep: formatting, lints, dependencies, the tidiness of the tree, unit tests.
# Takes a minute or two after a build, more or less with the network. scripts/test.sh runs all tests.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

takes_no_arguments "$@"
need_rust
cargo fmt --all --check
cargo fmt --manifest-path python/Cargo.toml --check
scripts/deny.sh
cargo clippy --workspace --all-targets -- -D warnings
CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}" cargo clippy --manifest-path python/Cargo.toml -- -D warnings
cargo test --workspace --test walengine -- tidy::
# Those of walengine-tests run its simulator at length: scripts/test.sh has them.
cargo test --workspace --exclude walengine-tests --lib --bins
