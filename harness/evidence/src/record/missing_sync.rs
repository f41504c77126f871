//! The missing sync behind a finding after a power loss: the data that `verdict.json` stores under
//! `missing_sync`.

use crate::limits;
use crate::power::{Lost, LostData, LostName, NameChange, Names};
use crate::verdict::Class;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The smallest set of lost operations that still fails, if one was found. Questions without an
/// answer are listed in `unknown`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingSync {
    /// The class of the finding that is looked into.
    pub class: Class,
    pub cycle: Option<u32>,
    /// The cluster, where several ran side by side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<u32>,
    pub member: Option<u64>,
    /// The weakest mode of names that shows it, up to the run's own; `None`: none was found.
    pub names: Option<Names>,
    /// The operations: without these losses the directory passes.
    pub lost: Lost,
    /// Operations that the cut took something from.
    pub of: u64,
    /// Crash states that were tried.
    pub tried: u64,
    /// Each of them is needed: with any one of them kept, the directory passes.
    pub smallest: bool,
    /// Questions that could not be answered, and why.
    pub unknown: Vec<String>,
}

impl MissingSync {
    /// The conclusion, a sentence each; none if nothing was found.
    pub fn sentences(&self) -> Vec<String> {
        let Some(names) = self.names else { return Vec::new() };
        let (changes, files) = (self.lost.names.iter().rev(), self.lost.files.iter());
        let mut each: Vec<(u64, String)> = changes.map(|lost| (lost.operation, of_name(lost, &self.lost))).collect();
        each.extend(files.map(|lost| (lost.operation, of_data(lost, &self.lost))));
        each.sort();
        let more = each.len().saturating_sub(limits::LOST_OPERATIONS_LISTED_MAX);
        each.truncate(limits::LOST_OPERATIONS_LISTED_MAX);
        let mut sentences: Vec<String> = each.into_iter().map(|(_, sentence)| sentence).collect();
        if more > 0 {
            sentences.push(format!("{more} more changes were lost with these; verdict.json has them all"));
        }
        let enough = match (self.smallest, self.lost.names.len() + self.lost.files.len()) {
            (true, 0 | 1) => "no other loss is needed",
            (true, _) => "each of these is needed, and no other loss",
            (false, _) => "these are enough, and perhaps more than enough, because the search was stopped",
        };
        let (of, tried) = (self.of, self.tried);
        sentences.push(format!(
            "{enough}: the cut lost {of} operations, and {tried} crash states of its instant were tried"
        ));
        sentences.push(format!("the weakest mode of names that shows it is {}: {}", names.name(), promise(names)));
        sentences
    }
}

/// What a mode of names keeps, as a reason why it still loses the operations.
fn promise(names: Names) -> &'static str {
    match names {
        Names::Journal => "it would show on a filesystem on which any sync makes all names durable, such as ext4",
        Names::Inode => "it takes a filesystem on which a sync of another file does not keep the name",
        Names::Posix => "it takes a filesystem that keeps a name only by a sync of its directory",
    }
}

/// `the file was not synced between operation 805 and the cut`.
fn unsynced(what: &str, synced: Option<u64>, lost: &Lost) -> String {
    match synced {
        Some(synced) => format!("{what} was not synced between operation {synced} and the cut"),
        None => format!("{what} was never synced before the cut at operation {}", lost.operations),
    }
}

fn of_name(name: &LostName, lost: &Lost) -> String {
    let (path, operation) = (named(&name.path), name.operation);
    let from = name.from.as_deref().map(|from| from.display().to_string()).unwrap_or_default();
    let what = match name.change {
        NameChange::Creation => format!("the creation of {path}"),
        NameChange::Removal => format!("the removal of {path}"),
        NameChange::Rename => format!("the rename of {from} to {path}"),
        NameChange::Exchange => format!("the exchange of {from} and {path}"),
    };
    let dir = name.path.parent().filter(|dir| *dir != Path::new(""));
    let dir = dir.map_or_else(|| "its directory".to_owned(), |dir| format!("its directory {}", dir.display()));
    format!("{what}, operation {operation}, was lost: {}", unsynced(&dir, name.synced, lost))
}

fn of_data(data: &LostData, lost: &Lost) -> String {
    let (path, operation) = (named(&data.path), data.operation);
    let pages = match (data.pages, data.size) {
        (0, _) => "its size".to_owned(),
        (1, None) => "1 page".to_owned(),
        (pages, None) => format!("{pages} pages"),
        (1, Some(_)) => "1 page and its size".to_owned(),
        (pages, Some(_)) => format!("{pages} pages and its size"),
    };
    let synced = unsynced("the file", data.synced, lost);
    format!("what was written to {path} from operation {operation} on was lost, {pages}: {synced}")
}

/// A path with its class of file.
fn named(path: &Path) -> String {
    class(path).map_or_else(|| path.display().to_string(), |class| format!("{} ({class})", path.display()))
}

/// The class of a file, by its name and place in a member's data directory.
fn class(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    let extension = path.extension().and_then(|extension| extension.to_str());
    let dir = path.parent()?.file_name().and_then(|dir| dir.to_str());
    Some(match (name, extension, dir) {
        ("last-flushed-index", ..) => "the last-flushed index",
        ("last-flushed-index.tmp", ..) => "the next last-flushed index",
        ("engine-marker", ..) => "the engine's marker",
        (_, _, Some("raft" | "wal")) => "the raft log",
        ("CURRENT", ..) => "the name of the engine's manifest",
        (_, Some("sst"), _) => "a table of the engine",
        (name, ..) if name.starts_with("MANIFEST-") => "the engine's manifest",
        ("db", ..) => "the engine's database",
        ("db.incoming", ..) => "the image of a snapshot",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: Vec<LostName>, files: Vec<LostData>) -> MissingSync {
        MissingSync {
            class: Class::PurgedAboveN,
            cycle: Some(12),
            cluster: None,
            member: Some(2),
            names: Some(Names::Inode),
            lost: Lost { operations: 870, names, files },
            of: 57,
            tried: 14,
            smallest: true,
            unknown: Vec::new(),
        }
    }

    fn rename(synced: Option<u64>) -> LostName {
        LostName {
            operation: 812,
            change: NameChange::Rename,
            path: "member/snap/last-flushed-index".into(),
            from: Some("member/snap/last-flushed-index.tmp".into()),
            synced,
        }
    }

    #[test]
    fn golden_sentences() {
        let creation = LostName {
            operation: 3,
            change: NameChange::Creation,
            path: "engine-marker".into(),
            from: None,
            synced: None,
        };
        let write = LostData {
            operation: 820,
            path: "member/raft/raft-log.redb".into(),
            pages: 3,
            torn: 0,
            size: Some(4096),
            synced: Some(806),
        };
        let one = found(vec![rename(Some(805))], Vec::new());
        let mut several = found(vec![rename(None), creation], vec![write]);
        (several.names, several.smallest) = (Some(Names::Posix), false);
        let text = [one, several].map(|found| found.sentences().join("\n") + "\n").join("\n");
        ninelives_golden::assert_golden("missing-sync-sentences.txt", &text);
    }

    #[test]
    fn a_hundred_losses_are_a_few_sentences() {
        let names = (0..100).map(|_| rename(Some(805))).collect();
        let sentences = found(names, Vec::new()).sentences();
        assert_eq!(sentences.len(), limits::LOST_OPERATIONS_LISTED_MAX + 3);
        assert!(sentences[limits::LOST_OPERATIONS_LISTED_MAX].starts_with("92 more changes"), "{sentences:?}");
    }

    #[test]
    fn what_was_not_found_has_no_sentence() {
        assert_eq!(MissingSync { names: None, ..found(Vec::new(), Vec::new()) }.sentences(), Vec::<String>::new());
    }
}
