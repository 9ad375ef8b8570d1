#!/usr/bin/env bash
# Looks at the console of a running server in Debian's chromium:
#   tests/console/test.sh URL PROCESS
# PROCESS is that of another node of its cluster, which is killed. What the tests need is installed below the target
# directory, once; screenshots are kept there.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib.sh
[ $# -eq 2 ] || { sed -n '2,5s/^# \{0,1\}//p' tests/console/test.sh >&2; exit 2; }
need_node
need_commands chromium:chromium
tools=$(node_tools console-tests tests/console)
shots="${CARGO_TARGET_DIR:-$PWD/target}/console-screenshots"
rm -rf "$shots"
mkdir -p "$shots"
cp tests/console/*.mjs "$(dirname "$(dirname "$tools")")/" # where its modules are
exec node "$(dirname "$(dirname "$tools")")/test.mjs" "$1" "$2" "$shots"
