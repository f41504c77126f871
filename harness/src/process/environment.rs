//! The environment that a child inherits; everything else is withheld.
//!
//! A verdict is about the scenario, so all other influences on it are removed or written down.
//! Every etcd flag has an environment variable, and a Go or Rust program has more. So a child gets
//! the variables of [`PASSED_ON`] and those of the scenario's `[environment]`, and no others; the
//! report lists them with their values, and names the others. Standard input is empty, signals have
//! their defaults and none is blocked, the umask is 022, and no descriptor beyond the standard
//! three is open. Limits, priority, control group and working directory stay the caller's, and are
//! written down ([`inherited`]).

use crate::scenario::EnvironmentSpec;
use ninelives_evidence::record::EnvironmentRecord;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;

/// Variables that say where programs and temporary files are, how text looks, and how much is
/// logged.
const PASSED_ON: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "TZ",
    "LANG",
    "LANGUAGE",
    "TERM",
    "RUST_BACKTRACE",
    "RUST_LIB_BACKTRACE",
    "NODE_LOG",
];
/// All variables with this prefix are passed on as well.
const PASSED_ON_PREFIX: &str = "LC_";

/// The variables of every child.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `None`: the scenario passes it on, and the caller does not have it.
    variables: BTreeMap<String, Option<OsString>>,
    withheld: Vec<String>,
}

impl Environment {
    /// The part of the caller's environment that is passed on, with the additions of `spec`.
    pub fn of_caller(spec: &EnvironmentSpec) -> Self {
        Self::of(std::env::vars_os(), spec)
    }

    fn of(caller: impl Iterator<Item = (OsString, OsString)>, spec: &EnvironmentSpec) -> Self {
        let mut environment = Self::default();
        environment.variables.extend(spec.pass.iter().map(|name| (name.clone(), None)));
        for (name, value) in caller {
            let Some(name) = name.to_str() else {
                environment.withheld.push(name.to_string_lossy().into_owned());
                continue;
            };
            if spec.set.contains_key(name) {
                continue;
            }
            let always = PASSED_ON.contains(&name) || name.starts_with(PASSED_ON_PREFIX);
            if always || environment.variables.contains_key(name) {
                environment.variables.insert(name.to_owned(), Some(value));
            } else {
                environment.withheld.push(name.to_owned());
            }
        }
        let set = spec.set.iter().map(|(name, value)| (name.clone(), Some(value.into())));
        environment.variables.extend(set);
        environment.withheld.sort();
        environment
    }

    /// Name and value of each variable that a child has.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&String, &OsString)> {
        self.variables.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)))
    }

    /// All of it, for a report.
    pub fn record(&self) -> EnvironmentRecord {
        let text = |value: &OsString| value.to_string_lossy().into_owned();
        EnvironmentRecord {
            variables: self.variables.iter().map(|(name, value)| (name.clone(), value.as_ref().map(text))).collect(),
            withheld: self.withheld.clone(),
            inherited: inherited(),
        }
    }
}

/// Settings that children inherit from the caller beside variables, by name. Settings that the
/// kernel does not tell are left out.
fn inherited() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    found.extend(limits_of(&limits));
    if let Ok(nice) = rustix::process::getpriority_process(None) {
        found.insert("nice".to_owned(), nice.to_string());
    }
    if let Ok(adj) = fs::read_to_string("/proc/self/oom_score_adj") {
        found.insert("oom_score_adj".to_owned(), adj.trim().to_owned());
    }
    if let Ok(dir) = std::env::current_dir() {
        found.insert("working directory".to_owned(), dir.display().to_string());
    }
    let group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    if let Some(path) = unified(&group) {
        found.insert("control group".to_owned(), path.to_owned());
        for file in ["memory.max", "cpu.max", "pids.max"] {
            if let Ok(value) = fs::read_to_string(format!("/sys/fs/cgroup{path}/{file}")) {
                found.insert(file.to_owned(), value.trim().to_owned());
            }
        }
    }
    found
}

/// The lines of `/proc/PID/limits`: `limit: max open files` → `1024, at most 4096 files`.
fn limits_of(text: &str) -> impl Iterator<Item = (String, String)> {
    text.lines().skip(1).filter_map(|line| {
        let (name, rest) = line.split_at_checked(26)?;
        let mut words = rest.split_whitespace();
        let (soft, hard, unit) = (words.next()?, words.next()?, words.next().unwrap_or_default());
        Some((
            format!("limit: {}", name.trim().to_lowercase()),
            format!("{soft}, at most {hard} {unit}").trim_end().to_owned(),
        ))
    })
}

/// The path in the unified hierarchy, from `/proc/PID/cgroup`.
pub(crate) fn unified(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(caller: &[(&str, &str)], pass: &[&str], set: &[(&str, &str)]) -> EnvironmentRecord {
        let spec = EnvironmentSpec {
            pass: pass.iter().map(|name| (*name).to_owned()).collect(),
            set: set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        };
        let caller = caller.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let environment = Environment::of(caller, &spec);
        assert!(environment.variables().all(|(name, _)| environment.variables.contains_key(name)));
        environment.record()
    }

    #[test]
    fn what_is_not_listed_reaches_nobody_and_is_named() {
        let caller =
            [("PATH", "/bin"), ("LC_ALL", "C"), ("ETCD_NAME", "foo"), ("GODEBUG", "x=1"), ("LD_PRELOAD", "a.so")];
        let told = environment(&caller, &[], &[]);
        assert_eq!(told.variables.keys().collect::<Vec<_>>(), ["LC_ALL", "PATH"]);
        assert_eq!(told.withheld, ["ETCD_NAME", "GODEBUG", "LD_PRELOAD"]);
        let told = environment(&caller, &["GODEBUG", "GOGC"], &[("ETCD_NAME", "n"), ("PATH", "/opt")]);
        let variable = |name: &str| told.variables.get(name).cloned();
        assert_eq!(variable("GODEBUG"), Some(Some("x=1".to_owned())));
        assert_eq!(variable("GOGC"), Some(None), "asked for, and not there");
        assert_eq!(variable("ETCD_NAME"), Some(Some("n".to_owned())), "the scenario's own");
        assert_eq!(variable("PATH"), Some(Some("/opt".to_owned())));
        assert_eq!(told.withheld, ["LD_PRELOAD"]);
    }

    #[test]
    fn what_else_is_inherited_is_written_down() {
        let told = inherited();
        assert!(told.contains_key("limit: max open files") && told.contains_key("nice"), "{told:?}");
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 4096                 files     \n\
                    Max nice priority         0                    0                    \n";
        let limits: BTreeMap<_, _> = limits_of(text).collect();
        assert_eq!(limits["limit: max open files"], "1024, at most 4096 files");
        assert_eq!(limits["limit: max nice priority"], "0, at most 0");
        assert_eq!(unified("1:cpu:/x\n0::/user.slice/a\n"), Some("/user.slice/a"));
    }
}
