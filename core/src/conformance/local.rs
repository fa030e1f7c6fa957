//! Files and programs of this machine as a list of tests, for any runtime.

use std::{future::Future, path::Path, sync::mpsc};

use futures::{FutureExt as _, future::BoxFuture};
use libtest_mimic::Trial;

use super::{downloads, room::WithRoom};
use crate::drive::{Runtime, carry_out_showing};

/// Waits for a future on the runtime under test.
pub type BlockOn = fn(BoxFuture<'static, ()>);

/// What every runtime must do with files and programs. `start` gives one that keeps its files in a folder.
///
/// When they are over, [`nothing_is_left`](super::programs::nothing_is_left) of what they started.
pub fn on_this_machine<R: Runtime>(start: fn(&Path) -> R, block_on: BlockOn) -> Vec<Trial> {
    let of_downloads = |(name, test): &(&'static str, downloads::DownloadTest)| {
        let test = *test;
        Trial::test(format!("downloads::{name}"), move || {
            let folder = tempfile::tempdir()?;
            test(&move |wanted, room, show| {
                let runtime = WithRoom { runtime: start(folder.path()), room };
                let recipe = downloads::wanting(wanted);
                wait(block_on, carry_out_showing(runtime, "studio-worker/1".into(), recipe, show))
            });
            Ok(())
        })
    };
    let mut trials: Vec<_> = downloads::ALL.iter().map(of_downloads).collect();
    #[cfg(unix)]
    trials.extend(super::programs::ALL.iter().map(|(name, test)| {
        let test = *test;
        Trial::test(format!("programs::{name}"), move || {
            let folder = tempfile::tempdir()?;
            let machine = start(folder.path()).machine();
            test(super::programs::Subject { machine: &machine, folder: folder.path(), block_on });
            Ok(())
        })
    }));
    trials
}

/// What a future comes to.
pub(super) fn wait<T: Send + 'static>(
    block_on: BlockOn,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    let (tell, told) = mpsc::channel();
    block_on(
        async move {
            let _ = tell.send(work.await);
        }
        .boxed(),
    );
    told.recv().unwrap()
}
