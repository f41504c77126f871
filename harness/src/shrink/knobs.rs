//! The numbers by which a scenario can be reduced, and the edit of its text for each: everything
//! else in the file, comments included, stays as its author wrote it.

use crate::scenario::Scenario;
use ninelives_evidence::limits;
use serde::Deserialize;
use std::fmt;
use std::ops::Range;
use toml::Spanned;

/// A number of the scenario that may be smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knob {
    Members,
    Clients,
    Keys,
    ValueBytes,
}

/// The places of the numbers in the text.
#[derive(Deserialize)]
struct Spots {
    cluster: ClusterSpots,
    load: LoadSpots,
}

#[derive(Deserialize)]
struct ClusterSpots {
    members: Spanned<u32>,
    /// The node's alone.
    backend: Option<Spanned<toml::Value>>,
}

#[derive(Deserialize)]
struct LoadSpots {
    clients: Spanned<u32>,
    keys: Spanned<u32>,
    value_bytes_max: Spanned<u32>,
}

impl Knob {
    /// In the order in which they are tried: fewer members make every further trial shorter.
    pub const ALL: [Knob; 4] = [Knob::Members, Knob::Clients, Knob::Keys, Knob::ValueBytes];

    pub fn name(self) -> &'static str {
        match self {
            Knob::Members => "members",
            Knob::Clients => "clients",
            Knob::Keys => "keys",
            Knob::ValueBytes => "value_bytes_max",
        }
    }

    pub fn get(self, scenario: &Scenario) -> u32 {
        match self {
            Knob::Members => scenario.cluster.members,
            Knob::Clients => scenario.load.clients,
            Knob::Keys => scenario.load.keys,
            Knob::ValueBytes => scenario.load.value_bytes_max,
        }
    }

    /// Values worth trying in place of `now`, the smallest first.
    pub fn smaller(self, now: u32) -> Vec<u32> {
        let mut found = match self {
            Knob::Members => limits::MEMBERS.to_vec(),
            Knob::Clients | Knob::Keys => vec![(now / 8).max(1), (now / 2).max(1)],
            Knob::ValueBytes => vec![limits::VALUE_BYTES_MIN, (now / 4).max(limits::VALUE_BYTES_MIN)],
        };
        found.retain(|value| *value < now);
        found.dedup();
        found
    }

    /// `text` with `value` in the place of this number.
    ///
    /// # Errors
    /// The number is not where a scenario has it.
    pub fn set(self, text: &str, value: u32) -> Result<String, String> {
        let spots: Spots = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let number = match self {
            Knob::Members => &spots.cluster.members,
            Knob::Clients => &spots.load.clients,
            Knob::Keys => &spots.load.keys,
            Knob::ValueBytes => &spots.load.value_bytes_max,
        };
        let mut edits = vec![(number.span(), value.to_string())];
        // A list of engines has one for each member.
        if let (Knob::Members, Some(backend)) = (self, &spots.cluster.backend)
            && let Some(engines) = backend.get_ref().as_array()
        {
            let names = engines.iter().take(value as usize).filter_map(toml::Value::as_str);
            let kept = names.map(|name| format!("{name:?}")).collect::<Vec<_>>();
            edits.push((backend.span(), format!("[{}]", kept.join(", "))));
        }
        Ok(replace(text, edits))
    }
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

fn replace(text: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    // Edited from the end, so that the places of the other values stay valid.
    edits.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut text = text.to_owned();
    for (span, new) in edits {
        text.replace_range(span, &new);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn shipped() -> Vec<Scenario> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let files =
            files.filter(|path| !path.ends_with("mutants.toml") && path.extension().is_some_and(|e| e == "toml"));
        // Whatever else stands there is for other commands.
        files.filter_map(|path| Scenario::load(&path).ok()).collect()
    }

    #[test]
    fn an_edit_changes_its_number_and_nothing_else() {
        let all = shipped();
        assert!(all.len() > 4);
        for scenario in all {
            for knob in Knob::ALL {
                for value in knob.smaller(knob.get(&scenario)) {
                    let text = knob.set(&scenario.text, value).unwrap();
                    let edited =
                        Scenario::parse(&scenario.path, text.clone()).unwrap_or_else(|error| panic!("{error}"));
                    assert_eq!(knob.get(&edited), value);
                    for other in Knob::ALL.into_iter().filter(|other| *other != knob) {
                        assert_eq!(other.get(&edited), other.get(&scenario), "{knob} moved {other}");
                    }
                    let comments =
                        |text: &str| text.lines().filter(|l| l.contains('#')).map(str::to_owned).collect::<Vec<_>>();
                    assert_eq!(comments(&text), comments(&scenario.text));
                }
            }
        }
    }

    #[test]
    fn members_take_their_engines_with_them() {
        let text = "[cluster]\nmembers = 5 # odd\nbackend = [\"redb\", \"rocksdb\", \"redb\", \"redb\", \"redb\"]\n[load]\nclients = 1\nkeys = 1\nvalue_bytes_max = 64\n";
        let edited = Knob::Members.set(text, 3).unwrap();
        assert!(edited.contains("members = 3 # odd\nbackend = [\"redb\", \"rocksdb\", \"redb\"]\n"), "{edited}");
    }

    #[test]
    fn every_knob_comes_to_an_end() {
        for knob in Knob::ALL {
            let (mut now, mut steps) = (512, 0);
            while let Some(next) = knob.smaller(now).last() {
                (now, steps) = (*next, steps + 1);
            }
            assert!(steps < 12, "{knob}");
        }
    }
}
