//! What somebody else has made ready or put in place, for a worker that runs.

use super::{Record, Version};

/// What a worker finds that was made ready or put in place by somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing that is wanted.
    Nothing,
    /// It is to be tried, and this is not the time for that.
    NotYet,
    /// This version lies ready, and is to be tried.
    Staged(Version),
    /// This version is in place, and is to be tried.
    InPlace(Version),
    /// What is in place is another version, and needs no trial.
    InUse,
}

impl Record {
    /// What it says of other versions than the `own` one, but for those `refused`, which it may not remember. A version is
    /// tried when it `is_time`, that is when its welcome would tell something. What is `in_place` counts more than what is
    /// remembered: that may be out of date, and stay so where it can't be written.
    pub fn found(
        &self,
        own: &Version,
        refused: &[Version],
        is_time: bool,
        in_place: impl Fn() -> Option<Version>,
    ) -> Found {
        let is_refused = |version: &Version| {
            refused.contains(version) || self.refused.iter().any(|refused| refused.version == *version)
        };
        match (&self.pending, &self.on_trial) {
            (Some(version), _) | (None, Some(version)) if version == own || is_refused(version) => {
                Found::Nothing
            }
            (Some(_), _) | (None, Some(_)) if !is_time => Found::NotYet,
            (Some(version), _) => Found::Staged(version.clone()),
            (None, Some(version)) if in_place().as_ref() == Some(version) => Found::InPlace(version.clone()),
            (None, Some(_)) => Found::Nothing,
            (None, None) => match in_place() {
                Some(version) if version != *own && !is_refused(&version) => Found::InUse,
                _ => Found::Nothing,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record, what was refused and could not be remembered, whether it is time, what is in place; what is found.
    type Case<'a> = (&'a Record, &'a [Version], bool, Option<u64>, Found);

    #[test]
    fn what_is_in_place_counts_more_than_what_is_remembered() {
        let version = |patch| Version::new(1, 0, patch);
        let (own, next) = (version(0), version(1));
        let refused = |refused: &Version| {
            let mut record = Record::default();
            record.go_back(refused.clone(), &own, "why", false);
            record
        };
        let ready = Record { pending: Some(next.clone()), ..Record::default() };
        let tried = Record { on_trial: Some(next.clone()), ..Record::default() };
        let none = Record::default();
        let cases: [Case<'_>; 12] = [
            (&ready, &[], true, None, Found::Staged(next.clone())),
            (&ready, &[], false, None, Found::NotYet),
            (&ready, &[version(1)], true, None, Found::Nothing),
            (&tried, &[], true, Some(1), Found::InPlace(next.clone())),
            (&tried, &[], false, Some(1), Found::NotYet),
            (&tried, &[version(1)], true, Some(1), Found::Nothing),
            // It was put back, and that could not be remembered.
            (&tried, &[], true, Some(0), Found::Nothing),
            (&tried, &[], true, None, Found::Nothing),
            (&none, &[], false, Some(1), Found::InUse),
            (&none, &[], true, Some(0), Found::Nothing),
            // It could not be put back.
            (&refused(&next), &[], true, Some(1), Found::Nothing),
            (&none, &[version(1)], true, Some(1), Found::Nothing),
        ];
        for (record, refused, is_time, in_place, wanted) in cases {
            let is = record.found(&own, refused, is_time, || in_place.map(version));
            assert_eq!(is, wanted, "{record:?} {refused:?} {is_time} {in_place:?}");
        }
        let later = Record { pending: Some(own.clone()), ..Record::default() };
        assert_eq!(later.found(&own, &[], true, || None), Found::Nothing, "it has taken over already");
    }
}
