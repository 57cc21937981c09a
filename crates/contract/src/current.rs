//! Decides which request a line of the log belongs to: its id goes with the work, from task to task and into the
//! store's threads, as long as whoever hands work over says so. It is for the log only and decides nothing else.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
};

thread_local! {
    static CURRENT: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// The id of the request that this thread works on now.
pub fn request() -> Option<Arc<str>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// Until this is dropped, the thread works on what it did before.
#[must_use]
pub struct Entered(Option<Arc<str>>);

/// From here on the thread works on this request, or on none.
pub fn enter(request: Option<Arc<str>>) -> Entered {
    Entered(CURRENT.try_with(|current| current.replace(request)).ok().flatten())
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.0.take();
        let _ = CURRENT.try_with(|current| current.replace(before));
    }
}

/// The future as part of this request, whichever threads run it.
pub async fn within<F: Future>(request: Option<Arc<str>>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let _entered = enter(request.clone());
        future.as_mut().poll(context)
    })
    .await
}

/// The future as part of the request that this thread works on now: for what is spawned.
pub fn carried<F: Future>(future: F) -> impl Future<Output = F::Output> {
    within(request(), future)
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn now() -> Option<String> {
        request().map(|id| id.to_string())
    }

    #[test]
    fn what_runs_between_two_polls_belongs_to_no_request() {
        let mut asked = false;
        let work = within(
            Some("a".into()),
            poll_fn(move |_| {
                assert_eq!(now().as_deref(), Some("a"));
                if std::mem::replace(&mut asked, true) { Poll::Ready(now()) } else { Poll::Pending }
            }),
        );
        let mut work = pin!(work);
        let mut context = Context::from_waker(Waker::noop());
        assert!(work.as_mut().poll(&mut context).is_pending());
        assert_eq!(now(), None);
        assert_eq!(work.as_mut().poll(&mut context), Poll::Ready(Some("a".into())));
        assert_eq!(now(), None);
    }

    #[test]
    fn work_inside_of_work_is_its_own_and_what_is_carried_is_the_same() {
        let _outer = enter(Some("outer".into()));
        let carried = carried(async { now() });
        {
            let _inner = enter(None);
            assert_eq!(now(), None);
            let mut carried = pin!(carried);
            let polled = carried.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(polled, Poll::Ready(Some("outer".into())));
        }
        assert_eq!(now().as_deref(), Some("outer"));
    }
}
