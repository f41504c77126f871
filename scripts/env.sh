# Sourced by the Makefile and the scripts: one build environment for everything.
#
# RocksDB is built again whenever CC, CXX or the target directory change, and that takes minutes. So they are
# set in this one place, after `scripts/setup.sh` has installed what they name. What the caller has set stays.
if ! command -v cargo >/dev/null 2>&1 && [ -x "$HOME/.cargo/bin/cargo" ]; then
  export PATH="$HOME/.cargo/bin:$PATH"
fi
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/ninelives/target}"
# Cargo trusts modification times, and several checkouts share this directory: what another one built later than this one's
# sources were edited would pass for theirs. So after a change of checkout all of this one's sources count as edited.
checkout=$(git rev-parse --show-toplevel 2>/dev/null || pwd)
if [ -f "$checkout/scripts/env.sh" ] && [ "$(cat "$CARGO_TARGET_DIR/checkout" 2>/dev/null)" != "$checkout" ]; then
  mkdir -p "$CARGO_TARGET_DIR"
  find "$checkout/harness" "$checkout/node-under-test" -type f -exec touch {} +
  echo "$checkout" >"$CARGO_TARGET_DIR/checkout"
fi
unset checkout
if command -v clang++ >/dev/null 2>&1; then
  # clang++ compiles RocksDB about a fifth faster than g++; ccache lets another target directory reuse the objects.
  if command -v ccache >/dev/null 2>&1; then
    export CC="${CC:-ccache clang}" CXX="${CXX:-ccache clang++}"
  else
    export CC="${CC:-clang}" CXX="${CXX:-clang++}"
  fi
fi
