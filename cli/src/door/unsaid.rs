//! What an answer does not say: credentials.

use super::said::Answer;
use crate::logging;

/// Where nothing but words and times of this program's own stand, which the other end must be able to read.
const OWN: [&str; 10] = [
    "is",
    "at",
    "since",
    "startedAt",
    "finishedAt",
    "nextCheckAt",
    "state",
    "hindrance",
    "outcome",
    "version",
];

/// An answer as a line, whose texts have gone through `scrub`. Each by itself, before it is written as JSON: a credential
/// may be anything, also a piece of JSON, and looks different where JSON escapes it.
pub(super) fn line(answer: &Answer, scrub: &impl Fn(String) -> String) -> serde_json::Result<String> {
    let mut answer = serde_json::to_value(answer)?;
    logging::each_text(&mut answer, &OWN, scrub);
    serde_json::to_string(&answer)
}

#[cfg(test)]
mod tests {
    use studio_worker_core::wire::Secret;

    use super::*;
    use crate::door::text::tests::busy;

    fn without(secret: &str, answer: &Answer) -> String {
        let secret = Secret::from(secret);
        line(answer, &|text| secret.scrub(text)).unwrap()
    }

    #[test]
    fn an_answer_can_be_read_whatever_is_secret() {
        let state = || Answer::State(busy().into());
        for secret in
            ["i", "is", "state", "serving", "\"", ":", "{", "20", "T", "null", "true", "at", "…", "\\"]
        {
            let line = without(secret, &state());
            let Ok(Answer::State(read)) = serde_json::from_str(&line) else { panic!("{secret}: {line}") };
            assert_eq!((read.at, read.is_serving()), (busy().at, true), "{secret}");
        }
        for (secret, answer) in [
            ("refused", Answer::Refused { why: "it is refused".into() }),
            ("missed", Answer::Missed { lines: 3 }),
            ("over", Answer::Over),
        ] {
            let read: Answer = serde_json::from_str(&without(secret, &answer)).unwrap();
            assert_eq!(std::mem::discriminant(&read), std::mem::discriminant(&answer), "{secret}");
        }
    }

    #[test]
    fn no_text_of_an_answer_says_a_secret() {
        for secret in ["tok-of-a-line", "with \"quotes\" and \\", "t\u{1}b"] {
            let answer = Answer::Line { text: format!("Bearer {secret} was refused") };
            assert_eq!(without(secret, &answer), r#"{"is":"line","text":"Bearer … was refused"}"#);
            let mut state = busy();
            state.session.as_mut().unwrap().detail = Some(secret.into());
            state.current_job.as_mut().unwrap().model = secret.into();
            state.recent_jobs.iter_mut().for_each(|job| job.kind = secret.into());
            let line = without(secret, &Answer::State(state.into()));
            let said = serde_json::from_str::<serde_json::Value>(&line).unwrap();
            assert_eq!(
                (&said["session"]["detail"], &said["currentJob"]["model"]),
                (&"…".into(), &"…".into())
            );
            assert_eq!(said["recentJobs"][0]["kind"], "…");
        }
    }
}
