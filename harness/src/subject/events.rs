//! The event pipe: a node's standard output, one JSON object per line.
//!
//! `{"event":"serving"}` once its listeners are bound; `{"event":"window","name":"…","hit":n}` just
//! before it stops itself at an armed window. Other events are ignored, so that a node may say more
//! than this harness knows; a line that is not a JSON object is kept as a remark, because a panic
//! message on the wrong stream is a clue.

use ninelives_evidence::limits;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// The news that a node has given of itself in this life.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeState {
    pub serving: bool,
    /// The last window it reported, with its hit count.
    pub window: Option<(String, u64)>,
    /// The number of windows that it has reported.
    pub windows: u64,
    /// It stands still at the last one, and not by itself: its filesystem holds its request.
    pub held: bool,
    /// `migrate` is done: the index of the state, and its rows.
    pub migrated: Option<Migrated>,
    /// The last line that was not an event.
    pub remark: Option<String>,
    /// The pipe is closed: nothing more will come.
    pub closed: bool,
}

/// The report of `migrate` when it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrated {
    pub from: String,
    pub to: String,
    /// The consistent index of the migrated state.
    pub index: Option<u64>,
    /// Rows copied; `None`: an earlier attempt had copied them.
    pub rows: Option<u64>,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line {
    Serving,
    Window {
        name: String,
        hit: u64,
    },
    Migrated(Migrated),
    #[serde(other)]
    Other,
}

/// Follows `pipe` until it closes, and publishes its news to `publish`.
pub fn follow(pipe: pipe::Receiver, publish: watch::Sender<NodeState>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(pipe);
        while let Some(line) = next_line(&mut lines).await {
            publish.send_modify(|state| take_line(state, &line));
        }
        publish.send_modify(|state| state.closed = true);
    });
}

/// The next line, cut off at its bound; `None` at the end.
async fn next_line(lines: &mut BufReader<pipe::Receiver>) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let bound = limits::EVENT_LINE_BYTES_MAX as u64;
    match lines.take(bound).read_until(b'\n', &mut line).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line),
    }
}

fn take_line(state: &mut NodeState, line: &[u8]) {
    match serde_json::from_slice(line) {
        Ok(Line::Serving) => state.serving = true,
        Ok(Line::Window { name, hit }) => {
            state.window = Some((name, hit));
            state.windows += 1;
        }
        Ok(Line::Migrated(migrated)) => state.migrated = Some(migrated),
        Ok(Line::Other) => {}
        Err(_) => state.remark = Some(String::from_utf8_lossy(line).trim_end().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_events_move_the_state_and_unknown_ones_do_not() {
        let mut state = NodeState::default();
        take_line(&mut state, b"{\"event\":\"later-invention\",\"x\":1}\n");
        assert_eq!(state, NodeState::default());
        take_line(&mut state, b"{\"event\":\"serving\",\"pid\":7}\n");
        take_line(&mut state, b"{\"event\":\"window\",\"name\":\"flush.begin\",\"hit\":2}\n");
        assert!(state.serving);
        assert_eq!((state.window.clone(), state.windows), (Some(("flush.begin".to_owned(), 2)), 1));
        let done = br#"{"event":"migrated","from":"redb","to":"rocksdb","index":7,"rows":3}"#;
        take_line(&mut state, done);
        assert_eq!(state.migrated.as_ref().map(|done| (done.index, done.rows)), Some((Some(7), Some(3))));
        let resumed = br#"{"event":"migrated","from":"redb","to":"rocksdb","index":7,"rows":null}"#;
        take_line(&mut state, resumed);
        assert_eq!(state.migrated.as_ref().map(|done| done.rows), Some(None));
        take_line(&mut state, b"thread 'main' panicked\n");
        assert_eq!(state.remark.as_deref(), Some("thread 'main' panicked"));
    }
}
