//! `studio-worker studio`

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
};

use clap::Args;
use studio_worker_core::studio::Options;

use crate::{
    Error, machine,
    studio::{Config, Server, default_data_dir},
};

/// The arguments of `studio`.
#[derive(Debug, Args)]
pub struct Studio {
    /// Listen on this address. On any other than loopback the HTTP API wants the admin token.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8700")]
    listen: SocketAddr,
    /// Keep jobs, results, workers and logs in this directory, instead of the user's data directory.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Let in every worker that asks, without an operator. Whoever reaches the studio then gets its jobs.
    #[arg(long)]
    auto_approve: bool,
    /// Also answer to this name while listening on loopback, as behind a proxy or a tunnel. It can be given several
    /// times.
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
}

/// What the help of `studio` ends with.
pub(super) const EXAMPLES: &str = "\
Examples:
  studio-worker studio --data ./studio
  studio-worker register --api-base-url http://127.0.0.1:8700 && studio-worker run

Everything can be done on the page at http://127.0.0.1:8700, and by scripts:
  curl http://127.0.0.1:8700/api/v1/registrations?status=pending
  curl -X POST http://127.0.0.1:8700/api/v1/registrations/RR/approve
  curl http://127.0.0.1:8700/api/v1/jobs -H 'Content-Type: application/json' \\
    -d '{\"model\": \"synthetic\", \"task\": {\"kind\": \"image\", \"prompt\": \"a lighthouse\", \"ext\": \"png\"}}'
  curl http://127.0.0.1:8700/api/v1/jobs/JOB
  curl -o result.png http://127.0.0.1:8700/api/v1/jobs/JOB/result

The whole API is described at http://127.0.0.1:8700/openapi.json. A studio that doesn't listen on loopback wants
  -H \"Authorization: Bearer $(cat DIR/admin-token)\"
with each of these, and a proxy with TLS in front of it.";

impl Studio {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Error> {
        let data = match self.data {
            Some(data) => data,
            None => default_data_dir().map_err(other)?,
        };
        let options = Options { auto_approve: self.auto_approve, ..Options::default() };
        let config = Config { listen: self.listen, names: self.host, data, options };
        let server = Server::open(config).map_err(other)?;
        let runtime = crate::studio::runtime()?;
        runtime.block_on(async {
            let mut signals = Signals::listen().map_err(Error::Signals)?;
            let address = reached_by(server.address());
            match introduce(&server, &address, out) {
                // Whoever started it has read what they wanted.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                told => told?,
            }
            let (stop, stopped) = tokio::sync::oneshot::channel();
            let serving = server.run(async {
                let _ = stopped.await; // told, or nobody will tell any more
            });
            let signalled = async {
                signals.next().await;
                log::info!("a signal came: ending; another signal ends at once");
                let _ = stop.send(());
                signals.next().await;
            };
            tokio::select! {
                ended = serving => ended.map_err(other),
                () = signalled => Ok(()),
            }
        })
    }
}

/// Says where it is.
fn introduce(server: &Server, address: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "studio:       http://{address}")?;
    writeln!(out, "data:         {}", server.data().display())?;
    if let Some(path) = server.admin_token_path() {
        writeln!(out, "admin token:  {}", path.display())?;
    }
    writeln!(out, "for workers:  studio-worker register --api-base-url http://{address}")?;
    out.flush()
}

/// The address as others reach it: all addresses of this machine are none that can be connected to.
fn reached_by(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("{}:{}", machine::host_name(), address.port())
    } else {
        address.to_string()
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Other(Box::new(error))
}

/// SIGTERM and SIGINT, or Ctrl-C where there are no signals.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Listens from now on: the signals no longer end the process by themselves.
    fn listen() -> std::io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
