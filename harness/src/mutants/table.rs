//! The file of bugs and their expected results: `scenarios/mutants.toml` for bugs that are planted
//! in the node, `scenarios/etcd-releases.toml` for one that was released.

use ninelives_evidence::limits;
use ninelives_evidence::verdict::{Class, Verdict};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// A bug and its expected result; or a control, which has to pass.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The bug's name: the node's, if it is planted there.
    pub name: String,
    /// The scenario that shows it, beside the table.
    pub scenario: String,
    /// A path, or a name on `PATH`: the binary that runs the scenario, and has the bug by itself.
    /// Absent: the node, and the bug is planted.
    pub binary: Option<String>,
    /// Classes that may head the report. All of them lead to one verdict.
    pub headline: Vec<Class>,
    /// At least one of these classes must be among the findings; empty if `headline` is enough.
    symptom: Option<Vec<Class>>,
    /// A kill at a window shows it, so that it does not depend on luck: it is tried with more
    /// seeds.
    pub pinned: bool,
    /// Cycles, instead of the scenario's.
    pub cycles: Option<u32>,
    /// The directory of its table.
    #[serde(skip)]
    dir: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Control {
    scenario: String,
    binary: Option<String>,
    cycles: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    bug: Vec<Expected>,
    control: Vec<Control>,
    /// Planted bugs that only a fault shows that is not injected.
    elsewhere: Vec<String>,
}

/// A table, or several that were joined, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    pub bugs: Vec<Expected>,
    /// Named [`CONTROL`], with no class that is expected.
    pub controls: Vec<Expected>,
    pub elsewhere: Vec<String>,
}

/// The name of a control where bugs are named.
pub const CONTROL: &str = "control";

impl Expected {
    pub fn symptom(&self) -> &[Class] {
        self.symptom.as_deref().unwrap_or(&self.headline)
    }

    /// True if no class is expected: it has to pass.
    pub fn is_control(&self) -> bool {
        self.headline.is_empty()
    }

    /// Number of seeds that it is tried with by default.
    pub fn seeds(&self) -> u32 {
        match (self.is_control(), self.pinned) {
            (true, _) => 1,
            (false, true) => limits::MUTANT_SEEDS_PINNED,
            (false, false) => limits::MUTANT_SEEDS,
        }
    }

    /// Name of its runs: a control has its scenario's name in it.
    pub fn run_name(&self) -> String {
        if !self.is_control() {
            return self.name.clone();
        }
        let scenario = self.scenario.strip_suffix(".toml").unwrap_or(&self.scenario);
        format!("{CONTROL}-{scenario}")
    }

    /// True if `name` selects it: the name of its runs, or the one that all controls share.
    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.run_name() == name
    }

    /// Path of its scenario.
    pub fn scenario_path(&self) -> PathBuf {
        self.dir.join(&self.scenario)
    }

    #[cfg(test)]
    pub(super) fn for_test(name: &str, headline: &[Class], symptom: Option<&[Class]>) -> Self {
        Self {
            name: name.into(),
            scenario: "s.toml".into(),
            binary: None,
            headline: headline.to_vec(),
            symptom: symptom.map(<[Class]>::to_vec),
            pinned: true,
            cycles: None,
            dir: PathBuf::new(),
        }
    }
}

impl Table {
    /// Reads and checks the tables at `paths`, and joins them. A bug that one of them says to be
    /// elsewhere may be in another one.
    ///
    /// # Errors
    /// As [`Table::load`]; two tables have rows for the same bug.
    pub fn load_all(paths: &[PathBuf]) -> Result<Self, String> {
        let mut joined = Self::default();
        for path in paths {
            let table = Self::load(path)?;
            if let Some(twice) = table.bugs.iter().find(|bug| joined.bugs.iter().any(|other| other.name == bug.name)) {
                let (path, name) = (path.display(), &twice.name);
                return Err(format!("{path}: expected no row for `{name}`, which an earlier table has"));
            }
            joined.bugs.extend(table.bugs);
            joined.controls.extend(table.controls);
            joined.elsewhere.extend(table.elsewhere);
        }
        joined.elsewhere.sort();
        joined.elsewhere.dedup();
        joined.elsewhere.retain(|name| joined.bugs.iter().all(|bug| bug.name != *name));
        Ok(joined)
    }

    /// Reads and checks the table at `path`.
    ///
    /// # Errors
    /// The file cannot be read, is not such a table, or expects an ending that no run can have.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("expected a table of planted bugs at {}, found: {error}", path.display()))?;
        Self::parse(path, &text).map_err(|why| format!("{}: {why}", path.display()))
    }

    fn parse(path: &Path, text: &str) -> Result<Self, String> {
        let File { bug: bugs, control, elsewhere } = toml::from_str(text).map_err(|error| error.to_string())?;
        for (at, bug) in bugs.iter().enumerate() {
            let name = &bug.name;
            let mut verdicts = bug.headline.iter().map(|class| class.verdict());
            let verdict =
                verdicts.next().ok_or_else(|| format!("`{name}`: expected a class in `headline`, found none"))?;
            if verdicts.any(|other| other != verdict) {
                return Err(format!("`{name}`: expected classes of one verdict in `headline`, found several"));
            }
            if !matches!(verdict, Verdict::Violation | Verdict::Liveness) {
                return Err(format!(
                    "`{name}`: expected a class that blames the system under test in `headline`, found one of {verdict}"
                ));
            }
            if name == CONTROL || bugs[..at].iter().any(|other| other.name == *name) || elsewhere.contains(name) {
                return Err(format!("`{name}`: expected a name of its own, found it twice"));
            }
        }
        let dir = path.parent().unwrap_or(Path::new("")).to_owned();
        let bugs = bugs.into_iter().map(|bug| Expected { dir: dir.clone(), ..bug }).collect();
        let controls = control.into_iter().map(|Control { scenario, binary, cycles }| Expected {
            name: CONTROL.to_owned(),
            scenario,
            binary,
            headline: Vec::new(),
            symptom: None,
            pinned: false,
            cycles,
            dir: dir.clone(),
        });
        Ok(Self { bugs, controls: controls.collect(), elsewhere })
    }

    /// The rows that `names` select; all, controls included, if there are none.
    ///
    /// # Errors
    /// A name that is not in the table.
    pub fn select(&self, names: &[String]) -> Result<Vec<Expected>, String> {
        let all = || self.bugs.iter().chain(&self.controls);
        if let Some(unknown) = names.iter().find(|name| !all().any(|one| one.is_called(name))) {
            let known: Vec<_> = self.bugs.iter().map(|bug| bug.name.as_str()).collect();
            return Err(format!(
                "unknown bug {unknown}; expected one of {}, {CONTROL}, or {CONTROL}-SCENARIO",
                known.join(", ")
            ));
        }
        let chosen = |one: &&Expected| names.is_empty() || names.iter().any(|name| one.is_called(name));
        Ok(all().filter(chosen).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn shipped() -> Table {
        named("mutants.toml")
    }

    fn named(name: &str) -> Table {
        Table::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name)).unwrap()
    }

    #[test]
    fn the_shipped_tables_name_scenarios_that_can_be_run() {
        assert!(shipped().bugs.len() > 10);
        for table in [shipped(), named("power-mutants.toml"), named("etcd-releases.toml")] {
            for expected in table.select(&[]).unwrap() {
                Scenario::load(&expected.scenario_path()).unwrap_or_else(|refusal| panic!("{refusal}"));
            }
            for bug in &table.bugs {
                let scenario = &bug.scenario;
                assert!(
                    table.controls.iter().any(|control| control.scenario == *scenario),
                    "no control for {scenario}"
                );
            }
        }
    }

    #[test]
    fn what_was_released_is_told_from_what_is_planted() {
        assert!(shipped().select(&[]).unwrap().iter().all(|expected| expected.binary.is_none()));
        assert!(named("etcd-releases.toml").select(&[]).unwrap().iter().all(|expected| expected.binary.is_some()));
    }

    #[test]
    fn tables_are_joined_and_a_bug_has_one_row() {
        let path = |name| Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name);
        let both = Table::load_all(&[path("mutants.toml"), path("power-mutants.toml")]).unwrap();
        assert_eq!(both.bugs.len(), shipped().bugs.len() + named("power-mutants.toml").bugs.len());
        assert!(shipped().elsewhere.contains(&"index-no-fsync".to_owned()));
        assert!(!both.elsewhere.contains(&"index-no-fsync".to_owned()), "the other table has its row");
        let twice = Table::load_all(&[path("mutants.toml"), path("mutants.toml")]).unwrap_err();
        assert!(twice.contains("which an earlier table has"), "{twice}");
    }

    #[test]
    fn rows_are_chosen_by_name() {
        let table = shipped();
        let names = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            table.select(&names).map(|rows| rows.into_iter().map(|row| row.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["hash-constant"]).unwrap(), ["hash-constant"]);
        assert!(names(&["control"]).unwrap().iter().all(|name| name == "control"));
        let one = table.select(&["control-teeth-noops".to_owned()]).unwrap();
        assert_eq!(one.iter().map(|row| row.scenario.as_str()).collect::<Vec<_>>(), ["teeth-noops.toml"]);
        assert!(names(&["control-teeth-noop"]).unwrap_err().contains("or control-SCENARIO"));
        assert!(names(&["hash-constnat"]).unwrap_err().contains("expected one of capture-at-flush-begin, "));
    }

    #[test]
    fn a_row_that_no_run_can_fulfil_is_refused() {
        let parse = |row: &str| {
            let text = format!(
                "elsewhere = []\ncontrol = []\n[[bug]]\nname = \"b\"\nscenario = \"s\"\npinned = true\n{row}\n"
            );
            Table::parse(Path::new("t/m.toml"), &text)
        };
        assert!(parse("headline = [\"state-hash\", \"lost-write\"]").is_ok());
        assert!(parse("headline = []").unwrap_err().contains("found none"));
        assert!(parse("headline = [\"state-hash\", \"liveness\"]").unwrap_err().contains("one verdict"));
        assert!(parse("headline = [\"not-proven\"]").unwrap_err().contains("one of inconclusive"));
        assert!(parse("headline = [\"state-hsah\"]").unwrap_err().contains("state-hsah"));
        assert!(parse("headline = [\"watch\"]\nsedes = 3").unwrap_err().contains("sedes"));
        let table = parse("headline = [\"watch\"]").unwrap();
        assert_eq!(table.bugs[0].scenario_path(), Path::new("t/s"));
    }
}
