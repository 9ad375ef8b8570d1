# What packaging/test.sh runs as root in the container. Its last line says that all of it was so.
set -euo pipefail
cd /package-test
export DEBIAN_FRONTEND=noninteractive NO_COLOR=1
step() { echo "== $*"; }
show() { systemctl show --value --property "$2" "$1"; }
trap 'echo "failed at line $LINENO"; systemctl status --no-pager --full walengine walengine-projector; journalctl --no-pager --lines 60' ERR

step "installing starts nothing, and makes users and settings"
dpkg --install old.deb
[ "$(show walengine ActiveState)" = inactive ]
[ "$(systemctl is-enabled walengine || true)" = disabled ]
[ "$(systemctl is-enabled walengine-projector || true)" = disabled ]
id walengine && id walengine-projector
[ "$(stat -c '%U %a' /etc/walengine/walengine.toml /etc/walengine/projector.env | tr '\n' ' ')" = 'root 644 root 600 ' ]
grep -q '^data = "/var/lib/walengine"$' /etc/walengine/walengine.toml
man --where walengine walengine-statement walengine-projector walengine-projector-audit >/dev/null
bash -c '. /usr/share/bash-completion/completions/walengine; . /usr/share/bash-completion/completions/walengine-projector'
if file --brief --dereference /usr/bin/walengine 2>/dev/null | grep -q 'not stripped'; then false; fi

# Small files, since they are written whole before they are used.
sed --in-place 's/^#cores = .*/cores = 1/; s/^#segment_mib = .*/segment_mib = 8/; s/^#reserve_mib = .*/reserve_mib = 16/' \
  /etc/walengine/walengine.toml
grep -c '^[a-z]' /etc/walengine/walengine.toml | grep -qx 4

step "the units make sense to systemd, and leave little to be exposed"
systemd-analyze verify /lib/systemd/system/walengine.service /lib/systemd/system/walengine-projector.service
for unit in walengine walengine-projector; do
  systemd-analyze security --offline=true --threshold=15 --no-pager "/lib/systemd/system/$unit.service" >exposure || { cat exposure; false; }
  tail -1 exposure
done

step "it is not started before it serves, and says for whom it waits"
mkdir -p /run/systemd/system/walengine.service.d
waits=/run/systemd/system/walengine.service.d/waits.conf
printf '[Service]\nEnvironment=WALENGINE_PEER_LISTEN=127.0.0.1:7571 WALENGINE_JOIN=127.0.0.1:7572 WALENGINE_EXPECT=2\n' >$waits
systemctl daemon-reload
systemctl start --no-block walengine
until [[ "$(show walengine StatusText)" == "Waiting for 2 nodes"* ]]; do
  [ "$(show walengine ActiveState)" = activating ]
  sleep 0.05
done
[ "$(show walengine ActiveState)" = activating ]
systemctl stop walengine
rm $waits
systemctl daemon-reload
rm -rf /var/lib/walengine/*

step "once it is started it serves, confined"
systemctl start walengine
walengine health
[[ "$(show walengine StatusText)" == "Serving on 127.0.0.1:7450" ]]
pid=$(show walengine MainPID)
[ "$(ps -o user= -p "$pid")" = walengine ] || [ "$(stat -c %U /proc/"$pid")" = walengine ]
# A machine may allow less than the unit asks for; then systemd gives what it allows.
limit() { prlimit --pid "$1" --noheadings --raw --output HARD "--$2" | sed "s/unlimited/$((2 ** 60))/"; }
least() { [ "$1" -lt "$2" ] && echo "$1" || echo "$2"; }
[ "$(limit "$pid" nofile)" = "$(least 1048576 "$(limit 1 nofile)")" ]
[ "$(limit "$pid" memlock)" = "$(least 1073741824 "$(limit 1 memlock)")" ]
[ "$(limit "$pid" core)" = 0 ]
grep -qE '^NoNewPrivs:\s+1$' "/proc/$pid/status"
grep -qE '^Seccomp:\s+2$' "/proc/$pid/status"
grep -qE '^CapEff:\s+0+$' "/proc/$pid/status"
[ "$(stat -c '%U %a' /var/lib/walengine)" = 'walengine 700' ]
for id in till anna; do walengine account create $id; done
walengine transfer till anna 1250 --id order-17
balance() { walengine balance anna --format json; }
before=$(balance)
grep -q 1250 <<<"$before"

step "the projector is started once it projects, with its own user"
postgres=/var/lib/walengine-projector/postgres
echo "WALENGINE_MANAGED_POSTGRES=$postgres" >>/etc/walengine/projector.env
export WALENGINE_MANAGED_POSTGRES=$postgres
systemctl start walengine-projector
[[ "$(show walengine-projector StatusText)" == "Projecting to "* ]]
[ "$(stat -c %U /proc/"$(show walengine-projector MainPID)")" = walengine-projector ]
setpriv --reuid walengine-projector --regid walengine-projector --clear-groups walengine-projector status
systemctl stop walengine-projector
[ "$(show walengine-projector Result)" = success ]

step "a crash is followed by a start, and what a start can't help is not"
kill -KILL "$pid"
until [ "$(show walengine MainPID)" != "$pid" ] && [ "$(show walengine ActiveState)" = active ]; do sleep 0.05; done
[ "$(balance)" = "$before" ]
cp /etc/walengine/walengine.toml kept.toml
echo 'coers = 2' >>/etc/walengine/walengine.toml
restarts=$(show walengine NRestarts)
if systemctl restart walengine; then false; fi
[ "$(show walengine ActiveState) $(show walengine ExecMainStatus)" = 'failed 2' ]
[ "$(show walengine NRestarts)" -le "$restarts" ]
cp kept.toml /etc/walengine/walengine.toml
echo '# changed by a person' >>/etc/walengine/walengine.toml
systemctl restart walengine

step "an upgrade restarts what runs, starts nothing else, and keeps settings and log"
pid=$(show walengine MainPID)
dpkg --install --force-confold new.deb
[ "$(show walengine ActiveState)" = active ]
[ "$(show walengine MainPID)" != "$pid" ]
[ "$(show walengine-projector ActiveState)" = inactive ]
grep -q '^# changed by a person$' /etc/walengine/walengine.toml
[ "$(balance)" = "$before" ]

step "a removal stops it in order, and leaves settings and log"
systemctl enable walengine
dpkg --remove walengine
if pgrep -x walengine; then false; fi
[ -e /etc/walengine/walengine.toml ]
[ -e /var/lib/walengine/superblock ] || ls -A /var/lib/walengine | grep -q .
journalctl --no-pager --unit walengine --lines 20 | grep -q 'finishing what is in flight'

step "a purge removes settings, keeps the log, and says so"
dpkg --purge walengine >purged
cat purged
grep -q '/var/lib/walengine is kept' purged
[ ! -e /etc/walengine/walengine.toml ]
[ ! -e /etc/systemd/system/multi-user.target.wants/walengine.service ]
ls -A /var/lib/walengine | grep -q .

step "the log is there for a later install"
dpkg --install new.deb
systemctl start walengine
[ "$(balance)" = "$before" ]
systemctl stop walengine
[ "$(show walengine Result)" = success ]
echo 'the package does what it should'
