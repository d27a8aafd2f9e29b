#!/bin/sh
# Sets up what the arguments name and is missing; done in a moment when nothing is.
#   python  .venv with the dependencies and the dev extra of pyproject.toml
#   bench   the bench extra as well
#   broker  RabbitMQ from the system's package manager, if the machine has none
# Run from anywhere. Exit 0 when everything is there, else 1 with one line that says what to do.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_be_root() { [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }; }

# Installing a server on Debian also starts it as a service of the machine, which nobody asked for.
# A policy that is already there is the administrator's, and stays.
apt_install() {
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    trap 'as_root rm -f '$policy EXIT
    trap 'exit 1' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' | as_root sh -c "cat >$policy && chmod 755 $policy"
  fi
  apt_get="env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300"
  # shellcheck disable=SC2086 # words on purpose
  { as_root $apt_get install --no-install-recommends "$@" ||
    { as_root $apt_get update && as_root $apt_get install --no-install-recommends "$@"; }
  } >"$log" 2>&1
}

# Installs one package under its Debian, Fedora or Homebrew name ("-": not to be had there).
package() {
  log=$(mktemp)
  say "installing $1 ..."
  if [ "$2" != - ] && command -v apt-get >/dev/null && can_be_root; then
    apt_install "$2"
  elif [ "$3" != - ] && command -v dnf >/dev/null && can_be_root; then
    as_root dnf --quiet --assumeyes install "$3" >"$log" 2>&1
  elif [ "$4" != - ] && command -v brew >/dev/null; then
    brew install --quiet "$4" >"$log" 2>&1
  else
    return 1
  fi
}

# The system's own Python first: distributions build it with the compiler's profile, pyenv does not
# unless told to, and the flows are interpreter-bound. Then the newest that Bytewax has wheels for.
pythons="/usr/bin/python3.12 /usr/bin/python3.11 /usr/bin/python3.10
  python3.12 python3.11 python3.10 python3"

# Prints the first that works (pyenv's stand-ins exist without working) and has the modules named.
python_with() {
  for candidate in $pythons; do
    if "$candidate" -c "import sys, $1; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))" \
      >/dev/null 2>&1; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

# One without venv will do where there is no other: make_venv installs what is missing.
find_python() { python_with venv,ensurepip || python_with os; }

make_venv() {
  python=$(find_python) || die \
    "no Python 3.10, 3.11 or 3.12 on the PATH: install one, e.g. apt-get install python3"
  if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
    version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    package "$version-venv" "$version-venv" - - || die \
      "$python cannot make virtual environments: run apt-get install $version-venv as root"
  fi
  "$python" -m venv --clear .venv || die "$python -m venv .venv failed"
}

stamp() { cksum <pyproject.toml; }

install_python() {
  [ "$(cat "$2" 2>/dev/null)" = "$(stamp)" ] && [ -x .venv/bin/python ] && return
  # One at a time: a second make waits here and then finds the work done.
  exec 9<pyproject.toml
  "$(find_python || echo .venv/bin/python)" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' || true
  if [ "$(cat "$2" 2>/dev/null)" != "$(stamp)" ]; then
    .venv/bin/python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
      2>/dev/null && .venv/bin/python -m pip --version >/dev/null 2>&1 || make_venv
    say "installing Python packages into .venv (some minutes the first time) ..."
    # A local CPU build of torch is taken when pip is configured with one (PIP_FIND_LINKS).
    .venv/bin/python -m pip install --quiet --disable-pip-version-check ".[$1]" >&2 || die \
      "pip could not install the dependencies of pyproject.toml into .venv, see above"
    stamp >"$2.new" && mv "$2.new" "$2"
  fi
  exec 9<&-
}

# The places that ops/rabbitmq_node.py looks in.
has_broker() {
  for script in /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server \
    /opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server /usr/local/opt/rabbitmq/sbin/rabbitmq-server; do
    [ -e "$script" ] && return
  done
  command -v rabbitmq-server >/dev/null
}

install_broker() {
  has_broker && return
  package rabbitmq-server rabbitmq-server rabbitmq-server rabbitmq || die \
    "RabbitMQ is missing and could not be installed: run apt-get install rabbitmq-server as root" \
    "(Fedora: dnf install rabbitmq-server, macOS: brew install rabbitmq)"
  has_broker || die "RabbitMQ was installed, but its rabbitmq-server is not on the PATH"
}

for part in "$@"; do
  case $part in
    python) install_python dev .venv/.installed ;;
    bench) install_python dev,bench .venv/.installed-bench ;;
    broker) install_broker ;;
    *) die "usage: ops/install.sh [python] [bench] [broker]" ;;
  esac
done
