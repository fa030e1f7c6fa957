//! What must never happen, in whatever order things happen: the oracle of the simulation watches every test of
//! this folder (see [`super::rig::Rig`]), and here random histories, which are cut down to the shortest one.

use alloc::vec::Vec;

use proptest::{collection::vec, prelude::*};

/// Operations as the fuzz target reads them, the usual ones more often: so that sessions get somewhere.
fn operations() -> impl Strategy<Value = Vec<(u8, u8)>> {
    let op = prop_oneof![
        // A studio that talks: upgrade, welcome, offers, acks.
        4 => prop_oneof![Just(0_u8), Just(2), Just(8), Just(9)],
        4 => 4..=7_u8,
        // An engine and uploads that end.
        3 => 13..=15_u8,
        3 => 16..=18_u8,
        // Memory is measured, bytes move.
        3 => Just(18_u8),
        // Time passes, frames leave, things are stored.
        4 => prop_oneof![Just(20_u8), Just(22), Just(31), Just(19)],
        // Sessions end.
        1 => 10..=12_u8,
        2 => 0..32_u8,
    ];
    vec((op, any::<u8>()), 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_keep_every_promise(registered in 0..8_u8, operations in operations()) {
        let mut data = alloc::vec![registered];
        data.extend(operations.into_iter().flat_map(|(op, how)| [op, how]));
        crate::sim::session(&data);
    }
}
