#!/usr/bin/env bash
# Builds the package's wheel, installs it, and runs its tests, doctests and type checks against two servers, the
# second of which wants certificates:
#   python/test.sh ADDR:PORT ADDR:PORT DIR
# DIR has a client's certificate. What the tests need is installed below the target directory, once.
set -euo pipefail
cd "$(dirname "$0")"
. ../scripts/lib.sh

[ $# -eq 3 ] || { sed -n '2,5s/^# \{0,1\}//p' test.sh >&2; exit 2; }
export WALENGINE_SERVER="$1" WALENGINE_TLS_SERVER="$2" WALENGINE_TLS_DIR="$3"
need_rust
need_python

. ./wheel.sh
install_wheel

# The installed package, and not the source beside it, which has no module of Rust.
"$bin/pytest" -p no:cacheprovider --doctest-modules --pyargs tests walengine
"$bin/mypy" --cache-dir "$tools/mypy"
cd "$tools"
"$bin/stubtest" walengine --mypy-config-file "$OLDPWD/pyproject.toml" \
  --allowlist "$OLDPWD/tests/stubtest.txt" --ignore-unused-allowlist
