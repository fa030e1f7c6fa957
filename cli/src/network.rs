//! What is on the way to a studio: the proxies that the environment names.

use studio_worker_core::{
    http::{Reach, proxy::Destination},
    transport,
};

use crate::{config::Config, logging};

/// Keeps the credentials of proxies out of everything that is logged or reported from now on.
pub fn learn() {
    transport::proxies().secrets().iter().for_each(logging::learn);
}

/// Says which proxy leads to the studio, if one does: nobody should have to guess that.
pub fn log_way(config: &Config) {
    learn();
    let (host, port) = config.api_base.host_and_port();
    let to = Destination { secure: config.api_base.is_secure(), host, port, reach: Reach::Any };
    match transport::proxies().to(&to) {
        Ok(Some(proxy)) => {
            log::info!("the studio is reached through the proxy {proxy} ({})", proxy.variable());
        }
        Ok(None) => {}
        Err(problem) => log::warn!("the studio can't be reached: {problem}"),
    }
}
