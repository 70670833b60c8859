//! Executors that serve knows: which process each is, so that what a dead one held is free at once.

use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::{
    model::{TransferId, transfer::NoteKind},
    store::Write,
};

use super::{GONE_MAX, Ledger, LedgerError, add, change::POISON, gone_is, keys};

/// A process that can be told from every other one, also from one that got its number later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorProcess {
    /// The executor's instance: a new one at every start.
    pub instance: String,
    /// Its process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot (proc_pid_stat(5), field 22).
    pub start_ticks: u64,
    /// Which boot of the machine (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
}

impl ExecutorProcess {
    /// The running process `pid`, as an executor called `instance`.
    pub fn find(instance: impl Into<String>, pid: u32) -> io::Result<Self> {
        let start_ticks = start_ticks(pid)?;
        Ok(Self { instance: instance.into(), pid, start_ticks, boot_id: boot_id()? })
    }

    /// Whether this very process still runs. One that has ended but was not waited for counts as gone.
    pub fn is_alive(&self) -> bool {
        // When the boot is not known, the times of start tell enough.
        let same_boot = boot_id().map_or(true, |boot| boot == self.boot_id);
        same_boot && start_ticks(self.pid).is_ok_and(|start| start == self.start_ticks)
    }
}

/// Why an attempt loses its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It ran out. Nobody saw the attempt end.
    Expired,
    /// Its executor was seen to end, and the attempt with it.
    ExecutorDied,
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Time of start of a process that has not ended.
fn start_ticks(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything; fields are counted behind it, from the third.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut fields = fields.split_whitespace();
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "unknown form of /proc/PID/stat");
    match fields.next().ok_or_else(unreadable)? {
        "Z" | "X" => Err(io::ErrorKind::NotFound.into()),
        _ => fields.nth(18).and_then(|ticks| ticks.parse().ok()).ok_or_else(unreadable),
    }
}

impl Ledger {
    /// Remembers an executor's process, durably.
    pub async fn register_executor(&self, process: &ExecutorProcess) -> Result<(), LedgerError> {
        let value = serde_json::to_vec(process).expect("strings and numbers");
        self.write(vec![Write::Put(keys::executor(&process.instance), value)]).await?;
        self.inner.executors.lock().expect(POISON).insert(process.instance.clone(), process.clone());
        Ok(())
    }

    /// Frees at once everything that an executor held which is known to have ended. What it sends from now on is
    /// refused.
    pub async fn release_executor(&self, instance: &str) -> Result<(), LedgerError> {
        self.inner.swarms.lock().expect(POISON).executor_ended(instance);
        {
            let mut gone = self.inner.gone.lock().expect(POISON);
            gone.insert(instance.to_owned());
            if gone.len() > GONE_MAX {
                gone.pop_first();
            }
        }
        self.inner.fleet.lock().expect(POISON).left(instance);
        let held = self.inner.leases.lock().expect(POISON).of_executor(instance);
        for (id, epoch) in held {
            self.lose(id, epoch, Loss::ExecutorDied).await?;
        }
        self.inner.sweeps_out.lock().expect(POISON).retain(|_, out| out.executor != instance);
        let known = self.inner.executors.lock().expect(POISON).contains_key(instance);
        if known {
            self.write(vec![Write::Delete(keys::executor(instance))]).await?;
            self.inner.executors.lock().expect(POISON).remove(instance);
        }
        self.ring();
        Ok(())
    }

    /// Executors that serve knows.
    pub fn executors(&self) -> Vec<ExecutorProcess> {
        self.inner.executors.lock().expect(POISON).values().cloned().collect()
    }

    pub(crate) fn is_gone(&self, instance: &str) -> bool {
        self.inner.gone.lock().expect(POISON).contains(instance)
    }

    /// Takes the lease of an attempt away.
    pub(crate) async fn lose(&self, id: TransferId, epoch: u64, loss: Loss) -> Result<(), LedgerError> {
        let why = match loss {
            Loss::Expired => "its lease expired",
            Loss::ExecutorDied => "its executor died",
        };
        let lost = self
            .change(id, |change| {
                if change.record.epoch != epoch || !change.record.state.is_leased() {
                    return Ok(false);
                }
                if let Some(distribution) = change.record.distribution {
                    self.inner.swarms.lock().expect(POISON).lose(distribution, id);
                }
                if loss == Loss::Expired {
                    // Asked here, where nobody else has this transfer's turn: a renewal may have come since.
                    let now = self.inner.environment.monotonic();
                    if !self.inner.leases.lock().expect(POISON).end_expired(id, epoch, now) {
                        return Ok(false);
                    }
                    change.record.stray_attempts = true;
                }
                change.note(NoteKind::LeaseLost, format!("attempt {epoch} is over: {why}"));
                change.yielded()?;
                Ok(true)
            })
            .await;
        if self.skip_unreadable(gone_is(lost, false), false)? {
            tracing::warn!(transfer = %id, epoch, why, "a lease is free again");
            add(&self.inner.counters.leases_lost, 1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_until_it_ends() {
        let own = ExecutorProcess::find("own", std::process::id()).unwrap();
        assert!(own.is_alive());
        assert!(!ExecutorProcess { start_ticks: own.start_ticks + 1, ..own.clone() }.is_alive());
        assert!(!ExecutorProcess { boot_id: "another".into(), ..own }.is_alive());

        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = ExecutorProcess::find("child", child.id()).unwrap();
        assert!(process.is_alive());
        child.kill().unwrap();
        // Not waited for yet: a zombie holds nothing any more.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while process.is_alive() {
            assert!(std::time::Instant::now() < deadline, "a killed process counts as alive");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.wait().unwrap();
        assert!(!process.is_alive());
    }
}
