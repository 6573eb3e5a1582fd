//! `healthcheck`.

use std::io::Write;

use clap::Args;
use jiff::Timestamp;
use svidecar_api::{
    svidecar::agent::v1::{GetStatusRequest, GetStatusResponse, admin_client::AdminClient},
    transport::uds,
};
use svidecar_process::Console;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{api::args::SocketArgs, error::CliError, settings::AdminSocket};

/// `healthcheck`
#[derive(Args, Debug)]
pub struct HealthArgs {
    #[command(flatten)]
    socket: SocketArgs,
    /// Accepted for the sake of scripts; the check is cheap
    #[arg(long)]
    shallow: bool,
    /// Says what it does, and how the agent is if its admin socket is named
    #[arg(long)]
    verbose: bool,
    #[command(flatten)]
    admin: AdminSocket,
}

/// Asks, and says `Agent is healthy.` or why not.
///
/// # Errors
/// When it is not.
pub async fn check(args: HealthArgs, console: &mut Console) -> Result<(), CliError> {
    if args.verbose {
        console.line("Checking agent health...")?;
        if args.admin.is_given() {
            let channel = uds::connect_to_ours(args.admin.path()?).await.map_err(CliError::Admin)?;
            let status = AdminClient::new(channel).get_status(GetStatusRequest {}).await?.into_inner();
            print(&status, console.out())?;
        }
    }
    let status = match ask(&args).await {
        Ok(status) => status,
        Err(error) => {
            if args.verbose {
                console.note(&format!("Failed to check health: {error}"));
            }
            return Err(CliError::message("Agent is unhealthy: unable to determine health"));
        }
    };
    if status == ServingStatus::Serving {
        return Ok(console.line("Agent is healthy.")?);
    }
    Err(CliError::Message(format!("Agent is unhealthy: agent returned status \"{}\"", status.as_str_name())))
}

async fn ask(args: &HealthArgs) -> Result<ServingStatus, CliError> {
    let mut client = HealthClient::new(args.socket.connect().await?);
    Ok(client.check(HealthCheckRequest::default()).await?.into_inner().status())
}

fn print(status: &GetStatusResponse, out: &mut dyn Write) -> Result<(), CliError> {
    let or_none = |text: &str| if text.is_empty() { "none".to_owned() } else { text.to_owned() };
    let time = |seconds: i64| match seconds {
        0 => "never".to_owned(),
        _ => Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string()),
    };
    let reached = if status.server_connected { "reached" } else { "not reached" };
    writeln!(out, "Agent ID          : {}", or_none(&status.agent_id))?;
    writeln!(out, "SVID expires      : {}", time(status.svid_expires_at))?;
    writeln!(out, "Server            : {} ({reached})", status.server_address)?;
    writeln!(out, "Last sync         : {} ({})", time(status.last_sync), status.sync_mode)?;
    writeln!(out, "Entries           : {} ({} with an X509-SVID)", status.entries, status.svids)?;
    if status.insecure_bootstrap {
        writeln!(out, "Insecure bootstrap: the first contact trusted whoever answered")?;
    }
    if !status.problem.is_empty() {
        writeln!(out, "Problem           : {}", status.problem)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_away_is_told_with_its_problem() {
        let status = GetStatusResponse {
            agent_id: "spiffe://demo.org/spire/agent/x".into(),
            svid_expires_at: 1_790_000_000,
            server_address: "server:8081".into(),
            sync_mode: "none".into(),
            entries: 2,
            svids: 1,
            problem: "cannot reach the server".into(),
            ..Default::default()
        };
        let mut out = Vec::new();
        print(&status, &mut out).unwrap();
        let expected = "Agent ID          : spiffe://demo.org/spire/agent/x\n\
            SVID expires      : 2026-09-21T14:13:20Z\n\
            Server            : server:8081 (not reached)\n\
            Last sync         : never (none)\n\
            Entries           : 2 (1 with an X509-SVID)\n\
            Problem           : cannot reach the server\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
