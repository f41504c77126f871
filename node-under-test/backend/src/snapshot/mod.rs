//! Snapshots between members: an engine's whole state as one stream, in the form of the engine that
//! sends it.
//!
//! *RocksDB's form*, a checkpoint directory:
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 16 | magic: `ETCDSNAP` and eight zero bytes; with the engine id, the routing header that chooses a reader |
//! | 16 | 1 | engine id: 0x01 |
//! | 17 | 4 | format version, big-endian: 0 |
//! | 21 | N | body: tar of the checkpoint's files, then exactly 491 zero bytes |
//! | 21+N | 32 | SHA-256 of all bytes before it |
//!
//! The tar holds regular files in one directory, in ascending order of name, each header byte for
//! byte what [`format::file_header`] makes, and ends with two zero blocks. So 21 + 512·k + 491 + 32
//! bytes go out: 32 modulo 512.
//!
//! *The legacy form*, redb's: the bare file, no header, no trailer; its carrier states length and
//! SHA-256 (the peer frame in its head, `Maintenance.Snapshot` and a saved file as 32 bytes behind
//! it, as etcd does). No magic in the first 16 bytes makes a stream legacy, and then it must begin
//! like a redb file.
//!
//! `wire_size` is every byte that goes out in this form: header, body and trailer, or the file. A
//! sender that counts the body alone has its trailer cut off, one that counts too much lets its
//! receiver starve: both are refused.
//!
//! [`write`] makes streams, [`read`] accepts exactly what [`write`] can produce, both in constant
//! memory, and neither knows an engine. [`receive()`] takes a stream of either form into the
//! staging area and converts it if it is the other engine's. [`install`] exchanges `db` and the
//! staging area.
//!
//! # Install: what each step leaves behind
//! On redb N is E, so the second row does not occur: with the exchange N = M.
//!
//! | killed | `db` | N | raft log | what the next start finds |
//! | --- | --- | --- | --- | --- |
//! | before the exchange | old | old | old | the old state; [`tidy`](install::tidy) removes the rest |
//! | exchanged, N not persisted | E = M | old N < M | old | E that the log does not know: the start persists N = E, then as below |
//! | N = M persisted, log not purged | E = M | M | ends anywhere | E = N: LogId(N) *is* the engine's; purge the log to ≤ M, then go on |
//! | later | E = M | M | ≤ M purged | the new state; `tidy` deletes the old database |
//!
//! In the second row the log may end before E, or hold, between N and E, entries of a lost leader
//! that conflict with E's history. The exchange was the point of no return: whatever the log says
//! up to E is void, exactly as if the kill had come a step later. Only committed entries are ever
//! applied, so E's history is the cluster's.

pub mod format;
pub mod install;
pub mod read;
mod receive;
pub mod saved;
pub mod write;

pub use install::tidy;
pub use receive::{receive, room};
