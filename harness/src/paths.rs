//! The report directory: the one place that knows its layout.

use std::path::{Path, PathBuf};

/// A report directory, by default `reports/<scenario>-seed<seed>-<UTC stamp>`, as one of the run's
/// clusters sees it.
///
/// Clusters share nothing: each has a history and members of its own. The first one's have plain
/// names, those of the others say whose they are (`history-2.jsonl`, `nodes/c2-n1`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
    /// From 1.
    cluster: u32,
}

impl Paths {
    /// Says what is not there for this to be a report directory with `parts`; `None`: nothing.
    pub fn lacking(&self, parts: &[PathBuf]) -> Option<String> {
        let root = self.root().display();
        if !self.root().is_dir() {
            return Some(format!("expected a report directory, found none at {root}"));
        }
        let missing = parts.iter().find(|part| !part.is_file())?;
        Some(format!(
            "expected a report directory at {root}, found no {} in it: name the directory that `ninelives run` printed",
            missing.file_name().unwrap_or_default().display()
        ))
    }

    /// The report directory at `root`; the first cluster's view.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), cluster: 1 }
    }

    /// The same report directory, as cluster `cluster` (from 1) sees it.
    pub fn of_cluster(&self, cluster: u32) -> Self {
        Self { root: self.root.clone(), cluster }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn verdict_json(&self) -> PathBuf {
        self.root.join("verdict.json")
    }

    pub fn plan_txt(&self) -> PathBuf {
        self.root.join("plan.txt")
    }

    /// The scenario's text as it was run: what `replay` reads beside the plan.
    pub fn scenario_toml(&self) -> PathBuf {
        self.root.join("scenario.toml")
    }

    /// The newest lines of the history; those before them are in `history.jsonl.zst`, beside it.
    pub fn history_jsonl(&self) -> PathBuf {
        self.root.join(match self.cluster {
            1 => "history.jsonl".to_owned(),
            cluster => format!("history-{cluster}.jsonl"),
        })
    }

    pub fn report_html(&self) -> PathBuf {
        self.root.join("report.html")
    }

    pub fn junit_xml(&self) -> PathBuf {
        self.root.join("junit.xml")
    }

    pub fn repro_sh(&self) -> PathBuf {
        self.root.join("repro.sh")
    }

    pub fn nodes(&self) -> PathBuf {
        self.root.join("nodes")
    }

    /// Standard error of all lives of member `id`, one after the other.
    pub fn node_log(&self, id: u64) -> PathBuf {
        self.nodes().join(self.own(&format!("n{id}.log")))
    }

    /// Data directory of member `id`; removed after a pass, kept on anything else.
    pub fn node_data(&self, id: u64) -> PathBuf {
        self.nodes().join(self.own(&format!("n{id}")))
    }

    /// Standard error of all lives of the stranger in slot number `slot`.
    pub fn stranger_log(&self, slot: u64) -> PathBuf {
        self.nodes().join(self.own(&format!("s{slot}.log")))
    }

    /// Data directory of the stranger in slot number `slot`; removed after a pass.
    pub fn stranger_data(&self, slot: u64) -> PathBuf {
        self.nodes().join(self.own(&format!("s{slot}")))
    }

    /// The snapshot that was saved in cycle `cycle`, to be restored; removed after the cycle,
    /// unless that found something.
    pub fn saved(&self, cycle: u32) -> PathBuf {
        self.nodes().join(self.own(&format!("saved-{cycle}")))
    }

    /// An earlier snapshot than that, from which one founder alone is restored; removed like it.
    pub fn older(&self, cycle: u32) -> PathBuf {
        self.nodes().join(self.own(&format!("older-{cycle}")))
    }

    /// Data directory in which member `id` is started from another state than the other founders;
    /// removed after that.
    pub fn unlike_data(&self, id: u64) -> PathBuf {
        self.nodes().join(self.own(&format!("unlike-n{id}")))
    }

    /// The directory in which a copy of a dead directory is inspected; it is removed after each
    /// inspection.
    pub fn dead_copy(&self, id: u64) -> PathBuf {
        self.nodes().join(self.own(&format!("dead-n{id}")))
    }

    /// The directory that keeps the instant of the last cut of member `id`.
    pub fn instant(&self, id: u64) -> PathBuf {
        self.nodes().join(self.own(&format!("instant-n{id}")))
    }

    /// The directory in which crash states of that instant are tried.
    pub fn states(&self, id: u64) -> PathBuf {
        self.nodes().join(self.own(&format!("states-n{id}")))
    }

    /// `name`, as this cluster's own.
    fn own(&self, name: &str) -> String {
        match self.cluster {
            1 => name.to_owned(),
            cluster => format!("c{cluster}-{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_share_a_report_and_no_file_of_their_own() {
        let first = Paths::new("r");
        let second = first.of_cluster(2);
        assert_eq!(first.verdict_json(), second.verdict_json());
        assert_eq!(first.history_jsonl(), Path::new("r/history.jsonl"));
        assert_eq!(second.history_jsonl(), Path::new("r/history-2.jsonl"));
        assert_eq!(second.node_log(1), Path::new("r/nodes/c2-n1.log"));
        assert_ne!(first.node_data(1), second.node_data(1));
        assert_ne!(first.dead_copy(1), second.dead_copy(1));
    }
}
