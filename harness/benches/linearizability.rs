//! Cost of the linearizability checker: 100,000 operations of concurrent clients, about one in a
//! hundred without an answer, once with the watched history beside the answers (as in a run) and
//! once from the answers alone; and a history that no revision prunes, which has to end at its
//! budget. `cargo bench -p ninelives --bench linearizability`; times drift with the machine.

use ninelives::seed::{Seed, Stream};
use ninelives_evidence::clock;
use ninelives_evidence::operation::{Action, Compare, Effect, KeyState, Keys, OpId, Outcome, Reply};
use ninelives_oracle::linearizability::{Basis, Linearizability};
use std::collections::BTreeMap;

const OPERATIONS: u64 = 100_000;
/// Operations between two fences: a cycle of a second or two.
const PER_FENCE: u64 = 2_500;
const KEYS: u64 = 192;

fn main() {
    println!("clients  basis    operations  answers judged  unanswered  ms      ops/s    peak MiB (growth)");
    for clients in [16, 64] {
        for history in [true, false] {
            let (before, start) = (peak_kib(), clock::now());
            let run = Run::new(clients, history).carry_out();
            let ms = clock::ms_since(start).max(1);
            println!(
                "{clients:<8} {:<8} {OPERATIONS:<11} {:<15} {:<11} {ms:<7} {:<8} {} ({})",
                if history { "history" } else { "answers" },
                run.judged,
                run.unanswered,
                OPERATIONS * 1000 / ms,
                peak_kib() / 1024,
                (peak_kib() - before) / 1024,
            );
        }
    }
    let (start, sentence) = (clock::now(), adversarial());
    println!("adversarial, {} ms: {sentence}", clock::ms_since(start));
}

/// A client's operation, and how far it got.
struct Flight {
    id: OpId,
    action: Action,
    outcome: Option<Outcome>,
}

/// A store that is linearizable by construction, and its clients.
struct Run {
    stream: Stream,
    history: bool,
    book: Linearizability,
    revision: u64,
    rows: BTreeMap<String, KeyState>,
    flights: Vec<Option<Flight>>,
    /// Unanswered, and perhaps still to happen.
    late: Vec<(OpId, Action)>,
    seq: u64,
    unanswered: u64,
    judged: u64,
}

impl Run {
    fn new(clients: u32, history: bool) -> Self {
        Self {
            stream: Seed::new(7).stream("linearizability"),
            history,
            book: Linearizability::default(),
            revision: 1,
            rows: BTreeMap::new(),
            flights: (0..clients).map(|_| None).collect(),
            late: Vec::new(),
            seq: 0,
            unanswered: 0,
            judged: 0,
        }
    }

    /// Whose turn it is is drawn: it sends, or the store carries its operation out, or it hears the
    /// answer.
    fn carry_out(mut self) -> Self {
        while self.seq < OPERATIONS {
            let client = self.stream.below(self.flights.len() as u64) as usize;
            match self.flights[client].take() {
                None => self.send(client),
                Some(Flight { id, action, outcome: None }) => {
                    let outcome = Some(self.happen(id, &action));
                    self.flights[client] = Some(Flight { id, action, outcome });
                }
                Some(Flight { id, outcome: Some(outcome), .. }) => self.book.complete(id, &outcome),
            }
            if self.stream.chance(1, 200)
                && let Some((id, action)) = self.late.pop()
            {
                self.happen(id, &action);
            }
        }
        for client in 0..self.flights.len() {
            if let Some(Flight { id, action, outcome }) = self.flights[client].take() {
                let outcome = outcome.unwrap_or_else(|| self.happen(id, &action));
                self.book.complete(id, &outcome);
            }
        }
        self.check();
        self.judged = self.book.judged();
        self
    }

    fn send(&mut self, client: usize) {
        let id = OpId { client: client as u32, seq: self.seq };
        self.seq += 1;
        let key = format!("k/{:03}", self.stream.below(KEYS));
        let value = format!("x,{id}");
        let action = match self.stream.below(10) {
            0..=3 => Action::Put { key, value, lease: 0 },
            4..=5 => {
                let mod_revision = self.rows.get(&key).map_or(0, |row| row.mod_revision);
                let when = vec![Compare { key: key.clone(), mod_revision }];
                Action::Txn { when, then: vec![Effect::Put { key, value }] }
            }
            6 => Action::Delete { keys: Keys::one(key) },
            7 => Action::Read {
                keys: Keys { from: key.clone(), to: Some(format!("{key}~")) },
                revision: None,
                serializable: false,
            },
            _ => Action::Read { keys: Keys::one(key), revision: None, serializable: false },
        };
        self.book.invoke(id, &action);
        if self.stream.chance(1, 100) {
            self.unanswered += 1;
            self.book.complete(id, &Outcome::Unknown { why: String::new() });
            if self.stream.chance(1, 2) {
                self.late.push((id, action));
            }
        } else {
            self.flights[client] = Some(Flight { id, action, outcome: None });
        }
        if self.seq.is_multiple_of(PER_FENCE) {
            self.check();
        }
    }

    fn check(&mut self) {
        let basis = if self.history { Basis::History(self.revision) } else { Basis::Answers };
        for alarm in self.book.check(basis) {
            println!("{alarm}");
        }
    }

    /// The store: one operation after the other.
    fn happen(&mut self, id: OpId, action: &Action) -> Outcome {
        let reply = match action {
            Action::Put { key, value, .. } => {
                self.put(id, key, value);
                Reply::Put
            }
            Action::Txn { when, then } => {
                let holds =
                    |one: &Compare| self.rows.get(&one.key).map_or(0, |row| row.mod_revision) == one.mod_revision;
                let succeeded = when.iter().all(holds);
                if let (true, [Effect::Put { key, value }]) = (succeeded, then.as_slice()) {
                    self.put(id, key, value);
                }
                Reply::Txn { succeeded }
            }
            Action::Delete { keys } => {
                let found = self.rows.remove(&keys.from).is_some();
                self.revision += u64::from(found);
                Reply::Deleted(u64::from(found))
            }
            Action::Read { keys, .. } => {
                let end = keys.to.clone().unwrap_or_else(|| format!("{}\0", keys.from));
                Reply::Read(self.rows.range(keys.from.clone()..end).map(|(_, row)| row.clone()).collect())
            }
            _ => Reply::Compacted,
        };
        Outcome::Done { revision: self.revision, term: 1, reply }
    }

    fn put(&mut self, id: OpId, key: &str, value: &str) {
        self.revision += 1;
        let revision = self.revision;
        let (create_revision, version) =
            self.rows.get(key).map_or((revision, 1), |row| (row.create_revision, row.version + 1));
        let (bytes, value) = (key.as_bytes().to_vec(), value.as_bytes().to_vec());
        let row = KeyState { key: bytes, value, create_revision, mod_revision: revision, version, lease: 0 };
        self.rows.insert(key.to_owned(), row);
        if self.history {
            self.book.found(id, revision);
        }
    }
}

/// Forty writes without an answer, then answers that say nothing of them: every subset may have
/// happened.
fn adversarial() -> String {
    let mut book = Linearizability::default();
    let put = |id: OpId| Action::Put { key: "k".into(), value: format!("x,{id}"), lease: 0 };
    for client in 0..44 {
        let id = OpId { client, seq: 1 };
        book.invoke(id, &put(id));
        let answer = Outcome::Done { revision: 100 + u64::from(client), term: 1, reply: Reply::Put };
        book.complete(id, &if client < 40 { Outcome::Unknown { why: String::new() } } else { answer });
    }
    let told: Vec<String> = book.check(Basis::Answers).iter().map(ToString::to_string).collect();
    told.join("; ")
}

/// The most memory that this process ever held, KiB; 0 where the kernel does not tell.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}
