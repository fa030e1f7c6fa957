//! The jobs that ended last, packed into one piece of memory: a service may hold thousands of workers, each with fifty
//! of them that are seldom looked at.

use std::fmt;

use crate::{
    time::Wall,
    worker::{JobOutcome, RECENT_JOBS_CAP, RecentJob},
};

/// Names that are kept; more than the jobs have, so that they seldom have to be sorted out.
const MAX_NAMES: usize = 4 * RECENT_JOBS_CAP;

/// Memory is taken in steps of this, in bytes: with every job a little more would leave a hole of every size behind, and
/// thousands of workers would leave more holes than they fill.
const STEP: usize = 512;

/// The newest [`RECENT_JOBS_CAP`] jobs, newest first.
#[derive(Default)]
pub(super) struct RecentJobs {
    /// One job after the other, each as [`Packed`] reads it. No larger than it must be, but for the rest of a [`STEP`].
    packed: Vec<u8>,
    /// Kinds and models: most jobs share a few. A job has their places.
    names: Vec<Box<str>>,
}

impl RecentJobs {
    /// Puts `job` in front.
    pub(super) fn record(&mut self, job: &RecentJob) {
        if self.names.len() + 2 > MAX_NAMES {
            self.forget_names();
        }
        let mut new = Vec::new();
        new.extend([self.place_of(&job.kind), self.place_of(&job.model)]);
        put_text(&mut new, job.job_id.as_str());
        put_text(&mut new, &job.prompt);
        match &job.outcome {
            JobOutcome::Completed => new.push(0),
            JobOutcome::Failed { reason } => {
                new.push(1);
                put_text(&mut new, reason);
            }
        }
        put_signed(&mut new, job.started_at.as_millis());
        put_signed(&mut new, job.finished_at.as_millis().wrapping_sub(job.started_at.as_millis()));

        let mut kept = self.read();
        kept.by_ref().take(RECENT_JOBS_CAP - 1).for_each(drop);
        self.packed.truncate(self.packed.len() - kept.rest.len());
        let wanted = (new.len() + self.packed.len()).next_multiple_of(STEP);
        self.packed.shrink_to(wanted);
        self.packed.reserve_exact(wanted - self.packed.len());
        self.packed.splice(0..0, new);
    }

    /// The jobs, newest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = RecentJob> {
        let name = |place: u8| self.names.get(usize::from(place)).map_or("", |name| name).to_owned();
        // They were texts.
        let text = |packed: &[u8]| String::from_utf8_lossy(packed).into_owned();
        self.read().map(move |job| RecentJob {
            job_id: text(job.job_id).into(),
            kind: name(job.kind),
            model: name(job.model),
            prompt: text(job.prompt),
            started_at: Wall::from_millis(job.started_at),
            outcome: match job.reason {
                None => JobOutcome::Completed,
                Some(reason) => JobOutcome::Failed { reason: text(reason) },
            },
            finished_at: Wall::from_millis(job.started_at.wrapping_add(job.took)),
        })
    }

    fn read(&self) -> Reader<'_> {
        Reader { rest: &self.packed }
    }

    fn place_of(&mut self, name: &str) -> u8 {
        let place = self.names.iter().position(|known| **known == *name).unwrap_or_else(|| {
            self.names.push(name.into());
            self.names.len() - 1
        });
        // There are at most `MAX_NAMES`.
        u8::try_from(place).unwrap_or(u8::MAX)
    }

    /// Forgets the names that no job has any more.
    fn forget_names(&mut self) {
        let jobs: Vec<_> = self.iter().collect();
        *self = Self::default();
        jobs.iter().rev().for_each(|job| self.record(job));
    }
}

impl fmt::Debug for RecentJobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A job as it is packed.
struct Packed<'a> {
    kind: u8,
    model: u8,
    job_id: &'a [u8],
    prompt: &'a [u8],
    /// Why it failed, if it did.
    reason: Option<&'a [u8]>,
    started_at: i64,
    took: i64,
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Seven bits a byte, the lowest first; all but the last byte have the eighth set.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Some(number)
    }

    fn signed(&mut self) -> Option<i64> {
        let folded = self.number()?;
        Some((folded >> 1).cast_signed() ^ -(folded & 1).cast_signed())
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(text)
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Packed<'a>;

    fn next(&mut self) -> Option<Packed<'a>> {
        Some(Packed {
            kind: self.byte()?,
            model: self.byte()?,
            job_id: self.text()?,
            prompt: self.text()?,
            reason: if self.byte()? == 0 { None } else { Some(self.text()?) },
            started_at: self.signed()?,
            took: self.signed()?,
        })
    }
}

fn put_number(packed: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = number.to_le_bytes()[0] & 0x7f;
        number >>= 7;
        if number == 0 {
            return packed.push(low);
        }
        packed.push(low | 0x80);
    }
}

/// Small numbers are short, whatever their sign.
fn put_signed(packed: &mut Vec<u8>, number: i64) {
    put_number(packed, (number << 1 ^ number >> 63).cast_unsigned());
}

fn put_text(packed: &mut Vec<u8>, text: &str) {
    put_number(packed, text.len() as u64);
    packed.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::drive::record_recent_job;

    fn anything() -> impl Strategy<Value = RecentJob> {
        let outcome = proptest::option::of(".{0,300}");
        let name = prop_oneof![Just("llm".to_owned()), ".{0,3}"];
        ("(job-)?.{0,20}", name.clone(), name, ".{0,200}", any::<i64>(), any::<i64>(), outcome).prop_map(
            |(job_id, kind, model, prompt, started_at, finished_at, reason)| RecentJob {
                job_id: job_id.into(),
                kind,
                model,
                prompt,
                started_at: Wall::from_millis(started_at),
                outcome: reason.map_or(JobOutcome::Completed, |reason| JobOutcome::Failed { reason }),
                finished_at: Wall::from_millis(finished_at),
            },
        )
    }

    proptest! {
        /// Whatever the jobs are, and however many names they have.
        #[test]
        fn what_is_packed_is_what_a_plain_list_has(jobs in proptest::collection::vec(anything(), 0..150)) {
            let (mut packed, mut plain) = (RecentJobs::default(), VecDeque::new());
            for job in jobs {
                packed.record(&job);
                record_recent_job(&mut plain, job);
            }
            prop_assert_eq!(packed.iter().collect::<VecDeque<_>>(), plain);
        }
    }

    #[test]
    fn names_that_no_job_has_are_forgotten() {
        let mut jobs = RecentJobs::default();
        for n in 0..10_000 {
            jobs.record(&RecentJob {
                job_id: "j".into(),
                kind: "llm".into(),
                model: format!("model {n}"),
                prompt: String::new(),
                started_at: Wall::from_millis(0),
                outcome: JobOutcome::Completed,
                finished_at: Wall::from_millis(n),
            });
        }
        assert!(jobs.names.len() <= MAX_NAMES);
        let models: Vec<_> = jobs.iter().map(|job| job.model).collect();
        assert_eq!((models.len(), &*models[0], &*models[49]), (50, "model 9999", "model 9950"));
    }
}
