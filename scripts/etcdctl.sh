#!/usr/bin/env bash
# The compatibility test: the stock etcdctl, unmodified, against a cluster of three members.
#
#   scripts/etcdctl.sh [NODE_BINARY [ENGINE]]      (default: the release build, redb)
#
# Starts three members on free loopback ports, runs the commands that people and tools use, compares what they
# print with what etcd prints, and ends every member by its process id, whatever happens. Exit 0: all as
# expected; 1: the first difference is named; 69: no etcdctl or no node binary.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
. "$repository/scripts/env.sh"
export ETCDCTL_API=3

node=${1:-$CARGO_TARGET_DIR/release/node-under-test}
engine=${2:-redb}
[ -x "$node" ] || { echo "etcdctl test: no node at $node; run make build" >&2; exit 69; }
command -v etcdctl >/dev/null || { echo "etcdctl test: no etcdctl; run make setup" >&2; exit 69; }

work=$(mktemp -d "${TMPDIR:-/tmp}/ninelives-etcdctl.XXXXXX")
declare -A pids=()
checks=0
passed=no

end_all() {
  trap - EXIT INT TERM
  local pid
  for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  if [ "$passed" = no ]; then
    tail -n 20 "$work"/*.log >&2 2>/dev/null || true
  fi
  rm -rf -- "$work"
}
trap end_all EXIT
trap 'exit 130' INT TERM

fail() {
  echo "etcdctl test: $*" >&2
  exit 1
}

# expect WHAT WANTED FOUND
expect() {
  [ "$2" = "$3" ] || fail "$1"$'\n'"  expected: ${2@Q}"$'\n'"  found:    ${3@Q}"
  checks=$((checks + 1))
  echo "ok $checks  $1"
}

# expect_match WHAT REGULAR-EXPRESSION FOUND
expect_match() {
  [[ $3 =~ $2 ]] || fail "$1"$'\n'"  expected a match of: $2"$'\n'"  found: ${3@Q}"
  checks=$((checks + 1))
  echo "ok $checks  $1"
}

# expect_error WHAT REGULAR-EXPRESSION COMMAND...
expect_error() {
  local what=$1 pattern=$2 out
  shift 2
  if out=$("$@" 2>&1); then fail "$what"$'\n'"  expected an error, found: ${out@Q}"; fi
  expect_match "$what" "$pattern" "$out"
}

# Free ports below the range that the kernel hands out by itself. Between this look and the member's
# bind another process may take one: the member then ends with a clear error, and so does the test.
ports=()
find_ports() { # COUNT
  local port
  while [ ${#ports[@]} -lt "$1" ]; do
    port=$((20000 + (RANDOM % 12000)))
    [[ " ${ports[*]-} " == *" $port "* ]] && continue
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || ports+=("$port")
  done
}

members=()
endpoints=()
start_cluster() {
  local id
  # Three for each of the three, three for the member that joins later, and nine for the restored cluster.
  find_ports 21
  for id in 1 2 3; do
    members+=(--member "$id=n$id@127.0.0.1:${ports[id - 1]}/127.0.0.1:${ports[id + 2]}")
    endpoints+=("127.0.0.1:${ports[id + 2]}")
  done
  for id in 1 2 3; do start_member "$id"; done
  for id in 1 2 3; do wait_serving "$id"; done
}

# A member's standard output is a pipe that stays open as long as this script: closing it would end its events.
declare -A events=()
spawn_member() { # ID CONTROL-PORT ENGINE MEMBER-FLAG...
  local id=$1 control=$2 backend=$3 fd
  shift 3
  mkfifo "$work/n$id.events"
  exec {fd}<>"$work/n$id.events"
  events[$id]=$fd
  "$node" serve --id "$id" --data-dir "$work/n$id" --backend "$backend" "$@" \
    --control "127.0.0.1:$control" >"$work/n$id.events" 2>"$work/n$id.log" {fd}<&- &
  pids[$id]=$!
}

start_member() { spawn_member "$1" "${ports[$1 + 5]}" "$engine" "${members[@]}"; }

wait_serving() { # ID
  local line
  while IFS= read -r -t 30 -u "${events[$1]}" line; do
    [[ $line == *'"event":"serving"'* ]] && return
  done
  fail "member $1 did not say that it serves within 30 s"
}

ctl() { etcdctl --dial-timeout=10s --command-timeout=20s --endpoints="$(all_endpoints)" "$@"; }
all_endpoints() { local IFS=,; echo "${endpoints[*]}"; }

# The revision of the store, from the header of a read.
revision() { ctl get revision-probe --write-out=json | sed -E 's/.*"revision":([0-9]+).*/\1/'; }

# The members elect a leader after they serve; until then an attempt may be refused. Each one is a round trip, and a
# read, so that it changes nothing.
wait_leader() {
  local until=$((SECONDS + 30))
  until ctl get ready >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$until" ] || fail "no leader within 30 s: $(ctl get ready 2>&1)"
  done
}

check_kv() {
  expect "put" "OK" "$(ctl put fruit apple)"
  expect "get" $'fruit\napple' "$(ctl get fruit)"
  expect "put with --prev-kv" $'OK\nfruit\napple' "$(ctl put --prev-kv fruit banana)"
  expect "get --print-value-only" "banana" "$(ctl get --print-value-only fruit)"
  expect "get of nothing" "" "$(ctl get nothing-here)"
  ctl put list/a 1 >/dev/null
  ctl put list/b 2 >/dev/null
  ctl put list/c 3 >/dev/null
  expect "get --prefix" $'list/a\n1\nlist/b\n2\nlist/c\n3' "$(ctl get --prefix list/)"
  expect "get of a range" $'list/a\n1\nlist/b\n2' "$(ctl get list/a list/c)"
  expect "get --order, --limit, --keys-only" "list/c" "$(ctl get --prefix list/ --order=DESCEND --limit=1 --keys-only)"
  expect_match "get --write-out=json" '"count":3' "$(ctl get --prefix list/ --write-out=json)"
  expect "del with --prev-kv" $'1\nlist/a\n1' "$(ctl del --prev-kv list/a)"
  expect "del --prefix" "2" "$(ctl del --prefix list/)"
  expect "del of nothing" "0" "$(ctl del nothing-here)"
  expect "a serializable get at each member" "banana banana banana" "$(
    wait_same fruit banana
    for at in "${endpoints[@]}"; do etcdctl --endpoints="$at" get --consistency=s --print-value-only fruit; done | paste -sd ' '
  )"
}

# A linearizable read at a member returns only after that member has applied all that was acknowledged before.
wait_same() { # KEY VALUE
  local at
  for at in "${endpoints[@]}"; do
    [ "$(etcdctl --endpoints="$at" get --print-value-only "$1")" = "$2" ] || fail "linearizable read of $1 at $at"
  done
}

check_old_revisions() {
  local old
  old=$(revision)
  ctl put fruit cherry >/dev/null
  expect "get --rev reads the past" "banana" "$(ctl get --rev="$old" --print-value-only fruit)"
  expect_error "get of a future revision" "required revision is a future revision" ctl get --rev=$((old + 1000)) fruit
}

check_txn() {
  expect "txn, compare holds" $'SUCCESS\n\nOK\n\nfruit\ncherry' \
    "$(printf '%s\n' 'value("fruit") = "cherry"' '' 'put basket full' 'get fruit' '' 'put basket empty' '' | ctl txn)"
  expect "txn, compare fails" $'FAILURE\n\nOK' \
    "$(printf '%s\n' 'create("basket") = "0"' '' 'put basket new' '' 'put basket half' '' | ctl txn)"
  expect "txn took effect" "half" "$(ctl get --print-value-only basket)"
  expect_match "txn with a delete and a version compare" $'^SUCCESS\n\n1' \
    "$(printf '%s\n' 'version("basket") > "1"' '' 'del basket' '' 'get basket' '' | ctl txn)"
  expect_error "txn with a duplicate key" "duplicate key given in txn request" \
    ctl txn <<<$'\nput twice 1\nput twice 2\n\n\n'
}

# read_watch FD COUNT: the next lines that a watch prints.
read_watch() {
  local line n
  for ((n = 0; n < $2; n++)); do
    IFS= read -r -t 20 -u "$1" line || fail "a watch printed $n of $2 lines within 20 s"
    printf '%s\n' "$line"
  done
}

check_watch() {
  local from fd
  from=$(($(revision) + 1))
  ctl put watched/a 1 >/dev/null
  mkfifo "$work/watch"
  exec {fd}<>"$work/watch"
  etcdctl --endpoints="$(all_endpoints)" watch --prefix watched/ --rev="$from" \
    >"$work/watch" 2>"$work/watch.log" {fd}<&- &
  pids[watch]=$!
  expect "watch from a past revision" $'PUT\nwatched/a\n1' "$(read_watch "$fd" 3)"
  ctl put watched/b 2 >/dev/null
  ctl put not-watched 3 >/dev/null
  ctl del watched/a >/dev/null
  expect "watch sees puts and deletes, in order" $'PUT\nwatched/b\n2\nDELETE\nwatched/a' "$(read_watch "$fd" 6)"
  kill -TERM "${pids[watch]}" 2>/dev/null || true
  wait "${pids[watch]}" 2>/dev/null || true
  unset 'pids[watch]'
  exec {fd}<&-
}

check_compaction() {
  local old
  old=$(revision)
  ctl put fruit damson >/dev/null
  expect "compaction" "compacted revision $((old + 1))" "$(ctl compaction $((old + 1)))"
  expect "get after a compaction" "damson" "$(ctl get --print-value-only fruit)"
  expect_error "get of a compacted revision" "required revision has been compacted" ctl get --rev="$old" fruit
  expect_error "compaction of a compacted revision" "required revision has been compacted" ctl compaction "$old"
  expect_match "watch of a compacted revision is cancelled" "required revision has been compacted" \
    "$(ctl watch fruit --rev="$old" 2>&1 || true)"
}

check_lease() {
  local answer id
  answer=$(ctl lease grant 600)
  expect_match "lease grant" '^lease [0-9a-f]+ granted with TTL\(600s\)$' "$answer"
  id=$(cut -d' ' -f2 <<<"$answer")
  expect "put with a lease" "OK" "$(ctl put --lease="$id" leased yes)"
  expect_match "lease list" "$id" "$(ctl lease list)"
  expect_match "lease timetolive --keys" "granted with TTL\(600s\), remaining\([0-9]+s\), attached keys\(\[leased\]\)" \
    "$(ctl lease timetolive --keys "$id")"
  expect_match "lease keep-alive --once" "lease $id keepalived with TTL\(600\)" "$(ctl lease keep-alive --once "$id")"
  expect "lease revoke" "lease $id revoked" "$(ctl lease revoke "$id")"
  expect "lease revoke deletes its keys" "" "$(ctl get leased)"
  expect_error "put with an unknown lease" "requested lease not found" ctl put --lease=123456 leased no
}

check_cluster() {
  local list status hashes
  list=$(ctl member list)
  expect "member list: three started members" "3" "$(grep -c ', started, n[123], ' <<<"$list")"
  status=$(ctl endpoint status --write-out=json)
  expect "endpoint status: three members" "3" "$(grep -o '"Endpoint"' <<<"$status" | wc -l)"
  expect "endpoint status: one leader, the same for all" "1" \
    "$(grep -o '"leader":[0-9]*' <<<"$status" | sort -u | wc -l)"
  expect "endpoint status: three different members" "3" "$(grep -o '"member_id":[0-9]*' <<<"$status" | sort -u | wc -l)"
  expect "endpoint health" "3" "$(ctl endpoint health 2>&1 | grep -c 'is healthy')"
  # HashKV is local: without a revision each member hashes what it has applied, so all must have applied the same.
  ctl put fruit elderberry >/dev/null
  wait_same fruit elderberry
  hashes=$(ctl endpoint hashkv --cluster --write-out=json)
  expect "endpoint hashkv --cluster: three members" "3" "$(grep -o '"Endpoint"' <<<"$hashes" | wc -l)"
  expect "endpoint hashkv --cluster: one hash" "1" "$(grep -o '"hash":[0-9]*' <<<"$hashes" | sort -u | wc -l)"
}

# until_match REGULAR-EXPRESSION COMMAND...: what the command prints, once it matches. Each try is a round trip.
until_match() {
  local pattern=$1 until=$((SECONDS + 30)) out
  shift
  until out=$("$@" 2>&1) && [[ $out =~ $pattern ]]; do
    [ "$SECONDS" -lt "$until" ] || fail "$*: no match of $pattern within 30 s: ${out@Q}"
  done
  printf '%s\n' "$out"
}

cluster_ids() { ctl endpoint status --write-out=json | grep -o '"cluster_id":[0-9]*' | sort -u; }

# etcdctl writes and reads member ids in hexadecimal; these have one digit.
check_membership() {
  local peer="127.0.0.1:${ports[9]}" client="127.0.0.1:${ports[10]}" before code=0
  before=$(cluster_ids)
  expect_match "member add --learner" '^Member +4 added to cluster +[0-9a-f]+' \
    "$(ctl member add n4 --learner --peer-urls="http://$peer")"
  expect_match "member list: a learner that was never started" "4, unstarted, , http://$peer, , true" \
    "$(until_match '4, unstarted' ctl member list)"
  expect_error "member add of a peer address that is taken" "Peer URLs already exists" \
    ctl member add n5 --peer-urls="http://$peer"
  expect_error "member add without an address" "given member URLs are invalid" \
    ctl member add n5 --peer-urls="http://nowhere:7"
  expect_error "member promote of a learner that lags" "which is in sync with leader" ctl member promote 4
  expect_error "member promote of a voter" "can only promote a learner member" ctl member promote 1
  expect_error "member promote of an unknown id" "member not found" ctl member promote 9
  spawn_member 4 "${ports[11]}" "$engine" --join --member "4=n4@$peer/$client"
  wait_serving 4
  expect_match "member list: the learner has published itself" "4, started, n4, http://$peer, $client, true" \
    "$(until_match '4, started, n4' ctl member list)"
  expect_match "member promote" '^Member +4 promoted in cluster +[0-9a-f]+$' "$(until_match promoted ctl member promote 4)"
  endpoints+=("$client")
  expect_match "member list: four voters" "4, started, n4, http://$peer, $client, false" \
    "$(until_match '4, started.*false' ctl member list)"
  expect "put through the new member" "OK" "$(etcdctl --endpoints="$client" put fruit fig)"
  wait_same fruit fig
  expect "the new member's cluster is the same" "$before" "$(cluster_ids)"
  expect_match "member update" '^Member +4 updated in cluster +[0-9a-f]+$' \
    "$(ctl member update 4 --peer-urls="http://$peer")"
  unset 'endpoints[3]'
  expect_match "member remove" '^Member +4 removed from cluster +[0-9a-f]+$' "$(ctl member remove 4)"
  wait "${pids[4]}" || code=$?
  unset 'pids[4]'
  expect "a removed member ends by itself" "0 yes" "$code $(grep -q 'member 4 was removed from the cluster' "$work/n4.log" && echo yes)"
  expect_error "member remove of an unknown id" "member not found" ctl member remove 4
  expect "member list: three again" "3" "$(ctl member list | wc -l)"
  expect_match "a removed member's id is not given again" '^Member +5 added' \
    "$(ctl member add n5 --learner --peer-urls="http://$peer")"
  expect_match "member remove of a learner that never ran" '^Member +5 removed' "$(ctl member remove 5)"
}

other_engine() { if [ "$engine" = redb ]; then echo rocksdb; else echo redb; fi; }

# The numbers of the kv hashes that all members report, one line if they agree.
hashes() { ctl endpoint hashkv --write-out=json | grep -o '"hash":[0-9]*' | sort -u; }

# The last check: it ends the old cluster, and founds another one, of both engines, from the saved snapshot.
check_snapshot() {
  local saved="$work/saved.snap" before id backend code=0 out
  ctl put fruit gooseberry >/dev/null
  wait_same fruit gooseberry
  expect "defrag" "3" "$(ctl defrag | grep -c 'Finished defragmenting')"
  before=$(hashes)
  expect "one kv hash before the snapshot" "1" "$(wc -l <<<"$before")"
  expect_match "snapshot save" "Snapshot saved at $saved" "$(etcdctl --endpoints="${endpoints[0]}" snapshot save "$saved" 2>&1)"
  expect "a saved snapshot is whole blocks and a SHA-256" "32" "$(($(stat -c %s "$saved") % 512))"
  out=$("$node" snapshot status --write-out json "$saved")
  expect "snapshot status: the hash of the members" "$before" "$(grep -o '"hash":[0-9]*' <<<"$out")"
  expect_match "snapshot status: the engine" "\"engine\":\"$engine\"" "$out"
  for id in 1 2 3; do
    kill -KILL "${pids[$id]}"
    wait "${pids[$id]}" 2>/dev/null || true
    unset "pids[$id]"
  done
  members=()
  endpoints=()
  for id in 11 12 13; do
    backend=$engine
    [ "$id" = 13 ] && backend=$(other_engine)
    "$node" snapshot restore "$saved" --data-dir "$work/n$id" --backend "$backend" >"$work/restore$id.log" 2>&1 || code=$?
    members+=(--member "$id=n$id@127.0.0.1:${ports[id + 1]}/127.0.0.1:${ports[id + 4]}")
    endpoints+=("127.0.0.1:${ports[id + 4]}")
  done
  expect "snapshot restore, three times" "0" "$code"
  for id in 11 12 13; do
    backend=$engine
    [ "$id" = 13 ] && backend=$(other_engine)
    spawn_member "$id" "${ports[id + 7]}" "$backend" "${members[@]}"
  done
  for id in 11 12 13; do wait_serving "$id"; done
  wait_leader
  expect "a fresh cluster of both engines hashes as the old one did" "$before" "$(hashes)"
  expect "it has the old one's keys" "fruit gooseberry" "$(ctl get fruit | paste -sd ' ')"
  expect "and its own members" "n11 n12 n13" "$(ctl member list | cut -d, -f3 | tr -d ' ' | paste -sd ' ')"
  expect "it can be written to" "OK" "$(ctl put fruit huckleberry)"
  wait_same fruit huckleberry
}

start_cluster
wait_leader
check_kv
check_old_revisions
check_txn
check_watch
check_compaction
check_lease
check_cluster
check_membership
check_snapshot
passed=yes
echo "etcdctl test ($engine): $checks checks passed"
