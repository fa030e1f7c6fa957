//! Times of the core: each frame, a heartbeat, an offer, and a job from its offer to its acknowledgement.
//!
//! `cargo bench -p studio-worker-core --bench speed`. Beside each offer stands the yardstick: `serde_json` reading the
//! same bytes into plain derived types. On a machine that others use too, `--bench instructions` repeats better.
#![allow(missing_docs, clippy::expect_used, reason = "a program that measures")]

#[allow(dead_code, reason = "shared with what measures memory")]
mod common;

use common::{
    operations::{self, Work},
    published,
};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

fn operations(criterion: &mut Criterion) {
    for operation in operations::all() {
        criterion.bench_function(&operation.name, |bencher| match &operation.work {
            Work::Read(text) => bencher.iter_with_large_drop(|| published::read(text)),
            Work::Hear(rig, text) => bencher.iter_batched(
                || (rig.clone(), text.clone()),
                |(mut rig, text)| {
                    rig.hear(text);
                    rig
                },
                BatchSize::SmallInput,
            ),
            Work::Again(start) => bencher.iter(start()),
        });
    }
}

criterion_group!(all, operations);
criterion_main!(all);
