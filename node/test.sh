#!/usr/bin/env bash
# Runs the tests, type checks and examples of the package for Node against two servers, the second of which wants
# certificates:
#   node/test.sh URL URL DIR
# DIR has a client's certificate. The first server has one partition, and nothing in it. What the tests need is installed below
# the target directory, once.
set -euo pipefail
cd "$(dirname "$0")"
. ../scripts/lib.sh

[ $# -eq 3 ] || { sed -n '2,6s/^# \{0,1\}//p' test.sh >&2; exit 2; }
export WALENGINE_URL="$1" WALENGINE_TLS_URL="$2" WALENGINE_TLS_DIR="$3"
target="${CARGO_TARGET_DIR:-$PWD/../target}"
need_node "$target"

# A copy, so that nothing is installed into the tree.
work="$target/tools/node-$(cat package-lock.json test.sh | sha256sum | cut -c 1-16)"
mkdir -p "$work"
for part in src test types; do rm -rf "${work:?}/$part"; done
cp -r package.json package-lock.json tsconfig*.json README.md src test types "$work/"
cd "$work"
[ -e complete ] || { npm ci --no-audit --no-fund --silent && touch complete; }

# What is made from a document, and from the source, is as it would be made today.
differs() {
  echo "node/types differs from what is made today: run what node/README.md says" >&2
  exit 1
}
npm run --silent document -- made-openapi.d.ts >/dev/null
diff -u types/openapi.d.ts made-openapi.d.ts || differs
rm -rf made
npm run --silent types -- made
diff -r -u --exclude openapi.d.ts types made || differs
npm run --silent check
npm test --silent
