use super::*;
use ninelives_golden::assert_golden;
use node_proto::command::command::Request;
use node_proto::command::{Command, Fence};
use node_proto::etcdserverpb::PutRequest;
use proptest::prelude::*;
use prost::Message;

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Entries that a real member wrote, byte by byte, and what they say.
#[test]
fn golden_entries_of_a_real_log() {
    let lines: Vec<String> = ninelives_golden::stored("raft-log-entries.txt")
        .lines()
        .map(|line| {
            let hex = line.split("  ").next().unwrap();
            let entry = Entry::decode(&unhex(hex)).unwrap();
            format!("{hex}  {}: {}\n", entry.id, describe(&entry))
        })
        .collect();
    assert!(lines.len() > 10);
    assert_golden("raft-log-entries.txt", &lines.concat());
}

fn integer(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn blob(bytes: &[u8]) -> Vec<u8> {
    [integer(bytes.len() as u64), bytes.to_vec()].concat()
}

fn put(term: u64, index: u64, key: &str) -> (Request, Vec<u8>) {
    let request = Request::Put(PutRequest { key: key.to_owned().into(), ..PutRequest::default() });
    let command = Command { request: Some(request.clone()) }.encode_to_vec();
    (request, [integer(term), integer(index), vec![1], blob(&command)].concat())
}

/// A log as the node lays it out.
fn write(path: &Path, purged: Option<(u64, u64)>, entries: &[(u64, Vec<u8>)]) {
    let db = Database::create(path).unwrap();
    let txn = db.begin_write().unwrap();
    {
        let mut meta = txn.open_table(META).unwrap();
        meta.insert("format", FORMAT_VERSION).unwrap();
        meta.insert("vote", &[4, 1, 2, 1][..]).unwrap();
        for (name, id) in [("purged", purged), ("committed", Some((3, 9)))] {
            if let Some((term, index)) = id {
                let id = [term.to_be_bytes(), index.to_be_bytes()].concat();
                meta.insert(name, id.as_slice()).unwrap();
            }
        }
        let mut log = txn.open_table(LOG).unwrap();
        for (index, bytes) in entries {
            log.insert(index, bytes.as_slice()).unwrap();
        }
    }
    txn.commit().unwrap();
}

fn written(purged: Option<(u64, u64)>, entries: &[(u64, Vec<u8>)]) -> Result<RaftLog, String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("member/raft")).unwrap();
    write(&path_in(dir.path()), purged, entries);
    read(dir.path()).map_err(|error| {
        let text = error.to_string();
        let path = path_in(dir.path()).display().to_string();
        text.strip_prefix(&format!("{path}: ")).expect("an error names the file").to_owned()
    })
}

#[test]
fn a_log_reads_back_with_what_is_said_about_it() {
    let blank = [integer(4), integer(7), vec![0]].concat();
    let log = written(Some((3, 6)), &[(7, blank), (8, put(4, 8, "k").1)]).unwrap();
    assert_eq!(log.vote, Some(Vote { term: 4, node: 2, committed: true }));
    assert_eq!((log.purged, log.committed), (Some(LogId { term: 3, index: 6 }), Some(LogId { term: 3, index: 9 })));
    assert_eq!(log.at(7).map(|entry| &entry.payload), Some(&Payload::Blank));
    assert_eq!(log.at(8).map(|entry| &entry.payload), Some(&Payload::Command(put(4, 8, "k").0)));
    assert_eq!((log.at(6), log.at(9), log.last()), (None, None, Some(LogId { term: 4, index: 8 })));
}

#[test]
fn a_log_that_no_member_writes_is_refused_with_the_index() {
    let refused = |purged, entries: &[(u64, Vec<u8>)]| written(purged, entries).unwrap_err();
    let at = |term, index| put(term, index, "k").1;
    assert_eq!(
        refused(Some((3, 6)), &[(8, at(4, 8))]),
        "entry at raft index 8: expected entry 7 after 6 of term 3, found 8 of term 4"
    );
    assert_eq!(
        refused(Some((3, 6)), &[(7, at(4, 9))]),
        "entry at raft index 7: expected an entry that says this index, found one that says 9"
    );
    assert_eq!(
        refused(Some((3, 6)), &[(7, at(2, 7))]),
        "entry at raft index 7: expected a term of 3 or more after 6 of term 3, found 2"
    );
    assert_eq!(
        refused(None, &[(5, at(2, 5))]),
        "entry at raft index 5: expected entry 0 of a log that was never purged, found 5 of term 2"
    );
    let mut long = at(4, 7);
    long.push(0);
    let refused = refused(Some((3, 6)), &[(7, long)]);
    assert!(refused.contains("expected the end of the entry after") && refused.ends_with("found 1 more"), "{refused}");
}

/// Bytes that this decoder does not know may be a newer format; an order that is broken is the
/// member's.
#[test]
fn a_broken_order_is_told_from_strange_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let read_with = |name: &str, entries: &[(u64, Vec<u8>)]| {
        let path = dir.path().join(name);
        write(&path, Some((3, 6)), entries);
        read_file(&path).unwrap_err()
    };
    let at = |term, index| put(term, index, "k").1;
    for (name, entries) in [
        ("hole", [(7, at(4, 7)), (9, at(4, 9))]),
        ("index", [(7, at(4, 7)), (8, at(4, 9))]),
        ("term", [(7, at(4, 7)), (8, at(3, 8))]),
    ] {
        assert!(matches!(read_with(name, &entries), Error::Order { .. }), "{name}");
    }
    assert!(matches!(read_with("bytes", &[(7, vec![1, 2, 3])]), Error::Entry { .. }));
}

#[test]
fn an_entry_that_is_cut_says_where() {
    let (_, bytes) = put(300, 70_000, "key");
    for length in 0..bytes.len() {
        let error = Entry::decode(&bytes[..length]).unwrap_err();
        assert!(error.starts_with("expected "), "{length}: {error}");
    }
    assert_eq!(
        Entry::decode(&[1, 2, 3]).unwrap_err(),
        "expected 0 (blank), 1 (command) or 2 (membership), the payload's tag, found 3"
    );
    assert_eq!(Entry::decode(&[1, 2, 1, 9, 0]).unwrap_err(), "expected 9 more bytes of the command at byte 4, found 1");
    // An entry whose command is none is an entry all the same: every member applies it, as nothing.
    for (bytes, expected) in
        [(&[1, 2, 1, 0][..], "a request that this version knows"), (&[1, 2, 1, 1, 0xff], "a command")]
    {
        let Ok(Entry { payload: Payload::NoCommand(why), .. }) = Entry::decode(bytes) else { panic!("{bytes:?}") };
        assert!(why.starts_with(&format!("expected {expected}")), "{why}");
    }
    let many = Entry::decode(&[1, 2, 2, 0xff, 0xff, 0xff, 0xff, 0x0f]).unwrap_err();
    assert!(many.contains("of the configurations"), "a count is not a reason to allocate: {many}");
}

#[test]
fn a_vote_that_is_none_is_refused() {
    assert_eq!(decode_vote(&[7, 1, 3, 0]), Ok(Vote { term: 7, node: 3, committed: false }));
    for (bytes, why) in [(&[7u8, 0][..], "found 0"), (&[7, 1, 3, 2], "found 2"), (&[7, 1, 3, 1, 1], "found 1 more")] {
        let error = decode_vote(bytes).unwrap_err();
        assert!(error.ends_with(why), "{error}");
    }
}

proptest! {
    #[test]
    fn integers_round_trip(value: u64) {
        let bytes = integer(value);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.integer("n"), Ok(value));
        prop_assert!(reader.end("n").is_ok());
    }

    #[test]
    fn entries_round_trip(term: u64, index: u64, id: u64) {
        let command = Command { request: Some(Request::Fence(Fence { id })) }.encode_to_vec();
        let bytes = [integer(term), integer(index), vec![1], blob(&command)].concat();
        let entry = Entry::decode(&bytes).unwrap();
        prop_assert_eq!(entry.id, LogId { term, index });
        prop_assert_eq!(entry.payload, Payload::Command(Request::Fence(Fence { id })));
        prop_assert_eq!(entry.bytes, bytes);
    }

    /// Whatever the bytes: an entry, or a sentence. Never a panic.
    #[test]
    fn hostile_bytes_end_in_words(bytes in proptest::collection::vec(any::<u8>(), 0..64), tag in 0u8..3) {
        let tagged = [&[1, 2, tag], &bytes[..]].concat();
        for bytes in [&bytes, &tagged] {
            match Entry::decode(bytes) {
                Ok(entry) => prop_assert!(!describe(&entry).is_empty()),
                Err(error) => prop_assert!(error.starts_with("expected "), "{}", error),
            }
        }
        let _ = decode_vote(&bytes);
    }

    /// One byte of a real file changed, or the file cut: an error or a log, never a panic.
    #[test]
    fn a_damaged_file_ends_in_words(at in 0usize..40_000, with: u8, cut in 0usize..80_000) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raft-log.redb");
        write(&path, None, &[(0, put(0, 0, "k").1), (1, put(1, 1, "k").1)]);
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = with;
        }
        bytes.truncate(cut.max(1));
        std::fs::write(&path, bytes).unwrap();
        let _ = read_file(&path);
    }
}
