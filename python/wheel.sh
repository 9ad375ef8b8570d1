# Builds the package's wheel, with tools below the target directory. Sourced in this folder by what installs it, after
# scripts/lib.sh.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/../target}"
export PIP_DISABLE_PIP_VERSION_CHECK=1
tools="$CARGO_TARGET_DIR/tools/python-$(cat requirements-test.txt test.sh wheel.sh | sha256sum | cut -c 1-16)"
bin="$tools/bin"
wheels="$tools/wheels"

build() {
  rm -rf "$wheels"
  "$bin/maturin" build --quiet --out "$wheels" --interpreter "$bin/python"
}

# with_wheel COMMAND…: builds it and runs this, with the wheel's file as its last argument. One at a time.
with_wheel() {
  mkdir -p "$CARGO_TARGET_DIR/tools"
  (
    flock 9
    if [ -e "$tools/complete" ]; then
      build
    else
      rm -rf "$tools"
      python3 -m venv "$tools"
      "$bin/pip" install --quiet --no-compile $(grep '^maturin' requirements-test.txt)
      # The rest comes while the wheel is built.
      "$bin/pip" install --quiet --no-compile --requirement requirements-test.txt &
      build
      wait $!
      touch "$tools/complete"
    fi
    "$@" "$wheels"/walengine-*.whl
  ) 9>"$CARGO_TARGET_DIR/tools/python.lock"
}

# install_wheel [PIP]: by this pip, or by that of the tools.
install_wheel() {
  with_wheel "${1:-$bin/pip}" install --quiet --no-deps --force-reinstall
}
