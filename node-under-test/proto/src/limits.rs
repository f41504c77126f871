//! Limits of one request: in one place all those that are told from a request's bytes alone.
//!
//! The first three are etcd's own defaults. etcd bounds the depth of nested transactions by the
//! operations that each level uses up; here the wire format bounds it first, because a protobuf
//! decoder gives up at 100 nested messages.

/// Compares, or operations of one branch, on any way from a transaction down through those nested
/// in it.
pub const TXN_OPS_MAX: usize = 128;

/// Bytes of a command that is proposed.
pub const REQUEST_BYTES_MAX: usize = 1_536 * 1024;

/// Bytes of a message that a client sends: a command, and etcd's allowance for what stands around
/// it.
pub const MESSAGE_BYTES_MAX: usize = REQUEST_BYTES_MAX + 512 * 1024;

/// Transactions around the innermost one. A level costs two messages; the rest of the 100 is for
/// the operation, for what it answers (a key inside of a range), and for the command or outcome
/// around it.
pub const TXN_DEPTH_MAX: usize = 48;

/// Bytes of the answer to a command. It is gathered while everything behind the command waits, and
/// a member that passed the command on gets it in one message of at most 64 MiB.
pub const COMMAND_ANSWER_BYTES_MAX: usize = 32 << 20;

/// Bytes of the answer to a request that only reads.
pub const READ_ANSWER_BYTES_MAX: usize = 256 << 20;

/// Keys that the comparisons and deletes of one transaction may pass by, beside twice as many as
/// the store has. A key whose value has to be fetched counts as several.
pub const TXN_KEYS_MAX: usize = 1 << 20;
