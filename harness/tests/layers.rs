//! The table of layers that opens `ARCHITECTURE.md`, kept: code names only what stands above it
//! there.
//!
//! A row names a place, its layers from the lowest to the highest (`→` between them), and why they
//! lie so. The place `crates` orders the crates; a directory orders the modules in it, and a folder
//! is one module, unless it is a place of its own. A row `exception: PLACE` allows one module to
//! name one that is not below it; an exception that is not needed is refused.
//!
//! Read are the sources without their unit tests: whatever path begins with `crate::`, `super::` or
//! the name of a crate of ours, in a `use` or not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Roots of crates and folders, which hold no logic of their own, and what only tests use.
const OUTSIDE: [&str; 6] = ["lib", "main", "mod", "sabotaged", "testing", "tests"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("harness/ stands in the workspace").to_owned()
}

/// The layers of one place.
#[derive(Debug, Default)]
struct Scope {
    layer_of: BTreeMap<String, usize>,
    layers: usize,
    /// From a module to one that it may name all the same.
    exceptions: BTreeSet<(String, String)>,
}

impl Scope {
    fn fault(&self, place: &str, module: &str, other: &str) -> Option<String> {
        if other == module {
            return None;
        }
        let own = self.layer_of.get(module)?;
        match self.layer_of.get(other) {
            Some(layer) if layer < own => None,
            Some(layer) => Some(format!("`{module}` is in layer {own} of {place}, and `{other}` in layer {layer}")),
            // An item of the place itself.
            None => None,
        }
    }
}

fn words(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The table's places, by name.
fn parse(page: &str) -> BTreeMap<String, Scope> {
    let (_, table) = page.split_once("## Layers").expect("the page has a table of layers");
    let rows = table.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let mut scopes: BTreeMap<String, Scope> = BTreeMap::new();
    for row in rows.skip(2) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, place, layers, why, _] = cells[..] else { panic!("expected three cells: {row}") };
        assert!(!why.is_empty(), "every row says why: {row}");
        if let Some(place) = place.strip_prefix("exception: ") {
            let [module, other] = &words(layers)[..] else { panic!("expected two modules: {row}") };
            let scope = scopes.get_mut(place.trim_matches('`')).expect("an exception stands below its place");
            assert!(scope.exceptions.insert((module.clone(), other.clone())), "it stands twice: {row}");
            continue;
        }
        let scope = scopes.entry(place.trim_matches('`').to_owned()).or_default();
        for layer in layers.split('→') {
            for module in words(layer) {
                let twice = scope.layer_of.insert(module.clone(), scope.layers);
                assert_eq!(twice, None, "{module} stands twice in {place}");
            }
            scope.layers += 1;
        }
    }
    scopes
}

fn scopes() -> BTreeMap<String, Scope> {
    parse(&std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the page is there"))
}

fn is_identifier(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// The paths in `code` that begin at the root of a crate, by the lines they begin in: of one's own
/// as `crate`, `module`, …, of another as `node_base`, `module`, …. `here` is the module of `code`.
/// Of a group, its members.
fn paths(code: &str, here: &[String], crates: &[String]) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let (mut before, mut rest, mut line) = (' ', code, 1);
    while let Some(first) = rest.chars().next() {
        let start = if is_identifier(before) || before == ':' { None } else { start_of_path(rest, here, crates) };
        if let Some((base, after)) = start {
            members(&base, after, &mut |path| found.push((line, path)));
            before = ':';
            line += rest[..rest.len() - after.len()].matches('\n').count();
            rest = after;
        } else {
            line += usize::from(first == '\n');
            before = first;
            rest = &rest[first.len_utf8()..];
        }
    }
    found
}

fn start_of_path<'a>(text: &'a str, here: &[String], crates: &[String]) -> Option<(Vec<String>, &'a str)> {
    let own = |modules: &[String]| [&["crate".to_owned()], modules].concat();
    for name in crates {
        if let Some(rest) = text.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix("::")) {
            return Some((vec![name.clone()], rest));
        }
    }
    if let Some(rest) = text.strip_prefix("crate::") {
        return Some((own(&[]), rest));
    }
    let mut rest = text.strip_prefix("super::")?;
    let mut base = &here[..here.len().saturating_sub(1)];
    while let Some(further) = rest.strip_prefix("super::") {
        base = &base[..base.len().saturating_sub(1)];
        rest = further;
    }
    Some((own(base), rest))
}

/// Calls `tell` with each path that `text` continues `base` to.
fn members<'a>(base: &[String], text: &'a str, tell: &mut dyn FnMut(Vec<String>)) -> &'a str {
    if let Some(group) = text.strip_prefix('{') {
        let mut rest = group.trim_start();
        while !rest.is_empty() && !rest.starts_with('}') {
            let after = members(base, rest, tell);
            rest = after.trim_start_matches(|c: char| c != ',' && c != '}').trim_start_matches(',').trim_start();
        }
        return rest.strip_prefix('}').unwrap_or(rest);
    }
    let name: String = text.chars().take_while(|character| is_identifier(*character)).collect();
    let rest = &text[name.len()..];
    if name == "self" || name.is_empty() {
        tell(base.to_vec());
        return rest;
    }
    let path = [base, &[name]].concat();
    match rest.strip_prefix("::") {
        Some(further) if further.starts_with(|c: char| is_identifier(c) || c == '{') => members(&path, further, tell),
        _ => {
            tell(path);
            rest
        }
    }
}

/// A file without its comments and the unit tests at its end.
fn product(text: &str) -> String {
    let product = text.split("#[cfg(test)]\nmod").next().unwrap_or_default();
    product.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn is_for_tests(path: &Path) -> bool {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    name == "tests" || name == "testing" || name.ends_with("_test")
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a source directory is readable") {
        let path = entry.expect("a directory entry is readable").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_for_tests(&path) {
            found.push(path);
        }
    }
}

/// The module of a file below a crate's `src`, from the crate's root.
fn module_of(relative: &Path) -> Vec<String> {
    let parts = relative.with_extension("");
    let parts = parts.iter().map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| part != "mod" && part != "lib").collect()
}

fn manifest(directory: &str) -> String {
    std::fs::read_to_string(root().join(directory).join("Cargo.toml")).expect("a crate has a manifest")
}

/// A crate's directory by the name that Rust code calls it by.
fn crates(scopes: &BTreeMap<String, Scope>) -> BTreeMap<String, String> {
    let name = |directory: &String| {
        let manifest = manifest(directory);
        let name = manifest.lines().find_map(|line| line.strip_prefix("name = ")).expect("a crate has a name");
        name.trim_matches('"').replace('-', "_")
    };
    scopes["crates"].layer_of.keys().map(|directory| (name(directory), directory.clone())).collect()
}

/// Judges the paths that sources name against the table; collects what each place needs.
struct Check<'a> {
    scopes: &'a BTreeMap<String, Scope>,
    crates: &'a BTreeMap<String, String>,
    needed: BTreeSet<(String, String, String)>,
}

impl Check<'_> {
    fn fault(&mut self, own: &str, here: &[String], used: &[String]) -> Option<String> {
        let (first, rest) = used.split_first()?;
        if first != "crate" {
            return self.judge("crates", own, &self.crates[first].clone());
        }
        // Each place that both lie in has its own order.
        let mut place = format!("{own}/src");
        for (module, other) in here.iter().zip(rest) {
            if let Some(fault) = self.judge(&place, module, other) {
                return Some(fault);
            }
            if module != other {
                return None;
            }
            place = format!("{place}/{module}");
        }
        None
    }

    fn judge(&mut self, place: &str, module: &str, other: &str) -> Option<String> {
        let scope = self.scopes.get(place)?;
        let fault = scope.fault(place, module, other)?;
        if scope.exceptions.contains(&(module.to_owned(), other.to_owned())) {
            self.needed.insert((place.to_owned(), module.to_owned(), other.to_owned()));
            return None;
        }
        Some(fault)
    }
}

#[test]
fn code_names_only_what_stands_above_it_in_the_table() {
    let (root, scopes) = (root(), scopes());
    let crates = crates(&scopes);
    let mut check = Check { scopes: &scopes, crates: &crates, needed: BTreeSet::new() };
    let mut found = Vec::new();
    for own in crates.values() {
        // Another name at the start of a path is a module's, even if a crate has it too.
        let manifest = manifest(own);
        let names: Vec<_> = crates.keys().filter(|name| manifest.contains(&name.replace('_', "-"))).cloned().collect();
        let source = root.join(own).join("src");
        let mut files = Vec::new();
        rust_files(&source, &mut files);
        for path in files {
            let text = std::fs::read_to_string(&path).expect("a source file is UTF-8");
            let here = module_of(path.strip_prefix(&source).expect("found under src"));
            for (line, used) in paths(&product(&text), &here, &names) {
                if let Some(fault) = check.fault(own, &here, &used) {
                    let said = text.lines().nth(line - 1).unwrap_or_default().trim();
                    let relative = path.strip_prefix(&root).unwrap_or(&path).display();
                    found.push(format!("{relative}:{line}: `{said}`: {fault}"));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
    for (place, scope) in &scopes {
        for (module, other) in &scope.exceptions {
            let needed = check.needed.contains(&(place.clone(), module.clone(), other.clone()));
            assert!(needed, "{place}: `{module}` does not name `{other}` any more: remove the exception");
        }
    }
}

#[test]
fn every_module_has_a_layer_and_every_layer_its_modules() {
    for (place, scope) in scopes().into_iter().filter(|(place, _)| place != "crates") {
        let mut modules = BTreeSet::new();
        for entry in std::fs::read_dir(root().join(&place)).expect("the place is a directory") {
            let path = entry.expect("a directory entry is readable").path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if !OUTSIDE.contains(&name.as_str()) && !is_for_tests(&path) {
                modules.insert(name);
            }
        }
        let listed: BTreeSet<_> = scope.layer_of.into_keys().collect();
        assert_eq!(modules, listed, "{place}");
    }
}

#[test]
fn every_member_of_the_workspace_is_a_crate_of_the_table() {
    let members = manifest(".");
    let members = members.lines().find_map(|line| line.strip_prefix("members = ")).expect("the workspace has members");
    let members: BTreeSet<_> = members.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(members, scopes()["crates"].layer_of.keys().cloned().collect());
}

const PAGE: &str = "## Layers\n\n| place | layers | why |\n| --- | --- | --- |\n| crates | `low` → `high` | x |\n\
    | `high/src` | `error` `rows` → `mvcc` → `hash` | x |\n| `high/src` | `store` | x |\n\
    | `high/src/mvcc` | `key` → `tree` | x |\n| exception: `high/src` | `rows` → `hash` | x |\n\nafter\n";

/// The lines of `code`, in the module `here` of the crate `high`, that the page refuses.
fn refused(own: &str, here: &[&str], code: &str) -> Vec<usize> {
    let scopes = parse(PAGE);
    let crates = BTreeMap::from([("low".to_owned(), "low".to_owned()), ("high".to_owned(), "high".to_owned())]);
    let names: Vec<_> = crates.keys().cloned().collect();
    let mut check = Check { scopes: &scopes, crates: &crates, needed: BTreeSet::new() };
    let here: Vec<_> = here.iter().map(|part| (*part).to_owned()).collect();
    let used = paths(&product(code), &here, &names);
    used.into_iter().filter(|(_, used)| check.fault(own, &here, used).is_some()).map(|(line, _)| line).collect()
}

#[test]
fn a_line_that_turns_the_order_round_is_found() {
    let hash = |code| refused("high", &["hash"], code);
    assert_eq!(hash("use super::error::{Error, Result};\nuse super::store::Store;\n"), [2]);
    assert_eq!(hash("use super::mvcc::row;\nuse crate::{rows, store::Store};\n"), [2]);
    assert_eq!(hash("fn f() {\n    g(crate::store::Store::open);\n}\n"), [2]);
    assert_eq!(hash("// use super::store;\nuse super::Error;\nuse mysuper::store;\n"), [0_usize; 0]);
    assert_eq!(hash("#[cfg(test)]\nmod tests {\n    use super::store::Store;\n}\n"), [0_usize; 0]);
    assert_eq!(refused("high", &["rows"], "use super::hash;\nuse super::store;\n"), [2], "one exception");
    assert_eq!(refused("high", &["mvcc", "key"], "use super::tree;\nuse crate::hash;\n"), [1, 2]);
    assert_eq!(refused("high", &["mvcc", "tree"], "use super::key;\nuse super::super::rows;\n"), [0_usize; 0]);
    assert_eq!(refused("low", &["a"], "use crate::b;\nuse high::store;\n"), [2]);
    assert_eq!(refused("high", &["store"], "use low::x;\n"), [0_usize; 0]);
}
