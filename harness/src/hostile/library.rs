//! The raft library's messages, as they stand on the wire: spelled out here, so that lies need no
//! constructor's consent. Numbers are varints; an option is a byte 0, or 1 and its value; a list is
//! its length and its items; a text is its length and its bytes.

/// A vote, or the name of a leader.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vote {
    pub term: u64,
    pub id: u64,
    pub committed: bool,
}

/// Term and index.
type Position = (u64, u64);

fn number(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn position(at: Option<Position>, out: &mut Vec<u8>) {
    out.push(at.is_some().into());
    if let Some((term, index)) = at {
        number(term, out);
        number(index, out);
    }
}

fn push_vote(vote: Vote, out: &mut Vec<u8>) {
    number(vote.term, out);
    out.push(1);
    number(vote.id, out);
    out.push(vote.committed.into());
}

pub(super) fn vote(vote: Vote) -> Vec<u8> {
    let mut out = Vec::new();
    push_vote(vote, &mut out);
    out
}

/// `last`: the end of the candidate's log.
pub(super) fn vote_request(candidate: Vote, last: Option<Position>) -> Vec<u8> {
    let mut out = vote(candidate);
    position(last, &mut out);
    // The flag says that it does not transfer the leadership.
    out.push(0);
    out
}

/// An append of no entry.
pub(super) fn heartbeat(leader: Vote, before: Option<Position>, committed: Option<Position>) -> Vec<u8> {
    let mut out = vote(leader);
    position(before, &mut out);
    out.push(0);
    position(committed, &mut out);
    out
}

pub(super) fn transfer(leader: Vote, to: u64, last: Option<Position>) -> Vec<u8> {
    let mut out = vote(leader);
    number(to, &mut out);
    position(last, &mut out);
    out
}

/// A membership of `voters`, of fewer than 128, that was entered `at`.
pub(super) fn membership(at: Position, voters: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    position(Some(at), &mut out);
    // One configuration, and its voters.
    out.extend([1, voters.len() as u8]);
    voters.iter().for_each(|id| number(*id, &mut out));
    out.push(voters.len() as u8);
    for id in voters {
        number(*id, &mut out);
        for text in ["", "127.0.0.1:9", ""] {
            out.push(text.len() as u8);
            out.extend(text.bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that the node's own tests take apart; a change here would send what no member reads.
    #[test]
    fn the_bytes_are_the_librarys() {
        let candidate = Vote { term: 300, id: 4, committed: false };
        assert_eq!(vote(candidate), [0xac, 2, 1, 4, 0]);
        assert_eq!(vote_request(candidate, Some((1, 2))), [0xac, 2, 1, 4, 0, 1, 1, 2, 0]);
        let leader = Vote { term: 1, id: 4, committed: true };
        assert_eq!(heartbeat(leader, None, Some((1, 128))), [1, 1, 4, 1, 0, 0, 1, 1, 0x80, 1]);
        assert_eq!(transfer(leader, 2, None), [1, 1, 4, 1, 2, 0]);
        let members = membership((1, 2), &[3]);
        assert_eq!(members[..8], [1, 1, 2, 1, 1, 3, 1, 3]);
        assert_eq!(&members[8..], [&[0, 11][..], b"127.0.0.1:9", &[0]].concat());
        assert_eq!(vote(Vote { term: u64::MAX, ..leader })[..10], [255, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
    }
}
