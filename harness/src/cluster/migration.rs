//! `migrate` as a child: a dead directory changes its engine, and may be interrupted on the way.

use super::tool::{self, Run};
use super::{Site, Trouble};
use crate::subject::events::Migrated;
use anyhow::anyhow;
use ninelives_evidence::ended::Ended;
use ninelives_evidence::limits;
use ninelives_evidence::member::Engine;

/// Result of one run of `migrate`.
#[derive(Debug, PartialEq, Eq)]
pub enum Migration {
    /// It stood still in the armed window, and was killed there.
    Killed,
    /// It ended with success, whether it passed the armed window or not.
    Done(Option<Migrated>),
}

/// Runs `migrate` on the directory of the dead member `id`, and kills it in the window of `arm`, if
/// it gets there.
///
/// # Errors
/// It ended in any other way, or not at all within its bound.
pub async fn migrate(site: &Site, id: u64, to: Engine, arm: Option<(&str, u64)>) -> Result<Migration, Trouble> {
    let args = site.target.migrate_args(&site.paths.node_data(id), to, arm);
    let args = args.ok_or_else(|| anyhow!("n{id} is to change its engine, but its engine is unknown"))?;
    let what = format!("be migrated to {to}");
    match tool::run(site, id, ("migrate", args), (&what, limits::MIGRATE)).await? {
        Run::Killed => Ok(Migration::Killed),
        Run::Ended(Ended::Exited(0), said) => Ok(Migration::Done(said.migrated)),
        Run::Ended(ended, _) => Err(Trouble::MigrateFailed { member: id, to, ended }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::Board;
    use crate::paths::Paths;
    use crate::process::Spawner;
    use crate::subject::{Node, Target};
    use ninelives_evidence::verdict::Class;
    use std::os::unix::fs::PermissionsExt;

    /// Runs a shell script in the place of the node's binary.
    async fn run(script: &str, arm: Option<(&str, u64)>) -> Result<Migration, Trouble> {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("node");
        std::fs::write(&node, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&node, std::fs::Permissions::from_mode(0o755)).unwrap();
        let paths = Paths::new(dir.path());
        std::fs::create_dir_all(paths.nodes()).unwrap();
        let target = Target::Node(Node {
            node: node.clone(),
            inspector: node,
            memtable_bytes: None,
            keep_entries: 1,
            snapshot_every_entries: 1,
            sabotage: None,
        });
        let site = Site {
            spawner: Spawner::start().unwrap(),
            target,
            paths,
            founders: Vec::new(),
            board: Board::new(0),
            links: None,
            nofile: None,
            full_logs: Vec::new(),
        };
        migrate(&site, 2, Engine::Rocksdb, arm).await
    }

    #[tokio::test]
    async fn it_is_killed_where_it_stands_still() {
        let script = r#"echo '{"event":"window","name":"migrate.copied","hit":1}'; kill -STOP $$; exit 1"#;
        assert_eq!(run(script, Some(("migrate.copied", 1))).await.unwrap(), Migration::Killed);
    }

    #[tokio::test]
    async fn what_it_says_at_its_end_is_kept() {
        let done = r#"echo '{"event":"migrated","from":"redb","to":"rocksdb","index":7,"rows":3}'"#;
        let Migration::Done(Some(said)) = run(done, None).await.unwrap() else { panic!("it ended well") };
        assert_eq!((said.index, said.rows), (Some(7), Some(3)));
    }

    #[tokio::test]
    async fn a_refusal_is_a_finding_against_the_node() {
        let finding = run("exit 1", None).await.unwrap_err().finding(Some(4));
        assert_eq!((finding.class(), finding.member), (Class::RefusedAfterOwnCrash, Some(2)));
        assert!(finding.sentence().contains("migrate --to rocksdb"), "{finding}");
    }
}
