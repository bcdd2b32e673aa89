//! A time-out that is set often and rarely expires.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Moving a deadline to later costs nothing: the timer is only asked when it fires too early.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    due: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    pub(crate) fn set(&mut self, after: Duration) {
        let due = Instant::now() + after;
        self.due = Some(due);
        match &mut self.timer {
            None => self.timer = Some(Box::pin(sleep_until(due))),
            Some(timer) if due < timer.deadline() || timer.is_elapsed() => {
                timer.as_mut().reset(due)
            }
            Some(_) => {}
        }
    }

    pub(crate) fn clear(&mut self) {
        self.due = None;
    }

    /// Ready once the deadline has passed; pending for ever when there is none.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(due), Some(timer)) = (self.due, &mut self.timer) else {
            return Poll::Pending;
        };
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_setting_counts() {
        let begin = Instant::now();
        let mut deadline = Deadline::default();
        deadline.set(Duration::from_secs(1));
        deadline.set(Duration::from_secs(5));
        poll_fn(|cx| deadline.poll(cx)).await;
        assert_eq!(begin.elapsed().as_secs(), 5, "moved to later");

        deadline.set(Duration::from_secs(60));
        deadline.set(Duration::from_secs(2));
        poll_fn(|cx| deadline.poll(cx)).await;
        assert_eq!(begin.elapsed().as_secs(), 7, "moved to earlier");

        deadline.set(Duration::from_secs(1));
        deadline.clear();
        let never = tokio::time::timeout(Duration::from_secs(100), poll_fn(|cx| deadline.poll(cx)));
        assert!(never.await.is_err(), "cleared");
    }
}
