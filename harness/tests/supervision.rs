//! Process supervision with real children: states arrive as events, strangers' signals are told
//! apart, and no child survives the harness, even one that is killed with SIGKILL.

use ninelives::process::{Launch, Spawner};
use ninelives::subject::events::{self, NodeState};
use ninelives_evidence::ended::Ended;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::watch;

fn shell(script: &str) -> Launch {
    Launch::new("/bin/sh", ["-c", script].map(OsString::from).to_vec())
}

async fn soon<F: Future>(future: F) -> F::Output {
    ninelives::timer::within(Duration::from_secs(20), future).await.expect("an event within 20 s")
}

#[tokio::test]
async fn an_exit_code_and_both_streams_arrive() {
    let spawner = Spawner::start().unwrap();
    let output = spawner.output(shell("echo out; echo why >&2; exit 65"), Duration::from_secs(20), 100).await.unwrap();
    assert_eq!(output.ended, Ended::Exited(65));
    assert_eq!((output.text().as_str(), output.stderr_tail().as_str()), ("out", ": \"why\""));
}

#[tokio::test]
async fn a_stop_is_seen_and_the_kill_is_ours() {
    let spawner = Spawner::start().unwrap();
    let started = spawner
        .spawn(shell("echo '{\"event\":\"window\",\"name\":\"w\",\"hit\":3}'; kill -STOP $$; exit 0"))
        .await
        .unwrap();
    let (publish, mut said) = watch::channel(NodeState::default());
    events::follow(started.stdout, publish);
    let mut state = started.child.subscribe();
    soon(state.wait_for(|state| state.stopped)).await.unwrap();
    soon(said.wait_for(|said| said.window == Some(("w".to_owned(), 3)))).await.unwrap();
    assert!(started.child.threads_in_words().starts_with("1 × T"), "{}", started.child.threads_in_words());
    started.child.kill().unwrap();
    assert_eq!(soon(started.child.ended()).await, Ended::KilledByUs(9));
}

#[tokio::test]
async fn a_stopped_child_goes_on_when_resumed() {
    let spawner = Spawner::start().unwrap();
    let started = spawner.spawn(shell("kill -STOP $$; exit 7")).await.unwrap();
    let mut state = started.child.subscribe();
    soon(state.wait_for(|state| state.stopped)).await.unwrap();
    started.child.resume().unwrap();
    assert_eq!(soon(started.child.ended()).await, Ended::Exited(7));
}

#[tokio::test]
async fn a_child_is_paused_and_goes_on_as_if_nothing_had_been() {
    let spawner = Spawner::start().unwrap();
    let started = spawner.spawn(shell("read _; exec sleep 1000")).await.unwrap();
    let pauser = started.child.pauser();
    for _ in 0..3 {
        pauser.stop().unwrap();
        assert!(soon(pauser.stands_still(true)).await);
        assert!(started.child.state().stopped);
        pauser.resume().unwrap();
        assert!(soon(pauser.stands_still(false)).await);
        assert_eq!(started.child.state(), ninelives::process::Signals::default());
    }
    pauser.stop().unwrap();
    started.child.kill().unwrap();
    assert_eq!(soon(started.child.ended()).await, Ended::KilledByUs(9), "a stopped one dies by our signal as well");
    assert!(!soon(pauser.stands_still(true)).await, "dead, and said to be");
    pauser.resume().unwrap();
}

#[tokio::test]
async fn a_signal_that_we_did_not_send_is_not_ours() {
    let spawner = Spawner::start().unwrap();
    for (script, signal) in [("kill -KILL $$", 9), ("kill -ABRT $$", 6)] {
        let started = spawner.spawn(shell(script)).await.unwrap();
        assert_eq!(soon(started.child.ended()).await, Ended::KilledByOther(signal));
    }
}

#[tokio::test]
async fn a_dropped_child_is_killed() {
    let spawner = Spawner::start().unwrap();
    let started = spawner.spawn(shell("exec sleep 1000")).await.unwrap();
    let mut state = started.child.subscribe();
    drop(started);
    let end = soon(state.wait_for(|state| state.ended.is_some())).await.unwrap().ended;
    assert_eq!(end, Some(Ended::KilledByUs(9)));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let spawner = Spawner::start().unwrap();
    let error = spawner.spawn(Launch::new("/nonexistent/node", vec![])).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/node"), "{error:#}");
}

/// The harness's role in [`no_child_survives_a_killed_harness`]: this test, run in another process,
/// spawns two children (one of them stopped, as at a crash window), prints their ids and waits to
/// be killed.
#[tokio::test]
async fn act_as_a_harness() {
    if std::env::var_os("NINELIVES_TEST_ACT").is_none() {
        return;
    }
    let spawner = Spawner::start().unwrap();
    let running = spawner.spawn(shell("exec sleep 1000")).await.unwrap();
    let stopped = spawner.spawn(shell("kill -STOP $$; exec sleep 1000")).await.unwrap();
    stopped.child.subscribe().wait_for(|state| state.stopped).await.unwrap();
    println!("children {} {}", running.child.pid(), stopped.child.pid());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn no_child_survives_a_killed_harness() {
    let harness = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "act_as_a_harness", "--nocapture"])
        .env("NINELIVES_TEST_ACT", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut harness = harness;
    let stdout = tokio::process::ChildStdout::from_std(harness.stdout.take().unwrap()).unwrap();
    let mut lines = BufReader::new(stdout).lines();
    let children = loop {
        let line = soon(lines.next_line()).await.unwrap().expect("a line with the children's ids");
        if let Some((_, ids)) = line.split_once("children ") {
            break ids.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        }
    };
    assert_eq!(children.len(), 2);
    assert!(children.iter().all(|pid| alive(pid)), "both children must live before the harness dies");
    harness.kill().unwrap();
    harness.wait().unwrap();
    soon(async {
        while children.iter().any(|pid| alive(pid)) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// True if `pid` runs. A zombie does not: this test does not care which process reaps it.
fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
