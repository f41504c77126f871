//! Resolves a scenario's `[target]` and the command line's flags to binaries that exist.

use super::{With, absolute, beside_this_executable};
use crate::exit::Failure;
use crate::scenario::{Scenario, TargetSpec};
use crate::subject::node::bug_exists_on;
use crate::subject::{Node, Server, ServerSpec, Target};
use ninelives_evidence::member::Engine;
use std::env;
use std::path::{Path, PathBuf};

/// The target of `scenario`, with its binaries.
///
/// # Errors
/// A binary is missing, or a flag does not fit the target.
pub(super) fn target(scenario: &Scenario, with: &With) -> Result<Target, Failure> {
    match &scenario.target {
        TargetSpec::Node => node(scenario, with).map(Target::Node),
        TargetSpec::Server(spec) => server(spec, with).map(Target::Server),
    }
}

fn node(scenario: &Scenario, with: &With) -> Result<Node, Failure> {
    let node = match &with.binaries.node {
        Some(node) => node.clone(),
        None => beside_this_executable("node-under-test")?,
    };
    let inspector = with.binaries.inspector.clone().unwrap_or_else(|| node.clone());
    for (flag, path) in [("--node", &node), ("--inspector", &inspector)] {
        if !path.is_file() {
            let how = "build it with `make build`";
            return Err(Failure::Usage(format!(
                "expected an executable at {}, found none: {how}, or name one with {flag}",
                path.display()
            )));
        }
    }
    check_sabotage(scenario, with.sabotage.as_deref())?;
    Ok(Node {
        node: absolute(&node)?,
        inspector: absolute(&inspector)?,
        memtable_bytes: scenario.cluster.memtable_bytes,
        keep_entries: scenario.cluster.keep_entries,
        snapshot_every_entries: scenario.cluster.snapshot_every_entries,
        sabotage: with.sabotage.clone(),
    })
}

fn server(spec: &ServerSpec, with: &With) -> Result<Server, Failure> {
    let name = &spec.name;
    let misfit = [("--inspector", with.binaries.inspector.is_some()), ("--sabotage", with.sabotage.is_some())];
    if let Some((flag, _)) = misfit.into_iter().find(|(_, given)| *given) {
        return Err(Failure::Usage(format!(
            "{flag}: n/a on {name}, because only its API is known: expected a scenario without `[target]`, or no {flag}"
        )));
    }
    let binary = match &with.binaries.node {
        Some(path) => Some(path.clone()).filter(|path| path.is_file()),
        None => on_path(&spec.program),
    };
    let Some(binary) = binary else {
        let wanted =
            with.binaries.node.as_ref().map_or_else(|| spec.program.clone(), |path| path.display().to_string());
        let how = if spec.is_etcd { "install it with `make setup`" } else { "build or install it" };
        return Err(Failure::Usage(format!(
            "expected an executable {wanted}, found none: {how}, or name one with --node"
        )));
    };
    Ok(Server::new(absolute(&binary)?, spec.clone()))
}

/// The executable `program`: a path, or a name to look up on `PATH`; `None` if it does not exist.
pub fn on_path(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| path.is_file());
    }
    let dirs = env::var_os("PATH")?;
    env::split_paths(&dirs).map(|dir| dir.join(program)).find(|path: &PathBuf| Path::is_file(path))
}

/// Refuses a bug that no member can have: a run with it would pass and prove nothing.
fn check_sabotage(scenario: &Scenario, bug: Option<&str>) -> Result<(), Failure> {
    let engines = &scenario.cluster.engines;
    let changes = scenario.upgrade.is_some() || scenario.restore.is_some();
    let can_run = |engine: &Engine| changes || engines.contains(engine);
    match bug {
        Some(bug) if !Engine::ALL.iter().any(|engine| can_run(engine) && bug_exists_on(bug, *engine)) => {
            Err(Failure::Usage(format!(
                "--sabotage {bug}: n/a on {}, and no member of {} ever runs another engine: expected a scenario with a {} member",
                scenario.backend(),
                scenario.name,
                engines[0].other()
            )))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_that_no_member_can_have_is_refused() {
        let smoke = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/smoke.toml");
        let text = std::fs::read_to_string(&smoke).unwrap();
        let on = |backend: &str| {
            let text = text.replace("backend = \"rocksdb\"\nmemtable_bytes = 65536", backend);
            let text = text.lines().filter(|line| !line.starts_with("\"flush.") && !line.starts_with("\"index."));
            Scenario::parse(&smoke, text.collect::<Vec<_>>().join("\n")).unwrap()
        };
        let redb = on("backend = \"redb\"");
        let refused = check_sabotage(&redb, Some("persist-before-flush")).unwrap_err();
        assert!(refused.to_string().contains("n/a on redb"), "{refused}");
        check_sabotage(&redb, Some("hash-constant")).unwrap();
        check_sabotage(&redb, Some("redb-no-sync")).unwrap();
        let rocksdb = Scenario::load(&smoke).unwrap();
        let refused = check_sabotage(&rocksdb, Some("redb-no-sync")).unwrap_err().to_string();
        assert!(refused.contains("n/a on rocksdb") && refused.contains("a redb member"), "{refused}");
        check_sabotage(&redb, None).unwrap();
        let mixed = on("backend = [\"redb\", \"redb\", \"rocksdb\"]\nmemtable_bytes = 65536");
        check_sabotage(&mixed, Some("persist-before-flush")).unwrap();
    }

    #[test]
    fn a_program_is_found_where_a_shell_finds_it() {
        assert!(on_path("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(on_path("/bin/sh"), Some("/bin/sh".into()));
        assert_eq!(on_path("no-such-program-anywhere"), None);
        assert_eq!(on_path("./no-such-program"), None);
    }
}
