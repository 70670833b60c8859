//! One object as a plug-in knows it: by a number.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    area::Slot,
    message::{Answer, Complaint, Request},
    process::Process,
};
use crate::{Error, Interrupt};

/// How often a wait looks whether it is interrupted.
const LOOK: Duration = Duration::from_millis(20);

/// An object at a process. Questions about it keep it alive until they are answered; dropped, it is closed. A process does
/// not mind to be told to close what it does not know.
pub(super) struct Handle {
    process: Arc<Process>,
    number: u64,
    /// Values that are repeated to nobody.
    secrets: Vec<String>,
}

impl Handle {
    pub fn new(process: Arc<Process>, number: u64, secrets: Vec<String>) -> Self {
        Self { process, number, secrets }
    }

    /// What the plug-in calls it.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether its process has ended, and the object with it.
    pub fn is_lost(&self) -> bool {
        self.process.ended().is_some()
    }

    /// A place for bytes.
    pub async fn slot(&self, interrupt: &Interrupt) -> Result<Slot, Error> {
        interrupt.cut(async { Ok(self.process.area.slot().await) }).await
    }

    /// Asks, and waits for the answer on a lane. Interrupted, it stops waiting, and the plug-in is told. `keeps` is given
    /// back with the answer, or dropped when the plug-in answers after all.
    pub async fn ask<K: Send + 'static>(
        self: &Arc<Self>,
        request: &Request<'_>,
        interrupt: &Interrupt,
        keeps: K,
    ) -> Result<(Answer, K), Error> {
        let (told, heard) = oneshot::channel();
        let handle = self.clone();
        let done = move |answer| {
            // Whoever does not wait any more needs nothing of it.
            drop(told.send((answer, keeps)));
            drop(handle);
        };
        let id = self.process.send(request, Box::new(done));
        let heard = async { Ok(heard.await.expect("every question is done once")) };
        match interrupt.cut(heard).await {
            Ok((answer, keeps)) => Ok((self.judge(answer?)?, keeps)),
            Err(canceled) => {
                self.process.cancel(id);
                Err(canceled)
            }
        }
    }

    /// Asks, and waits for the answer on a thread. Interrupted, the plug-in is told, and its answer, or its end, is waited
    /// for.
    pub fn ask_blocking(self: &Arc<Self>, request: &Request<'_>, interrupt: &Interrupt) -> Result<Answer, Error> {
        self.judge(self.ask_until(request, interrupt)?)
    }

    /// The same, and an error as the plug-in said it.
    pub fn ask_until(self: &Arc<Self>, request: &Request<'_>, interrupt: &Interrupt) -> Result<Answer, Error> {
        let (told, heard) = mpsc::sync_channel(1);
        let handle = self.clone();
        let done = move |answer| {
            drop(told.send(answer));
            drop(handle);
        };
        let id = self.process.send(request, Box::new(done));
        let mut canceled = false;
        loop {
            match heard.recv_timeout(LOOK) {
                Ok(answer) => return answer,
                Err(mpsc::RecvTimeoutError::Disconnected) => unreachable!("every question is done once"),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    if !canceled && interrupt.is_raised() {
                        canceled = true;
                        self.process.cancel(id);
                    }
                }
            }
        }
    }

    fn judge(&self, mut answer: Answer) -> Result<Answer, Error> {
        match answer.error.take() {
            Some(complaint) => Err(self.error(complaint)),
            None => Ok(answer),
        }
    }

    /// The error for callers.
    pub fn error(&self, complaint: Complaint) -> Error {
        complaint.into_error(&self.secrets)
    }

    /// The plug-in has done what none may do: it ends.
    pub fn fault(&self, what: impl Into<String>) -> Error {
        self.process.fail(what.into())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.process.send(&Request::Close { object: self.number }, Box::new(|_| ()));
    }
}
