//! The documents are true where a machine can tell: links resolve, commands parse, prose is narrow,
//! the README is short.

use clap::Parser;
use ninelives::cli::Cli;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A reader needs ten minutes for the README, no more.
const README_LINES_MAX: usize = 119;
const COLUMNS_MAX: usize = 100;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("harness/ stands in the workspace").to_owned()
}

/// A document: its path in the repository, and its lines.
struct Document {
    path: String,
    lines: Vec<Line>,
}

struct Line {
    number: usize,
    text: String,
    /// The word after the fence of the block of code that it stands in.
    code: Option<String>,
}

impl Document {
    fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(root().join(path)).expect("a document is UTF-8");
        let (mut lines, mut code) = (Vec::new(), None);
        for (number, text) in (1..).zip(text.lines()) {
            match (text.trim().strip_prefix("```"), &code) {
                (Some(language), None) => code = Some(language.to_owned()),
                (Some(_), Some(_)) => code = None,
                (None, _) => lines.push(Line { number, text: text.to_owned(), code: code.clone() }),
            }
        }
        assert!(code.is_none(), "{path}: a block of code has no end");
        Self { path: path.to_owned(), lines }
    }

    fn prose(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.code.is_none())
    }

    /// Targets of its links, with the number of their line.
    fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for line in self.prose() {
            // A span of code holds no link.
            let text: String = line.text.split('`').step_by(2).collect();
            let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            links.extend(targets.map(|target| (line.number, target.to_owned())));
        }
        links
    }

    /// Anchors of its headings, as code hosts make them.
    fn anchors(&self) -> Vec<String> {
        let headings = self.prose().filter(|line| line.text.starts_with('#'));
        headings.map(|line| anchor(line.text.trim_start_matches('#').trim())).collect()
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn documents() -> Vec<Document> {
    let mut paths: Vec<_> =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "reports/README.md"].map(str::to_owned).to_vec();
    for dir in ["harness/docs", "node-under-test/docs"] {
        let entries = std::fs::read_dir(root().join(dir)).expect("a directory of documents is readable");
        let names = entries.map(|entry| entry.expect("a directory entry is readable").file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.ends_with(".md"));
        paths.extend(names.map(|name| format!("{dir}/{name}")));
    }
    assert!(paths.len() > 10, "the search found few documents: it would prove little");
    paths.sort();
    paths.iter().map(|path| Document::read(path)).collect()
}

/// Files below `dir` that end in one of `extensions`, outside of build output.
fn sources(dir: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a source directory is readable") {
        let path = entry.expect("a directory entry is readable").path();
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        // Cargo's build output.
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, extensions, found);
        } else if extensions.contains(&extension) {
            found.push(path);
        }
    }
}

#[test]
fn the_readme_is_short_and_shows_a_report() {
    let text = std::fs::read_to_string(root().join("README.md")).expect("there is a README");
    let lines = text.lines().count();
    assert!(lines <= README_LINES_MAX, "README.md: expected at most {README_LINES_MAX} lines, found {lines}");
    assert!(text.contains("![") && text.contains("report.png)"), "README.md: expected a picture of a report");
}

#[test]
fn every_link_resolves() {
    let documents = documents();
    let mut broken = Vec::new();
    let mut checked = 0;
    for document in &documents {
        for (number, target) in document.links() {
            if target.starts_with("https://") {
                continue;
            }
            checked += 1;
            let (file, wanted) = target.split_once('#').map_or((&*target, None), |(file, id)| (file, Some(id)));
            let here = root().join(&document.path);
            let there = if file.is_empty() { here } else { here.with_file_name(file) };
            let resolved = there.canonicalize().ok();
            let of_repository = resolved.as_ref().and_then(|path| {
                let root = root().canonicalize().expect("the workspace exists");
                path.strip_prefix(root).ok().map(|path| path.display().to_string())
            });
            let anchors = of_repository.as_ref().and_then(|path| documents.iter().find(|other| other.path == *path));
            let good = match wanted {
                None => of_repository.is_some(),
                Some(id) => anchors.is_some_and(|other| other.anchors().iter().any(|anchor| anchor == id)),
            };
            if !good {
                broken.push(format!("{}:{number}: {target}", document.path));
            }
        }
    }
    assert!(checked > 40, "the search found {checked} links: it would prove little");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_document_is_linked_and_its_headings_differ() {
    let documents = documents();
    let linked: BTreeSet<_> = documents
        .iter()
        .flat_map(|document| document.links().into_iter().map(|(_, target)| target))
        .filter_map(|target| Some(target.split('#').next()?.rsplit('/').next()?.to_owned()))
        .collect();
    for document in &documents {
        let name = document.path.rsplit('/').next().unwrap_or_default();
        let entrance = ["README.md", "CHANGELOG.md"].contains(&name);
        assert!(entrance || linked.contains(name), "{}: expected a link to it, found none", document.path);
        // Each release of a changelog has the same headings, and nothing links to them.
        let anchors = document.anchors();
        let different: BTreeSet<_> = anchors.iter().collect();
        let same = name == "CHANGELOG.md" || different.len() == anchors.len();
        assert!(same, "{}: two headings have one anchor: {anchors:?}", document.path);
    }
}

#[test]
fn documents_that_the_sources_name_exist() {
    let mut files = Vec::new();
    for dir in ["harness", "node-under-test", "scripts", "scenarios"] {
        sources(&root().join(dir), &["rs", "proto", "sh", "toml"], &mut files);
    }
    let mut missing = Vec::new();
    let mut named = 0;
    for path in files.iter().filter(|path| !path.ends_with("documents.rs")) {
        let text = std::fs::read_to_string(path).expect("a source is UTF-8");
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "./_-".contains(c)));
        for word in words.filter(|word| word.ends_with(".md") && word.len() > ".md".len()) {
            named += 1;
            if !root().join(word).exists() {
                missing.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(named > 2, "the search found {named} names of documents: it would prove little");
    assert!(missing.is_empty(), "expected paths from the top of the repository: {missing:#?}");
}

/// Commands of the blocks of shell code: document, line number, words.
fn commands() -> Vec<(String, Vec<String>)> {
    let mut commands = Vec::new();
    for document in documents() {
        for line in document.lines.iter().filter(|line| line.code.as_deref() == Some("sh")) {
            let command = line.text.split(" #").next().unwrap_or_default();
            let words: Vec<_> = command.split_whitespace().map(str::to_owned).collect();
            if !words.is_empty() {
                commands.push((format!("{}:{}", document.path, line.number), words));
            }
        }
    }
    commands
}

#[test]
fn every_command_of_the_harness_parses() {
    let mut parsed = 0;
    for (place, words) in commands() {
        match words[0].as_str() {
            "ninelives" => {
                let cli = Cli::try_parse_from(&words);
                assert!(cli.is_ok(), "{place}: {}", cli.err().map(|error| error.to_string()).unwrap_or_default());
                parsed += 1;
            }
            // These have tests of their own, or are other programs'.
            "make" | "node-under-test" | "cargo" | "etcdctl" | "zstdcat" | "." => {}
            other => panic!("{place}: {other} is a command that no test knows"),
        }
    }
    assert!(parsed > 10, "the search found {parsed} commands: it would prove little");
}

/// The words of a command line after `make`, without variables; `None` if it is not a call of make.
fn makes(code: &str) -> Option<Vec<&str>> {
    let mut words = code.split_whitespace().skip_while(|word| word.contains('='));
    (words.next() == Some("make")).then(|| words.filter(|word| !word.contains('=')).collect())
}

#[test]
fn every_target_of_make_exists_and_is_documented() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).expect("there is a Makefile");
    let phony = makefile.lines().find_map(|line| line.strip_prefix(".PHONY:")).expect("the Makefile has targets");
    let targets: BTreeSet<_> = phony.split_whitespace().collect();
    let mut asked = 0;
    for document in documents() {
        for line in &document.lines {
            let spans: Vec<_> = match line.code.as_deref() {
                Some("sh") => vec![line.text.split(" #").next().unwrap_or_default()],
                Some(_) => continue,
                None => line.text.split('`').skip(1).step_by(2).collect(),
            };
            for target in spans.iter().filter_map(|span| makes(span)).flatten() {
                asked += 1;
                assert!(targets.contains(target), "{}:{}: no target {target}", document.path, line.number);
            }
        }
    }
    assert!(asked > 5, "the search found {asked} targets: it would prove little");
    let commands = std::fs::read_to_string(root().join("harness/docs/commands.md")).expect("commands are documented");
    let steps = ["help", "setup", "build", "sabotaged"];
    for target in targets.iter().filter(|target| !steps.contains(target)) {
        assert!(commands.contains(&format!("`{target}`")), "harness/docs/commands.md: expected `{target}`, found none");
    }
}

/// The node's own command line is not linked here. Its binary ends with 2 if it does not understand
/// its flags, and with 1 if it does, because no file of these commands exists.
#[test]
fn every_command_of_the_node_parses() {
    let node = Path::new(env!("CARGO_BIN_EXE_ninelives")).with_file_name("node-under-test");
    assert!(node.exists(), "{} is missing: `make test` builds it, and so does `make build`", node.display());
    let nowhere = tempfile::tempdir().expect("a temporary directory can be made");
    let mut parsed = 0;
    for (place, words) in commands().into_iter().filter(|(_, words)| words[0] == "node-under-test") {
        assert_ne!(words[1], "serve", "{place}: a member would start; leave `serve` out of blocks of code");
        let output = Command::new(&node).args(&words[1..]).current_dir(nowhere.path()).output();
        let output = output.expect("the node starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{place}: {said}");
        parsed += 1;
    }
    assert!(parsed > 5, "the search found {parsed} commands: it would prove little");
}

#[test]
fn prose_is_narrow() {
    let mut wide = Vec::new();
    for document in documents() {
        let exempt = |line: &&Line| line.text.starts_with('|') || line.text.contains("](");
        for line in document.prose().filter(|line| !exempt(line)) {
            if line.text.chars().count() > COLUMNS_MAX {
                wide.push(format!("{}:{}", document.path, line.number));
            }
        }
    }
    assert!(wide.is_empty(), "expected at most {COLUMNS_MAX} columns: {wide:#?}");
}

/// Lines that hold a comment and nothing else. Tables, addresses and blocks of code cannot be
/// wrapped.
#[test]
fn comments_are_narrow() {
    let mut files = Vec::new();
    for dir in ["harness", "node-under-test"] {
        sources(&root().join(dir), &["rs"], &mut files);
    }
    assert!(files.len() > 100, "the search found {} sources: it would prove little", files.len());
    let mut wide = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).expect("a source is UTF-8");
        let mut in_code = false;
        for (number, line) in (1..).zip(text.lines()) {
            let Some(comment) = line.trim_start().strip_prefix("//") else {
                in_code = false;
                continue;
            };
            let comment = comment.trim_start_matches(['/', '!']).trim_start();
            in_code ^= comment.starts_with("```");
            let exempt = in_code || comment.starts_with('|') || comment.contains("https://");
            if !exempt && line.chars().count() > COLUMNS_MAX {
                wide.push(format!("{}:{number}", path.display()));
            }
        }
    }
    assert!(wide.is_empty(), "expected comments of at most {COLUMNS_MAX} columns: {wide:#?}");
}
