#!/usr/bin/env bash
# Checks the types of the console's sources in engine/console/src and builds them into engine/console/dist,
# which is committed and goes into the binary:  scripts/console.sh [--to DIR]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
to="$PWD/engine/console/dist"
case "${1:-}" in
  "") ;;
  -h | --help) sed -n '2,3s/^# \{0,1\}//p' "$0"; exit 0 ;;
  --to) to="${2:?a directory}" ;;
  *) fail "no such option: $1 (see --help)" ;;
esac
need_node
# What it is built with is installed below the target directory, once for each lock file.
tools=$(node_tools console engine/console)
sources=engine/console/src
"$tools/tsc" --project engine/console
mkdir -p "$to"
"$tools/esbuild" "$sources/main.ts" --bundle --minify --format=iife --target=es2022 --charset=utf8 --outfile="$to/app.js" --log-level=warning
"$tools/esbuild" "$sources/app.css" --minify --outfile="$to/app.css" --log-level=warning
cp "$sources/index.html" "$sources/icon.svg" "$to/"
