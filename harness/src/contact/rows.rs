//! All keys of one member at one revision, from its own state, page by page, because an answer with
//! all keys may exceed the limit of a message.

use etcd_client::{Client, Error, GetOptions, KeyValue};
use ninelives_evidence::limits;
use ninelives_evidence::operation::KeyState;

/// Every key at `revision`, ascending, by serializable reads: the member asks no other.
///
/// # Errors
/// Those of the reads; `OutOfRange` if the member has compacted the revision, or not applied it.
pub async fn at(client: &Client, revision: u64) -> Result<Vec<KeyState>, Error> {
    let at = i64::try_from(revision)
        .map_err(|_| Error::InvalidArgs(format!("revision {revision} is beyond the wire's range")))?;
    let mut client = client.kv_client().max_decoding_message_size(limits::ANSWER_BYTES_MAX);
    let (mut rows, mut from): (Vec<KeyState>, Vec<u8>) = (Vec::new(), vec![0]);
    loop {
        let page =
            GetOptions::new().with_from_key().with_revision(at).with_serializable().with_limit(limits::ROWS_PER_PAGE);
        let answer = client.get(from, Some(page)).await?;
        rows.extend(answer.kvs().iter().map(key_state));
        match rows.last() {
            Some(last) if answer.more() => from = [last.key.as_slice(), &[0]].concat(),
            _ => return Ok(rows),
        }
    }
}

/// A key as a range answers it.
pub fn key_state(kv: &KeyValue) -> KeyState {
    KeyState {
        key: kv.key().to_vec(),
        value: kv.value().to_vec(),
        create_revision: unsigned(kv.create_revision()),
        mod_revision: unsigned(kv.mod_revision()),
        version: unsigned(kv.version()),
        lease: kv.lease(),
    }
}

/// Numbers that etcd's wire writes signed, and never negative.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
