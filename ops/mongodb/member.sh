#!/bin/bash
# Entry point of a replica set member: writes the key that the members share into a file of its own,
# since mongod wants one that only its user can read, and then starts the image's own entry point.
set -euo pipefail
: "${MEMBER_PORT:?}" "${MEMBER_KEY:?}"

key=/run/mongodb.key
(umask 077 && printf '%s' "$MEMBER_KEY" >"$key")
chown mongodb:mongodb "$key"
chmod 400 "$key"
unset MEMBER_KEY

# A day of history: as long may the cdc flow be down and still go on without a new snapshot.
exec docker-entrypoint.sh mongod --replSet twin --port "$MEMBER_PORT" --bind_ip_all --keyFile "$key" \
  --wiredTigerCacheSizeGB 0.5 --oplogSize 1024 --oplogMinRetentionHours 24
