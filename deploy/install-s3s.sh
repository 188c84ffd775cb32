#!/bin/sh
# Installs s3s-fs, the S3 server the recorder's tests talk to, and prints where it is.
# The tests find it there; elsewhere: export SHARK_S3S_FS="$(deploy/install-s3s.sh DIR)"
# Three CPU minutes the first time. The version is the last that builds with Rust 1.95.
set -eu
dir="${1:-${XDG_CACHE_HOME:-$HOME/.cache}/sharkrec/s3s}"
version=0.14.1
if ! "$dir/bin/s3s-fs" --version 2>/dev/null | grep -q "$version"; then
    cargo install s3s-fs --version "$version" --locked --features binary --root "$dir" >&2
fi
echo "$dir/bin/s3s-fs"
