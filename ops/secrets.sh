#!/bin/sh
# Makes the credentials that docker-compose.yml requires and .env lacks: random ones, appended to
# .env, which only its owner can then read. What has a value, there or in the environment, is kept.
# Run from anywhere. Exit 0 when everything is there, else 1 with one line that says what to do.
set -eu
cd "$(dirname "$0")/.."
umask 077

die() { printf '%s\n' "$*" >&2; exit 1; }

random() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

has_value() {
  eval "[ -n \"\${$1:-}\" ]" || grep -Eqs "^[[:space:]]*(export[[:space:]]+)?$1[[:space:]]*=[[:space:]]*[^[:space:]#]" .env
}

lines=
made=
newline="
"
# shellcheck disable=SC2016 # the dollars are Compose's
for name in $(grep -o '\${STACK_[A-Z_]*:?' docker-compose.yml | tr -d '${:?' | sort -u); do
  has_value "$name" && continue
  case $name in
    *_USERNAME) value=twinstream ;;
    *_KEY) value=$(random 48) ;;
    *) value=$(random 24) ;;
  esac
  lines="$lines$name=$value$newline"
  made="$made${made:+, }$name"
done
if [ -z "$lines" ]; then
  [ -z "$(find .env -perm -004 2>/dev/null)" ] || printf '%s\n' \
    ".env holds secrets that every user here can read: chmod 600 .env" >&2
  exit 0
fi

# Servers keep the credentials that they were first started with.
volumes=$(docker volume ls --quiet --filter label=com.docker.compose.project=twinstream 2>/dev/null) || volumes=
[ -z "$volumes" ] || die "$made: missing in .env, but the stack has been started with others before:" \
  "put those back, or delete its data with: docker compose down --volumes"

# Closed to others before a secret is in it; the last line may lack its end.
touch .env
chmod 600 .env || die "cannot keep .env from others: chmod 600 .env"
lines="# Made by make local-start:$newline$lines"
[ -z "$(tail -c 1 .env)" ] || lines=$newline$lines
printf '%s' "$lines" >>.env
printf '%s\n' "made $made in .env, which only you can read" >&2
