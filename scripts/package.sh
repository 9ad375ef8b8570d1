#!/usr/bin/env bash
# Makes the package for Debian, and a second one with the debug symbols of its programs:
#   scripts/package.sh [--bin DIR] [--out DIR] [--version VERSION] [--fast]
# Without --bin, which names the directory of programs that are built, it builds a release. --out is target/package unless
# it is named; --fast spares the time that symbols and good compression take. Needs Rust, binutils and dpkg-dev.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

target="${CARGO_TARGET_DIR:-$PWD/target}"
bin="" out="$target/package" fast=false arguments=()
while [ $# -gt 0 ]; do
  case "$1" in
    --bin) bin="$2"; shift ;;
    --out) out="$2"; shift ;;
    --version) arguments+=(--deb-version "$2"); shift ;;
    --fast) fast=true ;;
    -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) fail "no such option: $1 (see --help)" ;;
  esac
  shift
done
need_rust
need_commands objcopy:binutils dpkg-shlibdeps:dpkg-dev

CARGO_DEB=3.8.0
tool="$target/tools/cargo-deb-$CARGO_DEB"
[ -x "$tool/bin/cargo-deb" ] ||
  cargo install --quiet --locked --debug --no-default-features --root "$tool" "cargo-deb@$CARGO_DEB"

if [ -z "$bin" ]; then
  # All packages, as the tests build them: so nothing is built with other features.
  cargo build --workspace --release --bin walengine --bin walengine-projector
  bin="$target/release"
fi

# cargo-deb takes what it packs from target/release of a target directory: here one of our own.
stage="$out/stage"
rm -rf "$stage"
mkdir -p "$stage/release/share/man"
cp "$bin/walengine" "$bin/walengine-projector" "$stage/release/"
# Nothing that is set here gets into the settings file of the package.
mapfile -t set_here < <(compgen -e | grep '^WALENGINE_' || true)
walengine() { env "${set_here[@]/#/--unset=}" "$stage/release/walengine" "$@"; }
projector() { env "${set_here[@]/#/--unset=}" "$stage/release/walengine-projector" "$@"; }
walengine man "$stage/release/share/man"
projector man "$stage/release/share/man"
gzip --best --no-name "$stage/release/share/man"/*
for shell in bash zsh fish; do
  walengine completions "$shell" >"$stage/release/share/$shell"
  projector completions "$shell" >"$stage/release/share/projector.$shell"
done
walengine settings --data /var/lib/walengine >"$stage/release/share/walengine.toml"

if $fast; then
  strip "$stage/release/walengine" "$stage/release/walengine-projector"
  arguments+=(--fast --no-strip --no-dbgsym)
else
  arguments+=(--dbgsym --compress-debug-symbols)
fi
CARGO_TARGET_DIR="$stage" "$tool/bin/cargo-deb" deb --package walengine --no-build --quiet --output "$out/" "${arguments[@]}"
rm -rf "$stage"
ls -s --block-size=K "$out"/*.*deb
