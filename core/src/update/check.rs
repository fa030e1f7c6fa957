//! Asking the feed.

use alloc::{
    format,
    string::{String, ToString},
};
use core::time::Duration;

use super::feed::{Feed, MAX_FEED_BYTES};
use crate::{
    engine::{
        Effect, EngineError, Happened, Recipe,
        input::{Astray, Route},
    },
    http::{HttpAnswer, HttpRequest},
    wire::retry_after,
};

/// What came of asking a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The feed, or why there is none.
    pub outcome: Result<Feed, CheckFailure>,
}

/// Why a feed could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CheckFailure {
    /// For a person to act on.
    pub message: String,
    /// How long the feed's server wants to be left alone.
    pub not_before: Option<Duration>,
}

impl CheckFailure {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), not_before: None }
    }
}

/// Asks a feed what releases there are. A recipe, so that every runtime carries it out.
#[derive(Debug)]
pub struct Check {
    route: Result<Route, String>,
}

impl Check {
    /// Asks the feed at `address`: `https`, or `http` on this machine. It may be in this network, and leads to nothing else there.
    pub fn new(address: &str) -> Self {
        Self { route: Route::from_home(address, address) }
    }

    fn ask(&self) -> Effect<Asked> {
        match &self.route {
            Ok(route) => Effect::Exchange(HttpRequest {
                answer_limit: MAX_FEED_BYTES + 1,
                reach: route.reach(),
                ..HttpRequest::get(route.url().to_string())
            }),
            Err(why) => over(Err(CheckFailure::new(format!("the address of the release feed {why}")))),
        }
    }

    fn read(&mut self, answer: &HttpAnswer) -> Effect<Asked> {
        let Ok(route) = &mut self.route else { return self.ask() };
        let whence = route.shown();
        if Route::is_redirect(answer.status) {
            return match route.follow(answer.location.as_deref()) {
                Ok(()) => self.ask(),
                Err(Astray::Refused(why)) => over(Err(CheckFailure::new(format!(
                    "the release feed {whence} leads to an address that {why}"
                )))),
                Err(Astray::Lost(why)) => {
                    over(Err(CheckFailure::new(format!("the release feed {whence} {why}"))))
                }
            };
        }
        over(if answer.status == 200 {
            Feed::parse(&answer.body).map_err(|error| CheckFailure::new(format!("{error}: {whence}")))
        } else {
            Err(refused(&whence, answer))
        })
    }
}

/// What a status other than 200 means.
fn refused(whence: &str, answer: &HttpAnswer) -> CheckFailure {
    let HttpAnswer { status, retry_after: wait, date, body, .. } = answer;
    let not_before = wait.as_deref().and_then(|wait| retry_after::parse(wait, date.as_deref()));
    // GitHub says so in words only, with a status that means other things as well.
    let is_limited =
        *status == 429 || (*status == 403 && (not_before.is_some() || says(body, b"rate limit")));
    let why = match status {
        _ if is_limited => "limits how often it is asked, and was asked too often",
        401 | 403 => "wants a credential or lets nobody in",
        404 | 410 => "is not there: check `auto_update_feed`",
        500.. => "has trouble of its own",
        _ => "answers with something else than a feed",
    };
    CheckFailure { message: format!("the release feed {whence} {why} (status {status})"), not_before }
}

/// Whether a text says something, in whatever case.
fn says(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window.eq_ignore_ascii_case(what))
}

fn over(outcome: Result<Feed, CheckFailure>) -> Effect<Asked> {
    Effect::Done(Ok(Asked { outcome }))
}

impl Recipe<Asked> for Check {
    fn next(&mut self, happened: Happened) -> Effect<Asked> {
        match happened {
            Happened::Started => self.ask(),
            Happened::Exchanged(Ok(answer)) => self.read(&answer),
            Happened::Exchanged(Err(failure)) => {
                let (whence, why) = match &self.route {
                    Ok(route) => (route.shown(), route.presentable(&failure)),
                    Err(why) => (String::new(), why.clone()),
                };
                over(Err(CheckFailure::new(format!("the release feed {whence} can't be reached: {why}"))))
            }
            _ => Effect::Done(Err(EngineError::transient("the release feed was not asked"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;
    use crate::http::Reach;

    fn answer(status: u16, body: &str) -> HttpAnswer {
        HttpAnswer { status, body: body.as_bytes().into(), ..HttpAnswer::default() }
    }

    /// What comes of these answers, and the addresses that were asked.
    fn ask(address: &str, answers: Vec<HttpAnswer>) -> (Result<Feed, CheckFailure>, Vec<String>) {
        let (mut check, mut asked) = (Check::new(address), Vec::new());
        let mut effect = check.next(Happened::Started);
        let mut answers = answers.into_iter();
        loop {
            match effect {
                Effect::Exchange(request) => {
                    asked.push(request.url);
                    effect = check.next(Happened::Exchanged(Ok(answers.next().unwrap())));
                }
                Effect::Done(done) => return (done.unwrap().outcome, asked),
                other => panic!("{other:?}"),
            }
        }
    }

    const FEED: &str = "https://api.example/repos/us/studio-worker/releases";

    #[test]
    fn a_feed_is_read() {
        let (feed, asked) = ask(FEED, vec![answer(200, r#"[{"tag_name": "v1.2.3"}]"#)]);
        assert_eq!(feed.unwrap().releases()[0].version.to_string(), "1.2.3");
        assert_eq!(asked, [FEED]);
    }

    #[test]
    fn a_renamed_repository_is_followed_but_not_to_this_machine_nor_in_the_clear() {
        let moved = |to: &str| HttpAnswer { location: Some(to.into()), ..answer(301, "") };
        let (feed, asked) = ask(FEED, vec![moved("/repositories/7/releases"), answer(200, "[]")]);
        assert!(feed.is_ok());
        assert_eq!(asked[1], "https://api.example/repositories/7/releases");
        for to in ["http://127.0.0.1/feed", "http://api.example/feed", "file:///etc/passwd"] {
            let (feed, asked) = ask(FEED, vec![moved(to)]);
            assert!(feed.is_err(), "{to}");
            assert_eq!(asked.len(), 1);
        }
    }

    #[test]
    fn an_address_in_the_clear_is_refused_but_on_this_machine() {
        for (address, fine) in [
            ("http://127.0.0.1:9/feed", true),
            ("http://localhost/feed", true),
            ("https://10.0.0.1/feed", true),
            ("http://releases.example/feed", false),
            // Nothing could be installed from there: what is run later comes over what nobody can change on the way.
            ("http://10.0.0.1/feed", false),
            ("http://[fd00::1]:8080/feed", false),
            ("ftp://releases.example/feed", false),
            ("not an address", false),
        ] {
            let effect = Check::new(address).next(Happened::Started);
            assert_eq!(matches!(effect, Effect::Exchange(_)), fine, "{address}");
        }
        let (feed, _) = ask("http://10.0.0.1/feed", vec![]);
        let message = feed.unwrap_err().message;
        assert_eq!(message, "the address of the release feed is not encrypted: https is wanted");
    }

    /// The addresses that were asked, and within which reach, when a feed leads there, one after the other.
    fn led(feed: &str, to: &[&str]) -> (bool, Vec<(String, Reach)>) {
        let (mut check, mut asked) = (Check::new(feed), Vec::new());
        let mut effect = check.next(Happened::Started);
        let moved = to.iter().map(|to| HttpAnswer { location: Some((*to).into()), ..answer(302, "") });
        let mut answers = moved.chain([answer(200, "[]")]);
        while let Effect::Exchange(request) = effect {
            asked.push((request.url, request.reach));
            effect = check.next(Happened::Exchanged(Ok(answers.next().unwrap())));
        }
        let Effect::Done(Ok(done)) = effect else { panic!("{effect:?}") };
        (done.outcome.is_ok(), asked)
    }

    #[test]
    fn a_feed_leads_to_nothing_of_this_network_but_itself() {
        for (feed, to, reach) in [
            (FEED, "/elsewhere", Some(Reach::Any)),
            (FEED, "https://files.example/feed", Some(Reach::Public)),
            (FEED, "https://api.example:8443/feed", Some(Reach::Public)),
            (FEED, "https://10.0.0.1/feed", None),
            (FEED, "https://[fd00::1]/feed", None),
            (FEED, "http://10.0.0.1/feed", None),
            (FEED, "https://localhost/feed", None),
            // One at home, by its address or by a name of that network.
            ("https://10.0.0.2/feed", "/elsewhere", Some(Reach::Any)),
            ("https://10.0.0.2/feed", "https://files.example/feed", Some(Reach::Public)),
            ("https://10.0.0.2/feed", "https://10.0.0.2:8443/feed", None),
            ("https://10.0.0.2/feed", "https://10.0.0.3/feed", None),
            ("https://10.0.0.2/feed", "http://10.0.0.2/feed", None),
            ("https://nas.home/feed", "https://nas.home:443/elsewhere", Some(Reach::Any)),
            ("https://nas.home/feed", "https://router.home/", Some(Reach::Public)),
            // One on this machine.
            ("http://127.0.0.1:9/feed", "/elsewhere", Some(Reach::Loopback)),
            ("http://127.0.0.1:9/feed", "https://files.example/feed", Some(Reach::Public)),
            ("http://127.0.0.1:9/feed", "http://files.example/feed", None),
            ("http://127.0.0.1:9/feed", "http://127.0.0.1:10/feed", None),
            ("http://127.0.0.1:9/feed", "http://127.0.0.2:9/feed", None),
            ("http://127.0.0.1:9/feed", "http://localhost:9/feed", None),
        ] {
            let (is_fine, asked) = led(feed, &[to]);
            let after = asked.get(1).map(|(_, reach)| *reach);
            assert_eq!((is_fine, after), (reach.is_some(), reach), "{feed} to {to}");
        }
    }

    #[test]
    fn the_internet_does_not_lead_back_into_this_network() {
        for feed in ["https://10.0.0.2/feed", "http://127.0.0.1:9/feed"] {
            let (is_fine, asked) = led(feed, &["https://files.example/feed", feed]);
            assert!(!is_fine && asked.len() == 2, "{asked:?}");
        }
    }

    #[test]
    fn what_is_no_feed_is_named() {
        let limited = r#"{"message": "API rate limit exceeded for 203.0.113.9."}"#;
        for (answer, words) in [
            (answer(401, ""), "wants a credential"),
            (answer(403, "forbidden"), "wants a credential"),
            (answer(403, limited), "asked too often"),
            (answer(429, ""), "asked too often"),
            (answer(404, ""), "check `auto_update_feed`"),
            (answer(500, "<html>"), "trouble of its own"),
            (answer(204, ""), "something else"),
            (answer(200, "<!doctype html><p>Hello"), "is not JSON"),
            (answer(200, "{}"), "neither a list of releases nor a release"),
        ] {
            let (feed, _) = ask(FEED, vec![answer]);
            let message = feed.unwrap_err().message;
            assert!(message.contains(words) && message.contains("api.example"), "{message}");
        }
    }

    #[test]
    fn a_server_that_wants_to_be_left_alone_is() {
        let busy = HttpAnswer { retry_after: Some("120".into()), ..answer(403, "") };
        let (feed, _) = ask(FEED, vec![busy]);
        let failure = feed.unwrap_err();
        assert_eq!(failure.not_before, Some(Duration::from_secs(120)));
        assert!(failure.message.contains("asked too often"), "{failure}");
    }

    #[test]
    fn a_query_that_may_be_a_credential_is_not_shown() {
        let (feed, _) = ask("https://api.example/feed?token=sesame", vec![answer(401, "")]);
        assert!(!feed.unwrap_err().message.contains("sesame"));
    }
}
