use super::*;
use proptest::prelude::*;

fn put(key: &str, value: &str, create_revision: u64, version: u64) -> Change {
    Change::Put { key: key.into(), value: value.into(), create_revision, version, lease: 0 }
}

fn delete(key: &str) -> Change {
    Change::Delete { key: key.into() }
}

#[test]
fn the_digest_is_the_documented_encoding() {
    let mut model = Model::default();
    assert!(model.apply(2, &[put("k", "v,1.1", 2, 1)]).is_empty());
    assert!(model.apply(3, &[delete("k")]).is_empty());
    let mut bytes = Vec::new();
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, b'k']);
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend([0, 0, 0, 5]);
    bytes.extend(b"v,1.1");
    let at_2 = [&bytes[..], &0u64.to_be_bytes()].concat();
    assert_eq!(model.digest(2, 0).unwrap(), KvDigest { sha256: Sha256::digest(at_2).into(), rows: 1 });
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, b'k']);
    let at_3 = [&bytes[..], &0u64.to_be_bytes()].concat();
    assert_eq!(model.digest(3, 0).unwrap(), KvDigest { sha256: Sha256::digest(at_3).into(), rows: 2 });
    let gone = Sha256::digest(3u64.to_be_bytes());
    assert_eq!(model.digest(3, 3).unwrap(), KvDigest { sha256: gone.into(), rows: 0 });
}

#[test]
fn wrong_claims_are_refused_and_right_ones_accepted() {
    let mut model = Model::default();
    assert!(model.apply(2, &[put("a", "1", 2, 1), put("b", "1", 2, 1)]).is_empty());
    assert!(model.apply(3, &[put("a", "2", 2, 2)]).is_empty());
    assert_eq!(model.apply(4, &[put("a", "3", 2, 4)]).len(), 1, "a version was skipped");
    assert_eq!(model.apply(5, &[delete("c")]).len(), 1, "a delete of nothing takes no revision");
    assert!(model.apply(6, &[delete("a")]).is_empty());
    assert!(model.apply(7, &[put("a", "4", 7, 1)]).is_empty(), "a key that comes back starts again");
}

#[test]
fn the_model_says_what_it_cannot_judge() {
    let mut model = Model::default();
    model.apply(2, &[put("a", "1", 2, 1)]);
    assert!(model.digest(3, 0).is_err(), "not seen yet");
    assert!(model.digest(2, 2).is_ok());
    assert!(model.digest(2, 1).is_err(), "compacted beyond");
    assert_eq!(model.range_at(b"z", Some(b"a"), 2).count(), 0, "an inverted range is empty");
}

/// Everything that ever happened, and the rules applied to it from scratch each time.
#[derive(Default)]
struct Naive(Vec<NaiveRow>);

/// Main and sub revision, key, value or nothing.
type NaiveRow = (u64, u32, Vec<u8>, Option<Vec<u8>>);

impl Naive {
    fn state(&self, key: &[u8], at: u64) -> Option<(u64, u64, u64, &[u8])> {
        let mut state: Option<(u64, u64, u64, &[u8])> = None;
        for (main, _, _, value) in self.0.iter().filter(|row| row.2 == key && row.0 <= at) {
            state = value.as_deref().map(|value| match state {
                Some((create, version, _, _)) => (create, version + 1, *main, value),
                None => (*main, 1, *main, value),
            });
        }
        state
    }

    fn digest(&self, revision: u64, compact: u64) -> KvDigest {
        let mut bytes = Vec::new();
        let mut rows = 0;
        for (main, sub, key, value) in self.0.iter().filter(|row| row.0 <= revision) {
            let newer = self.0.iter().any(|row| row.2 == *key && row.0 > *main && row.0 <= compact);
            if *main <= compact && (value.is_none() || newer) {
                continue;
            }
            rows += 1;
            bytes.extend(main.to_be_bytes());
            bytes.extend(u64::from(*sub).to_be_bytes());
            bytes.push(u8::from(value.is_none()));
            bytes.extend((key.len() as u32).to_be_bytes());
            bytes.extend(key);
            if let Some(value) = value {
                let (create, version, _, _) = self.state(key, *main).expect("it was just put");
                for number in [create, version, 0] {
                    bytes.extend(number.to_be_bytes());
                }
                bytes.extend((value.len() as u32).to_be_bytes());
                bytes.extend(value);
            }
        }
        bytes.extend(compact.to_be_bytes());
        KvDigest { sha256: Sha256::digest(bytes).into(), rows }
    }
}

proptest! {
    /// Revisions of one or two changes over a few keys, with fences that compact in between:
    /// digest, reads and memory are those of a recomputation from the whole history.
    #[test]
    fn the_model_equals_a_recomputation(
        revisions in proptest::collection::vec(proptest::collection::btree_map(0u8..5, any::<Option<u8>>(), 1..3), 1..40),
        fences in proptest::collection::vec((0u64..45, 0u64..45), 1..6),
    ) {
        let (mut model, mut naive, mut revision) = (Model::default(), Naive::default(), 1);
        let mut fences = fences;
        fences.sort_unstable();
        for changes in revisions {
            let mut batch = Vec::new();
            for (key, value) in changes {
                let key = vec![b'k', key];
                let state = naive.state(&key, revision);
                match (value, state) {
                    (Some(value), state) => {
                        let (create_revision, version) = state.map_or((revision + 1, 1), |s| (s.0, s.1 + 1));
                        naive.0.push((revision + 1, batch.len() as u32, key.clone(), Some(vec![value])));
                        batch.push(Change::Put { key, value: vec![value], create_revision, version, lease: 0 });
                    }
                    (None, Some(_)) => {
                        naive.0.push((revision + 1, batch.len() as u32, key.clone(), None));
                        batch.push(Change::Delete { key });
                    }
                    (None, None) => {}
                }
            }
            if batch.is_empty() {
                continue;
            }
            revision += 1;
            prop_assert_eq!(model.apply(revision, &batch), []);
            while let Some((at, compact)) = fences.first().copied().filter(|fence| fence.0 <= revision) {
                fences.remove(0);
                let at = at.max(model.compacted()).max(1);
                let compact = compact.min(at).max(model.compacted());
                prop_assert_eq!(model.digest(at, compact).unwrap(), naive.digest(at, compact));
                prop_assert_eq!(model.rows() as u64, naive.digest(revision, compact).rows, "nothing else is kept");
                for key in 0u8..5 {
                    let key = vec![b'k', key];
                    for at in model.compacted().max(1)..=revision {
                        let have = model.range_at(&key, Some(&[&key[..], &[0]].concat()), at).next()
                            .map(|(_, live)| (live.create_revision, live.version, live.mod_revision, live.value));
                        prop_assert_eq!(have, naive.state(&key, at));
                    }
                }
            }
        }
    }
}

#[test]
fn what_lies_above_a_restore_is_forgotten_and_may_be_written_otherwise() {
    let mut model = Model::default();
    assert!(model.apply(2, &[put("a", "1", 2, 1), put("b", "1", 2, 1)]).is_empty());
    let mut kept = Model::default();
    assert!(kept.apply(2, &[put("a", "1", 2, 1), put("b", "1", 2, 1)]).is_empty());
    assert!(model.apply(3, &[put("a", "2", 2, 2), delete("b")]).is_empty());
    assert!(model.apply(4, &[put("c", "1", 4, 1)]).is_empty());
    model.forget_above(2);
    assert_eq!((model.revision(), model.rows()), (2, 2));
    assert_eq!(model.digest(2, 0), kept.digest(2, 0));
    // The next life of revision 3.
    assert!(model.apply(3, &[delete("a"), put("c", "x", 3, 1)]).is_empty());
    assert!(model.live(b"a").is_none() && model.live(b"b").is_some());
}
