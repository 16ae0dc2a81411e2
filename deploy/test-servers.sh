#!/usr/bin/env bash
# Installs what the tests against real servers need, once, into a cache folder: deploy/test-servers.sh [NAME...]
# Needs Go and npm. Nothing is started, and nothing outside the cache folder is changed.
set -euo pipefail
SERVERS=${AUDITLAKE_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/auditlake-servers}
mkdir -p "$SERVERS/bin"

# go_tool NAME PACKAGE@VERSION: builds bin/NAME-VERSION.
go_tool() {
  local name=$1 package=$2 target
  target=$SERVERS/bin/$name-${package##*@}
  [[ -x $target ]] && return
  local folder=$SERVERS/.build-$name
  GOBIN=$folder go install "$package"
  mv "$folder"/* "$target"
  rmdir "$folder"
}

install_fake_gcs_server() { go_tool fake-gcs-server github.com/fsouza/fake-gcs-server@v1.56.1; }

install_versitygw() { go_tool versitygw github.com/versity/versitygw/cmd/versitygw@v1.8.0; }

install_azurite() {
  local target=$SERVERS/azurite-3.35.0
  [[ -d $target ]] && return
  rm -rf "$target.part"
  npm install --silent --no-audit --no-fund --prefix "$target.part" "azurite@${target##*-}"
  mv "$target.part" "$target"
}

ALL=(fake_gcs_server versitygw azurite)

for name in "${@:-${ALL[@]}}"; do
  echo "installing $name into $SERVERS" >&2
  "install_$name" > "$SERVERS/.install-$name.log" 2>&1 || {
    tail -20 "$SERVERS/.install-$name.log" >&2
    echo "$name could not be installed: see the lines above; Go, npm and a way to their registries are needed" >&2
    exit 1
  }
done
