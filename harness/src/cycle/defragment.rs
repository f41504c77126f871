//! Bringing a member to a window of its defragmentation, by asking it for one.
//!
//! So these windows are reached under every mix. The load goes on meanwhile, because the windows
//! are about what is committed beside the copy.

use super::reach::{Reached, arm, disarm};
use super::wait::Miss;
use super::{Stage, Work};
use crate::cluster::Trouble;
use crate::cluster::member::Stop;
use crate::contact;
use crate::dial::url;
use crate::plan::At;
use ninelives_evidence::Did;
use ninelives_evidence::limits;

/// The first of two events.
enum First {
    Stop(Stop),
    Answer(Miss),
}

impl Stage<'_> {
    /// Asks `first` for a defragmentation, which stands still at `at`.
    pub(super) async fn reach_by_defragmentation(&self, work: &Work, first: u64, at: At) -> Result<Reached, Trouble> {
        let member = self.member(first)?;
        if arm(member, at).await? {
            return Ok(Reached::Yes);
        }
        self.note(work.step.cycle, Did::Defragment, Some(first), None);
        let endpoint = url(member.addresses.client);
        let came = self.cluster.site.pace().within(limits::DEFRAGMENT, async {
            tokio::select! {
                biased;
                stop = member.stop(at.window.name) => First::Stop(stop),
                answer = defragment(&endpoint) => {
                    First::Answer(answer.map_or(Miss::Refused, |()| Miss::Answered))
                }
            }
        });
        match came.await {
            Ok(First::Stop(stop)) => self.stopped(first, stop).await,
            Ok(First::Answer(miss)) => disarm(member, at.window.name, miss).await,
            Err(bound) => Err(Trouble::Late { member: first, what: "answer a defragmentation".to_owned(), bound }),
        }
    }
}

async fn defragment(endpoint: &str) -> Result<(), etcd_client::Error> {
    contact::connect(endpoint).await?.maintenance_client().defragment().await.map(drop)
}
