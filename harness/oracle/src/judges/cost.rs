//! Promise: what a transaction reads is evaluated at one member, the one whose answer the caller
//! gets, and nowhere else.
//!
//! A transaction that reads the store a hundred times and writes one key is an entry that every
//! member applies. If every member evaluated its reads, one client would cost the whole cluster
//! what it costs one member, and hold up every apply. The measure is processor time beside that of
//! the member that took most, in the same span: other work on the machine makes both wait, and
//! lengthens neither.

use ninelives_evidence::Cost;
use ninelives_evidence::limits;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::Members;

/// The member that took most, and its milliseconds.
fn most(cost: &Cost) -> Option<(u64, u64)> {
    cost.cpu_ms.iter().copied().max_by_key(|(_, cpu_ms)| *cpu_ms)
}

/// Whether the transactions took enough of a member to compare the others with it.
pub(super) fn tells(cost: &Cost) -> bool {
    most(cost).is_some_and(|(_, cpu_ms)| cpu_ms >= limits::COST_CPU_MS_MIN)
}

/// Judges `cost`. `percent_max`: of what was most.
pub(super) fn check_cost(cost: &Cost, percent_max: u64) -> Vec<Finding> {
    let Some((most, most_cpu_ms)) = most(cost).filter(|_| tells(cost)) else { return Vec::new() };
    let repeats = |(member, cpu_ms): &&(u64, u64)| *member != most && cpu_ms * 100 > most_cpu_ms * percent_max;
    let others = cost.cpu_ms.iter().filter(repeats);
    others
        .map(|(member, cpu_ms)| {
            let (member, cpu_ms, requests) = (*member, *cpu_ms, cost.requests);
            let what = Members::CostRepeated { member, requests, cpu_ms, most, most_cpu_ms, percent_max };
            Finding::new(what).at_member(member)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::verdict::Class;

    fn judge(cpu_ms: [u64; 3]) -> Vec<(Class, Option<u64>)> {
        let cost = Cost { requests: 40, asked: 2, cpu_ms: (1..).zip(cpu_ms).collect() };
        check_cost(&cost, 50).into_iter().map(|finding| (finding.class(), finding.member)).collect()
    }

    #[test]
    fn only_one_member_pays_for_what_a_transaction_reads() {
        assert_eq!(judge([40, 900, 450]), []);
        assert_eq!(judge([900, 90, 40]), [], "the leader evaluates what a follower was asked for");
        assert_eq!(judge([40, 900, 460]), [(Class::Liveness, Some(3))]);
        assert_eq!(judge([890, 900, 880]), [(Class::Liveness, Some(1)), (Class::Liveness, Some(3))]);
        assert_eq!(judge([190, 190, 190]), [], "too little to tell");
    }
}
