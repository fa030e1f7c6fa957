//! One request, with patience for a server that is busy or still loading its model.

use alloc::string::String;
use core::time::Duration;

use crate::{
    engine::contract::{Effect, EngineError, Happened, Recipe},
    http::{HttpAnswer, HttpRequest},
    wire::retry_after,
};

/// How often a busy server is asked before the job is given back to the studio.
const MAX_TRIES: u32 = 6;
/// The wait after the first refusal; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait: a server that wants more is as good as down.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Asks once, and again while the answer is that the server is busy. Ends with an answer of any other status, or
/// the last of those; a connection that fails is an error, whose text is not yet fit to be shown.
pub(in crate::engine) struct Call {
    request: HttpRequest,
    tries: u32,
}

impl Call {
    pub(in crate::engine) fn new(request: HttpRequest) -> Self {
        Self { request, tries: 0 }
    }

    /// The same, begun: the effect is the first thing to do for it.
    pub(in crate::engine) fn begin<T>(request: HttpRequest) -> (Self, Effect<T>) {
        let effect = Effect::Exchange(request.clone());
        (Self { request, tries: 1 }, effect)
    }

    fn wait_after(&self, answer: &HttpAnswer) -> Option<Duration> {
        if !matches!(answer.status, 429 | 503) || self.tries >= MAX_TRIES {
            return None;
        }
        let asked = answer.retry_after.as_deref();
        let asked = asked.and_then(|header| retry_after::parse(header, answer.date.as_deref()));
        // At least our own, so that "0" is no busy loop.
        let own = FIRST_WAIT * (1 << (self.tries - 1));
        let wait = asked.map_or(own, |asked| asked.max(own));
        (wait <= MAX_WAIT).then_some(wait)
    }
}

impl Recipe<HttpAnswer> for Call {
    fn next(&mut self, happened: Happened) -> Effect<HttpAnswer> {
        match happened {
            Happened::Started | Happened::Paused => {
                self.tries += 1;
                Effect::Exchange(self.request.clone())
            }
            Happened::Exchanged(Ok(answer)) => match self.wait_after(&answer) {
                Some(wait) => Effect::Pause(wait),
                None => Effect::Done(Ok(answer)),
            },
            Happened::Exchanged(Err(failure)) => Effect::Done(Err(EngineError::transient(failure))),
            _ => Effect::Done(Err(EngineError::transient(String::new()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;
    use crate::http::HttpFailure;

    /// The waits before it ends, when it is answered with `status` and `retry_after` for ever.
    fn waits(status: u16, retry_after: Option<&str>) -> Vec<u64> {
        let mut call = Call::new(HttpRequest::get("http://box/"));
        let mut waits = Vec::new();
        let mut happened = Happened::Started;
        loop {
            happened = match call.next(happened) {
                Effect::Exchange(_) => Happened::Exchanged(Ok(HttpAnswer {
                    status,
                    retry_after: retry_after.map(Into::into),
                    ..HttpAnswer::default()
                })),
                Effect::Pause(wait) => {
                    waits.push(wait.as_secs());
                    Happened::Paused
                }
                Effect::Done(outcome) => {
                    assert_eq!(outcome.unwrap().status, status);
                    return waits;
                }
                other => panic!("{other:?}"),
            };
        }
    }

    #[test]
    fn a_busy_server_is_asked_again_later_and_not_for_ever() {
        assert_eq!(waits(503, None), [1, 2, 4, 8, 16]);
        assert_eq!(waits(429, Some("5")), [5, 5, 5, 8, 16]);
        assert_eq!(waits(429, Some("0")), [1, 2, 4, 8, 16]);
        assert_eq!(waits(429, Some("61")), vec![0; 0]);
        for status in [200, 302, 400, 404, 500, 502, 504] {
            assert_eq!(waits(status, Some("5")), vec![0; 0], "{status}");
        }
    }

    #[test]
    fn a_connection_that_fails_is_not_tried_again() {
        let mut call = Call::new(HttpRequest::get("http://box/"));
        assert!(matches!(call.next(Happened::Started), Effect::Exchange(_)));
        let failed = Happened::Exchanged(Err(HttpFailure("connection refused".into())));
        assert!(matches!(call.next(failed), Effect::Done(Err(error)) if error.retryable));
    }
}
