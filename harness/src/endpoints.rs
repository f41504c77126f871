//! The endpoints that serve. The code that starts and kills members knows them; clients read them
//! here instead of waiting.
//!
//! A starting member may bind its port seconds before it answers; a client that asks it then waits
//! for its whole operation timeout, although two others serve. So the board shows that a member
//! serves once it was seen to, and that it does not before it is killed. Clients learn no more:
//! they have to find out themselves which members stand still, are cut off, or have died by
//! themselves.

use std::sync::Arc;
use tokio::sync::watch;

/// Shared by the members of a cluster and their clients; copies are the same board. A place is an
/// endpoint's index among those of the cluster, from 0. At first none serves.
#[derive(Debug, Clone)]
pub struct Board(Arc<watch::Sender<Vec<bool>>>);

impl Board {
    pub fn new(places: usize) -> Self {
        Self(Arc::new(watch::Sender::new(vec![false; places])))
    }

    /// Records whether the endpoint in `place` serves. Out-of-range places are ignored.
    pub fn set(&self, place: usize, serves: bool) {
        self.0.send_if_modified(|board| match board.get_mut(place) {
            Some(before) => std::mem::replace(before, serves) != serves,
            None => false,
        });
    }

    /// Whether the endpoint in `place` is known to serve.
    pub fn serves(&self, place: usize) -> bool {
        self.0.borrow().get(place).copied().unwrap_or(false)
    }

    /// The next place after `place`, going round, whose endpoint serves: `place` itself if no other
    /// one does; `None` if none serves.
    pub fn next_serving(&self, place: usize) -> Option<usize> {
        let board = self.0.borrow();
        (1..=board.len()).map(|step| (place + step) % board.len()).find(|next| board[*next])
    }

    /// Shows that none serves until the rest is dropped, so that no client begins anything. No
    /// member may be started or killed meanwhile.
    pub fn rest(&self) -> Rest {
        let places = self.0.borrow().len();
        let before = self.0.send_replace(vec![false; places]);
        Rest { board: self.clone(), before }
    }

    /// Becomes ready once a member serves.
    pub async fn somebody_serves(&self) {
        self.wait(|board| board.contains(&true)).await;
    }

    /// Becomes ready once the endpoint in `place` serves.
    pub async fn wait_serves(&self, place: usize) {
        self.wait(|board| board.get(place) == Some(&true)).await;
    }

    /// Becomes ready once the endpoint in `place` does not serve.
    pub async fn wait_gone(&self, place: usize) {
        self.wait(|board| board.get(place) != Some(&true)).await;
    }

    async fn wait(&self, so: impl Fn(&[bool]) -> bool) {
        // The sender belongs to this board and lives, so an error is impossible.
        let _ = self.0.subscribe().wait_for(|board| so(board)).await;
    }
}

/// A rest of all clients.
#[derive(Debug)]
pub struct Rest {
    board: Board,
    before: Vec<bool>,
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.board.0.send_replace(std::mem::take(&mut self.before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn nobody_serves_until_it_is_said() {
        let board = Board::new(3);
        assert_eq!((board.serves(0), board.next_serving(0)), (false, None));
        board.clone().set(1, true);
        assert!(board.serves(1) && !board.serves(0) && !board.serves(3));
        board.set(1, false);
        assert_eq!(board.next_serving(0), None);
        board.set(3, true);
        assert_eq!(board.next_serving(0), None, "there is no such place");
    }

    #[test]
    fn a_rest_ends_as_it_began() {
        let board = Board::new(3);
        board.set(1, true);
        let rest = board.rest();
        assert_eq!(board.next_serving(0), None);
        drop(rest);
        assert!(board.serves(1) && !board.serves(0) && !board.serves(2));
    }

    #[test]
    fn the_next_one_goes_round_and_is_another_if_there_is_one() {
        let board = Board::new(3);
        board.set(0, true);
        assert_eq!([0, 1, 2].map(|place| board.next_serving(place)), [Some(0); 3]);
        board.set(2, true);
        assert_eq!([0, 1, 2].map(|place| board.next_serving(place)), [Some(2), Some(2), Some(0)]);
        assert_eq!(Board::new(0).next_serving(0), None);
    }

    #[tokio::test]
    async fn waiting_is_for_the_event() {
        let board = Board::new(2);
        assert!(board.somebody_serves().now_or_never().is_none());
        let (waits, says) = (board.wait_serves(1), async {
            board.set(0, true);
            assert!(board.somebody_serves().now_or_never().is_some() && board.wait_serves(1).now_or_never().is_none());
            board.set(1, true);
        });
        tokio::join!(waits, says);
        assert!(board.wait_serves(1).now_or_never().is_some());
    }
}
