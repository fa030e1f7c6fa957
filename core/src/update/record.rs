//! What is remembered of updates beside the program's file, over its ends and starts.

use alloc::{string::String, vec::Vec};

use semver::Version;
use serde::{Deserialize, Serialize};

/// How many versions that went back are remembered, the newest of them.
const MAX_REFUSED: usize = 16;

/// What is remembered. Fields that a newer version writes are tolerated, and what can't be read is as if it were not there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// What lies ready, made so by hand, for a worker that runs to try.
    pub pending: Option<Version>,
    /// What was put in place by hand while no worker ran, and was not tried yet.
    pub on_trial: Option<Version>,
    /// What the program's file was before.
    pub previous: Option<Version>,
    /// What was tried and went back.
    pub refused: Vec<Refused>,
    /// What the next worker is to tell its studio, once.
    pub news: Option<String>,
    /// Of which version that worker is to be, if that matters.
    pub news_for: Option<Version>,
}

/// A version that was tried and went back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which.
    pub version: Version,
    /// Why, for a person to read.
    pub why: String,
    /// Whether it may have been no fault of its own: nobody had shown yet that the studio could be reached in its time.
    #[serde(default)]
    pub in_doubt: bool,
}

impl Record {
    /// Reads what was written. A text that can't be read says nothing.
    pub fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// What to write.
    pub fn to_text(&self) -> String {
        // Made of texts alone: this can't fail.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// `version` lies ready for a worker that runs.
    pub fn make_ready(&mut self, version: Version) {
        self.refused.retain(|refused| refused.version != version);
        self.pending = Some(version);
    }

    /// `version` is about to be put in place of `previous`, untried. One that was never tried itself is no way back: then the
    /// one before that stays it.
    pub fn put_in_place(&mut self, version: Version, previous: Version) {
        self.refused.retain(|refused| refused.version != version);
        if self.on_trial.is_none() {
            self.previous = Some(previous);
        }
        self.pending = None;
        self.on_trial = Some(version);
    }

    /// `version` has passed its trial and takes the place of `previous`, or has it already.
    pub fn keep(&mut self, version: &Version, previous: Version) {
        if self.on_trial.as_ref() != Some(version) {
            self.previous = Some(previous);
        }
        (self.pending, self.on_trial) = (None, None);
        if let Some(previous) = &self.previous {
            self.news = Some(alloc::format!("updated from {previous} to {version}"));
            self.news_for = Some(version.clone());
        }
    }

    /// What a worker of version `own` is to tell. One that goes on since the one that was kept can't be started has nothing
    /// to tell of that.
    pub fn news_of(&self, own: &Version) -> Option<&str> {
        let is_own = self.news_for.as_ref().is_none_or(|version| version == own);
        self.news.as_deref().filter(|_| is_own)
    }

    /// That was told.
    pub fn forget_news(&mut self, told: &str) {
        if self.news.as_deref() == Some(told) {
            (self.news, self.news_for) = (None, None);
        }
    }

    /// The version before is welcomed: `at_once`, by its first attempt after the other one went back, or not. What went back
    /// since no studio welcomed it had its chance if the one before reaches the studio at once; else the studio was to blame,
    /// and it may be tried again: where it still lies ready since it was installed by hand, it is.
    pub fn settle_doubts(&mut self, at_once: bool) {
        let pending = self.pending.take();
        self.pending = pending.filter(|pending| {
            !at_once || !self.refused.iter().any(|refused| refused.in_doubt && refused.version == *pending)
        });
        self.refused.retain(|refused| at_once || !refused.in_doubt);
        self.refused.iter_mut().for_each(|refused| refused.in_doubt = false);
    }

    /// Whether something is in doubt.
    pub fn is_in_doubt(&self) -> bool {
        self.refused.iter().any(|refused| refused.in_doubt)
    }

    /// `version` is no good: it is not installed by itself any more. `own` goes on.
    pub fn go_back(&mut self, version: Version, own: &Version, why: &str, in_doubt: bool) {
        if self.on_trial.take().is_some() {
            self.previous = None;
        }
        // What may have been no fault of its own lies ready until that is known.
        if !in_doubt || self.pending.as_ref() != Some(&version) {
            self.pending = None;
        }
        self.news_for = None;
        self.news = Some(alloc::format!("went back from {version} to {own}: {why}"));
        self.refused.retain(|refused| refused.version != version);
        self.refused.push(Refused { version, why: why.into(), in_doubt });
        if self.refused.len() > MAX_REFUSED {
            self.refused.remove(0);
        }
    }

    /// The one before was put back in the place of `version`, by hand.
    pub fn put_back(&mut self, version: Version, before: &Version) {
        self.go_back(version, before, "by hand", false);
        self.previous = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    /// A record of a version that went back.
    fn gone_back() -> Record {
        let mut record = Record::default();
        record.go_back(version("1.1.0"), &version("1.0.0"), "it ended by itself", false);
        record
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut record = gone_back();
        record.put_in_place(version("1.2.0"), version("1.0.0"));
        record.make_ready(version("1.3.0"));
        assert_eq!(Record::parse(&record.to_text()), record);
    }

    #[test]
    fn what_cannot_be_read_says_nothing_and_more_is_tolerated() {
        for text in ["", "{", "[]", "7", "\0\0", r#"{"onTrial": "not a version"}"#] {
            assert_eq!(Record::parse(text), Record::default(), "{text:?}");
        }
        let newer = r#"{"onTrial": "1.1.0", "colour": "blue"}"#;
        assert_eq!(Record::parse(newer).on_trial, Some(version("1.1.0")));
    }

    #[test]
    fn what_became_of_an_update_is_news() {
        let mut record = Record::default();
        record.keep(&version("1.1.0"), version("1.0.0"));
        assert_eq!(record.news.as_deref(), Some("updated from 1.0.0 to 1.1.0"));
        assert_eq!(record.previous, Some(version("1.0.0")), "there is a way back by hand");
        record.put_back(version("1.1.0"), &version("1.0.0"));
        assert_eq!(record.news.as_deref(), Some("went back from 1.1.0 to 1.0.0: by hand"));
        assert_eq!((record.refused[0].version.clone(), record.previous), (version("1.1.0"), None));
    }

    #[test]
    fn a_version_that_was_never_tried_is_no_way_back() {
        let mut record = Record::default();
        record.put_in_place(version("1.1.0"), version("1.0.0"));
        record.put_in_place(version("1.2.0"), version("1.1.0"));
        assert_eq!(record.previous, Some(version("1.0.0")));
        record.keep(&version("1.2.0"), version("1.2.0"));
        assert_eq!(record.news.as_deref(), Some("updated from 1.0.0 to 1.2.0"));
    }

    #[test]
    fn what_is_wanted_by_hand_is_refused_no_more() {
        let mut record = gone_back();
        record.put_in_place(version("1.1.0"), version("1.0.0"));
        assert!(record.refused.is_empty());
        let mut record = gone_back();
        record.make_ready(version("1.1.0"));
        assert!(record.refused.is_empty());
    }

    #[test]
    fn a_version_that_found_no_studio_is_given_another_chance_if_the_one_before_finds_none_at_once() {
        let mut record = gone_back();
        record.go_back(version("1.2.0"), &version("1.0.0"), "no studio had welcomed it", true);
        assert!(record.is_in_doubt());
        let mut to_blame = record.clone();
        to_blame.settle_doubts(true);
        assert_eq!((to_blame.refused.len(), to_blame.is_in_doubt()), (2, false));
        record.settle_doubts(false);
        assert_eq!(record.refused.len(), 1, "only that one");
        assert_eq!(record.refused[0].version, version("1.1.0"));
    }

    #[test]
    fn what_was_installed_by_hand_lies_ready_until_its_doubts_are_settled() {
        let (own, next) = (version("1.0.0"), version("1.1.0"));
        let mut record = Record::default();
        record.make_ready(next.clone());
        record.go_back(next.clone(), &own, "no studio had welcomed it", true);
        assert_eq!(record.pending, Some(next.clone()));
        let mut guilty = record.clone();
        guilty.settle_doubts(true);
        assert_eq!((guilty.pending, guilty.refused.len()), (None, 1));
        record.settle_doubts(false);
        assert_eq!((&record.pending, record.refused.len()), (&Some(next.clone()), 0), "it is tried again");
        record.go_back(next, &own, "it ended by itself", false);
        assert_eq!(record.pending, None);
        // What others have made ready meanwhile is none of that.
        record.go_back(version("1.2.0"), &own, "no studio had welcomed it", true);
        record.make_ready(version("1.3.0"));
        record.settle_doubts(true);
        assert_eq!(record.pending, Some(version("1.3.0")));
    }

    #[test]
    fn what_was_kept_says_so_itself() {
        let (own, next) = (version("1.0.0"), version("1.1.0"));
        let mut record = Record::default();
        record.keep(&next, own.clone());
        assert_eq!(
            (record.news_of(&own), record.news_of(&next)),
            (None, Some("updated from 1.0.0 to 1.1.0"))
        );
        let told = record.news.clone().unwrap();
        record.go_back(next.clone(), &own, "why", false);
        record.forget_news(&told);
        assert_eq!(record.news_of(&own), Some("went back from 1.1.0 to 1.0.0: why"), "that is other news");
        record.forget_news("went back from 1.1.0 to 1.0.0: why");
        assert_eq!(record.news_of(&own), None);
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut record = Record::default();
        for minor in 0..40 {
            record.go_back(Version::new(1, minor, 0), &version("1.0.0"), "it ended by itself", false);
        }
        assert_eq!(record.refused.len(), MAX_REFUSED);
        assert_eq!(record.refused.last().unwrap().version, version("1.39.0"));
    }
}
