//! A way to a studio that can be shut for a while.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

pub(crate) struct Gate {
    address: SocketAddr,
    is_shut: Arc<AtomicBool>,
}

impl Gate {
    /// An open one.
    pub(crate) fn to(studio: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gate = Self { address: listener.local_addr().unwrap(), is_shut: Arc::default() };
        let is_shut = Arc::clone(&gate.is_shut);
        // It ends with the process of the tests.
        thread::spawn(move || {
            for guest in listener.incoming().flatten() {
                if !is_shut.load(Ordering::SeqCst)
                    && let Ok(host) = TcpStream::connect(studio)
                {
                    pass(guest.try_clone().unwrap(), host.try_clone().unwrap());
                    pass(host, guest);
                }
            }
        });
        gate
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who comes from now on is sent away, or no more.
    pub(crate) fn shut(&self, is_shut: bool) {
        self.is_shut.store(is_shut, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}
