#!/usr/bin/env bash
# violation: it's <b>"bold"</b> & more, seed 7.
# The system under test broke a promise.
# the run ended after 3 of 6 planned cycles: this report is partial.
# The same from the scenario: ninelives run scenarios/sample.toml --seed 7
# Another binary: NINELIVES=… NODE_UNDER_TEST=… INSPECTOR=… ./repro.sh; further arguments go to `ninelives replay`.
set -euo pipefail
report=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
harness=${NINELIVES:-/opt/ninelives}
node=${NODE_UNDER_TEST:-/opt/node-under-test}
inspector=${INSPECTOR:-/opt/node-under-test}
digest() { # name, file, digest of the report
  if [ ! -x "$2" ]; then
    echo "$1: $2 is not there or not executable; build it, or name another one (see the top of this script)" >&2
    exit 64
  fi
  local now
  now=$(sha256sum -- "$2" | cut -d' ' -f1)
  printf '%s, then: %s\n%s, now:  %s\n' "$1" "$3" "$1" "$now"
  if [ "$now" != "$3" ]; then
    echo "$1: not the binary of the report: the failure may not come back" >&2
  fi
}
digest harness "$harness" cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc
digest node "$node" dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd
digest inspector "$inspector" dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd
printf 'scenario, then: %s\nplan, then:     %s\n' aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
exec "$harness" replay "$report" --node "$node" --inspector "$inspector" "$@"
