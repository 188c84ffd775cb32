#!/usr/bin/env bash
# From a fresh clone to five answered incidents: builds, lets the little shop run while sharkrec records it,
# takes a snapshot, asks five questions in SQL and compares every answer with the shop's own ledger.
# Works as root and as an ordinary user; where namespaces are forbidden, a bundled capture is replayed instead.
# Usage: deploy/quickstart.sh [--seed N] [--keep]     (--keep leaves ring, snapshot and ledger, and says where)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
seed=$(($(date +%s) % 100000))
keep=no
while [ $# -gt 0 ]; do
  case $1 in
    --seed) seed=${2:?--seed needs a number}; shift 2 ;;
    --keep) keep=yes; shift ;;
    *) sed -n '2,5s/^# //p' "$0" >&2; exit 2 ;;
  esac
done

say() { printf '\n== %s\n' "$*"; }
die() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }

child=
work=$(mktemp -d "${TMPDIR:-/tmp}/sharkrec-quickstart.XXXXXX")
clean() {
  status=$?
  trap - EXIT INT TERM
  if [ -n "$child" ]; then kill -TERM "$child" 2>/dev/null || true; wait "$child" 2>/dev/null || true; fi
  if [ "$keep" = yes ]; then printf 'kept: %s\n' "$work" >&2; else rm -rf "$work"; fi
  exit "$status"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A command that an interrupt must be able to end: bash runs traps only once a foreground command has ended.
run() { "$@" & child=$!; local status=0; wait "$child" || status=$?; child=; return "$status"; }

set_up() {
  command -v cargo >/dev/null || [ ! -r "${CARGO_HOME:-$HOME/.cargo}/env" ] || . "${CARGO_HOME:-$HOME/.cargo}/env"
  command -v cargo >/dev/null || die "cargo is missing; install Rust from https://rustup.rs"
  if ! command -v cc >/dev/null; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die "a C compiler is missing; install gcc or clang"
    say "Installing a C compiler"
    apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends gcc libc6-dev >&2
  fi
}

build() {
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sharkrec/target}
  say "Building (into $CARGO_TARGET_DIR)"
  (cd "$here" && run cargo build --release --locked --workspace --bins)
  bin=$CARGO_TARGET_DIR/release
}

# Sets snap, ledger and identity: a snapshot of live traffic, and the truth about it.
record_live() {
  say "The shop runs (seed $seed) while sharkrec records every pod's interface"
  ledger=$work/ledger.ndjson identity=$work/identity.json
  # The command runs in the node's namespace, where the shop tells it the interfaces.
  export BIN=$bin WORK=$work
  run "$bin/shark-shop" run --seed "$seed" --ledger "$ledger" --state "$work" \
    --record '"$BIN/sharkrec" record --ring "$WORK/ring" --ring-size 1GiB $(printf -- "--iface %s " $SHOP_IFACES)' \
    --ready 'test -S "$WORK/ring/control.sock"' \
    --then '"$BIN/sharkrec" status --ring "$WORK/ring" &&
      "$BIN/sharkrec" snapshot --since 10m --ring "$WORK/ring" --to "$WORK/snapshots" --reason quickstart >"$WORK/url"'
  snap=$(cat "$work/url")
}

replay() {
  say "This machine permits no network namespaces: replaying the bundled capture through the recorder instead"
  ledger=$here/fixtures/shop/ledger.ndjson identity=$here/fixtures/shop/identity.json
  run "$bin/sharkrec" record --ring "$work/ring" --ring-size 1GiB --read "$here/fixtures/shop/shop.pcapng.zst"
  # The capture keeps its own, older times.
  snap=$("$bin/sharkrec" snapshot --since 1970-01-01T00:00:00Z --ring "$work/ring" --to "$work/snapshots" --reason quickstart)
}

ask() {
  local file=$1 name
  name=$(basename "$file" .sql)
  say "$(sed -n '1s/^-- //p' "$file")"
  sed '1d;s/^/    /' "$file"
  echo
  "$bin/sharkq" sql "$snap" --identity "$identity" -f "$file"
  "$bin/sharkq" sql "$snap" --identity "$identity" -f "$file" --format json >"$work/$name.json"
  "$bin/shark-shop" compare --ledger "$ledger" --incident "${name#*-}" --rows "$work/$name.json"
}

set_up
build
probe=0
"$bin/shark-shop" probe || probe=$?
case $probe in
  0) record_live ;;
  3) replay ;;
  *) die "the shop cannot be built on this machine (see above)" ;;
esac
say "The snapshot: $snap"
"$bin/sharkq" info "$snap"
"$bin/sharkq" verify "$snap"
wrong=0
for file in "$here"/fixtures/incidents/*.sql; do ask "$file" || wrong=$((wrong + 1)); done
[ "$wrong" = 0 ] || die "$wrong of 5 answers could not be given or differ from the ledger"
say "All five answers are what the ledger says."
