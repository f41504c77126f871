//! A value that is set once and wakes all that wait for it. It needs no runtime: a waiting future
//! leaves its waker here.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

/// A value that is set once, and the tasks that wait for it.
#[derive(Debug)]
pub struct SetOnce<T> {
    value: OnceLock<T>,
    waiting: Mutex<Waiting>,
}

/// Wakers, by the number that their future was given.
#[derive(Debug, Default)]
struct Waiting {
    /// The last number that was given.
    last: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl<T> Default for SetOnce<T> {
    fn default() -> Self {
        Self { value: OnceLock::new(), waiting: Mutex::default() }
    }
}

impl<T> SetOnce<T> {
    /// Sets the value and wakes all that wait; a further value is dropped.
    pub fn set(&self, value: T) {
        if self.value.set(value).is_ok() {
            let wakers = std::mem::take(&mut self.waiting().wakers);
            wakers.into_values().for_each(Waker::wake);
        }
    }

    /// The value, if it is set.
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// Becomes ready once the value is set.
    pub fn wait(&self) -> Wait<'_, T> {
        Wait { once: self, number: None }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wait for a [`SetOnce`]; it takes its waker back when it is dropped.
#[derive(Debug)]
pub struct Wait<'a, T> {
    once: &'a SetOnce<T>,
    number: Option<u64>,
}

impl<T> Future for Wait<'_, T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let once = self.once;
        // A value that is set after this look finds the waker, because its setter needs the lock.
        let mut waiting = once.waiting();
        if once.get().is_some() {
            return Poll::Ready(());
        }
        let number = *self.number.get_or_insert_with(|| {
            waiting.last += 1;
            waiting.last
        });
        let replaced = waiting.wakers.insert(number, context.waker().clone());
        // To drop a waker may be to drop a task that waits here.
        drop(waiting);
        drop(replaced);
        Poll::Pending
    }
}

impl<T> Drop for Wait<'_, T> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let own = self.once.waiting().wakers.remove(&number);
            drop(own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::task::Wake;

    struct Bell(Sender<()>);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
        }
    }

    fn bell() -> (Waker, Receiver<()>) {
        let (ring, rung) = channel();
        (Arc::new(Bell(ring)).into(), rung)
    }

    #[test]
    fn a_value_of_another_thread_wakes_all_that_wait() {
        let once = SetOnce::default();
        let ((first, first_rung), (second, second_rung)) = (bell(), bell());
        let (mut one, mut other) = (pin!(once.wait()), pin!(once.wait()));
        assert!(one.as_mut().poll(&mut Context::from_waker(&first)).is_pending());
        assert!(other.as_mut().poll(&mut Context::from_waker(&second)).is_pending());
        std::thread::scope(|scope| {
            scope.spawn(|| once.set(7));
        });
        first_rung.recv().unwrap();
        second_rung.recv().unwrap();
        assert!(one.as_mut().poll(&mut Context::from_waker(&first)).is_ready());
        assert!(other.as_mut().poll(&mut Context::from_waker(&second)).is_ready());
        once.set(8);
        assert_eq!(once.get(), Some(&7), "the first value stays");
    }

    #[test]
    fn only_the_last_waker_of_a_wait_is_kept_and_none_of_one_that_ended() {
        let once = SetOnce::<()>::default();
        let ((first, first_rung), (second, second_rung)) = (bell(), bell());
        let (mut moved, mut ended) = (Box::pin(once.wait()), Box::pin(once.wait()));
        assert!(moved.as_mut().poll(&mut Context::from_waker(&first)).is_pending());
        assert!(ended.as_mut().poll(&mut Context::from_waker(&first)).is_pending());
        assert!(moved.as_mut().poll(&mut Context::from_waker(&second)).is_pending());
        drop(ended);
        once.set(());
        second_rung.try_recv().unwrap();
        assert!(first_rung.try_recv().is_err());
    }
}
