//! Who a worker is at its first start, where somebody has registered it already.

use studio_worker_core::{
    wire::address::is_segment,
    worker::{Exit, Identity},
};

use crate::{
    Error,
    config::{Config, ConfigFile, Edit},
    secrets,
};

/// The configuration, with the id and the token in it that the environment has for a worker (`STUDIO_WORKER_ID`,
/// `STUDIO_WORKER_AUTH_TOKEN`, or systemd's credentials). They count for one that has nothing stored of a registration: from
/// then on what is stored is newer.
pub(super) fn adopt(file: &ConfigFile, config: Config) -> Result<Config, Error> {
    let unknown = Identity { install_id: config.identity.install_id.clone(), ..Identity::default() };
    if config.identity != unknown {
        return Ok(config);
    }
    let (id, token) = (secrets::WORKER_ID.find_text()?, secrets::AUTH_TOKEN.find()?);
    let (id, token) = match (id, token) {
        (Some(id), Some(token)) if is_segment(&id) => (id, token),
        (Some(_), Some(_)) => {
            return Err(Error::Argument("STUDIO_WORKER_ID is not the id of a worker".into()));
        }
        (None, Some(_)) => {
            let problem = "there is a token for a worker and no id: give STUDIO_WORKER_ID beside STUDIO_WORKER_AUTH_TOKEN";
            return Err(Error::Argument(problem.into()));
        }
        // An id alone may be there for something else.
        (_, None) => return Ok(config),
    };
    log::info!("starts as the worker {id}, with the token that was given for it");
    Ok(file.edit(&[Edit::set("worker_id", id), Edit::set("auth_token", token.reveal())])?)
}

/// After a token was refused: says if it is the one that the environment gives. `register --reset` alone would only have it
/// taken and refused again.
pub(super) fn advise(exit: &Exit, file: &ConfigFile) {
    let Exit::Unauthorized { .. } = exit else { return };
    let (Ok(Some(given)), Ok(config)) = (secrets::AUTH_TOKEN.find(), file.load()) else { return };
    if config.identity.auth_token == Some(given) {
        log::warn!(
            "the token that was refused is the one that STUDIO_WORKER_AUTH_TOKEN or the credential `auth_token` gives: \
             take it away there, or give a newer one, before `register --reset`"
        );
    }
}
