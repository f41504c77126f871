//! The methods of the service between members, by name, for programs that call them with what no
//! member sends. The generated code has no list of them.

/// Every method of `ninelives.peer.v1.Peer`; the first five take `RaftMessage`s.
pub const PEER_METHODS: [&str; 11] = [
    "AppendEntries",
    "Vote",
    "PreVote",
    "TransferLeader",
    "AppendStream",
    "InstallSnapshot",
    "Propose",
    "ReadIndex",
    "ChangeMembership",
    "Hello",
    "Ask",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_list_is_that_of_the_definition() {
        let lines = include_str!("../peer.proto").lines();
        let defined: BTreeSet<_> =
            lines.filter_map(|line| line.trim().strip_prefix("rpc ")?.split_once('(')).map(|(name, _)| name).collect();
        assert_eq!(defined, BTreeSet::from(PEER_METHODS));
    }
}
