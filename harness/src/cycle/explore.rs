//! The last step of a cycle with a cut, where the scenario asks for it: other crash states of the
//! same instants are tried, offline.
//!
//! The members serve on meanwhile, and the clients rest: they would only take the processors away.

use super::{Stage, Work};
use crate::cluster::Trouble;
use crate::states::explore;

impl Stage<'_> {
    /// Explores the instant of each member's last cut in this cycle, until a state breaks a
    /// promise.
    pub(super) async fn explore_cuts(&mut self, work: &mut Work) -> Result<(), Trouble> {
        let states = self.scenario.power.map_or(0, |power| power.explore);
        let cycle = work.step.cycle;
        let cut = |member: &&crate::cluster::Member| member.kept().is_some_and(|kept| kept.known.cycle == cycle);
        let cut: Vec<u64> = self.cluster.members.iter().filter(cut).map(|member| member.id).collect();
        if states == 0 || cut.is_empty() {
            return Ok(());
        }
        let _rest = self.cluster.site.board.rest();
        for member in cut {
            let Some((record, findings)) = explore(self.cluster, member, states, &self.seed).await? else { continue };
            work.record.kills.explored.push(record);
            let broke = !findings.is_empty();
            findings.into_iter().for_each(|finding| self.tell(work, finding));
            if broke {
                break;
            }
        }
        Ok(())
    }
}
