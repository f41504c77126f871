//! Tests of the search and of the exploration, with a script in the place of inspector and node.

use super::{explore, missing_sync};
use crate::cluster::{Cluster, Kept};
use crate::faultfs::lossy_tests::instant_of_a_lost_rename;
use crate::paths::Paths;
use crate::process::Spawner;
use crate::seed::Seed;
use crate::subject::{Node, Target};
use ninelives_evidence::member::Engine;
use ninelives_evidence::power::{NameChange, Names};
use ninelives_evidence::verdict::findings::{Members, Restarts, Watches};
use ninelives_evidence::verdict::{Class, Finding};
use ninelives_oracle::alone::Known;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

/// As inspector it cannot read the index where `f` says `old`, and as a node it refuses to start
/// where `f` is empty.
const SCRIPT: &str = r#"#!/bin/sh
case $1 in
inspect) f=$(cat "$3/f"); [ "$f" = old ] && echo '{"last_flushed_index_error":"old"}' || echo '{}' ;;
serve) [ -s "$5/f" ] || { echo 'it is empty' >&2; exit 1; }; echo '{"complete":true,"open_micros":1}' ;;
esac
"#;

struct Lab {
    cluster: Cluster,
    dirs: [TempDir; 2],
}

impl Lab {
    /// A cluster of one member, whose last cut lost a rename of `f` with `old` in it.
    fn after_a_cut(old: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("node");
        fs::write(&script, SCRIPT).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let node = Node {
            node: script.clone(),
            inspector: script,
            memtable_bytes: None,
            keep_entries: 1,
            snapshot_every_entries: 1,
            sabotage: None,
        };
        let paths = Paths::new(dir.path().join("report"));
        let spawner = Spawner::start().unwrap();
        let mut cluster = Cluster::prepare(spawner, Target::Node(node), paths, &[Engine::Rocksdb]).unwrap();
        let (of_the_instant, instant) = instant_of_a_lost_rename(old, b"new");
        cluster.members[0].keep(Kept::new(Known { cycle: 3, member: 1, ..Known::default() }, instant));
        Self { cluster, dirs: [dir, of_the_instant] }
    }

    fn states(&self) -> std::path::PathBuf {
        self.dirs[0].path().join("report/nodes/states-n1")
    }
}

fn unreadable() -> Finding {
    Finding::new(Restarts::IndexUnreadable { error: "old".to_owned() }).in_cycle(3).at_member(1)
}

#[tokio::test]
async fn the_rename_is_found_among_the_writes() {
    let mut lab = Lab::after_a_cut(b"old");
    let found = missing_sync(&mut lab.cluster, &[unreadable()]).await.unwrap();
    assert_eq!((found.unknown.as_slice(), found.smallest), (&[][..], true));
    let [rename] = &found.lost.names[..] else { panic!("expected one lost name: {found:?}") };
    assert_eq!((rename.change, rename.path.as_path()), (NameChange::Rename, Path::new("f")));
    assert!(found.lost.files.is_empty() && found.of == 41, "{found:?}");
    assert_eq!(found.names, Some(Names::Journal), "nothing was synced after it");
    assert!(found.tried < 30, "{}", found.tried);
    assert!(!lab.states().exists());
}

#[tokio::test]
async fn a_refusal_to_start_takes_a_start() {
    let mut lab = Lab::after_a_cut(b"");
    let what = Members::RefusedToStart { member: 1, ended: ninelives_evidence::ended::Ended::Exited(1), remark: None };
    let finding = Finding::new(what).in_cycle(3).at_member(1);
    let found = missing_sync(&mut lab.cluster, &[finding]).await.unwrap();
    assert_eq!((found.class, found.lost.names.len(), found.lost.files.len()), (Class::RefusedAfterOwnCrash, 1, 0));
}

#[tokio::test]
async fn what_one_directory_does_not_show_is_said() {
    let mut lab = Lab::after_a_cut(b"sound");
    let found = missing_sync(&mut lab.cluster, &[unreadable()]).await.unwrap();
    assert!(found.names.is_none() && found.unknown[0].contains("passes when n1 is looked at alone"), "{found:?}");
    let slot = ninelives_evidence::member::Slot(1);
    let of_the_cluster = Finding::new(Watches::DeliveredTwice { slot, revision: 9, after: 9 }).in_cycle(3);
    let found = missing_sync(&mut lab.cluster, std::slice::from_ref(&of_the_cluster)).await.unwrap();
    assert!(found.unknown[0].contains("it takes the cluster"), "{found:?}");
    let of_another_cycle = Finding { cycle: Some(4), ..of_the_cluster };
    assert_eq!(missing_sync(&mut lab.cluster, &[of_another_cycle]).await, None);
}

#[tokio::test]
async fn an_exploration_ends_with_the_state_that_fails_and_its_sync_is_found() {
    let mut lab = Lab::after_a_cut(b"old");
    let (record, findings) = explore(&mut lab.cluster, 1, 50, &Seed::new(7)).await.unwrap().unwrap();
    assert_eq!((record.states, record.operations), (1, 41), "everything lost comes first");
    assert_eq!(findings[0].state, Some(1));
    assert_eq!(findings[0].sentence(), format!("in explored crash state 1 of the last cut: {}", unreadable().what));
    let found = missing_sync(&mut lab.cluster, &findings).await.unwrap();
    assert_eq!((found.lost.names.len(), found.lost.files.len(), found.smallest), (1, 0, true));
}

#[tokio::test]
async fn an_exploration_counts_distinct_states_and_stops() {
    let mut lab = Lab::after_a_cut(b"sound");
    let (record, findings) = explore(&mut lab.cluster, 1, 40, &Seed::new(7)).await.unwrap().unwrap();
    assert_eq!((record.states, findings.len()), (40, 0));
    assert!(!lab.states().exists());
}
