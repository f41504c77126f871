//! Golden texts of the refusals: the text that a user sees is part of the contract.

use super::*;
use ninelives_evidence::limits;
use ninelives_evidence::verdict::Class;

const GOOD: &str = r#"# A story.
cycles = 10
[cluster]
members = 3
backend = "rocksdb"
memtable_bytes = 65536
keep_entries = 500
snapshot_every_entries = 500
[load]
clients = 16
keys = 100
value_bytes_max = 256
op_timeout_ms = 2000
compact_every_ops = 500
[whom]
follower = 3
leader = 1
[when]
window = 2
time = 1
[windows]
"flush.completed" = 3
[bounds]
restart_ms_max = 9000
"#;

fn parse(text: &str) -> Result<Scenario, Refusal> {
    Scenario::parse(Path::new("scenarios/x.toml"), text.to_owned())
}

/// The refusal of the good scenario with `from` replaced by `to`.
fn refusal(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    parse(&GOOD.replacen(from, to, 1)).expect_err("a refusal").to_string()
}

#[test]
fn a_good_scenario_is_taken_as_it_stands() {
    let scenario = parse(GOOD).unwrap();
    assert_eq!((scenario.name.as_str(), scenario.cycles, scenario.cluster.members), ("x", 10, 3));
    assert_eq!(scenario.bounds.restart_ms_max, 9000);
    assert_eq!(scenario.bounds.fence_ms_max, limits::FENCE_MS_MAX);
    assert_eq!(
        scenario.windows.iter().map(|(window, weight)| (window.name, *weight)).collect::<Vec<_>>(),
        [("flush.completed", 3)]
    );
    assert_eq!(scenario.digest().len(), 64);
}

#[test]
fn leases_of_seconds_need_holders_and_long_faults_need_faults() {
    let load = "compact_every_ops = 500";
    let scenario = parse(&GOOD.replace(load, &format!("{load}\nlease_holders = 6"))).unwrap();
    assert_eq!((scenario.load.lease_holders, scenario.load.lease_ttl_seconds), (6, limits::LEASE_TTL_SECONDS));
    assert_eq!(parse(GOOD).unwrap().lasting, Lasting::default());
    let lonely = refusal(load, &format!("{load}\nlease_ttl_seconds = 6"));
    assert!(lonely.contains("`load.lease_ttl_seconds`: expected `load.lease_holders` or"), "{lonely}");
    let unused = refusal("[bounds]", "[lasting]\npause_ms = [100, 200]\n[bounds]");
    assert!(unused.contains("`lasting.pause_ms` is given, but `faults.pause` is 0 or absent"), "{unused}");
    let faults = "[faults]\npause = 1\nnetwork = 1\n[lasting]\nnetwork_ms = ";
    for span in ["[2000, 1000]", "[0, 9]", "[1, 9701]"] {
        let wrong = refusal("[bounds]", &format!("{faults}{span}\n[bounds]"));
        assert!(wrong.contains("expected two numbers of milliseconds, ascending, from 1 to 9700"), "{wrong}");
    }
    let scenario = parse(&GOOD.replace("[bounds]", &format!("{faults}[3000, 5000]\n[bounds]"))).unwrap();
    assert_eq!(scenario.lasting, Lasting { network_ms: (3_000, 5_000), ..Lasting::default() });
}

#[test]
fn variables_of_members_are_named_once_and_by_name() {
    let with = |table: &str| parse(&format!("{GOOD}[environment]\n{table}\n"));
    let taken = with("pass = [\"GODEBUG\"]\nset = { GOGC = \"50\" }").unwrap().environment;
    assert_eq!(taken.pass, ["GODEBUG"]);
    assert_eq!(taken.set["GOGC"], "50");
    assert_eq!(parse(GOOD).unwrap().environment, EnvironmentSpec::default());
    let refused = |table: &str| with(table).expect_err("a refusal").to_string();
    assert!(
        refused("pass = [\"A=B\"]")
            .contains("`environment.pass`: expected the name of a variable, like GODEBUG, found \"A=B\"")
    );
    assert!(refused("set = { \"1A\" = \"x\" }").contains("`environment.set`: expected the name of a variable"));
    assert!(refused("pass = [\"A\"]\nset = { A = \"x\" }").contains("expected each variable once"));
    assert!(refused("pas = []").contains("unknown field `pas`"));
}

#[test]
fn the_floor_of_refusals_is_a_percentage() {
    let with = |floor: u32| parse(&format!("{GOOD}[floors]\ncarried_out_percent_min = {floor}\n"));
    assert_eq!(with(90).unwrap().floors.carried_out_percent_min, 90);
    assert_eq!(parse(GOOD).unwrap().floors.carried_out_percent_min, limits::CARRIED_OUT_PERCENT_MIN);
    assert!(with(101).expect_err("a refusal").to_string().contains("expected 0 to 100, found 101"));
}

#[test]
fn a_typo_is_named_with_its_line() {
    assert_eq!(
        refusal("clients = 16", "cleints = 16"),
        "scenarios/x.toml:10: unknown field `cleints`, expected one of `mix`, `clients`, `keys`, `value_bytes_max`, `op_timeout_ms`, \
         `compact_every_ops`, `compact_keep_revisions`, `lease_holders`, `kept_leases`, `lease_ttl_seconds`, \
         `dear_transactions`\n  10 | cleints = 16"
    );
}

#[test]
fn zero_cycles_are_refused() {
    assert_eq!(
        refusal("cycles = 10", "cycles = 0"),
        "scenarios/x.toml:2: `cycles`: expected 1 to 100000, found 0\n  2 | cycles = 0"
    );
}

#[test]
fn an_unknown_window_lists_the_known_ones() {
    let text = refusal("\"flush.completed\" = 3", "\"flush.complete\" = 3");
    assert!(
        text.starts_with(
            "scenarios/x.toml:22: `windows`: unknown window \"flush.complete\"; expected one of raft.append, "
        ),
        "{text}"
    );
    assert!(text.ends_with("  22 | \"flush.complete\" = 3\n  hint: did you mean \"flush.completed\"?"), "{text}");
}

#[test]
fn a_rate_is_a_floor_if_it_is_asked_for() {
    assert_eq!(parse(GOOD).unwrap().floors.writes_per_second_min, 0);
    let pressed = parse(&format!("{GOOD}[floors]\nwrites_per_second_min = 900\n")).unwrap();
    assert_eq!(pressed.floors.writes_per_second_min, 900);
}

#[test]
fn a_mix_is_named_or_the_default() {
    let mix = |text: &str| parse(text).unwrap().load.mix.name;
    assert_eq!(mix(GOOD), "mixed");
    assert_eq!(mix(&GOOD.replacen("keys = 100", "keys = 100\nmix = \"large\"", 1)), "large");
    let unknown = refusal("keys = 100", "keys = 100\nmix = \"transaction\"");
    assert!(
        unknown.starts_with(
            "scenarios/x.toml:12: `load.mix`: unknown mix \"transaction\"; expected one of \"mixed\" (a bit of"
        ),
        "{unknown}"
    );
    assert!(unknown.ends_with("12 | mix = \"transaction\"\n  hint: did you mean \"transactions\"?"), "{unknown}");
}

#[test]
fn what_a_compaction_leaves_is_bounded() {
    assert_eq!(parse(GOOD).unwrap().load.compact_keep_revisions, limits::COMPACT_KEEP_REVISIONS);
    let keeps = |n: &str| GOOD.replacen("keys = 100", &format!("keys = 100\ncompact_keep_revisions = {n}"), 1);
    assert_eq!(parse(&keeps("5000")).unwrap().load.compact_keep_revisions, 5_000);
    let none = parse(&keeps("0")).unwrap_err().to_string();
    assert!(none.contains("`load.compact_keep_revisions`: expected 1 to 1000000, found 0"), "{none}");
}

#[test]
fn a_wrong_unit_names_the_right_one() {
    assert_eq!(
        refusal("restart_ms_max = 9000", "restart_ms_max = \"9s\""),
        "scenarios/x.toml:24: `restart_ms_max`: invalid type: string \"9s\", expected u64\n  24 | restart_ms_max = \"9s\"\n  \
         hint: the unit is in the name: `restart_ms_max` is a whole number of milliseconds, without quotes"
    );
}

#[test]
fn even_members_are_refused() {
    assert_eq!(
        refusal("members = 3", "members = 4"),
        "scenarios/x.toml:4: `cluster.members`: expected one of 3, 5, found 4\n  4 | members = 4\n  \
         hint: an even number of members survives no more failures than one member less"
    );
}

#[test]
fn impossible_combinations_name_both_fields() {
    let nobody = refusal("follower = 3\nleader = 1", "follower = 0");
    assert!(nobody.contains("`whom.follower`") && nobody.contains("no member would be killed"), "{nobody}");
    let sender = parse(&GOOD.replacen("leader = 1", "", 1).replacen("\"flush.completed\"", "\"snapshot.send\"", 1));
    let sender = sender.unwrap_err().to_string();
    assert!(sender.contains("`windows.\"snapshot.send\"`") && sender.contains("`whom.leader`"), "{sender}");
    let keep =
        GOOD.replacen("keep_entries = 500", "keep_entries = 9000", 1).replacen("flush.completed", "snapshot.unpack", 1);
    let keep = parse(&keep).unwrap_err().to_string();
    assert!(keep.contains("`cluster.keep_entries`") && keep.contains("found 9000"), "{keep}");
    let none = refusal("\"flush.completed\" = 3", "\"flush.completed\" = 0");
    assert!(none.contains("`when.window`") && none.contains("`[windows]`"), "{none}");
    let crowd = GOOD.replacen("members = 3", "members = 5", 1).replacen("clients = 16", "clients = 181", 1);
    let crowd = parse(&crowd).unwrap_err().to_string();
    assert!(crowd.contains("`load.clients`") && crowd.contains("`cluster.members`"), "{crowd}");
    let unused = refusal("window = 2", "window = 0");
    assert!(unused.contains("`when.window` is 0"), "{unused}");
}

const LIST: &str = "backend = [\"redb\", \"rocksdb\", \"redb\"]";
const UPGRADE: &str = r#"[upgrade]
every_cycles = 4
migrate = 1
replace = 1
[upgrade.windows]
none = 1
"migrate.copied" = 1
"snapshot.send" = 2
"#;

/// The good scenario on redb alone.
fn redb() -> String {
    GOOD.replacen("\"rocksdb\"", "\"redb\"", 1).replacen("memtable_bytes = 65536\n", "", 1).replacen(
        "flush.completed",
        "raft.synced",
        1,
    )
}

#[test]
fn each_member_has_its_engine() {
    let engines = |text: &str| parse(text).unwrap_or_else(|refusal| panic!("{refusal}")).cluster.engines;
    use Engine::{Redb, Rocksdb};
    assert_eq!(engines(GOOD), [Rocksdb; 3]);
    assert_eq!(engines(&redb()), [Redb; 3]);
    let mixed = GOOD.replacen("backend = \"rocksdb\"", LIST, 1);
    assert_eq!(engines(&mixed), [Redb, Rocksdb, Redb]);
    assert_eq!(parse(&mixed).unwrap().cluster.backend(), "redb, rocksdb, redb");
    assert_eq!(parse(&redb()).unwrap().cluster.backend(), "redb");
}

#[test]
fn a_list_of_engines_has_one_for_each_member() {
    let short = refusal("backend = \"rocksdb\"", "backend = [\"redb\", \"rocksdb\"]");
    assert!(short.starts_with("scenarios/x.toml:5: `cluster.backend`: expected one name, or a list"), "{short}");
    assert!(short.contains("3 `cluster.members`") && short.contains("a list of 2"), "{short}");
    assert_eq!(
        refusal("backend = \"rocksdb\"", "backend = [\"redb\", \"rockdb\", \"redb\"]"),
        "scenarios/x.toml:5: `cluster.backend`: expected one of redb, rocksdb, found \"rockdb\"\n  \
         5 | backend = [\"redb\", \"rockdb\", \"redb\"]"
    );
    assert!(refusal("backend = \"rocksdb\"", "backend = 7").contains("found integer"));
}

#[test]
fn a_memtable_is_for_those_who_have_one() {
    let idle = parse(&redb().replacen("[load]", "memtable_bytes = 65536\n[load]", 1)).unwrap_err().to_string();
    assert!(idle.starts_with("scenarios/x.toml:8: `cluster.memtable_bytes` is given"), "{idle}");
    assert!(idle.contains("`cluster.backend`"), "{idle}");
    let missing = refusal("memtable_bytes = 65536\n", "");
    assert!(
        missing.contains("`cluster.memtable_bytes` is missing") && missing.contains("`cluster.backend`"),
        "{missing}"
    );
    // A member that starts on redb may become rocksdb.
    let later = parse(&(redb() + UPGRADE)).unwrap_err().to_string();
    assert!(later.contains("`cluster.memtable_bytes` is missing") && later.contains("`[upgrade]`"), "{later}");
}

#[test]
fn windows_that_redb_lacks_need_a_rocksdb_member() {
    for name in ["flush.begin", "index.renamed", "recovery.replay-verify"] {
        let text = redb().replacen("raft.synced", name, 1);
        let refused = parse(&text).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("`windows.\"{name}\"`")) && refused.contains("`cluster.backend`"),
            "{refused}"
        );
        assert!(refused.starts_with("scenarios/x.toml:21: "), "{refused}");
        let memtable = "memtable_bytes = 65536\nkeep_entries";
        assert!(parse(&(text.replacen("keep_entries", memtable, 1) + UPGRADE)).is_ok(), "{name}");
        let mixed = GOOD.replacen("backend = \"rocksdb\"", LIST, 1).replacen("flush.completed", name, 1);
        assert!(parse(&mixed).is_ok(), "{name}");
    }
}

#[test]
fn an_upgrade_is_checked_like_everything_else() {
    let upgrade = |from: &str, to: &str| {
        assert!(UPGRADE.contains(from), "{from}");
        parse(&format!("{GOOD}{}", UPGRADE.replacen(from, to, 1))).map_err(|refusal| refusal.to_string())
    };
    let spec = upgrade("none = 1", "none = 1").unwrap().upgrade.unwrap();
    assert_eq!((spec.every_cycles, spec.windows.len()), (4, 3));
    assert_eq!(spec.windows_of(WayKind::Replace).len(), 2);
    let never = upgrade("every_cycles = 4", "every_cycles = 0").unwrap_err();
    assert!(never.contains("`upgrade.every_cycles`: expected 1 to"), "{never}");
    let closed = upgrade("replace = 1", "replace = 0").unwrap_err();
    assert!(closed.contains("`upgrade.windows.\"snapshot.send\"`") && closed.contains("`upgrade.replace`"), "{closed}");
    let idle = upgrade("migrate = 1\nreplace = 1", "").unwrap_err();
    assert!(idle.contains("`upgrade.migrate`") || idle.contains("only `upgrade.migrate` passes it"), "{idle}");
    let strange = upgrade("\"migrate.copied\"", "\"flush.begin\"").unwrap_err();
    assert!(strange.contains("`upgrade.windows`") && strange.contains("no upgrade passes"), "{strange}");
    let typo = upgrade("\"migrate.copied\"", "\"migrate.copid\"").unwrap_err();
    assert!(typo.contains("did you mean \"migrate.copied\"?"), "{typo}");
    let nothing = upgrade("none = 1\n\"migrate.copied\" = 1", "none = 0").unwrap_err();
    assert!(nothing.contains("`upgrade.migrate` is above 0, but no window"), "{nothing}");
    let kill = refusal("\"flush.completed\"", "\"migrate.copied\"");
    assert!(kill.contains("`upgrade.windows.\"migrate.copied\"`"), "{kill}");
    let keep = format!("{}{UPGRADE}", GOOD.replacen("keep_entries = 500", "keep_entries = 9000", 1));
    let keep = parse(&keep).unwrap_err().to_string();
    assert!(keep.contains("`upgrade.replace`") && keep.contains("`cluster.keep_entries`"), "{keep}");
}

#[test]
fn the_shipped_scenarios_are_good() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        // Tables of bugs are not scenarios.
        let table =
            ["mutants.toml", "power-mutants.toml", "etcd-releases.toml"].iter().any(|table| path.ends_with(table));
        if path.extension().is_some_and(|extension| extension == "toml") && !table {
            let scenario = Scenario::load(&path).unwrap_or_else(|refusal| panic!("{refusal}"));
            assert!(scenario.text.starts_with('#'), "{}: the story comes first", path.display());
            seen.push((scenario.name, scenario.cycles, scenario.cluster.members));
        }
    }
    seen.sort();
    for expected in
        [("five-nodes", 5), ("gate", 3), ("smoke", 3), ("rolling-upgrade", 3), ("mixed", 3), ("teeth-snapshots", 3)]
    {
        assert!(seen.iter().any(|(name, _, members)| (name.as_str(), *members) == expected), "{seen:?}");
    }
    assert!(seen.contains(&("gate".to_owned(), 1000, 3)) && seen.contains(&("smoke".to_owned(), 25, 3)), "{seen:?}");
}

#[test]
fn quotas_are_for_each_cell_that_can_be_hit() {
    let with = |quotas: &str| parse(&GOOD.replace("[bounds]", &format!("[quotas]\n{quotas}\n[bounds]")));
    let cells = |quotas: &str| -> Vec<_> {
        let quotas = with(quotas).unwrap_or_else(|refusal| panic!("{refusal}")).quotas;
        quotas.iter().map(|quota| format!("{} {} {}", quota.window.name, quota.role, quota.kills)).collect()
    };
    assert_eq!(cells("each = 1"), ["flush.completed leader 1", "flush.completed follower 1"]);
    assert_eq!(cells("each = 1\n\"flush.completed\" = { follower = 2 }"), ["flush.completed follower 2"]);
    assert_eq!(cells("each = 0"), [""; 0]);
    let refusal = |quotas: &str| with(quotas).expect_err("a refusal").to_string();
    assert!(refusal("\"flush.compleetd\" = 1").contains("did you mean \"flush.completed\"?"));
    assert!(
        refusal("\"raft.fsync\" = 1")
            .contains("`quotas.\"raft.fsync\"` can never be met: expected `windows.\"raft.fsync\"` above 0")
    );
    assert!(refusal("each = 4").contains("ask for 12 kills") && refusal("each = 4").contains("`cycles` = 10"));
    let text = GOOD
        .replace("leader = 1\n", "")
        .replace("[bounds]", "[quotas]\n\"flush.completed\" = { leader = 1 }\n[bounds]");
    let message = parse(&text).expect_err("a refusal").to_string();
    assert!(message.contains("`whom.leader` above 0"), "{message}");
}

#[test]
fn a_shorter_run_owes_its_share_of_a_quota() {
    let text = GOOD.replace("cycles = 10", "cycles = 100").replace("[bounds]", "[quotas]\neach = 5\n[bounds]");
    let quota = parse(&text).unwrap().quotas[0];
    let kills = |cycles| quota.share(cycles, 100).map(|share| share.kills);
    assert_eq!([kills(100), kills(500), kills(60), kills(19)], [Some(5), Some(5), Some(3), None]);
}

/// Without the tables of other faults a cycle is a kill, and no kill is followed by another.
#[test]
fn kills_alone_are_the_default() {
    let scenario = parse(GOOD).unwrap();
    assert_eq!(scenario.faults.weight(FaultKind::Kill), 1);
    assert_eq!(scenario.faults.kinds.iter().map(|(_, weight)| weight).sum::<u32>(), 1);
    assert!(scenario.faults.again.is_empty());
}

#[test]
fn other_faults_are_taken_as_they_stand() {
    let tables = "[faults]\npause = 2\nnetwork = 1\n[links]\nmute = 3\n[again]\nnone = 4\n\"recovery.engine-open\" = 1\n[windows]";
    let scenario = parse(&GOOD.replacen("[windows]", tables, 1)).unwrap();
    assert_eq!(scenario.faults.weight(FaultKind::Kill), 1, "absent is one, not none");
    assert_eq!(scenario.faults.links.iter().find(|(_, weight)| *weight > 0), Some(&(LinkKind::Mute, 3)));
    let again: Vec<_> =
        scenario.faults.again.iter().map(|(window, weight)| (window.map(|one| one.name), *weight)).collect();
    assert_eq!(again, [(None, 4), (Some("recovery.engine-open"), 1)]);
}

#[test]
fn faults_that_would_not_happen_are_refused() {
    let with = |tables: &str| refusal("[windows]", &format!("{tables}\n[windows]"));
    assert_eq!(
        with("[faults]\nkill = 0"),
        "scenarios/x.toml:21: expected a weight above 0 in one of `faults.kill`, `faults.pause`, `faults.network`, \
         `faults.several`, `faults.cut`, `faults.disk`, found none: there would be no fault\n  21 | [faults]"
    );
    let several = with("[faults]\nseveral = 1");
    assert!(
        several.contains(":21: `faults.several` is above 0, but `faults.pause` and `faults.network` are 0 or absent"),
        "{several}"
    );
    let links = with("[links]\nmute = 1");
    assert!(links.contains(":21: `[links]` is given, but `faults.network` is 0 or absent"), "{links}");
    let nothing = with("[faults]\nnetwork = 1\n[links]\nmute = 0");
    assert!(nothing.contains(":23: expected a weight above 0 in one of `links.isolate`"), "{nothing}");
    let typo = with("[links]\nmuet = 1");
    assert!(typo.contains(":22: unknown field `muet`, expected one of `isolate`, `mute`, `deafen`, `delay`"), "{typo}");
}

#[test]
fn kills_again_that_would_not_happen_are_refused() {
    let with = |again: &str| refusal("[windows]", &format!("[again]\n{again}\n[windows]"));
    let unknown = with("\"recovery.engine-opn\" = 1");
    assert!(
        unknown.contains(":22: `again`: unknown window") && unknown.contains("did you mean \"recovery.engine-open\"?"),
        "{unknown}"
    );
    let load = with("\"raft.fsync\" = 1");
    assert!(load.contains("found \"raft.fsync\", which a member does not pass by starting"), "{load}");
    let snapshot = with("\"snapshot.unpack\" = 1");
    assert!(
        snapshot.contains("`again.\"snapshot.unpack\"` is above 0, but only a kill in another window"),
        "{snapshot}"
    );
    let none = with("none = 1");
    assert!(none.contains("no window in it has a weight above 0"), "{none}");
    let nobody =
        refusal("[windows]", "[faults]\nkill = 0\npause = 1\n[again]\n\"recovery.engine-open\" = 1\n[windows]");
    assert!(nobody.contains(":25: `[again]` has weights, but `faults.kill` and `faults.several` are 0"), "{nobody}");
    let redb = GOOD
        .replacen("memtable_bytes = 65536\n", "", 1)
        .replacen("\"rocksdb\"", "\"redb\"", 1)
        .replacen("flush.completed", "raft.fsync", 1)
        .replacen("[windows]", "[again]\n\"recovery.replay-verify\" = 1\n[windows]", 1);
    let redb = parse(&redb).unwrap_err().to_string();
    assert!(redb.contains("`again.\"recovery.replay-verify\"` is above 0, and does not exist on redb"), "{redb}");
}

/// The good scenario about etcd, with `keys` in its target.
fn about_etcd(keys: &str) -> String {
    let own = [
        "backend = \"rocksdb\"\n",
        "memtable_bytes = 65536\n",
        "keep_entries = 500\n",
        "snapshot_every_entries = 500\n",
    ];
    let text = own.iter().fold(GOOD.to_owned(), |text, line| text.replacen(line, "", 1));
    text.replacen("[cluster]", &format!("[target.etcd]\n{keys}\n[cluster]"), 1).replacen(
        "flush.completed",
        "wal.sync",
        1,
    )
}

#[test]
fn windows_of_files_need_the_fault_filesystem() {
    let with = parse(&about_etcd("fault_filesystem = true")).unwrap();
    assert_eq!(with.windows.iter().map(|(window, _)| window.name).collect::<Vec<_>>(), ["wal.sync"]);
    assert!(with.known_windows().all(Window::is_of_files) && with.known_windows().count() > 4);
    let without = parse(&about_etcd("")).unwrap_err().to_string();
    assert!(
        without.contains("`windows.\"wal.sync\"` is given")
            && without.contains("`target.etcd.fault_filesystem = true`"),
        "{without}"
    );
    let no_table = about_etcd("").replacen("[windows]\n\"wal.sync\" = 3\n", "", 1);
    let no_table = parse(&no_table).unwrap_err().to_string();
    assert!(
        no_table.contains("`when.window` is above 0") && no_table.contains("`target.etcd.fault_filesystem = true`"),
        "{no_table}"
    );
    let foreign = about_etcd("fault_filesystem = true").replacen("wal.sync", "raft.fsync", 1);
    let foreign = parse(&foreign).unwrap_err().to_string();
    assert!(foreign.contains("`windows.\"raft.fsync\"` is given") && foreign.contains("wal.sync"), "{foreign}");
    let node = refusal("flush.completed", "wal.sync");
    assert!(node.contains("only a server under the fault filesystem passes it"), "{node}");
    let etcd = about_etcd("fault_filesystem = true").replacen("wal.sync", "file.raft-log.sync", 1);
    let etcd = parse(&etcd).unwrap_err().to_string();
    assert!(etcd.contains("`windows.\"file.raft-log.sync\"` is given"), "{etcd}");
}

#[test]
fn windows_of_the_nodes_files_need_power_losses_and_turn_each_other_on() {
    let power = |text: &str| text.replacen("[windows]", "[faults]\ncut = 2\n[power]\nnames = \"posix\"\n[windows]", 1);
    let of_files = |scenario: &Scenario| scenario.known_windows().filter(|window| window.is_of_files()).count();
    assert_eq!(of_files(&parse(&power(GOOD)).unwrap()), 0, "a sweep without them stays what it was");
    let named = parse(&power(GOOD).replacen("flush.completed", "file.sst.synced", 1)).unwrap();
    assert!(of_files(&named) > 60);
    let without = refusal("flush.completed", "file.sst.synced");
    assert!(without.contains("`windows.\"file.sst.synced\"`") && without.contains("a table `[power]`"), "{without}");
    let redb = power(GOOD).replacen("flush.completed", "file.database.sync", 1);
    let redb = parse(&redb).unwrap_err().to_string();
    assert!(redb.contains("does not exist on rocksdb"), "{redb}");
    let leaders = power(GOOD).replacen("flush.completed", "file.join.marker.sync", 1);
    let leaders = leaders.lines().filter(|line| !line.starts_with("follower")).collect::<Vec<_>>().join("\n");
    let leaders = parse(&leaders).unwrap_err().to_string();
    assert!(leaders.contains("only `whom.follower` can pass it"), "{leaders}");
    let several = power(GOOD).replacen("flush.completed", "file.join.marker.sync", 1);
    let several = several.replacen("cut = 2", "cut = 2\npause = 1\nseveral = 1", 1);
    let several = parse(&several).unwrap_err().to_string();
    assert!(several.contains("`faults.several`") && several.contains("file.join.marker.sync"), "{several}");
    let again = GOOD.replacen("[windows]", "[again]\n\"file.start.directory.sync\" = 1\n[windows]", 1);
    assert!(parse(&power(&again)).is_ok());
    let again = parse(&again).unwrap_err().to_string();
    assert!(again.contains("`again.\"file.start.directory.sync\"`") && again.contains("`[power]`"), "{again}");
}

const KNOWN: &str = r#"
[[known]]
name = "etcd#13766"
class = "state-hash"
what = "replicas-disagree"
fields = { part = "kv-section" }
member = 2
because = "fixed in 3.5.3"

[[known]]
name = "late watches"
class = "watch"
because = "ours"
"#;

/// The refusal of the good scenario with known findings, and `from` replaced by `to` in them.
fn refusal_of_known(from: &str, to: &str) -> String {
    assert!(KNOWN.contains(from), "{from}");
    parse(&format!("{GOOD}{}", KNOWN.replacen(from, to, 1))).expect_err("a refusal").to_string()
}

#[test]
fn known_findings_are_taken_in_the_order_of_the_file() {
    assert_eq!(parse(GOOD).unwrap().known, []);
    let known = parse(&format!("{GOOD}{KNOWN}")).unwrap().known;
    let (first, second) = (&known[0], &known[1]);
    assert_eq!(
        (known.len(), first.name.as_str(), first.class, first.member),
        (2, "etcd#13766", Class::StateHash, Some(2))
    );
    assert_eq!(
        (first.what.as_deref(), &first.fields, first.because.as_str()),
        (Some("replicas-disagree"), &[("part".to_owned(), "kv-section".into())].into(), "fixed in 3.5.3")
    );
    assert_eq!((second.class, second.member, &second.what, second.fields.len()), (Class::Watch, None, &None, 0));
}

#[test]
fn a_signature_that_says_too_little_is_refused_where_it_stands() {
    let because = refusal_of_known("\"fixed in 3.5.3\"", "\"\"");
    assert!(because.starts_with("scenarios/x.toml:32: `known.because`: expected some words"), "{because}");
    assert!(refusal_of_known("because = \"ours\"", "").contains("missing field `because`"));
    assert!(refusal_of_known("\"late watches\"", "\"\"").contains(":35: `known.name`"));
    assert!(refusal_of_known("member = 2", "member = 0").contains(":31: `known.member`: expected a member's id"));
    assert!(refusal_of_known("member = 2", "members = 2").contains(":31: unknown field `members`"));
}

#[test]
fn a_kind_or_a_field_that_there_is_not_is_refused_with_those_that_there_are() {
    let kind = refusal_of_known("\"replicas-disagree\"", "\"replicas-disagre\"");
    assert!(kind.starts_with("scenarios/x.toml:29: `known.what`: expected a kind of class state-hash"), "{kind}");
    assert!(kind.contains("fence-not-found, logs-disagree, replicas-disagree"), "{kind}");
    let class = refusal_of_known("\"replicas-disagree\"", "\"delivered-twice\"");
    assert!(class.contains("found \"delivered-twice\", which is of class watch"), "{class}");
    let field = refusal_of_known("{ part =", "{ prat =");
    assert!(field.starts_with("scenarios/x.toml:30: `known.fields`: expected fields of replicas-disagree"), "{field}");
    assert!(field.contains("its fields are at, part, says"), "{field}");
    let value = refusal_of_known("\"kv-section\"", "\"kv section\"");
    assert!(value.contains(":30: `known.fields.part`") && value.contains("`kv-section`"), "{value}");
    let number = refusal_of_known("\"kv-section\"", "7");
    assert!(number.contains(":30: `known.fields.part`"), "{number}");
    let alone = refusal_of_known("what = \"replicas-disagree\"\n", "");
    assert!(alone.contains("`known.fields.part` is given, but `known.what`, its kind, is missing"), "{alone}");
}

#[test]
fn words_of_a_sentence_are_refused_with_the_form_that_replaced_them() {
    let text = refusal_of_known("because = \"ours\"", "contains = [\"twice, in parts, or back\"]\nbecause = \"ours\"");
    assert!(text.starts_with("scenarios/x.toml:37: `known.contains`: findings are matched by their kind"), "{text}");
    assert!(text.contains("write `what = \"…\"`") && text.contains("delivered-twice, "), "{text}");
}

#[test]
fn two_signatures_of_one_name_are_refused() {
    let text = refusal_of_known("\"late watches\"", "\"etcd#13766\"");
    assert!(
        text.contains(":35: `known.name`: expected a name for each `[[known]]`, found \"etcd#13766\" twice"),
        "{text}"
    );
}

#[test]
fn only_a_class_about_the_system_can_be_known() {
    for class in ["harness-error", "not-proven"] {
        let text = refusal_of_known("\"watch\"", &format!("\"{class}\""));
        assert!(text.contains(":36: `known.class`: expected a class of findings about the system"), "{text}");
        assert!(text.contains(&format!("found {class}")), "{text}");
    }
    let text = refusal_of_known("\"watch\"", "\"wacth\"");
    assert!(
        text.starts_with("scenarios/x.toml:36: ") && text.contains("`wacth`") && text.contains("`watch`"),
        "{text}"
    );
}

#[test]
fn a_power_loss_says_what_is_lost() {
    let with = |tables: &str| GOOD.replacen("[windows]", &format!("{tables}\n[windows]"), 1);
    let good = parse(&with("[faults]\nkill = 1\ncut = 2\n[power]\nnames = \"posix\"")).unwrap();
    assert_eq!(good.power, Some(PowerSpec { names: Names::Posix, all_lost_percent: 50, explore: 0 }));
    let explores = parse(&with("[faults]\ncut = 2\n[power]\nnames = \"posix\"\nexplore = 200")).unwrap();
    assert_eq!(explores.power.map(|power| power.explore), Some(200));
    for (tables, words) in [
        ("[faults]\ncut = 2\n[power]\nnames = \"inode\"\nexplore = 0", "expected 1 to 10000, found 0"),
        ("[faults]\ncut = 2", "expected a table `[power]` with `names`"),
        ("[power]\nnames = \"inode\"", "`faults.cut` is 0 or absent"),
        ("[faults]\ncut = 2\n[power]\nnames = \"inodes\"", "expected one of journal, inode, posix, found \"inodes\""),
        ("[faults]\ncut = 2\n[power]\nnames = \"inode\"\nall_lost_percent = 101", "expected 0 to 100, found 101"),
    ] {
        let refused = parse(&with(tables)).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    let both = format!("{}{UPGRADE}", with("[faults]\ncut = 2\n[power]\nnames = \"inode\""));
    let both = parse(&both).unwrap_err().to_string();
    assert!(both.contains("`[power]` beside `upgrade.replace`"), "{both}");
    let migrate = "[upgrade]\nevery_cycles = 4\nmigrate = 1\ncut_percent = 60\n[upgrade.windows]\nnone = 1\n";
    let alone = format!("{}{migrate}", with("[faults]\ncut = 2\n[power]\nnames = \"inode\""));
    assert_eq!(parse(&alone).unwrap().upgrade.map(|upgrade| upgrade.cut_percent), Some(60));
    let powerless = parse(&format!("{GOOD}{migrate}")).unwrap_err().to_string();
    assert!(powerless.contains("expected a table `[power]`"), "{powerless}");
}

#[test]
fn strangers_come_after_a_share_of_the_kills_and_stay_for_a_time() {
    let with = |table: &str| parse(&format!("{GOOD}[strangers]\n{table}\n"));
    let good = with("kills_percent = 60").unwrap().strangers;
    assert_eq!(good, Some(StrangersSpec { kills_percent: 60, stay_ms: limits::STRANGERS_MS_DRAWN }));
    assert_eq!(with("kills_percent = 1\nstay_ms = [40, 90]").unwrap().strangers.unwrap().stay_ms, (40, 90));
    for (table, words) in [
        ("kills_percent = 0", "`strangers.kills_percent`: expected 1 to 100, found 0"),
        (
            "kills_percent = 9\nstay_ms = [90, 40]",
            "`strangers.stay_ms`: expected two numbers of milliseconds, ascending",
        ),
        ("kills_percent = 9\nstay_ms = [90, 10001]", "from 1 to 10000, found [90, 10001]"),
        ("", "missing field `kills_percent`"),
    ] {
        let refused = with(table).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn damage_has_a_file_that_exists_and_takes_it() {
    let with = |text: &str, classes: &str, kinds: &str| {
        parse(&format!(
            "{text}[corruption]\nkills_percent = 60\n[corruption.classes]\n{classes}\n[corruption.kinds]\n{kinds}\n"
        ))
    };
    let good = with(GOOD, "raft-log = 2", "bit-flip = 1\ntruncation = 3").unwrap().corruption.unwrap();
    assert_eq!((good.kills_percent, good.classes), (60, vec![(FileClass::RaftLog, 2)]));
    assert_eq!(good.kinds, [(DamageKind::BitFlip, 1), (DamageKind::Truncation, 3)]);
    for (text, classes, kinds, words) in [
        (GOOD.to_owned(), "letters = 2", "bit-flip = 1", "unknown variant `letters`"),
        (GOOD.to_owned(), "raft-log = 0", "bit-flip = 1", "no file would be damaged"),
        (GOOD.to_owned(), "database = 1", "bit-flip = 1", "no member has such a file"),
        (GOOD.to_owned(), "marker = 1", "older-chunk = 1", "one of bit-flip, misdirected-write, truncation"),
        (format!("{GOOD}{UPGRADE}\n"), "marker = 1", "bit-flip = 1", "`[corruption]` beside `[upgrade]`"),
    ] {
        let refused = with(&text, classes, kinds).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn hostile_peers_use_ids_that_no_member_gets() {
    let with = |text: &str| parse(&format!("{text}[hostile]\npeers = 2\n"));
    assert_eq!(with(GOOD).unwrap().hostile, Some(HostileSpec { peers: 2 }));
    let refused = with(&format!("{GOOD}{UPGRADE}\n")).unwrap_err().to_string();
    assert!(refused.contains("`[hostile]` beside `[upgrade]`"), "{refused}");
    let refused = parse(&format!("{GOOD}[hostile]\npeers = 9\n")).unwrap_err().to_string();
    assert!(refused.contains("`hostile.peers`: expected 1 to 8, found 9"), "{refused}");
}

#[test]
fn founders_that_are_unlike_are_several_and_live() {
    let with = |keys: &str, none: u32| {
        let windows = format!("[restore.windows]\nnone = {none}\n\"restore.logged\" = 1\n");
        parse(&format!("{GOOD}[restore]\nevery_cycles = 2\nsame = 1\n{keys}\n{windows}"))
    };
    assert_eq!(with("all = 1", 1).unwrap().restore.unwrap().unlike_percent, 0);
    assert_eq!(with("all = 1\nunlike_percent = 30", 1).unwrap().restore.unwrap().unlike_percent, 30);
    for (keys, none, words) in [
        ("all = 1\nunlike_percent = 101", 1, "expected 0 to 100, found 101"),
        ("one = 1\nunlike_percent = 30", 1, "expected `restore.all` and `restore.windows.none` above 0"),
        ("all = 1\nunlike_percent = 30", 0, "expected `restore.all` and `restore.windows.none` above 0"),
    ] {
        let refused = with(keys, none).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn a_failing_disk_says_how_it_fails() {
    let with = |tables: &str| GOOD.replace("[bounds]", &format!("{tables}\n[bounds]"));
    let good = parse(&with("[faults]\nkill = 1\ndisk = 2\n[disk]\nfill = 1\nleft_kib = [5000, 6000]")).unwrap();
    let disk = good.disk.unwrap();
    assert_eq!((disk.left_kib, disk.fill_ms), ((5_000, 6_000), limits::FILL_MS_DRAWN));
    assert_eq!((disk.nothing_left_percent, disk.with_kill_percent), (0, 0));
    for (tables, why) in [
        ("[faults]\ndisk = 2", "expected a table `[disk]`"),
        ("[disk]\nfill = 1", "`faults.disk` is 0 or absent"),
        (
            "[faults]\ndisk = 2\n[disk]\nfill = 0",
            "expected a weight above 0 in one of `disk.fill`, `disk.fail_sync`, `disk.slow`, `disk.fail_read`",
        ),
        ("[faults]\ndisk = 2\n[disk]\nfail_sync = 1\nfill_ms = [1, 2]", "`disk.fill` is 0 or absent"),
        ("[faults]\ndisk = 2\n[disk]\nfill = 1\nlosing_percent = 5", "`disk.fail_sync` is 0 or absent"),
        ("[faults]\ndisk = 2\n[disk]\nfill = 1\nslow_by_ms = [1, 2]", "`disk.slow` is 0 or absent"),
        (
            "[faults]\ndisk = 2\n[disk]\nfill = 1\nfail_ms = [1, 2]",
            "`disk.fail_read` and `disk.fail_write` are 0 or absent",
        ),
        ("[faults]\ndisk = 2\n[disk]\nfail_read = 1\nonce_percent = 5", "`disk.fail_write` is 0 or absent"),
        ("[faults]\ndisk = 2\n[disk]\nfail_read = 1\nfail_ms = [1, 5001]", "`disk.fail_ms`: expected two numbers"),
        ("[faults]\ndisk = 2\n[disk]\nfail_read = 1\nshorten_ms = [1, 2]", "`disk.shorten` is 0 or absent"),
        ("[faults]\ndisk = 2\n[disk]\nfail_sync = 1\nlosing_percent = 5", "expected a table `[power]`"),
        (
            "[faults]\ndisk = 2\n[disk]\nfill = 1\nfill_ms = [1, 5001]",
            "`disk.fill_ms`: expected two numbers, ascending, from 1 to",
        ),
        ("[faults]\ndisk = 2\n[disk]\nfill = 1\nleft_kib = [4095, 5000]", "from 4096 to 131072, found [4095, 5000]"),
        ("[faults]\ndisk = 2\n[disk]\nfill = 1\nwith_kill_percent = 101", "expected 0 to 100, found 101"),
        ("[faults]\ndisk = 2\n[disk]\nfil = 1", "unknown field `fil`"),
    ] {
        let refused = parse(&with(tables)).unwrap_err().to_string();
        assert!(refused.contains(why), "{tables}: {refused}");
    }
    let both = format!("{}{UPGRADE}", with("[faults]\ndisk = 2\n[disk]\nfill = 1"));
    let both = parse(&both).unwrap_err().to_string();
    assert!(both.contains("`[disk]` beside `[upgrade]`"), "{both}");
}
