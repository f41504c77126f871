//! Damages a file of a dead member, as a disk at rest may: the place is drawn, and what was changed
//! is told.
//!
//! The file is written in place, so that names, owners and times of creation stay; nothing is
//! synced, because the next life reads what the page cache holds.

use crate::plan::Corruption;
use crate::seed::Stream;
use anyhow::Context;
use ninelives_evidence::damage::{Damage, DamageKind, FileClass};
use ninelives_evidence::hex::hex;
use sha2::{Digest, Sha256};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What a disk reads and writes at once. Of a small file a sector, or it would have one chunk.
const CHUNK: usize = 4096;
const SMALL_CHUNK: usize = 512;
const SMALL_FILE: usize = 4 * CHUNK;

/// Half of the flipped bits lie here: headers and roots stand at the beginning of files, and a draw
/// over the whole of a large file would hardly ever meet them.
const HEAD: usize = 320;

/// Places that are drawn before a damage counts as one that cannot land.
const PLACES_MAX: u32 = 64;

/// A file as it was at an earlier time.
#[derive(Debug, Clone)]
pub struct Older {
    file: PathBuf,
    bytes: Vec<u8>,
}

/// Copies the file of `class` in the data directory of a member that lives: each chunk of it is an
/// older one once the member has died. `None`: there is none.
///
/// # Errors
/// It cannot be read.
pub fn older(data_dir: &Path, class: FileClass) -> anyhow::Result<Option<Older>> {
    let Some(file) = files(data_dir, class)?.pop() else { return Ok(None) };
    let path = data_dir.join(&file);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Some(Older { file, bytes }))
}

/// Damages a file of the dead `data_dir`. `Err` inside: the reason why nothing was changed.
///
/// # Errors
/// The directory cannot be read or written.
pub fn damage(
    data_dir: &Path,
    Corruption { class, kind }: Corruption,
    older: Option<&Older>,
    draws: &mut Stream,
) -> anyhow::Result<Result<Damage, String>> {
    let found = files(data_dir, class)?;
    let Some(file) = draws.pick(&found).cloned() else { return Ok(Err(format!("there is no {class}"))) };
    let path = data_dir.join(&file);
    let before = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if before.is_empty() {
        return Ok(Err(format!("{} is empty", file.display())));
    }
    let drawn = match kind {
        DamageKind::BitFlip => Some(flipped(&before, draws)),
        DamageKind::OlderChunk => {
            let older = older.filter(|older| older.file == file);
            older.and_then(|older| older_chunk(&before, &older.bytes, draws))
        }
        DamageKind::CopiedChunk => foreign_chunk(&before, &before, draws),
        DamageKind::MisdirectedWrite => {
            let others = other_files(data_dir, &file)?;
            let Some(other) = draws.pick(&others) else { return Ok(Err("it has no other file".to_owned())) };
            let other = fs::read(data_dir.join(other)).with_context(|| format!("cannot read {}", other.display()))?;
            foreign_chunk(&before, &other, draws)
        }
        DamageKind::Truncation => return truncate(&path, (class, file), &before, draws).map(Ok),
    };
    let Some((offset, after)) = drawn else {
        return Ok(Err(format!("{}: no place was found that {kind} would change", file.display())));
    };
    let opened = OpenOptions::new().write(true).open(&path);
    let written = opened.and_then(|file| file.write_all_at(&after, offset as u64));
    written.with_context(|| format!("cannot damage {}", path.display()))?;
    let was = &before[offset..offset + after.len()];
    Ok(Ok(Damage {
        class,
        kind,
        file,
        offset: offset as u64,
        bytes: after.len() as u64,
        was: digest(was),
        is: digest(&after),
    }))
}

fn truncate(
    path: &Path,
    (class, file): (FileClass, PathBuf),
    before: &[u8],
    draws: &mut Stream,
) -> anyhow::Result<Damage> {
    let length = draws.below(before.len() as u64);
    let opened = OpenOptions::new().write(true).open(path);
    opened.and_then(|file| file.set_len(length)).with_context(|| format!("cannot cut {}", path.display()))?;
    let cut = &before[length as usize..];
    let (was, is) = (digest(cut), digest(&[]));
    Ok(Damage { class, kind: DamageKind::Truncation, file, offset: length, bytes: cut.len() as u64, was, is })
}

fn flipped(before: &[u8], draws: &mut Stream) -> (usize, Vec<u8>) {
    let (in_head, bit) = (draws.chance(1, 2), draws.below(8));
    let among = if in_head { before.len().min(HEAD) } else { before.len() };
    let at = draws.below(among as u64) as usize;
    (at, vec![before[at] ^ (1 << bit)])
}

/// One of the chunks that were other ones earlier; half of the time the first, where headers stand.
fn older_chunk(before: &[u8], older: &[u8], draws: &mut Stream) -> Option<(usize, Vec<u8>)> {
    let chunk = chunk_of(before);
    let pairs = before.chunks(chunk).zip(older.chunks(chunk)).enumerate();
    // A last chunk that was shorter then would be a truncation.
    let changed: Vec<_> = pairs.filter(|(_, (now, then))| now != then && now.len() <= then.len()).collect();
    let first = draws.chance(1, 2);
    let (at, (now, then)) = if first { changed.first() } else { draws.pick(&changed) }?;
    Some((at * chunk, then[..now.len()].to_vec()))
}

/// A chunk of `from` in the place of another one of `before`.
fn foreign_chunk(before: &[u8], from: &[u8], draws: &mut Stream) -> Option<(usize, Vec<u8>)> {
    let chunk = chunk_of(before);
    let count = |bytes: &[u8]| bytes.len().div_ceil(chunk) as u64;
    for _ in 0..PLACES_MAX {
        let (to, source) = (draws.below(count(before)) as usize * chunk, draws.below(count(from)) as usize * chunk);
        let (old, new) = (&before[to..], &from[source..]);
        let length = chunk.min(old.len()).min(new.len());
        if length > 0 && old[..length] != new[..length] {
            return Some((to, new[..length].to_vec()));
        }
    }
    None
}

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..8])
}

fn chunk_of(bytes: &[u8]) -> usize {
    if bytes.len() < SMALL_FILE { SMALL_CHUNK } else { CHUNK }
}

/// The files of `class`, within `data_dir`, ascending by name.
fn files(data_dir: &Path, class: FileClass) -> anyhow::Result<Vec<PathBuf>> {
    let engine = Path::new("member/snap/db");
    let fixed = match class {
        FileClass::RaftLog => "member/raft/raft-log.redb",
        FileClass::RaftLogCommits => "member/raft/raft-log.commits",
        FileClass::Marker => "engine-marker",
        FileClass::LastFlushedIndex => "member/snap/last-flushed-index",
        FileClass::Current => "member/snap/db/CURRENT",
        FileClass::Database => "member/snap/db",
        FileClass::Sst => return names_in(data_dir, engine, |name| name.ends_with(".sst")),
        FileClass::Manifest => return names_in(data_dir, engine, |name| name.starts_with("MANIFEST-")),
    };
    Ok(Some(PathBuf::from(fixed)).filter(|file| data_dir.join(file).is_file()).into_iter().collect())
}

/// Every file that may be damaged, but `file`.
fn other_files(data_dir: &Path, file: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for class in FileClass::ALL {
        all.extend(files(data_dir, class)?);
    }
    all.retain(|one| one != file);
    Ok(all)
}

fn names_in(data_dir: &Path, folder: &Path, wanted: fn(&str) -> bool) -> anyhow::Result<Vec<PathBuf>> {
    let path = data_dir.join(folder);
    if !path.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))? {
        let name = entry.with_context(|| format!("cannot list {}", path.display()))?.file_name();
        if name.to_str().is_some_and(wanted) {
            found.push(folder.join(name));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    /// A dead directory of RocksDB's, with chunks that all differ.
    fn dead() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("member/raft")).unwrap();
        fs::create_dir_all(dir.path().join("member/snap/db")).unwrap();
        let bytes = |seed: u8, length: usize| (0..length).map(|at| (at / 512) as u8 ^ seed).collect::<Vec<_>>();
        let files = [
            ("engine-marker", 10),
            ("member/raft/raft-log.redb", 40 * CHUNK),
            ("member/raft/raft-log.commits", 1024),
            ("member/snap/last-flushed-index", 16),
            ("member/snap/db/CURRENT", 16),
            ("member/snap/db/MANIFEST-000004", 3000),
            ("member/snap/db/000007.sst", 5 * CHUNK + 7),
            ("member/snap/db/000009.sst", 5 * CHUNK + 7),
        ];
        for ((name, length), seed) in files.into_iter().zip(0x80..) {
            fs::write(dir.path().join(name), bytes(seed, length)).unwrap();
        }
        dir
    }

    fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let all = FileClass::ALL.into_iter().flat_map(|class| files(dir, class).unwrap());
        all.map(|file| (file.clone(), fs::read(dir.join(file)).unwrap())).collect()
    }

    #[test]
    fn each_damage_changes_one_file_where_it_says() {
        for class in FileClass::ALL.into_iter().filter(|class| *class != FileClass::Database) {
            for kind in DamageKind::ALL.into_iter().filter(|kind| class.takes(*kind)) {
                for seed in 0..20 {
                    let dir = dead();
                    let then = older(dir.path(), class).unwrap().map(|mut older| {
                        older.bytes.iter_mut().for_each(|byte| *byte ^= 0x11);
                        older
                    });
                    let before = contents(dir.path());
                    let mut draws = Seed::new(seed).stream("damage");
                    let told = damage(dir.path(), Corruption { class, kind }, then.as_ref(), &mut draws);
                    let told = told.unwrap().unwrap_or_else(|why| panic!("{class} {kind}: {why}"));
                    for ((file, was), (_, is)) in before.iter().zip(contents(dir.path())) {
                        assert_eq!(*was != is, *file == told.file, "{told}: {}", file.display());
                        let from = told.offset as usize;
                        if *file == told.file && kind == DamageKind::Truncation {
                            assert_eq!((&was[..from], was.len() - from), (&is[..], told.bytes as usize));
                        } else if *file == told.file {
                            let to = from + told.bytes as usize;
                            assert_eq!((&was[..from], &was[to..]), (&is[..from], &is[to..]), "{told}");
                            assert_eq!(
                                (digest(&was[from..to]), digest(&is[from..to])),
                                (told.was.clone(), told.is.clone())
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_seed_alone_draws_the_place() {
        let place = |seed| {
            let dir = dead();
            let corruption = Corruption { class: FileClass::Sst, kind: DamageKind::BitFlip };
            damage(dir.path(), corruption, None, &mut Seed::new(seed).stream("damage")).unwrap().unwrap()
        };
        assert_eq!(place(7), place(7));
        assert!((0..9).any(|seed| place(seed) != place(7)));
    }

    #[test]
    fn what_cannot_land_says_why() {
        let dir = dead();
        let mut draws = Seed::new(1).stream("damage");
        let database = Corruption { class: FileClass::Database, kind: DamageKind::BitFlip };
        let why = damage(dir.path(), database, None, &mut draws).unwrap().unwrap_err();
        assert_eq!(why, "there is no database");
        let unchanged = Corruption { class: FileClass::Manifest, kind: DamageKind::OlderChunk };
        let same = older(dir.path(), FileClass::Manifest).unwrap();
        let why = damage(dir.path(), unchanged, same.as_ref(), &mut draws).unwrap().unwrap_err();
        assert!(why.contains("no place was found that older-chunk would change"), "{why}");
    }
}
