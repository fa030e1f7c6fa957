//! The scenarios as a list of tests, each on a network of its own.

use libtest_mimic::{Arguments, Trial};

use super::{
    Host, InProcess, Network, StartWorker, proxies,
    scenarios::{ALL, BOUNDS, HOURS, IN_PROCESS, SECURE, Scenario},
};

/// What a worker must do behind a proxy that is the only way to its studio, for workers in this process.
pub fn behind_proxy(start: StartWorker) -> Vec<Trial> {
    let networks: [fn() -> Network; 2] = [Network::proxied, Network::proxied_tls];
    let over = |network: fn() -> Network| {
        with_host(network().name(), &proxies::scenarios(), move || InProcess::new(network(), start))
    };
    networks.into_iter().flat_map(over).collect()
}

/// The scenarios for workers in this process, over each of these networks: `wss::a_result_is_uploaded`, say. In virtual
/// time they are all there; by the system's clock those are left out that take long.
pub fn in_process(networks: &[fn() -> Network], start: StartWorker) -> Vec<Trial> {
    let over = |network: &fn() -> Network| {
        let network = *network;
        let (example, host) = (network(), move || InProcess::new(network(), start));
        let name = example.name();
        let mut trials = with_host(name, ALL, host);
        if !example.roots().is_empty() {
            trials.extend(with_host(name, SECURE, host));
        }
        if example.clock().is_simulated() {
            trials.extend(with_host(name, BOUNDS, host));
            trials.extend(with_host(name, HOURS, host));
        }
        trials.extend(IN_PROCESS.iter().map(|(scenario, play)| trial(name, scenario, host, play)));
        trials
    };
    networks.iter().flat_map(over).collect()
}

/// These scenarios, each with a host of its own. Their names begin with `prefix`.
pub fn with_host<H: Host + 'static>(
    prefix: &str,
    scenarios: &[(&str, Scenario)],
    host: impl Fn() -> H + Copy + Send + 'static,
) -> Vec<Trial> {
    let play = |(name, scenario): &(&str, Scenario)| {
        let scenario = *scenario;
        trial(prefix, name, host, move |host: &H| scenario(host))
    };
    scenarios.iter().map(play).collect()
}

fn trial<H: Host>(
    prefix: &str,
    name: &str,
    host: impl Fn() -> H + Send + 'static,
    scenario: impl Fn(&H) + Send + 'static,
) -> Trial {
    Trial::test(format!("{prefix}::{name}"), move || {
        let host = host();
        let _part = host.network().clock().take_part();
        scenario(&host);
        Ok(())
    })
}

/// Runs them as the command line says, and ends the program. That is the whole of a `main` without libtest's harness.
pub fn run(trials: Vec<Trial>) -> ! {
    let mut arguments = Arguments::from_args();
    // They mostly wait; what a few of them say is large.
    arguments.test_threads.get_or_insert(24);
    libtest_mimic::run(&arguments, trials).exit()
}
