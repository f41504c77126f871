#!/usr/bin/env bash
# Installs what building and testing need beyond a Rust toolchain, on Debian and its relatives.
#
# Idempotent: it looks first, and touches nothing if everything is there. Elsewhere, or without root and sudo,
# it says what is missing and ends with 69 (service unavailable).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

have() { command -v "$1" >/dev/null 2>&1; }

# bindgen loads libclang at build time; the compiler's own headers come with the clang package.
have_libclang() {
  have clang && compgen -G "$(dirname "$(dirname "$(readlink -f "$(command -v clang)")")")/lib/libclang*.so*" >/dev/null && return
  ldconfig -p 2>/dev/null | grep -q 'libclang.*\.so'
}

missing=()
have cc || missing+=(gcc libc6-dev)               # the linker of Rust's own output
have clang++ || missing+=(clang)                  # RocksDB is C++
have_libclang || missing+=(libclang-dev)          # RocksDB's bindings are generated
have ccache || missing+=(ccache)                  # RocksDB is compiled once per machine, not once per target directory
have protoc || missing+=(protobuf-compiler)       # the etcd client of the harness generates its messages
[ -e /usr/include/google/protobuf/descriptor.proto ] || [ -e /usr/local/include/google/protobuf/descriptor.proto ] ||
  missing+=(libprotobuf-dev)                      # ... from messages that protoc imports from here
have etcdctl || missing+=(etcd-client)            # the stock client that the compatibility test drives
have etcd || missing+=(etcd-server)               # a server that the harness tests; its service is not wanted

wants() { [[ " ${missing[*]} " == *" $1 "* ]]; }

# Package scripts that start a service, with systemd or without, ask this program first. 101: they
# may not.
policy=/usr/sbin/policy-rc.d
ours="# put here by ninelives' setup, for one installation"
hold_services() {
  # One of ours was left behind by a setup that was killed: it goes with this one.
  if [ -e "$policy" ] && ! grep -qsF "$ours" "$policy"; then "${as_root[@]}" mv "$policy" "$policy.aside"; fi
  printf '#!/bin/sh\n%s\nexit 101\n' "$ours" | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
}
release_services() {
  "${as_root[@]}" rm -f "$policy"
  if [ -e "$policy.aside" ]; then "${as_root[@]}" mv "$policy.aside" "$policy"; fi
}

# The package enables its service. Looks at the machine itself afterwards, whatever the tools said.
disable_etcd() {
  # Links of both kinds of init are written whether or not that init runs here.
  [ ! -x /usr/sbin/update-rc.d ] || "${as_root[@]}" /usr/sbin/update-rc.d etcd disable >/dev/null 2>&1 || true
  ! have systemctl || "${as_root[@]}" systemctl disable etcd.service >/dev/null 2>&1 || true
  local enabled running=""
  enabled=$(compgen -G "/etc/systemd/system/*.wants/etcd.service"; compgen -G "/etc/rc[2-5].d/S??etcd") || true
  # The service's processes run as a user of their own; an etcd that another user started does not.
  if id etcd >/dev/null 2>&1; then running=$(find /proc -maxdepth 1 -user etcd -printf '%f ' 2>/dev/null) || true; fi
  [ -z "$enabled$running" ] && return
  echo "setup: expected no service of etcd-server, found it enabled by (${enabled//$'\n'/ }), running as ($running)" >&2
  echo "setup: run: sudo systemctl disable --now etcd" >&2
  exit 1
}

if ! have cargo; then
  echo "setup: no cargo; install a Rust toolchain first: https://rustup.rs (the version is in Cargo.toml, rust-version)" >&2
  exit 69
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if ! have apt-get; then
  echo "setup: these are missing, and this is not Debian: ${missing[*]}" >&2
  echo "setup: install what your system calls them, then run the same command again" >&2
  exit 69
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  # -n: never wait for a password, because there may be no user to type it.
  if ! have sudo || ! sudo -n true 2>/dev/null; then
    echo "setup: these are missing, and this user may not install them; run:" >&2
    echo "  sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    if wants etcd-server; then
      echo "  sudo systemctl disable --now etcd   # the package starts a service, which nothing here needs" >&2
    fi
    exit 69
  fi
  as_root=(sudo -n)
fi
echo "setup: installing ${missing[*]}"
if wants etcd-server; then
  trap release_services EXIT
  hold_services
fi
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}")
# A fresh machine has no package lists, an old one has stale ones: only then is fetching them worth its time.
if ! "${install[@]}" >/dev/null 2>&1; then
  "${as_root[@]}" apt-get update
  "${install[@]}"
fi
if wants etcd-server; then disable_etcd; fi
