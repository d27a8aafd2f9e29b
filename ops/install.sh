#!/bin/sh
# Sets up what the arguments name and is missing; done in a moment when nothing is.
#   python  .venv with the dependencies and the dev and collect extras of pyproject.toml; where
#           every Python is too new for Bytewax, also a CPython 3.12, by uv
#   bench   the bench extra as well
#   optional  the libraries of retrieval/langchain.py, retrieval/llamaindex.py and of int8 (220 MB)
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
# A policy keeps it from that. One that is already there is the administrator's and stays, unless an
# install.sh that was killed has left it behind.
policy=/usr/sbin/policy-rc.d

left_behind() {
  [ -e "$policy" ] && maker=$(sed -n 's/^# made by ops\/install.sh, process //p' "$policy") &&
    [ -n "$maker" ] && ! grep -qs install.sh "/proc/$maker/cmdline"
}

forbid_services() {
  if [ ! -e "$policy" ] || left_behind; then
    trap 'as_root rm -f "$policy"' EXIT
    trap 'exit 1' INT TERM HUP
    printf '#!/bin/sh\n# made by ops/install.sh, process %s\nexit 101\n' $$ |
      as_root sh -c "cat >$policy.new && chmod 755 $policy.new && mv $policy.new $policy"
  fi
}

apt_install() {
  forbid_services
  apt_get="env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300"
  # shellcheck disable=SC2086 # words on purpose
  { as_root $apt_get install --no-install-recommends "$@" ||
    { as_root $apt_get update && as_root $apt_get install --no-install-recommends "$@"; }
  } >"$log" 2>&1
}

# Installs one package under its Debian, Fedora or Homebrew name ("-": not to be had there).
package() {
  say "installing $1 ..."
  log=$(mktemp)
  if try_package "$@"; then rm -f "$log"; else say "it could not be installed, see $log"; return 1; fi
}

try_package() {
  if [ "$2" != - ] && command -v apt-get >/dev/null && can_be_root; then
    apt_install "$2"
  elif [ "$3" != - ] && command -v dnf >/dev/null && can_be_root; then
    as_root dnf --quiet --assumeyes install "$3" >"$log" 2>&1
  elif [ "$4" != - ] && command -v brew >/dev/null; then
    brew install --quiet "$4" >"$log" 2>&1
  else
    echo "no package manager here has it, or root's rights are missing" >"$log"
    return 1
  fi
}

# The system's own Python first: distributions build it with the compiler's profile, pyenv does not
# unless told to, and the flows are interpreter-bound. Then the newest that Bytewax has wheels for.
# Last those that uv has fetched, for this checkout or for another purpose.
pythons="/usr/bin/python3.12 /usr/bin/python3.11 /usr/bin/python3.10
  python3.12 python3.11 python3.10 python3"
fetched=${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-${HOME:-}/.local/share}/uv/python}

# Prints the first that works (pyenv's stand-ins exist without working) and has the modules named.
python_with() {
  for candidate in $pythons "$fetched"/cpython-3.1[012]*/bin/python3.1[012]; do
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

add_venv_module() {
  "$1" -c 'import venv, ensurepip' >/dev/null 2>&1 && return
  version=$("$1" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
  package "$version-venv" "$version-venv" - - || die \
    "$1 cannot make virtual environments: run apt-get install $version-venv as root"
}

# Where every Python is newer than Bytewax's wheels, uv fetches one into the user's own folder. uv
# is a package of PyPI, and needs no longer to be there than this takes.
fetch_python() {
  newer=$(command -v python3) || return 1
  mirror=${UV_PYTHON_INSTALL_MIRROR:-github.com/astral-sh/python-build-standalone}
  say "Bytewax needs Python 3.10, 3.11 or 3.12, and here is $("$newer" --version): fetching CPython" \
    "3.12 (30 MB) from $mirror with uv (20 MB, from PyPI) into $fetched ..."
  uv=$(command -v uv) || {
    add_venv_module "$newer"
    with_uv=$(mktemp -d)
    uv=$with_uv/bin/uv
    "$newer" -m venv "$with_uv" &&
      "$with_uv/bin/pip" install --quiet --disable-pip-version-check uv >&2
  } && "$uv" python install --no-bin 3.12 >&2 || uv=
  rm -rf "${with_uv:-}"
  [ -n "$uv" ]
}

make_venv() {
  python=$(find_python) || {
    fetch_python || die \
      "no Python 3.10, 3.11 or 3.12: install one (Debian 12: apt-get install python3, Fedora: dnf" \
      "install python3.12, macOS: brew install python@3.12), or set UV_PYTHON_INSTALL_MIRROR to a" \
      "copy of python-build-standalone's releases that this machine can reach"
    python=$(find_python) || die "uv fetched CPython 3.12 into $fetched, where it does not work"
  }
  add_venv_module "$python"
  "$python" -m venv --clear .venv || die "$python -m venv .venv failed"
}

stamp() { cksum <pyproject.toml; }

install_python() {
  [ "$(cat "$2" 2>/dev/null)" = "$(stamp)" ] && [ -x .venv/bin/python ] && return
  # One at a time: a second make waits here and then finds the work done.
  exec 9<pyproject.toml
  "$(find_python || command -v python3 || echo .venv/bin/python)" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' \
    2>/dev/null || true
  if [ "$(cat "$2" 2>/dev/null)" != "$(stamp)" ]; then
    if ! .venv/bin/python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
      2>/dev/null || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then make_venv; fi
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

if left_behind && can_be_root; then as_root rm -f "$policy"; fi

for part in "$@"; do
  case $part in
    python) install_python dev,collect .venv/.installed ;;
    bench) install_python dev,bench,int8 .venv/.installed-bench ;;
    optional) install_python dev,collect,langchain,llama-index,int8 .venv/.installed-optional ;;
    broker) install_broker ;;
    *) die "usage: ops/install.sh [python] [bench] [optional] [broker]" ;;
  esac
done
