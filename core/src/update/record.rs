//! What is remembered of updates beside the program's file, over its ends and starts.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use semver::Version;
use serde::{Deserialize, Serialize};

/// How many versions that went back are remembered, the newest of them.
const MAX_REFUSED: usize = 16;

/// What is remembered. Fields that a newer version writes are tolerated, and what can't be read is as if it were not there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// What was put in place last, whose trial is not over.
    pub on_trial: Option<Version>,
    /// What the program's file was before.
    pub previous: Option<Version>,
    /// What was tried and went back.
    pub refused: Vec<Refused>,
    /// What the next worker is to tell its studio, once.
    pub news: Option<String>,
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

    /// `version` was put in place of `previous`, and has to show what it can do.
    pub fn put_in_place(&mut self, version: Version, previous: Version) {
        self.refused.retain(|refused| refused.version != version);
        self.on_trial = Some(version);
        self.previous = Some(previous);
    }

    /// The version on trial is kept.
    pub fn keep(&mut self) {
        if let (Some(version), Some(previous)) = (self.on_trial.take(), &self.previous) {
            self.news = Some(alloc::format!("updated from {previous} to {version}"));
        }
    }

    /// The version before is welcomed, `soon` enough or not. What went back since no studio welcomed it had its chance if the
    /// one before reaches the studio in that time; else the studio was to blame, and it may be tried again.
    pub fn settle_doubts(&mut self, soon: bool) {
        self.refused.retain(|refused| soon || !refused.in_doubt);
        self.refused.iter_mut().for_each(|refused| refused.in_doubt = false);
    }

    /// Whether something is in doubt.
    pub fn is_in_doubt(&self) -> bool {
        self.refused.iter().any(|refused| refused.in_doubt)
    }

    /// `version` was taken away again: it is not installed by itself any more.
    pub fn go_back(&mut self, version: Version, why: &str, in_doubt: bool) {
        let back = self.previous.take().map_or_else(|| "the one before".to_string(), |back| back.to_string());
        self.on_trial = None;
        self.news = Some(alloc::format!("went back from {version} to {back}: {why}"));
        self.refused.retain(|refused| refused.version != version);
        self.refused.push(Refused { version, why: why.into(), in_doubt });
        if self.refused.len() > MAX_REFUSED {
            self.refused.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut record = Record::default();
        record.put_in_place(version("1.1.0"), version("1.0.0"));
        record.go_back(version("1.1.0"), "it ended by itself", false);
        record.put_in_place(version("1.2.0"), version("1.0.0"));
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
        record.put_in_place(version("1.1.0"), version("1.0.0"));
        record.keep();
        assert_eq!(
            (record.news.as_deref(), record.on_trial.take()),
            (Some("updated from 1.0.0 to 1.1.0"), None)
        );
        assert_eq!(record.previous, Some(version("1.0.0")), "there is a way back by hand");
        record.go_back(version("1.1.0"), "by hand", false);
        assert_eq!(record.news.as_deref(), Some("went back from 1.1.0 to 1.0.0: by hand"));
        assert_eq!(record.refused[0].version, version("1.1.0"));
    }

    #[test]
    fn what_is_put_in_place_by_hand_is_refused_no_more() {
        let mut record = Record::default();
        record.go_back(version("1.1.0"), "it ended by itself", false);
        record.put_in_place(version("1.1.0"), version("1.0.0"));
        assert!(record.refused.is_empty());
    }

    #[test]
    fn a_version_that_found_no_studio_is_given_another_chance_if_the_one_before_finds_none_either() {
        let mut record = Record::default();
        record.go_back(version("1.1.0"), "it ended by itself", false);
        record.go_back(version("1.2.0"), "no studio had welcomed it", true);
        assert!(record.is_in_doubt());
        let mut to_blame = record.clone();
        to_blame.settle_doubts(true);
        assert_eq!((to_blame.refused.len(), to_blame.is_in_doubt()), (2, false));
        record.settle_doubts(false);
        assert_eq!(record.refused.len(), 1, "only that one");
        assert_eq!(record.refused[0].version, version("1.1.0"));
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut record = Record::default();
        for minor in 0..40 {
            record.go_back(Version::new(1, minor, 0), "it ended by itself", false);
        }
        assert_eq!(record.refused.len(), MAX_REFUSED);
        assert_eq!(record.refused.last().unwrap().version, version("1.39.0"));
    }
}
