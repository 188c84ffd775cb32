#!/usr/bin/env bash
# Sets up what the tests need and runs all of them; arguments go to the test runner.
# --with-kubernetes, first: with a real API server, which takes minutes to build the first time.
# As root with apt it installs the servers and tools; otherwise it names what is missing, and tests that need it say they skip.
# Quick when everything is there already.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sharkrec
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
export PATH=$PATH:/usr/sbin:/sbin
kubernetes=no
if [ "${1:-}" = --with-kubernetes ]; then kubernetes=yes; shift; fi
command -v cargo >/dev/null || . "${CARGO_HOME:-$HOME/.cargo}/env"

# program:package
needs="tshark:tshark capinfos:wireshark-common editcap:wireshark-common tcpdump:tcpdump nginx:nginx-light dnsmasq:dnsmasq-base
dnsperf:dnsperf nft:nftables ethtool:ethtool ip:iproute2 tmux:tmux zstd:zstd lz4:lz4 setpriv:util-linux jq:jq curl:curl openssl:openssl
strip:binutils mkfs.ext4:e2fsprogs mkfs.exfat:exfatprogs mount.exfat-fuse:exfat-fuse faketime:faketime wget:wget node:nodejs
keytool:default-jre-headless"

missing() {
  for need in $needs; do command -v "${need%%:*}" >/dev/null || printf '%s ' "${need#*:}"; done
  # These are no programs: a library to link with, whose place the compiler knows, and a module of Python.
  [ -e "$(cc -print-file-name=libssl.a 2>/dev/null)" ] || printf 'libssl-dev '
  python3 -c 'import ensurepip' 2>/dev/null || printf 'python3-venv '
}

# Packages must not start their servers here: the tests start their own, in namespaces.
install() {
  local policy=/usr/sbin/policy-rc.d made=no
  if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && made=yes; fi
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086 # a list of packages
  apt-get -q -o DPkg::Lock::Timeout=600 update >&2 &&
    apt-get -q -o DPkg::Lock::Timeout=600 install -y --no-install-recommends $1 >&2 || echo "test.sh: apt-get failed" >&2
  [ "$made" = no ] || rm -f "$policy"
}

tools() {
  local packages
  packages=$(missing)
  [ -n "$packages" ] || return 0
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then install "$packages"; fi
  packages=$(missing)
  [ -z "$packages" ] || echo "test.sh: not installed: $packages; the tests that need them skip and say so" >&2
}

# DuckDB reads the tables as an outsider does; nbclient executes the notebook, with ipykernel; the others bring TLS of their own.
python() {
  export SHARK_PYTHON=$cache/venv/bin/python
  "$SHARK_PYTHON" -c 'import duckdb, nbclient, ipykernel, OpenSSL, curl_cffi, grpc' 2>/dev/null && return
  { python3 -m venv "$cache/venv" && "$SHARK_PYTHON" -m pip install -q duckdb nbclient ipykernel pyopenssl curl_cffi grpcio; } >&2 ||
    echo "test.sh: no Python with duckdb, nbclient, ipykernel, pyopenssl, curl_cffi and grpcio; the tests that need what is missing skip and say so" >&2
}

s3() {
  SHARK_S3S_FS=$("$here/deploy/install-s3s.sh") && export SHARK_S3S_FS ||
    echo "test.sh: no S3 server; the tests that need it skip and say so" >&2
}

kubernetes() {
  SHARK_KUBE=$("$here/deploy/install-kube-apiserver.sh") && export SHARK_KUBE ||
    echo "test.sh: no Kubernetes API server; the tests that need it skip and say so" >&2
  SHARK_HELM=$("$here/deploy/install-helm.sh") && export SHARK_HELM ||
    echo "test.sh: no Helm; the tests that need it skip and say so" >&2
}

tools
python
s3
[ "$kubernetes" = no ] || kubernetes
cd "$here"
if cargo nextest --version >/dev/null 2>&1; then
  cargo nextest run --locked --workspace "$@"
  [ $# -gt 0 ] || cargo test --locked --workspace --doc
else
  # One at a time, as .config/nextest.toml has it for those that need it.
  RUST_TEST_THREADS=1 cargo test --no-fail-fast --locked --workspace "$@"
fi
