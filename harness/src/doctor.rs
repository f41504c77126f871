//! Finds out what this machine lets a run inject, by doing each thing once.
//!
//! An ability that is missing costs no verdict its honesty: a scenario that needs it ends
//! inconclusive, or is refused. This says so beforehand, with the command that would change it.

use crate::faultfs::Mount;
use crate::process::Spawner;
use crate::provenance;
use anyhow::Context;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::geteuid;
use serde::Serialize;
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// A thing that some scenarios need of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Ability {
    /// The node that ships with the harness.
    Node,
    /// The same with planted bugs.
    PlantedBugs,
    /// A real etcd.
    Etcd,
    /// Listening on loopback: members, and the proxies between them.
    Loopback,
    /// Descriptors for the members and a crowd of clients.
    Descriptors,
    /// The fault filesystem over a directory.
    FaultFilesystem,
}

impl Ability {
    pub fn name(self) -> &'static str {
        match self {
            Ability::Node => "node",
            Ability::PlantedBugs => "planted-bugs",
            Ability::Etcd => "etcd",
            Ability::Loopback => "loopback",
            Ability::Descriptors => "descriptors",
            Ability::FaultFilesystem => "fault-filesystem",
        }
    }

    /// The scenarios and commands that cannot do without it.
    pub fn needed_by(self) -> &'static str {
        match self {
            Ability::Node => "every scenario without a `[target]`",
            Ability::PlantedBugs => "`ninelives mutants`, `run --sabotage`",
            Ability::Etcd => "scenarios whose `[target]` is etcd",
            Ability::Loopback => "every run",
            Ability::Descriptors => "scenarios with a `[crowd]`",
            Ability::FaultFilesystem => "scenarios with `[power]`, `[disk]` or `fault_filesystem = true`",
        }
    }
}

/// The result of trying one ability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Examined {
    pub ability: Ability,
    pub able: bool,
    /// What was found.
    pub found: String,
    /// What would make it able, as commands or settings; empty if it is.
    pub remedies: Vec<String>,
}

impl Examined {
    fn able(ability: Ability, found: String) -> Self {
        Self { ability, able: true, found, remedies: Vec::new() }
    }

    fn lacking(ability: Ability, found: String, remedies: &[&str]) -> Self {
        Self { ability, able: false, found, remedies: remedies.iter().map(|&remedy| remedy.to_owned()).collect() }
    }
}

/// The programs to look at; `None`: none was found.
#[derive(Debug, Clone)]
pub struct Programs {
    pub node: PathBuf,
    pub sabotaged: PathBuf,
    pub etcd: Option<PathBuf>,
}

/// Tries each of `abilities` once. Mounts are made and taken away in a directory of its own below
/// `scratch`.
///
/// # Errors
/// The harness itself failed: it can start no process, or `scratch` takes no directory.
pub async fn examine(abilities: &[Ability], programs: &Programs, scratch: &Path) -> anyhow::Result<Vec<Examined>> {
    let spawner = Spawner::start().context("cannot start the spawning thread")?;
    let dir = tempfile::Builder::new().prefix("ninelives-doctor").tempdir_in(scratch);
    let dir = dir.with_context(|| format!("cannot create a directory in {}", scratch.display()))?;
    let mut examined = Vec::new();
    for &ability in abilities {
        examined.push(match ability {
            Ability::Node => program(&spawner, ability, Some(&programs.node), "make build").await,
            Ability::PlantedBugs => program(&spawner, ability, Some(&programs.sabotaged), "make sabotaged").await,
            Ability::Etcd => program(&spawner, ability, programs.etcd.as_deref(), "make setup").await,
            Ability::Loopback => loopback(),
            Ability::Descriptors => descriptors(),
            // It mounts, and waits for the threads of the mount.
            Ability::FaultFilesystem => tokio::task::block_in_place(|| fault_filesystem(dir.path())),
        });
    }
    Ok(examined)
}

async fn program(spawner: &Spawner, ability: Ability, path: Option<&Path>, remedy: &str) -> Examined {
    let Some(path) = path.filter(|path| path.is_file()) else {
        let found = path.map_or_else(|| "not on PATH".to_owned(), |path| format!("no file {}", path.display()));
        return Examined::lacking(ability, found, &[remedy]);
    };
    match provenance::binary(spawner, path).await {
        Ok(binary) => match binary.version {
            Some(version) => Examined::able(ability, format!("{version}, {}", path.display())),
            None => {
                let found = format!("{} does not say its version, as a program that starts does", path.display());
                Examined::lacking(ability, found, &[remedy])
            }
        },
        Err(error) => Examined::lacking(ability, format!("{error:#}"), &[remedy]),
    }
}

fn loopback() -> Examined {
    match TcpListener::bind("127.0.0.1:0") {
        Ok(_) => Examined::able(Ability::Loopback, "listens on 127.0.0.1".to_owned()),
        Err(error) => {
            let found = format!("cannot listen on 127.0.0.1: {error}");
            Examined::lacking(Ability::Loopback, found, &["ip link set lo up"])
        }
    }
}

/// Descriptors that the largest crowd of the shipped scenarios takes, with the members' pipes.
const DESCRIPTORS: u64 = 4096;

fn descriptors() -> Examined {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        // A run raises its own limit as far as this one allows.
        Ok((_, hard)) if hard >= DESCRIPTORS => {
            Examined::able(Ability::Descriptors, format!("{hard} open files (hard limit)"))
        }
        Ok((_, hard)) => {
            let found = format!("{hard} open files (hard limit), expected {DESCRIPTORS}");
            Examined::lacking(Ability::Descriptors, found, &["ulimit -Hn 4096, as root, in the shell that starts it"])
        }
        Err(errno) => Examined::lacking(Ability::Descriptors, format!("cannot read the limit: {errno}"), &[]),
    }
}

const DEVICE: &str = "/dev/fuse";
const IN_A_NAMESPACE: &str = "unshare -Urm ninelives …";

fn fault_filesystem(dir: &Path) -> Examined {
    let ability = Ability::FaultFilesystem;
    if let Err(error) = File::options().read(true).write(true).open(DEVICE) {
        let found = format!("cannot open {DEVICE}: {error}");
        return Examined::lacking(ability, found, without_device(error.kind()));
    }
    match pass_a_file_through(&dir.join("mounted")) {
        Ok(()) => Examined::able(ability, "mounted, written through, read back, and unmounted".to_owned()),
        Err(error) => {
            let refused = error.chain().any(|cause| cause.downcast_ref() == Some(&Errno::EPERM));
            let remedies: &[&str] = match refused {
                true if geteuid().is_root() => {
                    &["in a container: --device /dev/fuse --cap-add SYS_ADMIN", IN_A_NAMESPACE]
                }
                true => &[IN_A_NAMESPACE, "sudo ninelives …"],
                // The device is there and is not FUSE's.
                false => without_device(io::ErrorKind::NotFound),
            };
            Examined::lacking(ability, format!("{error:#}"), remedies)
        }
    }
}

fn without_device(error: io::ErrorKind) -> &'static [&'static str] {
    match error {
        io::ErrorKind::PermissionDenied => {
            &["sudo ninelives …", "sudo chmod 666 /dev/fuse, then unshare -Urm ninelives …"]
        }
        _ => &["sudo modprobe fuse", "in a container: --device /dev/fuse --cap-add SYS_ADMIN"],
    }
}

/// Mounts over `dir`, and writes and reads a file there; below the mount it has to be the same.
fn pass_a_file_through(dir: &Path) -> anyhow::Result<()> {
    const WORDS: &[u8] = b"through the fault filesystem";
    let file = dir.join("file");
    let mount = Mount::over(dir, None)?;
    std::fs::write(&file, WORDS).context("cannot write through the mount")?;
    let through = std::fs::read(&file).context("cannot read through the mount")?;
    drop(mount);
    let below = std::fs::read(&file).context("cannot read what the mount left")?;
    anyhow::ensure!(through == WORDS && below == WORDS, "expected the bytes that were written, found others");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_device_and_a_closed_one_have_remedies_of_their_own() {
        let closed = without_device(io::ErrorKind::PermissionDenied);
        let missing = without_device(io::ErrorKind::NotFound);
        assert!(closed[1].contains("chmod") && missing[0].contains("modprobe") && missing[1].contains("SYS_ADMIN"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn programs_that_are_not_there_are_lacking_with_the_command_that_makes_them() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("node-under-test");
        let programs = Programs { node: missing.clone(), sabotaged: missing.clone(), etcd: None };
        let asked = [Ability::Node, Ability::Etcd, Ability::Loopback, Ability::FaultFilesystem];
        let examined = examine(&asked, &programs, dir.path()).await.unwrap();
        assert!(examined.iter().map(|one| one.ability).eq(asked));
        let of = |ability| examined.iter().find(|one| one.ability == ability).unwrap();
        assert_eq!(of(Ability::Node).found, format!("no file {}", missing.display()));
        assert_eq!(of(Ability::Node).remedies, ["make build"]);
        assert_eq!((of(Ability::Etcd).able, of(Ability::Etcd).found.as_str()), (false, "not on PATH"));
        assert!(of(Ability::Loopback).able);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    }
}
