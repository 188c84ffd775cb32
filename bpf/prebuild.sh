#!/bin/sh
# Builds the objects in prebuilt/ anew from src/programs, for machines without a clang that can: run it when a program changes.
# The tests load these objects too and hold them to the same behaviour as fresh ones.
set -eu
cd "$(dirname "$0")"
for source in src/programs/*.bpf.c; do
    object="prebuilt/$(basename "$source" .c).o"
    # Without the path of this folder, which the debug information would name: the same sources give the same bytes anywhere.
    "${CLANG:-clang-14}" -target bpf -g -O2 -Wall -Werror -mcpu=v3 "-fdebug-prefix-map=$PWD=." -c "$source" -o "$object"
    "${LLVM_STRIP:-llvm-strip-14}" -g "$object"
done
