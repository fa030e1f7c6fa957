//! Whatever comes, in whatever order: the studio keeps its own promises. (`sim::studio` says which.)

use proptest::prelude::*;

use super::rig::{Member, Rig, old};
use crate::{
    sim,
    studio::Input,
    wire::{JobId, Secret},
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_jobs_and_sessions_stay_in_step(ops in prop::collection::vec(any::<u8>(), 1..600)) {
        sim::studio(&ops);
    }

    #[test]
    fn no_body_and_no_frame_makes_it_stumble(body in any::<Vec<u8>>(), text in ".{0,40}") {
        let mut rig = Rig::new();
        let (member, conn) = rig.worker("i", &old());
        rig.call(|call| Input::Register { call, peer: text.clone(), body });
        rig.input(Input::Text { conn, text: text.clone() });
        rig.call(|call| Input::Poll { call, request_id: text.clone(), bearer: Some(Secret::new(text.clone())) });
        rig.upload_begins(&Member { id: text.clone(), ..member }, &JobId::from(text));
    }
}
