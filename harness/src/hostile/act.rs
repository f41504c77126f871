//! What a hostile peer does next: drawn, and plain data, so that a seed says what was sent.

use super::library::{self, Vote};
use crate::seed::Stream;
use ninelives_evidence::verdict::findings::parts::Pretence;
use node_proto::command::{Command, command};
use node_proto::etcdserverpb::PutRequest;
use node_proto::peer::{
    AddMember, AskRequest, ChangeRequest, HelloRequest, Life, ProposeRequest, RaftMessage, ReadIndexRequest, Route,
    SnapshotFrame, SnapshotHead, change_request, snapshot_frame,
};
use node_proto::{PEER_METHODS, delimited};
use prost::Message;
use prost::bytes::Bytes;

/// Paths that the peer service does not have.
const PATHS: [&str; 6] = [
    "/",
    "/x",
    "/ninelives.peer.v1.Peer/",
    "/ninelives.peer.v1.Peer/Nothing",
    "/etcdserverpb.KV/Put",
    "/..%2f..%2fetc",
];

/// Numbers around the bounds of a term, an index and a size, and beyond them.
const ODD: [u64; 8] = [u64::MAX, u64::MAX - 1, 1 << 63, 1 << 62, (1 << 62) - 1, u64::MAX - (1 << 32), 1 << 40, 0];

/// The distance of an id from all that members have, or will have.
const FAR: u64 = 1 << 20;
/// Above the present term by so much, a leader is later than any that is elected meanwhile.
const TERMS_AHEAD: u64 = 1_000;
/// Key that a hostile peer has no right to write.
const KEY: &str = "hostile";

/// The member that an act is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub member: u64,
    pub cluster: u64,
    pub term: u64,
    /// The id that is let in as that of a member to come.
    pub guest: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    /// Any bytes on a connection of their own, all at once or one after the other.
    Bytes { bytes: Vec<u8>, slowly: bool },
    /// A call with these messages; slowly: with a pause before each, and no end.
    Call { whom: Pretence, path: String, messages: Vec<Bytes>, slowly: bool },
}

impl Act {
    pub fn draw(draws: &mut Stream, target: &Target) -> Self {
        let slowly = draws.chance(1, 40);
        match draws.below(20) {
            0 => Act::Bytes { bytes: garbage(draws, 4096), slowly },
            1 => {
                // HTTP/2 begins well.
                let bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), garbage(draws, 256)].concat();
                Act::Bytes { bytes, slowly }
            }
            2 => {
                let path = PATHS[draws.below(PATHS.len() as u64) as usize].to_owned();
                Act::Call { whom: Pretence::Unnamed, path, messages: vec![garbage(draws, 256).into()], slowly }
            }
            3 => call(
                PEER_METHODS[draws.below(PEER_METHODS.len() as u64) as usize],
                Pretence::Unnamed,
                garbages(draws),
                slowly,
            ),
            4..=7 => as_guest(draws, target),
            _ => {
                let whom = [
                    Pretence::OtherCluster,
                    Pretence::OtherLife,
                    Pretence::FarId,
                    Pretence::Itself,
                    Pretence::Misdirected,
                ][draws.below(5) as usize];
                let route = route(draws, whom, target);
                let (rpc, messages) = plausible(draws, &route, target);
                call(rpc, whom, messages, slowly)
            }
        }
    }
}

fn call(rpc: &str, whom: Pretence, messages: Vec<Bytes>, slowly: bool) -> Act {
    Act::Call { whom, path: format!("/ninelives.peer.v1.Peer/{rpc}"), messages, slowly }
}

fn garbage(draws: &mut Stream, max: u64) -> Vec<u8> {
    (0..draws.below(max + 1)).map(|_| draws.next_u64() as u8).collect()
}

fn garbages(draws: &mut Stream) -> Vec<Bytes> {
    (0..draws.between(1, 3)).map(|_| garbage(draws, 256).into()).collect()
}

fn odd(draws: &mut Stream) -> u64 {
    ODD[draws.below(ODD.len() as u64) as usize]
}

/// Who asks whom, in the name of `whom`.
fn route(draws: &mut Stream, whom: Pretence, target: &Target) -> Route {
    let Target { member, cluster, guest, .. } = *target;
    let life = Life { id: guest, incarnation: draws.next_u64() | 1, cluster };
    let known = Route { to: member, to_incarnation: 0, from: Some(life), from_addr: String::new() };
    let from = |life| Route { from: Some(life), ..known.clone() };
    match whom {
        Pretence::OtherCluster => {
            // Of the ids that our members have.
            let id = draws.between(1, guest);
            from(Life { id, cluster: cluster ^ (draws.next_u64() | 1), ..life })
        }
        Pretence::OtherLife => Route { to_incarnation: draws.next_u64() | 1, ..known },
        Pretence::FarId => from(Life { id: FAR + draws.below(u64::MAX - FAR), ..life }),
        Pretence::Itself => from(Life { id: member, ..life }),
        Pretence::Misdirected => Route { to: member + 1 + draws.below(FAR), ..known },
        // A life of its own for each guest, which is the same for ever.
        Pretence::Guest => from(Life { incarnation: guest, ..life }),
        Pretence::Unnamed => Route { from: None, ..known },
    }
}

/// A call that would do harm if its sender were let in.
fn plausible(draws: &mut Stream, route: &Route, target: &Target) -> (&'static str, Vec<Bytes>) {
    let from = route.from.map_or(0, |from| from.id);
    let (term, index) = (target.term + draws.below(TERMS_AHEAD), draws.below(1 << 40));
    let raft = |payload: Vec<u8>| {
        vec![message(&RaftMessage { route: Some(route.clone()), payload: payload.into(), short_of_space: true })]
    };
    let candidate = Vote { term: term + 1, id: from, committed: false };
    let leader = Vote { committed: true, ..candidate };
    match draws.below(10) {
        0 => ("Vote", raft(library::vote_request(candidate, Some((term, index))))),
        1 => ("PreVote", raft(library::vote_request(candidate, Some((term, index))))),
        2 => ("AppendEntries", raft(library::heartbeat(leader, None, None))),
        3 => ("TransferLeader", raft(library::transfer(leader, target.member, None))),
        4 => ("InstallSnapshot", snapshot(route, leader, (term, index), index, 3)),
        5 => {
            let put = PutRequest { key: KEY.into(), value: KEY.into(), ..PutRequest::default() };
            let command = Command { request: Some(command::Request::Put(put)) }.encode_to_vec();
            ("Propose", vec![message(&proposal(route, command))])
        }
        6 => {
            let add = AddMember { peer_addr: "127.0.0.1:9".to_owned(), is_learner: false };
            let changes = [
                change_request::Change::Add(add),
                change_request::Change::Remove(1 + draws.below(3)),
                change_request::Change::Promote(from),
            ];
            let change = draws.pick(&changes).cloned();
            ("ChangeMembership", vec![message(&ChangeRequest { route: Some(route.clone()), change })])
        }
        7 => ("AppendStream", vec![raft(library::heartbeat(leader, None, None)); 3].concat()),
        8 => ("ReadIndex", vec![message(&ReadIndexRequest { route: Some(route.clone()) })]),
        _ => ("Hello", vec![message(&HelloRequest { route: Some(route.clone()) })]),
    }
}

/// A call in the name of a member to come, which is let in, with contents that change nothing.
fn as_guest(draws: &mut Stream, target: &Target) -> Act {
    let whom = Pretence::Guest;
    let route = route(draws, whom, target);
    let raft = |payload: Vec<u8>| {
        vec![message(&RaftMessage { route: Some(route.clone()), payload: payload.into(), short_of_space: false })]
    };
    // No term is more than 2^32 above the present one: a member refuses these.
    let term = u64::MAX - draws.below(1 << 20);
    let vote = Vote { term, id: target.guest, committed: false };
    let at = Some((odd(draws), odd(draws)));
    let later = Vote { term: target.term + TERMS_AHEAD, committed: true, ..vote };
    let (rpc, messages) = match draws.below(11) {
        0 => ("Vote", raft(library::vote_request(vote, at))),
        1 => ("PreVote", raft(library::vote_request(vote, at))),
        2 => ("AppendEntries", raft(library::heartbeat(Vote { committed: true, ..vote }, at, at))),
        3 => ("TransferLeader", raft(library::transfer(Vote { committed: true, ..vote }, odd(draws), at))),
        4 => (PEER_METHODS[draws.below(5) as usize], raft(garbage(draws, 64))),
        // A later leader's snapshot of nothing, and one that no disk has room for.
        5 => ("InstallSnapshot", snapshot(&route, later, (later.term, 1 << 40), 0, 0)),
        6 => ("InstallSnapshot", snapshot(&route, later, (later.term, 1 << 40), u64::MAX, 2)),
        7 => {
            // No command begins with this byte.
            let command = [vec![0xff], garbage(draws, 512)].concat();
            ("Propose", vec![message(&proposal(&route, command))])
        }
        8 => {
            let question = garbage(draws, 512).into();
            ("Ask", vec![message(&AskRequest { route: Some(route.clone()), question })])
        }
        9 => {
            let leader = Vote { committed: true, ..vote };
            ("AppendStream", vec![raft(library::heartbeat(leader, at, at)); 3].concat())
        }
        _ => ("Hello", vec![message(&HelloRequest { route: Some(route.clone()) })]),
    };
    call(rpc, whom, messages, false)
}

fn proposal(route: &Route, command: Vec<u8>) -> ProposeRequest {
    ProposeRequest { route: Some(route.clone()), commands: delimited::join(&[command.into()]) }
}

/// A snapshot's head, and as many chunks of no snapshot.
fn snapshot(route: &Route, leader: Vote, (term, index): (u64, u64), wire_size: u64, chunks: usize) -> Vec<Bytes> {
    let head = SnapshotHead {
        route: Some(route.clone()),
        vote: library::vote(leader).into(),
        term,
        index,
        membership: library::membership((term, index), &[1, 2, 3]).into(),
        wire_size,
        sha256: Bytes::new(),
    };
    let chunk = snapshot_frame::Frame::Chunk(Bytes::from_static(&[7; 64]));
    let frames = [snapshot_frame::Frame::Head(head)].into_iter().chain(std::iter::repeat_n(chunk, chunks));
    frames.map(|frame| message(&SnapshotFrame { frame: Some(frame) })).collect()
}

fn message(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use std::collections::BTreeSet;

    const TARGET: Target = Target { member: 2, cluster: 0xa, term: 9, guest: 4 };

    fn acts(seed: u64) -> Vec<Act> {
        let mut draws = Seed::new(seed).stream("hostile");
        (0..2_000).map(|_| Act::draw(&mut draws, &TARGET)).collect()
    }

    #[test]
    fn a_seed_says_what_is_sent_and_every_call_is_made_in_every_name() {
        assert_eq!(acts(7), acts(7));
        assert_ne!(acts(7), acts(8));
        let (mut names, mut paths, mut bytes) = (BTreeSet::new(), BTreeSet::new(), 0);
        for act in acts(7) {
            match act {
                Act::Bytes { .. } => bytes += 1,
                Act::Call { whom, path, .. } => {
                    names.insert(whom);
                    paths.insert(path);
                }
            }
        }
        assert!(bytes > 100);
        assert_eq!((names.len(), paths.len()), (7, PEER_METHODS.len() + PATHS.len()));
    }

    /// A hostile peer that claimed the id of a member, or of the next one, would be believed.
    #[test]
    fn no_name_is_a_members_of_this_cluster() {
        let mut draws = Seed::new(7).stream("hostile");
        for whom in
            [Pretence::OtherCluster, Pretence::OtherLife, Pretence::FarId, Pretence::Misdirected, Pretence::Guest]
        {
            for _ in 0..100 {
                let Route { to, to_incarnation, from, .. } = route(&mut draws, whom, &TARGET);
                let from = from.unwrap();
                let refused = from.cluster != TARGET.cluster || to != TARGET.member || to_incarnation != 0;
                assert!(refused || from.id == TARGET.guest || from.id >= FAR, "{whom:?}: {from:?}");
                assert_eq!(refused || from.id >= FAR, whom != Pretence::Guest, "{whom:?}: {from:?}");
            }
        }
        let itself = route(&mut draws, Pretence::Itself, &TARGET);
        assert_eq!(itself.from.unwrap().id, itself.to);
    }

    /// What is let in must not be what an honest member could say.
    #[test]
    fn a_guest_proposes_no_command_and_asks_for_no_vote_of_a_term_to_come() {
        let mut proposed = 0;
        for act in acts(7) {
            let Act::Call { whom: Pretence::Guest, path, messages, .. } = act else { continue };
            if path.ends_with("/Propose") {
                let request = ProposeRequest::decode(&*messages[0]).unwrap();
                let commands = delimited::split(request.commands, 1).unwrap();
                assert!(Command::decode(commands[0].clone()).is_err());
                proposed += 1;
            }
            assert!(!path.ends_with("/ChangeMembership"));
        }
        assert!(proposed > 10);
    }
}
