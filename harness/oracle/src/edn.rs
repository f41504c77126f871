//! A history in Jepsen's form: EDN, a map per line, for Elle and other checkers that read one.
//!
//! ```text
//! {:index 0, :time 1000000, :type :invoke, :process 3, :f :txn, :value [[:append "a/00001" 3000000017]]}
//! {:index 1, :time 2000000, :type :ok, :process 3, :f :txn, :value [[:append "a/00001#3000000017" 3000000017]]}
//! ```
//!
//! - `:type` is `:invoke`, then `:ok`, `:fail` (certainly not done: refused, or its comparison
//!   failed) or `:info` (unknown). An invocation has at most one completion. `:index` ascends;
//!   `:time` is in nanoseconds since the history began.
//! - `:process` is the client's number. After an `:info` the client goes on as another process,
//!   [`THREADS`] higher, because the old one's operation may still be under way: with a concurrency
//!   of [`THREADS`], `:process` modulo that is the client.
//! - An operation writes one number wherever it writes: `client × 1,000,000,000 + seq`. So every
//!   write is recognisable.
//! - `:f :txn` has micro-operations: `[:w key n]` and `[:r key n]` for registers (`c/`, `l/`,
//!   `p/`), `[:append key n]` and `[:r key [n …]]` for append lists (`a/`). An append list starts
//!   over, and a deleted one begins anew: `key#n`, with the first number in it, names one that only
//!   grows. Keys that a transaction deletes beside its writes are left out, and so are keys that a
//!   read found absent: a checker would take them for the initial state, and a deleted key is not
//!   in it.
//! - Everything else is exported under its own name and is not a transaction: `:delete`, `:range`
//!   (a read of several keys), `:serializable` and `:historic` (reads that promise no real time),
//!   `:grant`, `:revoke`, `:compact`, `:compare` (`[key revision]` for each comparison; `:fail` if
//!   one does not hold). A checker of transactions keeps `:f :txn`.
//!
//! The history is read and written line by line: memory follows the clients, not the run.

use ninelives_evidence::Evidence;
use ninelives_evidence::history::{self, Lines};
use ninelives_evidence::operation::{Action, Effect, KeyState, OpId, Reply};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

/// The step by which a client's process grows after an answer that never came; more than there can
/// be clients.
pub const THREADS: u64 = 1_000;
/// See the module's documentation.
const SEQS: u64 = 1_000_000_000;
const LISTS: &str = "a/";

/// An error of an export.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Read(#[from] history::Error),
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// Counts of the written export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    pub invoked: u64,
    pub completed: u64,
    /// A last line that a kill of the harness cut off; it is left out.
    pub torn: bool,
}

/// A client's operation that has no completion yet.
struct Open {
    op: OpId,
    f: &'static str,
    value: String,
    /// A read: its value is the result.
    reads: bool,
}

struct Writer<W> {
    to: W,
    index: u64,
    process: BTreeMap<u32, u64>,
    open: BTreeMap<u32, Open>,
    exported: Exported,
}

/// Writes the operations of a history, which `lines` reads, to `to`.
///
/// # Errors
/// Reading or writing failed, or a line is not one of a history.
pub fn export(mut lines: Lines<impl BufRead>, to: impl Write) -> Result<Exported, Error> {
    let mut writer =
        Writer { to, index: 0, process: BTreeMap::new(), open: BTreeMap::new(), exported: Exported::default() };
    while let Some((_, evidence)) = lines.read()? {
        writer.take(lines.at_us().saturating_mul(1_000), &evidence)?;
    }
    writer.exported.torn = lines.torn();
    writer.to.flush()?;
    Ok(writer.exported)
}

impl<W: Write> Writer<W> {
    /// `time`: when it was recorded, nanoseconds. Evidence of anything but operations is left out.
    fn take(&mut self, time: u64, evidence: &Evidence) -> io::Result<()> {
        match evidence {
            Evidence::Invoke { op, action, .. } => self.invoke(time, *op, action),
            Evidence::Done { op, reply, .. } => self.done(time, *op, reply),
            Evidence::Refused { op, why, .. } => self.complete(time, *op, "fail", None, Some(why)),
            Evidence::Unknown { op, why } => self.complete(time, *op, "info", None, Some(why)),
            _ => Ok(()),
        }
    }

    fn invoke(&mut self, time: u64, op: OpId, action: &Action) -> io::Result<()> {
        // The harness was killed meanwhile, so the operation before this one has no outcome.
        if let Some(before) = self.open.get(&op.client).map(|open| open.op) {
            self.complete(time, before, "info", None, Some("the harness ended before the answer"))?;
        }
        let (f, value, reads) = words(op, action);
        let process = self.process_of(op);
        self.line(time, "invoke", process, f, &value, None)?;
        self.exported.invoked += 1;
        self.open.insert(op.client, Open { op, f, value, reads });
        Ok(())
    }

    fn process_of(&mut self, op: OpId) -> u64 {
        *self.process.entry(op.client).or_insert(u64::from(op.client))
    }

    fn done(&mut self, time: u64, op: OpId, reply: &Reply) -> io::Result<()> {
        match reply {
            Reply::Txn { succeeded: false } => {
                self.complete(time, op, "fail", None, Some("its comparison does not hold"))
            }
            Reply::Read(rows) => match rows.iter().map(found).collect::<Option<Vec<_>>>() {
                Some(found) => self.complete(time, op, "ok", Some(format!("[{}]", found.join(" "))), None),
                None => self.complete(time, op, "info", None, Some("a value that was read is not one of ours")),
            },
            Reply::Put
            | Reply::Deleted(0..)
            | Reply::Txn { succeeded: true }
            | Reply::Granted
            | Reply::Revoked
            | Reply::Renewed { .. }
            | Reply::Compacted
            | Reply::Defragmented => self.complete(time, op, "ok", None, None),
        }
    }

    fn complete(
        &mut self,
        time: u64,
        op: OpId,
        kind: &str,
        read: Option<String>,
        error: Option<&str>,
    ) -> io::Result<()> {
        // Jepsen has no form for a completion without its invocation, or for a second one.
        let Some(open) = self.open.remove(&op.client) else { return Ok(()) };
        if open.op != op {
            self.open.insert(op.client, open);
            return Ok(());
        }
        let process = self.process_of(op);
        let value = read.filter(|_| open.reads).unwrap_or(open.value);
        self.line(time, kind, process, open.f, &value, error)?;
        self.exported.completed += 1;
        if kind == "info" {
            self.process.insert(op.client, process + THREADS);
        }
        Ok(())
    }

    fn line(
        &mut self,
        time: u64,
        kind: &str,
        process: u64,
        f: &str,
        value: &str,
        error: Option<&str>,
    ) -> io::Result<()> {
        let index = self.index;
        self.index += 1;
        let error = error.map_or_else(String::new, |error| format!(", :error {}", quoted(error)));
        writeln!(
            self.to,
            "{{:index {index}, :time {time}, :type :{kind}, :process {process}, :f :{f}, :value {value}{error}}}"
        )
    }
}

/// The number that an operation writes.
fn number(id: OpId) -> u64 {
    u64::from(id.client) * SEQS + id.seq
}

/// `:f`, `:value`, and whether it reads.
fn words(id: OpId, action: &Action) -> (&'static str, String, bool) {
    let keys = |keys: &ninelives_evidence::operation::Keys| match &keys.to {
        None => quoted(&keys.from),
        Some(to) => format!("[{} {}]", quoted(&keys.from), quoted(to)),
    };
    match action {
        Action::Put { key, value, .. } => ("txn", format!("[{}]", write(id, key, value)), false),
        Action::Txn { then, .. } | Action::Packed { then, .. } => {
            let writes: Vec<String> = then
                .iter()
                .filter_map(|effect| match effect {
                    Effect::Put { key, value } => Some(write(id, key, value)),
                    Effect::Delete { .. } => None,
                })
                .collect();
            ("txn", format!("[{}]", writes.join(" ")), false)
        }
        Action::Check { when, .. } => {
            let compared = when.iter().map(|one| format!("[{} {}]", quoted(&one.key), one.mod_revision));
            ("compare", format!("[{}]", compared.collect::<Vec<_>>().join(" ")), false)
        }
        Action::Delete { keys: which } => ("delete", keys(which), false),
        Action::Read { keys: which, revision: Some(_), .. } => ("historic", keys(which), true),
        Action::Read { keys: which, serializable: true, .. } => ("serializable", keys(which), true),
        Action::Read { keys: which, .. } if which.to.is_some() => ("range", keys(which), true),
        Action::Read { keys: which, .. } => ("txn", format!("[[:r {} nil]]", quoted(&which.from)), true),
        Action::Grant { lease, .. } => ("grant", lease.to_string(), false),
        Action::Revoke { lease } => ("revoke", lease.to_string(), false),
        Action::KeepAlive { lease } => ("keep-alive", lease.to_string(), false),
        Action::Compact { revision } => ("compact", revision.to_string(), false),
        Action::Defragment => ("defragment", "nil".to_owned(), false),
    }
}

fn write(id: OpId, key: &str, value: &str) -> String {
    match entries(value).filter(|_| key.starts_with(LISTS)) {
        Some(list) => format!("[:append {} {}]", quoted(&named(key, &list)), number(id)),
        None => format!("[:w {} {}]", quoted(key), number(id)),
    }
}

/// A row as a read returned it; `None`: its value is not one of ours.
fn found(row: &KeyState) -> Option<String> {
    let (key, value) = (str::from_utf8(&row.key).ok()?, str::from_utf8(&row.value).ok()?);
    match entries(value).filter(|_| key.starts_with(LISTS)) {
        Some(list) => {
            let numbers: Vec<String> = list.iter().map(u64::to_string).collect();
            Some(format!("[:r {} [{}]]", quoted(&named(key, &list)), numbers.join(" ")))
        }
        None => Some(format!("[:r {} {}]", quoted(key), number(OpId::of_value(value.as_bytes())?))),
    }
}

/// The numbers of an append list.
fn entries(value: &str) -> Option<Vec<u64>> {
    value.split(',').map(|id| OpId::of_value(id.as_bytes()).map(number)).collect()
}

/// The name of a list that only grows.
fn named(key: &str, list: &[u64]) -> String {
    list.first().map_or_else(|| key.to_owned(), |first| format!("{key}#{first}"))
}

/// A string of EDN.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            '\n' => quoted.push_str("\\n"),
            char if char.is_control() => quoted.push(' '),
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;
