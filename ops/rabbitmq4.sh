#!/bin/sh
# Runs tests on RabbitMQ 4, that of Debian 13, whatever broker this machine has.
#   ops/rabbitmq4.sh [pytest arguments]      without any: tests/integration tests/chaos
# The first run makes a Debian 13 with that broker in RABBITMQ4_ROOT [.data/rabbitmq-4]: 100 MB are
# downloaded, 300 MB stay on the disk, and it takes a minute. Only the broker runs in it. Python and
# the tests are this machine's, in mount, network and process namespaces of their own: nothing is
# reached from there, and no mount, port or process outlives the run.
# Exit: that of pytest; 1, with one line, where it cannot be done.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

root=${RABBITMQ4_ROOT:-.data/rabbitmq-4}
case $root in /*) ;; *) root=$PWD/$root ;; esac
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

# The parent of everything below: it gathers the processes that tests leave to it.
inside() {
  chroot "$root" ip link set lo up
  # Where the broker of a test keeps its files must have the same name in its root.
  for shared in /proc /sys /dev /tmp "${TMPDIR:-/tmp}" "$PWD"; do
    mkdir -p "$root$shared"
    mount --rbind "$shared" "$root$shared"
  done
  # Hides a broker of the machine: the tests look there before they look at the PATH.
  for own in /usr/lib/rabbitmq/lib /usr/lib/erlang; do
    [ ! -d "$own" ] || mount -t tmpfs none "$own"
  done
  PATH=$root.bin:$PATH
  export PATH
  say "RabbitMQ $(basename "$(broker)" | cut -d- -f2) of Debian 13, in $root"
  status=0
  .venv/bin/python -m pytest "$@" || status=$?
  exit "$status"
}

broker() { ls -d "$root"/usr/lib/rabbitmq/lib/rabbitmq_server-*; }

make_root() {
  command -v debootstrap >/dev/null || die \
    "debootstrap is missing, which makes the Debian 13 that RabbitMQ 4 runs in:" \
    "run apt-get install debootstrap"
  say "making a Debian 13 with RabbitMQ 4 in $root (100 MB to download, 300 MB on the disk, a minute) ..."
  rm -rf "$root.new"
  mkdir -p "$root.new"
  log=$root.log
  { debootstrap --variant=minbase trixie "$root.new" "$mirror" &&
    # A server that is installed is not to be started.
    printf '#!/bin/sh\nexit 101\n' >"$root.new/usr/sbin/policy-rc.d" &&
    chmod 755 "$root.new/usr/sbin/policy-rc.d" &&
    echo "127.0.0.1 localhost" >"$root.new/etc/hosts" &&
    chroot "$root.new" env DEBIAN_FRONTEND=noninteractive \
      apt-get -qq install --no-install-recommends rabbitmq-server iproute2 &&
    chroot "$root.new" apt-get clean
  } >"$log" 2>&1 || die "no Debian 13 with RabbitMQ 4 could be made from $mirror:" \
    "$(grep -E '^[EW]:' "$log" | tail -1) (all of it: $log; DEBIAN_MIRROR names another server)"
  mv "$root.new" "$root"
}

# Commands of the root's broker for this machine's PATH. They keep their process id: a test that
# kills one kills the server. They keep their working directory too, which chroot would not: a node
# finds its files through it.
make_commands() {
  mkdir -p "$root.bin"
  for command in "$(broker)/sbin/rabbitmq-server" "$(broker)/sbin/rabbitmqctl" \
    "$(ls "$root"/usr/lib/erlang/erts-*/bin/epmd)"; do
    printf '#!/bin/sh\nexec chroot "%s" env --chdir="$PWD" "%s" "$@"\n' \
      "$root" "${command#"$root"}" >"$root.bin/${command##*/}"
    chmod 755 "$root.bin/${command##*/}"
  done
}

if [ "${1:-}" = --inside ]; then
  shift
  inside "$@"
fi
[ "$(id -u)" = 0 ] || die "RabbitMQ 4 runs in a root of its own, which needs root: run it with sudo"
unshare --mount --net --pid --fork true 2>/dev/null || die \
  "this machine allows no namespaces of its own (a container without CAP_SYS_ADMIN?):" \
  "run it on the machine itself, or in a container with --privileged"
[ -x .venv/bin/python ] || die ".venv is missing: run make install"
[ -d "$root" ] || make_root
make_commands
[ $# -gt 0 ] || set -- tests/integration tests/chaos
exec unshare --mount --net --pid --fork --mount-proc --kill-child "$0" --inside "$@"
