//! Studios behind TLS whose authority is private, or nobody's.

use studio_worker_core::{
    conformance::{
        self, Hosted as _, Network, Start, registered,
        scenarios::{self, Scenario},
    },
    worker::Identity,
};

use crate::{Test, program::Host, tests};

pub(crate) const ALL: &[(&str, Test)] = tests! {
    an_authority_that_is_not_known_is_named_and_not_trusted
    a_certificate_for_another_host_is_refused
};

/// The scenarios that are played over TLS, too: all that a session and an upload say is said in them.
pub(crate) fn scenarios() -> Vec<(&'static str, Scenario)> {
    let wanted = [
        "a_worker_registers_is_approved_and_delivers",
        "a_refused_token_ends_the_worker",
        "a_dropped_connection_is_followed_by_another_session",
        "a_job_that_outlives_its_session_is_not_run_again",
        "reading_goes_on_while_writing_waits",
        "a_result_is_uploaded",
        "an_answer_before_the_body_has_left_is_heard",
        "an_upload_whose_connection_breaks_is_tried_again",
        "a_stop_fails_what_runs",
    ];
    wanted.map(named).into()
}

/// Those of them in which HTTP and a session are all there.
pub(crate) fn whole() -> Vec<(&'static str, Scenario)> {
    ["a_worker_registers_is_approved_and_delivers", "a_result_is_uploaded"].map(named).into()
}

fn named(wanted: &str) -> (&'static str, Scenario) {
    scenarios::ALL.iter().find(|(name, _)| *name == wanted).copied().unwrap()
}

/// `SSL_CERT_FILE` says whom to trust; whoever comes with another authority's word is told nothing.
fn an_authority_that_is_not_known_is_named_and_not_trusted(on: &'static str) {
    let host = Host::over(Network::loopback_tls(), on);
    let stranger = Network::loopback_tls().studio();
    let start = Start { base: &stranger.base(), identity: registered(), held: false };
    let program = host.program(&start);
    let line = program.logs("no session, trying again");
    assert!(line.contains("invalid peer certificate") && line.contains("UnknownIssuer"), "{line}");
    assert!(line.contains("name a file with the authority's certificate in `ca_file`"), "{line}");
    assert!(!stranger.has_upgrade());
    program.drain();
    assert_eq!(program.ended().code, 0);

    // The same over HTTP: it is not even asked for registration.
    let start = Start { base: &stranger.base(), identity: Identity::default(), held: false };
    let program = host.program(&start);
    // As curl says it, and as rustls does.
    let words = if on == "tokio" { "UnknownIssuer" } else { "the server certificate could not be validated" };
    let line = program.logs(words);
    assert!(line.contains("name a file with the authority's certificate in `ca_file`"), "{line}");
    assert!(!stranger.has_request());
    program.drain();
    assert_eq!(program.ended().code, 0);
}

/// The authority is known, and what it vouches for is `127.0.0.1`.
fn a_certificate_for_another_host_is_refused(on: &'static str) {
    let host = Host::over(Network::loopback_tls(), on);
    let elsewhere = conformance::Host::network(&host).studio_at(([127, 0, 0, 2], 0).into());
    for (identity, by_rustls) in [(registered(), true), (Identity::default(), on == "tokio")] {
        let program = host.program(&Start { base: &elsewhere.base(), identity, held: false });
        let line = program.logs("trying again");
        if by_rustls {
            assert!(line.contains("certificate not valid for name \"127.0.0.2\""), "{line}");
            assert!(!line.contains("ca_file"), "{line}");
        } else {
            // curl does not tell why.
            assert!(line.contains("it is for another host, or by an authority that is not known"), "{line}");
        }
        assert!(!elsewhere.has_upgrade() && !elsewhere.has_request());
        program.drain();
        assert_eq!(program.ended().code, 0);
    }
}
