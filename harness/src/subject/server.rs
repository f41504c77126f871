//! Any server that speaks etcd's v3 API, started by a template.
//!
//! In the template's arguments these stand for the parts that differ from member to member:
//!
//! | text | stands for |
//! | --- | --- |
//! | `{id}` | the harness's number of the member, from 1 |
//! | `{name}` | its name, `n1` |
//! | `{data_dir}` | its data directory, which may not exist yet |
//! | `{peer}`, `{client}` | where it has to listen for the other members, and for clients: `127.0.0.1:40123` |
//! | `{peers}` | all members, each as the template's item for a peer says, joined by commas |
//!
//! The program must stay in the foreground, keep its data across a SIGKILL, and serve only loopback
//! addresses that it is given.

use super::ids::Ids;
use super::{Life, Origin, etcd};
use std::ffi::OsString;
use std::path::PathBuf;

/// The command line of a server, as a scenario gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSpec {
    /// Its name in reports.
    pub name: String,
    /// A path, or a name that is looked for on `PATH`.
    pub program: String,
    pub args: Vec<String>,
    /// The form of one member in `{peers}`; `{id}`, `{name}`, `{peer}` and `{client}` are replaced
    /// by its values.
    pub peer_item: String,
    /// It is etcd itself, so that more than its API is known.
    pub is_etcd: bool,
    /// Its data directories lie under the fault filesystem, which knows etcd's layout.
    pub fault_filesystem: bool,
    /// Applied entries between two snapshots; 0: not known.
    pub snapshot_every_entries: u64,
}

/// The texts that a template's arguments may have.
const IN_ARGS: [&str; 6] = ["{id}", "{name}", "{data_dir}", "{peer}", "{client}", "{peers}"];
const IN_ITEM: [&str; 4] = ["{id}", "{name}", "{peer}", "{client}"];

impl ServerSpec {
    /// The fault of the template, in words; `None`: it has none.
    pub fn fault(&self) -> Option<String> {
        let mut all = self.args.concat();
        if all.contains("{peers}") {
            all.push_str(&self.peer_item);
        }
        for needed in ["{data_dir}", "{client}"] {
            if !all.contains(needed) {
                return Some(format!(
                    "expected {needed} in the arguments, found none: members could not be told apart"
                ));
            }
        }
        let foreign =
            self.args.iter().find_map(|arg| unknown(arg, &IN_ARGS)).map(|text| (text, "the arguments", &IN_ARGS[..]));
        let in_item = unknown(&self.peer_item, &IN_ITEM).map(|text| (text, "the item for a peer", &IN_ITEM[..]));
        let (text, place, known) = foreign.or(in_item)?;
        Some(format!("expected one of {} in {place}, found {text}", known.join(" ")))
    }
}

/// The first text in braces that is unknown.
fn unknown(text: &str, known: &[&str]) -> Option<String> {
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let end = rest[at..].find('}').map_or(rest.len(), |end| at + end + 1);
        let word = &rest[at..end];
        // `{"a":1}` is an argument like any other; only a text that looks like a name is taken for
        // one.
        let name = word.trim_matches(['{', '}']);
        if !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !known.contains(&word) {
            return Some(word.to_owned());
        }
        rest = &rest[end..];
    }
    None
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct Server {
    pub binary: PathBuf,
    pub spec: ServerSpec,
    ids: Ids,
}

impl Server {
    pub fn new(binary: PathBuf, spec: ServerSpec) -> Self {
        Self { binary, spec, ids: Ids::default() }
    }

    pub(super) fn serve_args(&self, life: &Life<'_>) -> Vec<OsString> {
        let own = [(life.id, life.at)];
        let members = match life.origin {
            // No plan with strangers is run on it.
            Origin::Founder(members) | Origin::Stranger(members) => members,
            Origin::Joined => &own,
        };
        let item = |(id, at): &(u64, super::Addresses)| {
            let (id, name) = (id.to_string(), format!("n{id}"));
            let (peer, client) = (at.peer.to_string(), at.client.to_string());
            fill(&self.spec.peer_item, &[("{id}", &id), ("{name}", &name), ("{peer}", &peer), ("{client}", &client)])
        };
        let peers = members.iter().map(item).collect::<Vec<_>>().join(",");
        let (id, name) = (life.id.to_string(), format!("n{}", life.id));
        let (peer, client) = (life.at.peer.to_string(), life.at.client.to_string());
        let data_dir = life.data_dir.display().to_string();
        let of = [
            ("{id}", id.as_str()),
            ("{name}", &name),
            ("{data_dir}", &data_dir),
            ("{peer}", &peer),
            ("{client}", &client),
            ("{peers}", &peers),
        ];
        self.spec.args.iter().map(|arg| fill(arg, &of).into()).collect()
    }

    /// The ids of its members, which all clones of this target learn together.
    pub fn ids(&self) -> Ids {
        self.ids.clone()
    }

    /// The checks that are impossible on a server that is known by its API only.
    pub(super) fn unchecked(&self, version: Option<&str>) -> Vec<String> {
        let name = &self.spec.name;
        let windows = if self.spec.fault_filesystem { "crash windows other than of files" } else { "crash windows" };
        let mut why = vec![format!(
            "{windows}, replay start, raft log replay, votes, membership section, E and N: n/a on {name}, because only its etcd \
             API is known"
        )];
        if self.spec.is_etcd {
            why.extend(etcd::doubts(version));
        } else {
            why.push(format!(
                "HashKV against the model: n/a on {name}, because its rows are unknown; members are compared with each other"
            ));
        }
        why
    }
}

/// `text` with each first text replaced by its second; replacements are not searched again.
fn fill(text: &str, of: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    'next: while let Some(at) = rest.find('{') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        for (name, value) in of {
            if let Some(after) = rest.strip_prefix(name) {
                filled.push_str(value);
                rest = after;
                continue 'next;
            }
        }
        filled.push('{');
        rest = &rest[1..];
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::Addresses;
    use ninelives_evidence::member::Engine;
    use std::net::SocketAddr;
    use std::path::Path;

    fn spec(args: &[&str], peer_item: &str) -> ServerSpec {
        ServerSpec {
            name: "thing".into(),
            program: "thing".into(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            peer_item: peer_item.into(),
            is_etcd: false,
            fault_filesystem: false,
            snapshot_every_entries: 0,
        }
    }

    #[test]
    fn a_template_is_filled_for_each_member() {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let addresses = |slot: u16| Addresses { peer: at(10 + slot), client: at(20 + slot), control: at(30 + slot) };
        let members: Vec<_> = (1..=3).map(|id| (id, addresses(id as u16))).collect();
        let args = ["--name={name}", "{data_dir}", "http://{client}", "{peers}", "{\"json\":\"{id}\"}", "{{peer}}"];
        let server = Server::new("thing".into(), spec(&args, "{name}=http://{peer}"));
        let life = Life {
            id: 2,
            engine: Engine::Opaque,
            at: addresses(2),
            data_dir: Path::new("/d/{peer}"),
            origin: Origin::Founder(&members),
            arm: None,
            detours: &[],
        };
        assert_eq!(
            server.serve_args(&life),
            [
                "--name=n2",
                "/d/{peer}",
                "http://127.0.0.1:22",
                "n1=http://127.0.0.1:11,n2=http://127.0.0.1:12,n3=http://127.0.0.1:13",
                "{\"json\":\"2\"}",
                "{127.0.0.1:12}",
            ]
        );
    }

    #[test]
    fn a_template_that_cannot_work_says_why() {
        let fault = |args: &[&str], item: &str| spec(args, item).fault().unwrap_or_default();
        let sound = ["--d={data_dir}", "{client}"];
        assert_eq!(fault(&sound, "{name}=http://{peer}"), "");
        assert!(fault(&["{client}"], "").contains("{data_dir}"));
        assert!(fault(&["{data_dir}"], "").contains("{client}"));
        assert!(fault(&["{data_dir}", "{client}", "{adress}"], "").contains("found {adress}"));
        assert!(fault(&sound, "{peers}").contains("found {peers}"));
        assert_eq!(fault(&["{data_dir}", "{client}", "{\"a\":{}}", "{"], ""), "");
        assert_eq!(fault(&["{data_dir}", "{id}", "{peers}"], "{id}@{peer}/{client}"), "");
    }
}
