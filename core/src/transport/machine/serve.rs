//! A program that goes on, and is asked over HTTP.

use std::{
    fmt::Write as _,
    io,
    net::{Ipv4Addr, TcpListener},
    process::Stdio,
    sync::mpsc,
    thread,
    time::Duration,
};

use futures::{FutureExt as _, channel::oneshot};

use super::{
    THREAD,
    find::{Known, Surroundings},
    group::{Group, Reins, Rider, how},
    pipes::Beside,
    run::scratch,
};
use crate::{
    drive::Launched,
    machine::{Ended, ProgramFailure, ServerWanted, Serving},
    transport::{Folder, seed},
    wire::Secret,
};

/// How long a server that was asked to end has for that.
const GRACE: Duration = Duration::from_secs(5);

/// Starts a server.
pub(super) fn launch(
    server: &ServerWanted,
    surroundings: &Surroundings,
    folder: &Folder,
) -> Result<Launched, ProgramFailure> {
    let trouble = |error: &dyn std::error::Error| ProgramFailure::Trouble {
        program: server.program.program.clone(),
        why: error.to_string(),
    };
    let port = free_port().map_err(|error| trouble(&error))?;
    let key = seed().map_err(|error| trouble(&error))?.iter().fold(String::new(), |mut key, byte| {
        let _ = write!(key, "{byte:02x}");
        key
    });
    let scratch = scratch(folder).map_err(|error| trouble(&error))?;
    let known = Known { scratch: scratch.path(), server: Some((port, &key)) };
    let mut command = surroundings.command(&server.program, &known)?;

    let reins = Reins::default();
    // Until it is handed over, what fails ends it.
    let rider = Rider::new(&reins);
    let (tell, told) = oneshot::channel();
    let started = (|| {
        let mut beside = Beside::new(&reins);
        let (said, says) = io::pipe()?;
        let words = beside.listen(said)?;
        command.stdin(Stdio::null()).stdout(says.try_clone()?).stderr(says);
        let group = Group::start(&mut command, scratch.path(), &reins)?;
        // It has our ends of the pipes.
        drop(command);
        thread::Builder::new().name(THREAD.into()).spawn(move || {
            let status = group.ended();
            beside.end();
            let (code, signal) = status.map_or((None, None), how);
            drop(scratch);
            // Nobody may want to know.
            let _ = tell.send(Ended { code, signal, stderr: words.last() });
        })
    })();
    started.map_err(|error| trouble(&error))?;

    let (over, is_over) = mpsc::channel::<()>();
    let stop = move || {
        reins.terminate();
        let late = reins.clone();
        let kill = move || {
            let _ = is_over.recv_timeout(GRACE);
            late.kill();
        };
        if thread::Builder::new().name(THREAD.into()).spawn(kill).is_err() {
            // Without a thread for that there is no grace.
            reins.kill();
        }
    };
    let ended = async move {
        let (_rider, _over) = (rider, over);
        told.await.unwrap_or_default()
    };
    Ok(Launched {
        serving: Serving { base: format!("http://127.0.0.1:{port}"), key: Secret::from(key) },
        stop: Box::new(stop),
        ended: ended.boxed(),
    })
}

/// A port of this machine alone that nobody listens on. Somebody may until the server does: then that ends, and is
/// launched again.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
