#!/usr/bin/env bash
# Installs what the tests against real servers need, once, into a cache folder: deploy/test-servers.sh [NAME...]
# Needs Go, npm, Java 17, Maven and pip. Nothing is started, and nothing outside the cache folder is changed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SERVERS=${AUDITLAKE_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/auditlake-servers}
mkdir -p "$SERVERS/bin"

BEAM=2.77.0
FLINK=1.19.1

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

install_prism() { go_tool prism "github.com/apache/beam/sdks/v2/go/cmd/prism@v$BEAM"; }

install_boot() { go_tool boot "github.com/apache/beam/sdks/v2/python/container@v$BEAM"; }

install_job_server() {
  local target=$SERVERS/job-server-2.62.0
  [[ -d $target ]] && return
  mvn -q -B -f "$here/test-servers/job-server.xml" dependency:copy-dependencies -DoutputDirectory="$target.part"
  mv "$target.part" "$target"
}

install_flink() {
  local target=$SERVERS/flink-$FLINK part
  [[ -d $target ]] && return
  part=$SERVERS/.flink.part
  rm -rf "$part"
  mkdir -p "$part"
  python3 -m pip download -q --disable-pip-version-check --no-deps --no-binary apache-flink-libraries -d "$part" "apache-flink-libraries==$FLINK"
  tar xzf "$part/apache-flink-libraries-$FLINK.tar.gz" -C "$part" --strip-components=2 "apache-flink-libraries-$FLINK/deps/lib"
  rm "$part"/*.tar.gz
  mv "$part" "$target"
}

# python_tool NAME VERSION: an environment of its own, folder NAME-VERSION; used as bin/python -m, for it is moved.
python_tool() {
  local target=$SERVERS/$1-$2
  [[ -d $target ]] && return
  rm -rf "$target.part"
  python3 -m venv "$target.part"
  "$target.part/bin/python" -m pip install -q --disable-pip-version-check uv
  "$target.part/bin/python" -m uv pip install -q --python "$target.part/bin/python" "$1==$2"
  mv "$target.part" "$target"
}

install_kubernetes_validate() { python_tool kubernetes-validate 1.37.0; }

install_airflow() { python_tool apache-airflow 3.3.2; }

ALL=(fake_gcs_server versitygw azurite prism boot job_server flink kubernetes_validate airflow)

for name in "${@:-${ALL[@]}}"; do
  echo "installing $name into $SERVERS" >&2
  "install_$name" > "$SERVERS/.install-$name.log" 2>&1 || {
    tail -20 "$SERVERS/.install-$name.log" >&2
    echo "$name could not be installed: see the lines above; Go, npm, Maven, pip and a way to their registries are needed" >&2
    exit 1
  }
done
