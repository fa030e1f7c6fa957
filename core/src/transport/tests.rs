//! A platform for the tests of this module: nothing on it takes time, and nobody answers.

use std::{
    future::{Future, pending, ready},
    io,
};

use futures::future::lazy;

use super::Platform;
use crate::{
    http::Reach,
    time::{Mono, Now, Wall},
};

#[derive(Clone)]
pub(super) struct Here;

impl Platform for Here {
    type Stream = futures::io::Cursor<Vec<u8>>;

    fn now(&self) -> Now {
        Now { mono: Mono::ZERO, wall: Wall::from_millis(0) }
    }

    fn sleep_until(&self, _: Mono) -> impl Future<Output = ()> + Send + 'static {
        pending()
    }

    fn dial(
        &self,
        _: &str,
        _: u16,
        _: Reach,
    ) -> impl Future<Output = io::Result<Self::Stream>> + Send + 'static {
        ready(Err(io::ErrorKind::ConnectionRefused.into()))
    }

    fn compute<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        lazy(|_| work())
    }
}
