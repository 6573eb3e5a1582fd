//! Makes one accident happen, and undoes it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use svidecar_process::clock;
use svidecar_stack::PATIENCE;
use tokio::time;

use crate::{
    fleet::Fleet,
    history::History,
    link::Weather,
    schedule::{Event, Fault},
};

/// Makes it happen, waits until it is over and its part is itself again.
///
/// # Errors
/// When it cannot be made, or the part does not come back.
pub async fn strike(fleet: &Fleet, history: &Arc<Mutex<History>>, event: Event) -> Result<()> {
    let _alone = fleet.member(event.part)?.accident.lock().await;
    // A policy that is edited and an entry that is deleted are no trouble: all must go on as they say.
    let is_trouble = !matches!(event.fault, Fault::EditPolicy | Fault::DeleteEntry);
    if is_trouble {
        lock(history).begins(event.part, clock::monotonic());
    }
    happen(fleet, history, event).await.with_context(|| format!("this accident: {event}"))?;
    fleet.member(event.part)?.becomes_ready(PATIENCE).await?;
    if is_trouble {
        lock(history).ends(event.part, clock::monotonic());
    }
    Ok(())
}

async fn happen(fleet: &Fleet, history: &Mutex<History>, event: Event) -> Result<()> {
    let member = fleet.member(event.part)?;
    let link = fleet.links.get(event.part.agent()).context("no link")?;
    match event.fault {
        Fault::Kill => {
            member.end(Signal::SIGKILL).await?;
            lasts(event.lasts).await;
            member.begin().await
        }
        Fault::Restart => {
            member.end(Signal::SIGTERM).await?;
            member.begin().await
        }
        Fault::Freeze => {
            member.signal(Signal::SIGSTOP).await?;
            lasts(event.lasts).await;
            member.signal(Signal::SIGCONT).await
        }
        Fault::Clock(seconds) => {
            let clock = member.clock.as_ref().context("its clock cannot be set")?;
            clock.set(seconds)?;
            lasts(event.lasts).await;
            clock.set(0)
        }
        Fault::FullDisk => {
            let disk = fleet.disks.get(&event.part).context("it has no disk of its own")?;
            disk.fill()?;
            lasts(event.lasts).await;
            disk.clear()
        }
        Fault::Refuse | Fault::Silence => {
            let refuse = event.fault == Fault::Refuse;
            link.set(if refuse { Weather::Refusing } else { Weather::Silent });
            lasts(event.lasts).await;
            link.set(Weather::Fair);
            Ok(())
        }
        Fault::DeleteEntry => {
            fleet.unregister(event.part).await?;
            lasts(event.lasts).await;
            fleet.register(event.part).await
        }
        Fault::EditPolicy => {
            edit(fleet, history, true)?;
            lasts(event.lasts).await;
            edit(fleet, history, false)
        }
        Fault::Restore => fleet.restore(event.lasts).await,
    }
}

fn edit(fleet: &Fleet, history: &Mutex<History>, allow: bool) -> Result<()> {
    lock(history).edited(clock::monotonic(), allow);
    fleet.allow_interns(allow)
}

async fn lasts(span: Duration) {
    time::sleep(span).await;
}

/// The history; what a panic left of it is still true.
pub fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}
