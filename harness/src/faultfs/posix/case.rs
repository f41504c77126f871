//! A case: a few calls, carried out on the host's filesystem and on a mount of it, and compared.

use super::calls::Calls;
use std::path::Path;

pub struct Case {
    pub name: &'static str,
    pub calls: fn(&mut Calls),
    pub seen: Seen,
}

/// A case in which a mount shows what the host's filesystem does.
pub const fn same(name: &'static str, calls: fn(&mut Calls)) -> Case {
    Case { name, calls, seen: Seen::Same }
}

/// What a mount is to show, beside the host's filesystem.
pub enum Seen {
    Same,
    /// These lines in the place of the host's, and why.
    Otherwise(&'static [&'static str], &'static str),
}

/// The outcome of a case.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    AsExpected,
    /// The host's filesystem has no such call, so that nothing is compared: its lines.
    NotOnTheHost(Vec<String>),
    /// A line per difference that was not expected, or was and is not there.
    Unexpected(Vec<String>),
}

/// The two directories in which the same calls are made.
#[derive(Debug, Clone, Copy)]
pub struct Both<'a> {
    pub host: &'a Path,
    pub mount: &'a Path,
}

impl Both<'_> {
    /// Makes `calls` in a new directory `name` on each, and returns their lines: the host's, and
    /// the mount's.
    pub fn see(&self, name: &str, calls: impl Fn(&mut Calls)) -> (Vec<String>, Vec<String>) {
        let on = |root: &Path| {
            let dir = root.join(name);
            std::fs::create_dir(&dir).expect("each case has a new name");
            let mut seen = Calls::within(&dir);
            calls(&mut seen);
            seen.seen
        };
        (on(self.host), on(self.mount))
    }
}

impl Case {
    pub fn compare(&self, number: usize, both: Both<'_>) -> Outcome {
        let (host, mount) = both.see(&format!("case-{number}"), self.calls);
        // EOPNOTSUPP, or EINVAL for a flag of open(2).
        let lacks =
            |line: &&String| line.ends_with("= EOPNOTSUPP") || line.starts_with("open") && line.ends_with("= EINVAL");
        let lacking: Vec<_> = host.iter().filter(lacks).cloned().collect();
        if !lacking.is_empty() {
            return Outcome::NotOnTheHost(lacking);
        }
        let differences: Vec<_> = differences(&host, &mount).collect();
        let expected: &[&str] = match self.seen {
            Seen::Same => &[],
            Seen::Otherwise(lines, _) => lines,
        };
        if differences.iter().map(|(_, mount)| *mount).eq(expected.iter().copied()) {
            return Outcome::AsExpected;
        }
        let told = differences.iter().map(|(host, mount)| format!("host: {host}; mount: {mount}"));
        let expected = expected.iter().map(|line| format!("expected of the mount: {line}"));
        Outcome::Unexpected(told.chain(expected).collect())
    }
}

/// The lines that are not the same, the host's and the mount's; `nothing` stands for a line that
/// only one of them has.
pub fn differences<'a>(host: &'a [String], mount: &'a [String]) -> impl Iterator<Item = (&'a str, &'a str)> {
    let line = |lines: &'a [String], at: usize| lines.get(at).map_or("nothing", String::as_str);
    let both = (0..host.len().max(mount.len())).map(move |at| (line(host, at), line(mount, at)));
    both.filter(|(host, mount)| host != mount)
}
