//! The filesystem beside the host's: a table of cases that a program may rely on, and random
//! sequences of calls. Each is carried out in a mount and in a plain directory of the same
//! filesystem, and what the program sees is compared line by line.
//!
//! The program is another process: one that waited for answers of its own threads could never be
//! killed. It is this test binary, started again with the two directories in a variable.
//!
//! The table stands in `harness/docs/fault-filesystem.md`, made of the cases themselves.

mod attributes;
mod calls;
mod case;
mod contents;
mod names;
mod random;

use super::tests::{Bench, tree};
use crate::pace::Pace;
use crate::process::{Environment, Launch, Output, Spawner};
use crate::scenario::EnvironmentSpec;
use case::{Both, Case, Outcome, Seen};
use ninelives_evidence::power::Names;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For a mount that hangs; a program takes seconds, and a minute on a busy machine.
const BOUND: Duration = Duration::from_secs(600);
const OUTPUT_BYTES_MAX: u64 = 1 << 20;
/// Variables of the program: its two directories.
const HOST: &str = "NINELIVES_TEST_HOST";
const MOUNT: &str = "NINELIVES_TEST_MOUNT";
const SEQUENCES: u32 = 64;

const GROUPS: [(&str, &[Case]); 3] =
    [("names", names::CASES), ("contents", contents::CASES), ("attributes and locks", attributes::CASES)];

fn cases() -> impl Iterator<Item = &'static Case> {
    GROUPS.into_iter().flat_map(|(_, cases)| cases)
}

/// The directories, if this process is the program.
fn given() -> Option<[PathBuf; 2]> {
    let path = |name| std::env::var_os(name).map(PathBuf::from);
    Some([path(HOST)?, path(MOUNT)?])
}

/// The program of [`each_case_shows_what_its_row_says`].
#[test]
fn act_as_a_program_of_cases() {
    let Some([host, mount]) = given() else { return };
    let mut unexpected = Vec::new();
    let mut compared = 0;
    for (number, case) in cases().enumerate() {
        match case.compare(number, Both { host: &host, mount: &mount }) {
            Outcome::AsExpected => compared += 1,
            Outcome::NotOnTheHost(lines) => eprintln!("not compared here: {}: {lines:?}", case.name),
            Outcome::Unexpected(lines) => unexpected.push(format!("{}: {lines:#?}", case.name)),
        }
    }
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
    println!("compared: {compared} cases");
}

/// The program of [`random_sequences_show_the_same`].
#[test]
fn act_as_a_program_of_sequences() {
    let Some([host, mount]) = given() else { return };
    if let Err(difference) = random::compare(SEQUENCES, Both { host: &host, mount: &mount }) {
        panic!("{difference}");
    }
    println!("compared: {SEQUENCES} sequences");
}

/// Runs a program above in the mount and in a plain directory beside it.
async fn run(program: &str, bench: &Bench, host: &Path) -> Output {
    let text = |path: &Path| path.to_str().expect("directories of tests have plain names").to_owned();
    let set = [(HOST, host), (MOUNT, &bench.at(""))].map(|(name, path)| (name.to_owned(), text(path)));
    let environment = Environment::of_caller(&EnvironmentSpec { set: set.into(), ..EnvironmentSpec::default() });
    let spawner = Spawner::start_with(environment, Pace::idle()).unwrap();
    let args = ["--exact", &format!("faultfs::posix::{program}"), "--nocapture"].map(Into::into);
    let launch = Launch::new(std::env::current_exe().unwrap(), args.to_vec());
    spawner.output(launch, BOUND, OUTPUT_BYTES_MAX).await.unwrap()
}

/// Runs a program with each kind of mount, and returns what it says it `compared`; nothing where
/// FUSE is missing. At the end the directory below the mount and the plain one have to be equal.
async fn compared(program: &str) -> Vec<String> {
    let mut compared = Vec::new();
    let refused = cases().enumerate().filter(|(_, case)| !matches!(case.seen, Seen::Same));
    let refused: BTreeSet<_> = refused.map(|(number, _)| format!("case-{number}")).collect();
    for names in [None].into_iter().chain(Names::ALL.map(Some)) {
        let Some(mut bench) = Bench::with(names) else { return compared };
        let host = tempfile::tempdir().unwrap();
        let output = run(program, &bench, host.path()).await;
        let (said, words) = (output.text(), String::from_utf8_lossy(&output.stderr).into_owned());
        assert!(output.success(), "with names as {names:?}: {}\n{words}", output.ended);
        eprint!("{words}");
        // The plain directory also has what a mount refuses.
        let (below, host) = (bench.unmount(), tree(host.path()));
        let differ = below.iter().filter(|(path, content)| host.get(*path) != Some(content));
        let differ: Vec<_> = differ.map(|(path, _)| path).filter(|path| !is_in(path, &refused)).collect();
        assert!(differ.is_empty(), "below the mount, with names as {names:?}: {differ:?}");
        compared.extend(said.lines().filter_map(|line| line.strip_prefix("compared: ")).map(str::to_owned));
    }
    assert_eq!(compared.len(), 1 + Names::ALL.len(), "a program ran that compared nothing");
    compared
}

fn is_in(path: &Path, dirs: &BTreeSet<String>) -> bool {
    path.iter().next().and_then(|first| first.to_str()).is_some_and(|first| dirs.contains(first))
}

#[tokio::test]
async fn each_case_shows_what_its_row_says() {
    for said in compared("act_as_a_program_of_cases").await {
        eprintln!("compared: {said}");
    }
}

#[tokio::test]
async fn random_sequences_show_the_same() {
    for said in compared("act_as_a_program_of_sequences").await {
        assert_eq!(said, format!("{SEQUENCES} sequences"));
    }
}

/// The table of the document.
fn table() -> String {
    let mut rows = vec!["| | a program's calls | on a mount |".to_owned(), "| --- | --- | --- |".to_owned()];
    for (group, cases) in GROUPS {
        rows.extend(cases.iter().map(|case| {
            let seen = match case.seen {
                Seen::Same => "as on the host".to_owned(),
                Seen::Otherwise(lines, why) => format!("`{}`; {why}", lines[0]),
            };
            format!("| {group} | {} | {seen} |", case.name)
        }));
    }
    rows.join("\n")
}

#[test]
fn the_document_has_the_table() {
    ninelives_golden::assert_table("harness/docs/fault-filesystem.md", "## Beside the host's filesystem", &table());
}
