# Sourced by the Makefile and the scripts: one build environment for everything.
#
# RocksDB is built again whenever CC, CXX or the target directory change, and that takes minutes. So they are
# set in this one place, after `scripts/setup.sh` has installed what they name. What the caller has set stays.
if ! command -v cargo >/dev/null 2>&1 && [ -x "$HOME/.cargo/bin/cargo" ]; then
  export PATH="$HOME/.cargo/bin:$PATH"
fi
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/ninelives/target}"
if command -v clang++ >/dev/null 2>&1; then
  # clang++ compiles RocksDB about a fifth faster than g++; ccache lets another target directory reuse the objects.
  if command -v ccache >/dev/null 2>&1; then
    export CC="${CC:-ccache clang}" CXX="${CXX:-ccache clang++}"
  else
    export CC="${CC:-clang}" CXX="${CXX:-clang++}"
  fi
fi
