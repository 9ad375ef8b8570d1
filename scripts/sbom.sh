#!/usr/bin/env bash
# Writes what the released programs are made of, as CycloneDX 1.5: one JSON file for each, below
# target/sbom or in the directory named. Builds cargo-cyclonedx once, which takes some minutes.
#   scripts/sbom.sh [DIRECTORY]
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/scripts/lib.sh"

case "${1:-}" in
  -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;;
  -*) fail "no such option: $1 (see --help)" ;;
esac
target="${CARGO_TARGET_DIR:-$here/target}"
to="${1:-$target/sbom}"
need_rust
need_commands jq:jq

version=0.5.9
tools="$target/tools/cargo-cyclonedx-$version"
[ -x "$tools/bin/cargo-cyclonedx" ] ||
  cargo install cargo-cyclonedx --locked --version "$version" --root "$tools"

mkdir -p "$to"
to=$(cd "$to" && pwd)
cd "$here"
host=$(rustc -vV | sed -n 's/^host: //p')
# It writes beside each Cargo.toml of the workspace.
trap 'rm -f "$here"/*/walengine*.cdx.json' EXIT
PATH="$tools/bin:$PATH" cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$host"
for file in engine/walengine.cdx.json projector/walengine-projector.cdx.json; do
  package=$(basename "$file" .cdx.json)
  # It lists what could be compiled with other features, too; cargo tree knows what is.
  compiled=$(cargo tree --locked --package "$package" --edges normal,build --target "$host" --prefix none |
    awk '{ print $1 "@" substr($2, 2) }' | sort -u)
  # Where it was made is nobody's business.
  jq --arg compiled "$compiled" '($compiled | split("\n")) as $all
    | .components |= map(select("\(.name)@\(.version)" | IN($all[])))
    | ([.metadata.component["bom-ref"]] + [.components[]["bom-ref"]]) as $refs
    | .dependencies |= map(select(.ref | IN($refs[])) | .dependsOn = [.dependsOn // [] | .[] | select(IN($refs[]))])' "$file" |
    sed "s|$here|.|g" >"$to/.$package.new"
  mv "$to/.$package.new" "$to/$package.cdx.json"
  echo "$to/$package.cdx.json"
done
