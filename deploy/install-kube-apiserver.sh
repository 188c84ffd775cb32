#!/usr/bin/env bash
# Makes a real Kubernetes API for the tests: etcd from Debian's package, kube-apiserver built from Debian's source package,
# which brings all it needs, with Debian's Go. Prints the folder with both programs; at once when they are there.
# Installs nothing and needs no root: everything is unpacked under the cache. About five CPU minutes and 3 GB the first time.
# Usage: export SHARK_KUBE="$(deploy/install-kube-apiserver.sh [DIR])"
set -euo pipefail

dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/sharkrec/kube}
say() { printf 'install-kube-apiserver: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

ready() { "$dir/kube-apiserver" --version && "$dir/etcd" --version; } >/dev/null 2>&1
if ready; then echo "$dir"; exit 0; fi

for tool in apt-get apt-cache dpkg-deb tar; do command -v $tool >/dev/null || die "$tool is missing: this works on Debian and its kin only"; done
mkdir -p "$dir"
work=$(mktemp -d "$dir/build.XXXXXX")
child=
trap '[ -z "$child" ] || kill "$child" 2>/dev/null; chmod -R u+w "$work"; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
# What takes long, so that an interrupt ends it: bash runs traps only once a command in the foreground has ended.
run() { "$@" & child=$!; local status=0; wait "$child" || status=$?; child=; return "$status"; }

# apt with lists of its own, with the machine's mirrors, for binary and source packages; the machine's own state is not touched.
mkdir -p "$work"/apt/{sources,lists/partial,cache/archives/partial,packages}
for file in /etc/apt/sources.list.d/*.sources; do
  [ ! -e "$file" ] || sed 's/^Types:.*/Types: deb deb-src/' "$file" >"$work/apt/sources/${file##*/}"
done
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
  [ ! -e "$file" ] || sed -n 's/^deb .*/&/p; s/^deb /deb-src /p' "$file" >"$work/apt/sources/${file##*/}"
done
apt() {
  apt-get -q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/apt/sources" -o Dir::State::lists="$work/apt/lists" \
    -o Dir::Cache="$work/apt/cache" -o APT::Sandbox::User="$(id -un)" "$@" >&2
}
apt update || die "the package lists could not be fetched"
cd "$work/apt/packages"
apt source --download-only kubernetes || die "this distribution has no source package kubernetes (Debian 12 has)"
apt download etcd-server golang-1.19-go golang-1.19-src golang-github-modern-go-reflect2-dev ||
  die "a package that is needed could not be fetched"
for package in *.deb; do dpkg-deb -x "$package" "$work/root"; done

# Kubernetes is built as Go packages of old, below a GOPATH; its vendored reflect2 is too old for this Go and crashes in every
# list with maps, so Debian's takes its place.
export GOPATH=$work/gopath GOCACHE=$work/gocache GOROOT=$work/root/usr/lib/go-1.19 GO111MODULE=off CGO_ENABLED=0 GOFLAGS=
export PATH=$GOROOT/bin:$PATH
kubernetes=$GOPATH/src/k8s.io/kubernetes
mkdir -p "$kubernetes"
tar xzf kubernetes_*.orig.tar.gz -C "$kubernetes" --strip-components=1
reflect2=vendor/github.com/modern-go/reflect2
cd "$kubernetes"
rm -f $reflect2/*.go $reflect2/*.s
cp "$work"/root/usr/share/gocode/src/github.com/modern-go/reflect2/*.{go,s} $reflect2/

# The sources of the API's own description are left out of the package; the server does not build without.
say "generating the description of the API"
described=$(grep -rlE '^// \+k8s:openapi-gen=' --include='*.go' \
  staging/src/k8s.io/{api,apimachinery,apiserver,apiextensions-apiserver,kube-aggregator,metrics,client-go,kube-controller-manager,kube-proxy,kube-scheduler,kubelet,cloud-provider,component-base}/ \
  pkg cmd 2>/dev/null | grep -v -e /test -e testdata -e zz_gen | xargs -n1 dirname | sort -u |
  sed -E 's#^staging/src/#k8s.io/kubernetes/vendor/#; s#^(pkg|cmd)/#k8s.io/kubernetes/\1/#' | paste -sd,)
run go build -p 2 -o "$work/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
touch "$work/header"
run "$work/openapi-gen" -i "$described" -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi \
  -h "$work/header" -r "$work/violations" --output-base "$GOPATH/src" >&2

say "building kube-apiserver"
# The version stands in two packages: one for the program, one for what it tells its clients.
flags="-s -w"
for package in component-base client-go/pkg; do
  package=k8s.io/kubernetes/vendor/k8s.io/$package/version
  flags="$flags -X $package.gitVersion=v1.20.2 -X $package.gitMajor=1 -X $package.gitMinor=20"
done
run go build -p 2 -ldflags "$flags" -o "$work/kube-apiserver" ./cmd/kube-apiserver >&2
mv "$work/root/usr/bin/etcd" "$work/kube-apiserver" "$dir/"
ready || die "what was built in $dir does not run"
echo "$dir"
