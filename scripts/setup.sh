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
  # -n: never wait for a password that nobody may be there to type.
  if ! have sudo || ! sudo -n true 2>/dev/null; then
    echo "setup: these are missing, and this user may not install them; run:" >&2
    echo "  sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 69
  fi
  as_root=(sudo -n)
fi
echo "setup: installing ${missing[*]}"
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}")
# A fresh machine has no package lists, an old one has stale ones: only then is fetching them worth its time.
if ! "${install[@]}" >/dev/null 2>&1; then
  "${as_root[@]}" apt-get update
  "${install[@]}"
fi
