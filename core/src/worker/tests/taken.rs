//! Section 6: an upload that outlives its claim, and an offer of its job that is older than its delivery.

use serde_json::json;

use super::rig::*;

/// The studio offers the job again while its upload still moves, and has the bytes before the offer arrives.
#[test]
fn an_offer_that_was_sent_before_the_studio_had_the_result_is_not_run() {
    let mut rig = uploading("j-1");
    rig.reopen();
    rig.answered(status(200));
    assert!(rig.completed("j-1"));
    rig.frame(&image("j-1"));
    // A `reject` of a job that the studio does not hold is no violation, and one that it does hold is offered again.
    let rejects = rig.frames();
    assert_eq!(
        (rejects.len(), &rejects[0]["type"], &rejects[0]["code"]),
        (1, &"reject".into(), &"busy".into())
    );
    assert_eq!(rig.runs_of("j-1"), 1);
    // Another task under the same id, or another job, is what it is.
    rig.frame(&offer("j-1", json!({ "kind": "image", "prompt": "another" })));
    assert_eq!(rig.said(), ["accept"]);
}

#[test]
fn an_offer_behind_the_answer_to_a_later_heartbeat_is_a_new_one() {
    // The heartbeat under way when the result is delivered may be answered before; the next one is not.
    for under_way in [false, true] {
        let mut rig = uploading("j-1");
        rig.reopen();
        if !under_way {
            rig.frame(&json!({ "type": "heartbeatAck" }));
        }
        rig.answered(status(200));
        if under_way {
            rig.frame(&json!({ "type": "heartbeatAck" }));
        }
        rig.frame(&image("j-1"));
        assert_eq!(rig.said(), ["reject"]);
        rig.pass_in_silence(secs(5));
        rig.frame(&json!({ "type": "heartbeatAck" }));
        rig.frame(&image("j-1"));
        assert!(rig.said().contains(&"accept".into()));
        assert_eq!(rig.runs_of("j-1"), 2);
    }
}

#[test]
fn an_offer_of_a_session_that_began_after_the_delivery_is_a_new_one() {
    let mut rig = uploading("j-1");
    rig.break_connection();
    rig.answered(status(200));
    rig.open();
    rig.frame(&image("j-1"));
    assert_eq!(rig.runs_of("j-1"), 2);
}
