//! Prometheus' text format.

use std::fmt::{Display, Write as _};

use studio_worker_core::wire::TaskKind;

use super::tally::{BOUNDS, KINDS, Numbers, STAGES};

/// What all names begin with.
const PREFIX: &str = "studio_worker";

/// The numbers, with what they are.
pub(super) fn of(numbers: &Numbers) -> String {
    let mut page = Page(String::with_capacity(8 * 1024));
    page.family("build_info", "gauge", "Always 1; the version of the program.");
    page.sample("build_info", &[("version", crate::VERSION)], 1);

    page.family("jobs_total", "counter", "Jobs that ended, by kind and outcome.");
    for (kind, outcomes) in numbers.jobs.iter().enumerate() {
        for (outcome, count) in ["completed", "failed"].into_iter().zip(outcomes) {
            page.sample("jobs_total", &[("kind", kind_name(kind)), ("outcome", outcome)], count);
        }
    }
    page.family(
        "job_seconds",
        "histogram",
        "How long jobs took: downloads of their files, the engine without those, the delivery, and all together.",
    );
    for (stage, histogram) in STAGES.into_iter().zip(&numbers.stages) {
        let mut below = 0;
        for (bound, within) in BOUNDS.into_iter().zip(histogram.within) {
            below += within;
            let bound = seconds(bound);
            page.sample("job_seconds_bucket", &[("stage", stage), ("le", &bound)], below);
        }
        page.sample("job_seconds_bucket", &[("stage", stage), ("le", "+Inf")], histogram.count);
        page.sample("job_seconds_sum", &[("stage", stage)], histogram.sum.as_secs_f64());
        page.sample("job_seconds_count", &[("stage", stage)], histogram.count);
    }
    page.single("current_jobs", "gauge", "Jobs in hand: 0 or 1.", numbers.current);
    page.single("held_results", "gauge", "Results that wait to be asked for again.", numbers.held);

    page.single(
        "session_open",
        "gauge",
        "Whether a session with the studio is open.",
        u8::from(numbers.serving),
    );
    page.single("accepting_jobs", "gauge", "Whether new jobs are wanted.", u8::from(numbers.accepting));
    page.single("sessions_total", "counter", "Sessions that the studio welcomed.", numbers.sessions);
    page.single(
        "reconnects_total",
        "counter",
        "Attempts to connect after the first one.",
        numbers.connects.saturating_sub(1),
    );
    page.family(
        "sent_bytes_total",
        "counter",
        "Bytes that were sent: frames, and results that are uploaded.",
    );
    page.sample("sent_bytes_total", &[("channel", "session")], numbers.frames_sent);
    page.sample("sent_bytes_total", &[("channel", "upload")], numbers.uploaded);
    page.family("received_bytes_total", "counter", "Bytes that came: frames, and files of models.");
    page.sample("received_bytes_total", &[("channel", "session")], numbers.frames_received);
    page.sample("received_bytes_total", &[("channel", "download")], numbers.downloaded);
    page.single(
        "log_lines_dropped_total",
        "counter",
        "Log lines that the studio will never see.",
        numbers.log_lines_dropped,
    );
    page.single(
        "vram_threshold_gigabytes",
        "gauge",
        "The largest estimate that jobs are taken of, in GB.",
        numbers.threshold_gb,
    );
    page.0
}

fn kind_name(kind: usize) -> &'static str {
    const { assert!(KINDS == TaskKind::ALL.len() + 1) };
    TaskKind::ALL.get(kind).map_or("unknown", |kind| kind.name())
}

/// Milliseconds as seconds.
fn seconds(millis: u64) -> String {
    match millis % 1_000 {
        0 => (millis / 1_000).to_string(),
        rest => format!("{}.{}", millis / 1_000, rest / 100),
    }
}

struct Page(String);

// Writing to a text can't fail. No label here has a character that would have to be escaped.
impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {PREFIX}_{name} {help}\n# TYPE {PREFIX}_{name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "{PREFIX}_{name}");
        for (nth, (label, named)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{named}\"", if nth == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        time::Duration,
    };

    use serde_json::Value;

    use super::*;

    /// The families of a page, by name, with their types; checks the form of each line.
    fn families(page: &str) -> BTreeMap<String, String> {
        let (mut families, mut seen) = (BTreeMap::new(), BTreeSet::new());
        for line in page.lines() {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let (name, kind) = family.split_once(' ').unwrap();
                assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} comes twice");
            } else if !line.starts_with("# HELP ") {
                let (series, value) = line.rsplit_once(' ').unwrap();
                assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
                assert!(seen.insert(series.to_owned()), "{series} comes twice");
                let name = series.split('{').next().unwrap();
                let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                let family = family.filter(|family| families.contains_key(*family)).unwrap_or(name);
                let kind = &families[family];
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            }
        }
        assert!(page.ends_with('\n') && seen.len() < 120, "{} series", seen.len());
        families
    }

    #[test]
    fn the_page_is_in_the_text_format_and_bounded() {
        let mut numbers = Numbers::default();
        numbers.jobs[0][1] = 7;
        numbers.stages[1].within[..2].copy_from_slice(&[2, 3]);
        (numbers.stages[1].count, numbers.stages[1].sum) = (6, Duration::from_millis(7_201_500));
        (numbers.connects, numbers.threshold_gb) = (3, 12.5);
        let page = of(&numbers);
        families(&page);
        for line in [
            "studio_worker_jobs_total{kind=\"image\",outcome=\"failed\"} 7",
            "studio_worker_jobs_total{kind=\"unknown\",outcome=\"completed\"} 0",
            "studio_worker_job_seconds_bucket{stage=\"run\",le=\"0.1\"} 2",
            "studio_worker_job_seconds_bucket{stage=\"run\",le=\"0.5\"} 5",
            "studio_worker_job_seconds_bucket{stage=\"run\",le=\"3600\"} 5",
            "studio_worker_job_seconds_bucket{stage=\"run\",le=\"+Inf\"} 6",
            "studio_worker_job_seconds_sum{stage=\"run\"} 7201.5",
            "studio_worker_reconnects_total 2",
            "studio_worker_vram_threshold_gigabytes 12.5",
            "# TYPE studio_worker_job_seconds histogram",
        ] {
            assert!(page.lines().any(|other| other == line), "{line} is missing in\n{page}");
        }
        assert!(of(&Numbers::default()).contains("studio_worker_reconnects_total 0\n"));
    }

    #[test]
    fn the_dashboard_asks_for_what_there_is() {
        let families = families(&of(&Numbers::default()));
        let dashboard: Value = serde_json::from_str(include_str!("../../packaging/grafana.json")).unwrap();
        assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36, "Grafana 10");
        let (mut ids, mut asked) = (BTreeSet::new(), BTreeSet::new());
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
            assert!(panel["title"].is_string() && panel["gridPos"]["w"].as_u64().unwrap() <= 24, "{panel}");
            for target in panel["targets"].as_array().into_iter().flatten() {
                let query = target["expr"].as_str().unwrap();
                let named = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                asked.extend(named.filter(|name| name.starts_with(PREFIX)).map(str::to_owned));
            }
        }
        for name in &asked {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!(
                families.contains_key(name) || family.is_some_and(|it| families.contains_key(it)),
                "{name}"
            );
        }
        let of_family = |family: &String| asked.iter().any(|name| name.starts_with(family.as_str()));
        let unasked: Vec<_> = families.keys().filter(|family| !of_family(family)).collect();
        assert!(unasked.is_empty(), "{unasked:?}");
    }
}
