//! The proxy as a process: start in order, follow signals, stop in order.
//!
//! Everything that is not the data path lives on the thread that calls [`run`].

use std::{
    ffi::{OsStr, OsString},
    process::ExitCode,
};

use nix::sys::signal::Signal;
use svidecar_config::{
    load::Loader,
    proxy::{OnNetworkLoss, ProxySettings},
};
use svidecar_process::{Child, Received, Signals, clock, descriptors, log};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::{
    control::{
        network::{self, NetworkWatch},
        proxy::Proxy,
        ready::Readiness,
    },
    error::ProxyError,
};

/// Runs the proxy, and when it is ready `command`, until a signal or the end of that app ends it.
///
/// # Errors
/// What keeps it from starting or going on.
pub fn run(loader: Loader<ProxySettings>, command: Option<Vec<OsString>>) -> Result<ExitCode, ProxyError> {
    let settings = loader.load()?.value;
    let _log = log::init(&settings.log).map_err(|error| ProxyError::Log(error.to_string()))?;
    descriptors::raise();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .map_err(|source| ProxyError::System { what: "start the control runtime", source })?;
    let code = runtime.block_on(supervise(loader, settings, command));
    runtime.shutdown_background();
    code.map(ExitCode::from)
}

/// Why the proxy begins to stop.
enum Reason {
    Signal(Signal),
    AppEnded(u8),
    NetworkLost(Vec<String>),
}

async fn supervise(
    loader: Loader<ProxySettings>,
    settings: ProxySettings,
    command: Option<Vec<OsString>>,
) -> Result<u8, ProxyError> {
    let drain_timeout = settings.drain_timeout.get();
    let mut signals = Signals::new()?;
    let (reload, reload_requests) = mpsc::channel(1);
    let proxy = Proxy::start(loader, settings, reload_requests).await?;
    let mut app = None;
    let mut network = network_watch(&proxy)?;

    let reason = loop {
        let to_start = command.as_ref().filter(|_| app.is_none());
        tokio::select! {
            command = when_ready(&proxy, to_start) => app = Some(start_app(command, &proxy)?),
            code = app_end(&mut app) => break Reason::AppEnded(code?),
            interfaces = network_loss(&mut network, &proxy) => {
                if let Some(app) = &app {
                    app.signal(Signal::SIGTERM);
                }
                break Reason::NetworkLost(interfaces);
            }
            error = proxy.failed() => return Err(error),
            received = signals.next() => match received.signal {
                Signal::SIGHUP => {
                    proxy.shared().telemetry.reopen();
                    // A reload that waits already will see the newest files.
                    let _ = reload.try_send(());
                }
                Signal::SIGUSR1 | Signal::SIGUSR2 => pass_on(&app, received),
                signal => {
                    pass_on(&app, received);
                    break Reason::Signal(signal);
                }
            },
        }
    };
    let drain = proxy.shared().drain.clone();
    let mut lost = None;
    let mut code = match reason {
        Reason::AppEnded(code) => code,
        Reason::Signal(signal) => {
            info!(%signal, "Stopping; a second signal ends everything at once");
            0
        }
        Reason::NetworkLost(interfaces) => {
            // There is nobody left to finish with.
            drain.force();
            lost = Some(ProxyError::NetworkLost { interfaces, after: network::GRACE });
            0
        }
    };
    let stopping = async {
        // The app finishes first: it still needs its outbound connections.
        if app.as_ref().is_some_and(Child::is_running) {
            match tokio::time::timeout(drain_timeout, app_end(&mut app)).await {
                Ok(ended) => code = ended?,
                Err(_) => warn!("The app did not end within the drain timeout"),
            }
        }
        if lost.is_none() {
            drain.run(drain_timeout).await;
        }
        Ok::<_, ProxyError>(())
    };
    tokio::select! {
        stopped = stopping => stopped?,
        signal = signals.next_of_termination() => {
            warn!(%signal, "A second signal: cutting what is left");
            drain.force();
        }
    }
    if let Some(app) = app.as_mut().filter(|app| app.is_running()) {
        app.signal(Signal::SIGKILL);
        code = app.wait().await?;
    }
    proxy.stop();
    info!("Stopped");
    lost.map_or(Ok(code), Err)
}

/// Follows the network. Where the system does not let us, that is an error only for those who rely on it.
fn network_watch(proxy: &Proxy) -> Result<Option<NetworkWatch>, ProxyError> {
    match NetworkWatch::start() {
        Ok(watch) => Ok(Some(watch)),
        Err(source) if on_network_loss(proxy) == OnNetworkLoss::Exit => {
            Err(ProxyError::System { what: "follow the network interfaces", source })
        }
        Err(error) => {
            debug!(%error, "The network interfaces are not followed");
            Ok(None)
        }
    }
}

fn on_network_loss(proxy: &Proxy) -> OnNetworkLoss {
    proxy.shared().current.load().plan.settings.on_network_loss
}

/// Pends until the network is lost and the settings say that this is the end.
async fn network_loss(watch: &mut Option<NetworkWatch>, proxy: &Proxy) -> Vec<String> {
    let Some(watch) = watch else { return std::future::pending().await };
    loop {
        let interfaces = watch.lost().await;
        if on_network_loss(proxy) == OnNetworkLoss::Exit {
            return interfaces;
        }
        warn!(
            interfaces = interfaces.join(", "),
            "The network is gone, so nobody can reach this proxy. If the container whose network it shares was started again, \
             start this one again too, or set on_network_loss: exit and give it a restart policy"
        );
    }
}

/// Gives the command back when the proxy is ready; pends forever when there is none.
async fn when_ready<'c>(proxy: &Proxy, command: Option<&'c Vec<OsString>>) -> &'c [OsString] {
    let Some(command) = command else { return std::future::pending().await };
    let shared = proxy.shared();
    let mut changes = shared.current.subscribe();
    loop {
        let readiness = Readiness::of(shared, clock::unix());
        if readiness.ready {
            info!("Ready; starting the app");
            return command;
        }
        info!(missing = readiness.missing(), "The app waits until the proxy is ready");
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Pends forever while there is no app.
async fn app_end(app: &mut Option<Child>) -> Result<u8, ProxyError> {
    match app {
        Some(child) if child.is_running() => Ok(child.wait().await?),
        _ => std::future::pending().await,
    }
}

fn pass_on(app: &Option<Child>, received: Received) {
    if let Some(app) = app {
        app.pass_on(received);
    }
}

/// Starts the app, which learns where the proxy beside it can be asked.
fn start_app(command: &[OsString], proxy: &Proxy) -> Result<Child, ProxyError> {
    let admin = proxy.admin_address().map(|address| format!("http://{address}"));
    let told = admin.as_deref().map(|admin| ("SVIDECAR_ADMIN", Some(OsStr::new(admin))));
    Ok(Child::start(command, told.as_slice())?)
}
