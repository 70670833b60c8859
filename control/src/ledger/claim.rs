//! `claim`: an executor takes a ready transfer.

use futures_util::future::join_all;
use staccato_dataplane::{
    attempt::{AttemptSpec, Outcome, SignedTicket, SourceOwner, StageTimes},
    transport::ticket::Ticket,
};
use staccato_protocols::{ByteRange, Code, ObjectUrl};

use crate::{
    model::{
        Failure, Problem, ProblemCode, State, TransferId, TransferRecord, host::as_at_home, lifecycle::Event,
        request::OPTIONS_BYTES_MAX, transfer::NoteKind,
    },
    store::contract::VALUE_BYTES_MAX,
};

use super::{
    Ledger, LedgerError,
    change::{POISON, RANGE_PIECES_MAX, RANGES_BYTES_MAX, decode_record},
    executors::Loss,
    gone_is,
    hosts::parse_key,
    keys,
    seal::Secrets,
};

/// Most attempts that are claimed together.
const CLAIMED_MAX: usize = 64;
/// What all that is claimed together takes at most: records and secrets, a credential for each end (each of whose bytes JSON
/// may double), and as many ranges as one transfer may have.
pub(crate) const CLAIMED_BYTES_MAX: usize =
    2 * CLAIMED_MAX * (VALUE_BYTES_MAX + 2 * OPTIONS_BYTES_MAX) + RANGES_BYTES_MAX;

impl Ledger {
    /// Gives the transfers that have been ready for longest to `executor`, each under a new epoch: at most
    /// `attempts_max`, fewer where their checkpoints are long, and none when none is ready. Leases run from the moment
    /// of this call.
    pub async fn claim(&self, executor: &str, attempts_max: usize) -> Result<Vec<AttemptSpec>, LedgerError> {
        loop {
            if self.is_gone(executor) {
                return Ok(Vec::new());
            }
            let ready = self.ready_for(executor, attempts_max.min(CLAIMED_MAX));
            if ready.is_empty() {
                return Ok(Vec::new());
            }
            let fit = self.with_bounded_ranges(&ready).await?;
            // Together, so that they share a group of commits.
            let claimed = join_all(ready[..fit].iter().map(|id| self.claim_one(*id, executor))).await;
            let (mut attempts, mut failure) = (Vec::new(), None);
            for one in claimed {
                match one {
                    Ok(spec) => attempts.extend(spec),
                    Err(error) => failure = Some(error),
                }
            }
            // What was claimed must be told, whatever became of others.
            match failure {
                Some(error) if attempts.is_empty() => return Err(error),
                _ if !attempts.is_empty() => return Ok(attempts),
                _ => {}
            }
        }
    }

    /// How many of these, from the first on, have no more ranges together than one may have; at least one.
    async fn with_bounded_ranges(&self, ready: &[TransferId]) -> Result<usize, LedgerError> {
        let keys: Vec<Vec<u8>> = ready.iter().map(|id| keys::transfer(*id)).collect();
        let found = self.inner.store.get_each(keys.clone()).await?;
        let mut pieces = 0;
        for (fit, (key, found)) in keys.iter().zip(found).enumerate() {
            // What is gone or cannot be read has its turn, and takes no room.
            let record = found.and_then(|found| decode_record(key, &found.value).ok());
            pieces += record.map_or(0, |record| record.range_pieces);
            if pieces > RANGE_PIECES_MAX && fit > 0 {
                return Ok(fit);
            }
        }
        Ok(ready.len())
    }

    /// Of the transfers that this executor may run, those that have been ready for longest.
    fn ready_for(&self, executor: &str, limit: usize) -> Vec<TransferId> {
        let (now, patience) = (self.inner.environment.monotonic(), self.inner.config.lease);
        let fleet = self.inner.fleet.lock().expect(POISON);
        let shows = |host: &str| fleet.up(host, now, patience).is_some_and(|live| live.announced.address.is_some());
        self.inner.leases.lock().expect(POISON).ready(fleet.host_of(executor), limit, shows)
    }

    async fn claim_one(&self, id: TransferId, executor: &str) -> Result<Option<AttemptSpec>, LedgerError> {
        let claimed = self
            .change(id, |change| {
                if change.record.state != State::Ready {
                    return Ok(None);
                }
                change.apply(Event::Claimed)?;
                let now = change.now;
                let record = &mut change.record;
                record.epoch += 1;
                record.executor = Some(executor.to_owned());
                record.started_at = record.started_at.or(Some(now));
                record.fetched_before = record.bytes_fetched();
                record.fetched_now = 0;
                record.peers_before = record.bytes_from_peers;
                record.peers_now = 0;
                record.stages = StageTimes::default();
                record.throughput = None;
                record.checkpoint_at = Some(now);
                let message = format!("attempt {} by executor {executor}", record.epoch);
                change.note(NoteKind::AttemptStarted, message);
                Ok(Some(change.record.clone()))
            })
            .await;
        let Some(record) = self.skip_unreadable(gone_is(claimed, None), None)? else { return Ok(None) };
        if self.is_gone(executor) {
            // It ended meanwhile, and whoever freed what it held may have looked too early.
            self.lose(id, record.epoch, Loss::ExecutorDied).await?;
            return Ok(None);
        }
        match self.attempt_spec(&record, executor).await {
            Ok(spec) => Ok(Some(spec)),
            Err(LedgerError::Store(error)) => Err(error.into()),
            Err(LedgerError::Unusable(error)) => {
                tracing::warn!(transfer = %id, %error, "a transfer cannot be run for want of a credential");
                let released = self.release(executor, id, record.epoch, &Outcome::Failed { error }).await;
                // It may have been canceled, or its executor have ended, meanwhile.
                if matches!(released, Err(LedgerError::Refused(_))) { Ok(None) } else { released.map(|()| None) }
            }
            Err(error) => {
                tracing::error!(transfer = %id, %error, "a transfer cannot be run");
                self.fail_unrunnable(id, record.epoch, &error).await?;
                Ok(None)
            }
        }
    }

    /// What the executor is told. Nobody changes ranges or secrets behind this call's back: only the attempt itself
    /// could, and it has not begun.
    async fn attempt_spec(&self, record: &TransferRecord, executor: &str) -> Result<AttemptSpec, LedgerError> {
        let checkpoint = self.load_ranges(record).await?;
        let secrets = if record.sealed { self.load_secrets(record.id).await? } else { Secrets::default() };
        let url = |secret: Option<ObjectUrl>, shown: &str| match secret {
            Some(url) => Ok(url),
            None => ObjectUrl::parse(shown).map_err(|error| LedgerError::unreadable(&keys::transfer(record.id), error)),
        };
        let mut source_options = record.source_options.clone();
        source_options.extend(secrets.source_options);
        let mut destination_options = record.destination_options.clone();
        destination_options.extend(secrets.destination_options);
        let source_url = as_at_home(url(secrets.source_url, &record.source_url)?);
        let destination_url = as_at_home(url(secrets.destination_url, &record.destination_url)?);
        // Now, not when it was submitted: a secret that was changed since counts.
        let source_options = self.complete_options(&source_url, source_options, &record.owner).await??;
        let destination_options = self.complete_options(&destination_url, destination_options, &record.owner).await??;
        let swarm = self.begin_in_swarm(record, executor, &checkpoint).await?;
        let reads_source = swarm.as_ref().is_none_or(|swarm| !swarm.share.is_none());
        let owner = if reads_source { self.source_owner(record, executor, &source_url)? } else { None };
        Ok(AttemptSpec {
            transfer: record.id.to_string(),
            epoch: record.epoch,
            owner,
            swarm,
            source_url,
            destination_url,
            source_options,
            destination_options,
            part: record.part,
            overwrite: record.overwrite,
            checksum: record.checksum.clone(),
            rate_limit: record.rate_limit,
            chunk_size: record.chunk_size,
            connections: record.connections,
            validator: record.validator.clone(),
            checkpoint,
            transport: record.transport,
            window: record.window,
            upload: record.upload.clone(),
            prepared: record.prepared.map(|prepared| prepared.completion),
        })
    }

    /// The executor that has the source, with a ticket for it; none where the one that claims can read it itself.
    fn source_owner(
        &self,
        record: &TransferRecord,
        executor: &str,
        url: &ObjectUrl,
    ) -> Result<Option<SourceOwner>, LedgerError> {
        let fleet = self.inner.fleet.lock().expect(POISON);
        let reader_host = fleet.host_of(executor);
        let Some(host) = record.source_at().filter(|host| *host != reader_host) else { return Ok(None) };
        let refused = |why: &str| {
            let named = if host.is_empty() { self.inner.config.own_host.as_str() } else { host };
            Problem::new(ProblemCode::HostUnreachable, format!("the executor of {named} {why}"))
        };
        let (tcp, quic, plain) = fleet.address_of(host).ok_or_else(|| refused("lets no others in"))?;
        let reader = fleet.key_of(reader_host).and_then(parse_key);
        let reader = reader.ok_or_else(|| refused("cannot be reached from here: this executor has no certificate"))?;
        let part = record.part;
        let ticket = Ticket {
            transfer: record.id.to_string(),
            epoch: record.epoch,
            url: url.as_str().to_owned(),
            range: ByteRange::new(part.start, part.end.unwrap_or(u64::MAX)).expect("parts are checked"),
            reader,
            until_ms: self.inner.environment.now().after(self.inner.config.outage_max).as_millis(),
        };
        let name = if host.is_empty() {
            &self.inner.config.own_host
        } else {
            &fleet.host(host).expect("it has joined").record.name
        };
        let ticket = SignedTicket(ticket.sign(&self.inner.ticket_key));
        Ok(Some(SourceOwner { host: name.to_string(), tcp, quic, plain, ticket }))
    }

    pub(crate) async fn load_secrets(&self, id: TransferId) -> Result<Secrets, LedgerError> {
        let key = keys::secrets(id);
        let found = self.inner.store.get(&key).await?;
        let sealed = found.ok_or_else(|| LedgerError::unreadable(&key, "it is missing"))?.value;
        self.inner.seal.unseal(id, &sealed).map_err(|error| LedgerError::unreadable(&key, error))
    }

    /// Fails a transfer whose records cannot be read: trying again would not help.
    async fn fail_unrunnable(&self, id: TransferId, epoch: u64, error: &LedgerError) -> Result<(), LedgerError> {
        let message = error.to_string();
        let failed = self
            .change(id, |change| {
                if change.record.epoch == epoch && change.record.state.is_leased() {
                    change.apply(Event::Failed)?;
                    let error = staccato_protocols::Error::fatal(Code::Internal, message.clone());
                    change.record.error = Some(Failure::from_error(&error));
                    change.note(NoteKind::AttemptFailed, message.clone());
                }
                Ok(())
            })
            .await;
        gone_is(failed, ())
    }
}
