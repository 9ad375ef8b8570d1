#!/usr/bin/env bash
# Installs, starts, upgrades, removes and purges the package, under a systemd of its own:
#   packaging/test.sh DIR OLD.deb NEW.deb
# DIR is for the test's files, on a disk that takes direct I/O. The machine's own tree is the container's, with a layer above it
# that is thrown away: nothing is installed on the machine itself. Needs root on Debian.
set -euo pipefail
[ $# -eq 3 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
set -- "$(realpath "$1")" "$(realpath "$2")" "$(realpath "$3")"
cd "$(dirname "$0")"
. ../scripts/lib.sh

[ "$(id -u)" -eq 0 ] || fail "mounts, and starts a container: run it as root"
need_commands systemd-nspawn:systemd-container

# Mounts of its own, which end with it.
if [ -z "${WALENGINE_PACKAGE_MOUNTS:-}" ]; then
  WALENGINE_PACKAGE_MOUNTS=own exec unshare --mount --propagation private bash test.sh "$@"
fi
work="$1"
cp "$2" "$work/old.deb"
cp "$3" "$work/new.deb"
cp inside.sh "$work/"
mkdir -p "$work/data" "$work/layers"
mount -t tmpfs tmpfs "$work/layers"
mkdir "$work/layers/upper" "$work/layers/work" "$work/layers/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/layers/upper,workdir=$work/layers/work" "$work/layers/root"

# Nothing of a package that this machine has had before. Images for builds forbid that services are started; and whether `man`
# knows the pages by heart is not asked.
rm -rf "$work/layers/root/etc/walengine" "$work/layers/root/var/lib/walengine"* "$work/layers/root/usr/sbin/policy-rc.d" \
  "$work/layers/root/var/lib/man-db/auto-update"
cat >"$work/layers/root/etc/systemd/system/package-test.service" <<'UNIT'
[Unit]
Description=The test of the package
[Service]
Type=oneshot
ExecStart=/bin/bash -c '/bin/bash /package-test/inside.sh; systemctl --force exit $?'
StandardOutput=file:/package-test/said
StandardError=inherit
TimeoutStartSec=5min
UNIT
status=0
systemd-nspawn --quiet --directory="$work/layers/root" --bind="$work:/package-test" --bind="$work/data:/var/lib/walengine" \
  --private-network --register=no --keep-unit --console=pipe --boot -- --unit=package-test.service \
  </dev/null >"$work/booted" 2>&1 || status=$?
cat "$work/said" || { cat "$work/booted"; exit 1; }
[ "$status" -eq 0 ] && grep -qx 'the package does what it should' "$work/said"
