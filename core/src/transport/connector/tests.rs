//! What no test on real sockets can bring about: a name that leads where the test wants.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite, executor::block_on};

use super::*;
use crate::transport::tests::Dials;

/// The addresses of `pictures.test`, and a proxy that answers so, in turn, whoever dials whatever.
#[derive(Clone)]
struct Named {
    addresses: Vec<SocketAddr>,
    answers: Arc<Mutex<Vec<&'static str>>>,
    /// What was dialed.
    dialed: Arc<Mutex<Vec<String>>>,
    /// What was written to it.
    written: Arc<Mutex<Vec<u8>>>,
}

impl Named {
    /// `answers` from the last to the first.
    fn new(addresses: &[&str], answers: &[&'static str]) -> Self {
        let addresses =
            addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 80)).collect();
        let answers = Arc::new(Mutex::new(answers.to_vec()));
        Self { addresses, answers, dialed: Arc::default(), written: Arc::default() }
    }

    /// What the proxy was asked for on the way to `pictures.test`, and how that ended.
    fn asked(&self, reach: Reach) -> (Vec<String>, Result<(), String>) {
        let proxies = Proxies::read(|name| (name == "http_proxy").then(|| "http://proxy.test:3128".into()));
        let to = Destination { secure: false, host: "pictures.test", port: 80, reach };
        let named = self.clone();
        let dial = move |host: &str, port| {
            named.dialed.lock().unwrap().push(format!("{host}:{port}"));
            let answer = named.answers.lock().unwrap().pop().unwrap_or_default().as_bytes();
            Ok(Stream { answer, written: Arc::clone(&named.written) })
        };
        let platform = Dials { dial, addresses: self.addresses.clone() };
        let opened = block_on(Connector::new(platform).with_proxies(proxies).open(to));
        let written = String::from_utf8(self.written.lock().unwrap().clone()).unwrap();
        let asked = written.lines().filter(|line| line.starts_with("CONNECT ")).map(Into::into).collect();
        assert!(reach == Reach::Any || !written.contains("pictures"), "{written}");
        (asked, opened.map(drop).map_err(|error| error.to_string()))
    }
}

struct Stream {
    answer: &'static [u8],
    written: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.answer).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.written.lock().unwrap().extend_from_slice(buffer);
        Poll::Ready(Ok(buffer.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

const TUNNEL: &str = "HTTP/1.1 200 Connection established\r\n\r\n";
const NO_WAY: &str = "HTTP/1.1 502 No way\r\n\r\n";

#[test]
fn a_proxy_is_told_the_address_of_a_name_that_was_checked() {
    // Of one that leads inside as well, the other address.
    let named = Named::new(&["10.0.0.1", "8.8.8.8", "169.254.169.254"], &[TUNNEL]);
    assert_eq!(named.asked(Reach::Public), (vec!["CONNECT 8.8.8.8:80 HTTP/1.1".into()], Ok(())));
    // The next one, if the proxy doesn't get there.
    let named = Named::new(&["2001:4860::1", "8.8.8.8"], &[TUNNEL, NO_WAY]);
    let asked = ["CONNECT [2001:4860::1]:80 HTTP/1.1", "CONNECT 8.8.8.8:80 HTTP/1.1"].map(Into::into);
    assert_eq!(named.asked(Reach::Public), (asked.into(), Ok(())));
    assert_eq!(*named.dialed.lock().unwrap(), ["proxy.test:3128", "proxy.test:3128"]);
    // Nothing of one that leads inside alone.
    let named = Named::new(&["10.0.0.1", "fd00::1"], &[TUNNEL]);
    let why = "pictures.test is not on the internet, and no other address is allowed";
    assert_eq!(named.asked(Reach::Public), (Vec::new(), Err(why.into())));
    assert!(named.dialed.lock().unwrap().is_empty());
    // Where nothing is to be checked the proxy may know the name better.
    let named = Named::new(&[], &[TUNNEL]);
    assert_eq!(named.asked(Reach::Any), (vec!["CONNECT pictures.test:80 HTTP/1.1".into()], Ok(())));
}
