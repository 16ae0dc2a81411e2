#!/usr/bin/env bash
# Lands a demo tenant (or, with AUDITLAKE_TENANT_ID and its credential set, a real one), verifies, and asks three questions.
# Needs Python 3.11 to 3.13 and bash. Leaves the lake in ./demo/lake (or ./data) and nothing running.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

land() {
  local lake=$1
  echo "── backfill: everything the service still has"
  auditlake backfill --lake "$lake" --start -7d
  echo
  echo "── verify: the proof, from the lake alone"
  auditlake verify --lake "$lake"
  echo
  local sql
  for sql in \
    "select \"table\", count(*) as records, count(distinct UserId) as users from audit group by all order by 2 desc limit 8" \
    "select UserId, ClientIP, count(*) as failures, max(CreationTime) as latest from aad_logon where Operation = 'UserLoginFailed' group by all order by 3 desc limit 5" \
    "select date, count(*) as downloads, count(distinct UserId) as users from sharepoint where Operation = 'FileDownloaded' group by all order by 1"
  do
    echo "── query: $sql"
    auditlake query --lake "$lake" "$sql"
    echo
  done
}

if [[ ${1:-} == --land ]]; then
  land "$2"
  exit
fi

source ./deploy/environment.sh
prepare_environment

if [[ -n ${AUDITLAKE_TENANT_ID:-} ]]; then
  land ./data
else
  # The demo's content lies in the 7 days before the first run, so that a second run meets the same tenant.
  mkdir -p demo
  [[ -s demo/anchor ]] || date -u +%Y-%m-%dT%H:%M:%SZ > demo/anchor
  auditlake emulate --seed 1 --count 50000 --anchor "$(cat demo/anchor)" -- ./run_local.sh --land ./demo/lake
fi
