//! The report directory: the one place that knows its layout.

use std::path::{Path, PathBuf};

/// A report directory, by default `reports/<scenario>-seed<seed>-<UTC stamp>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
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

    pub fn history_jsonl(&self) -> PathBuf {
        self.root.join("history.jsonl")
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
        self.nodes().join(format!("n{id}.log"))
    }

    /// Data directory of member `id`; removed after a pass, kept on anything else.
    pub fn node_data(&self, id: u64) -> PathBuf {
        self.nodes().join(format!("n{id}"))
    }

    /// Where copies of dead directories are inspected; removed after each inspection.
    pub fn dead_copy(&self, id: u64) -> PathBuf {
        self.nodes().join(format!("dead-n{id}"))
    }
}
