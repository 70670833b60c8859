//! Opening a ledger: what it keeps in memory is made from the records.

use std::sync::{Arc, Mutex};

use ring::signature::Ed25519KeyPair;
use staccato_protocols::Registry;

use crate::store::SharedStore;

use super::{
    Counters, Environment, ExecutorProcess, Inner, Ledger, LedgerConfig, LedgerError, Seal,
    change::POISON,
    keys,
    lease::{Leases, Until},
};

/// Keys that are read in one go.
const PAGE: usize = 1024;

impl Ledger {
    /// Opens the ledger in `store`. All leases run in full again, but for those of executors whose process is gone:
    /// these are free when this returns. A record that cannot be read stops nobody but itself.
    pub async fn open(
        store: SharedStore,
        seal: Seal,
        registry: Registry,
        config: LedgerConfig,
        environment: Arc<dyn Environment>,
    ) -> Result<Self, LedgerError> {
        let mut last_id = None;
        for prefix in [keys::TRANSFERS, keys::DISTRIBUTIONS] {
            let newest = store.range(prefix, &keys::end_of(prefix), 1, true).await?;
            last_id = last_id.max(newest.first().and_then(|(key, _)| keys::trailing_id(key)));
        }
        let ticket_key = Ed25519KeyPair::from_seed_unchecked(&seal.derived("tickets"));
        let inner = Inner {
            store,
            ticket_key: ticket_key.expect("a seed is 32 bytes"),
            seal,
            registry,
            config,
            environment,
            last_id: Mutex::new(last_id),
            leases: Mutex::new(Leases::default()),
            sweeps_out: Mutex::default(),
            distributions: Mutex::default(),
            swarms: Mutex::default(),
            swarms_turn: tokio::sync::Mutex::default(),
            executors: Mutex::default(),
            unreadable: Mutex::default(),
            gone: Mutex::default(),
            fleet: Mutex::default(),
            hosts_turn: tokio::sync::Mutex::default(),
            has_tokens: false.into(),
            tokens_turn: tokio::sync::Mutex::default(),
            credentials_turn: tokio::sync::Mutex::default(),
            work: tokio::sync::watch::Sender::new(0),
            stripes: std::array::from_fn(|_| Arc::default()),
            counters: Counters::default(),
        };
        let ledger = Self { inner: Arc::new(inner) };
        ledger.load_hosts().await?;
        ledger.load_distributions().await?;
        ledger.load_seeds().await?;
        ledger.load_active().await?;
        ledger.load_executors().await?;
        ledger.load_tokens().await?;
        Ok(ledger)
    }

    async fn load_active(&self) -> Result<(), LedgerError> {
        let monotonic = self.inner.environment.monotonic();
        let config = &self.inner.config;
        let until = Until { lease: monotonic + config.lease, ready: monotonic + config.ready_timeout };
        let mut ready = Vec::new();
        let mut start = keys::ACTIVE.to_vec();
        loop {
            let page = self.inner.store.range(&start, &keys::end_of(keys::ACTIVE), PAGE, false).await?;
            for (key, _) in &page {
                let Some(id) = self.indexed(key) else { continue };
                let none = || LedgerError::unreadable(&keys::transfer(id), "it is missing, and takes a slot");
                let loaded = self.load(id).await.and_then(|found| found.map(Some).ok_or_else(none));
                let Some((record, _)) = self.skip_unreadable(loaded, None)? else { continue };
                if record.state.is_leased() {
                    self.inner.leases.lock().expect(POISON).follow(id, Some(&record), until);
                    self.inner.swarms.lock().expect(POISON).follow(&record, Some(&record));
                } else {
                    ready.push(record);
                }
            }
            let Some((last, _)) = page.last().filter(|_| page.len() == PAGE) else { break };
            start.clone_from(last);
            start.push(0);
        }
        ready.sort_by_key(|record| (record.ready_at, record.id));
        let mut leases = self.inner.leases.lock().expect(POISON);
        for record in ready {
            leases.follow(record.id, Some(&record), until);
        }
        Ok(())
    }

    async fn load_executors(&self) -> Result<(), LedgerError> {
        let found = self.inner.store.range(keys::EXECUTORS, &keys::end_of(keys::EXECUTORS), PAGE, false).await?;
        for (key, value) in found {
            let parsed = serde_json::from_slice(&value.value).map_err(|error| LedgerError::unreadable(&key, error));
            let Some(process): Option<ExecutorProcess> = self.skip_unreadable(parsed.map(Some), None)? else {
                continue;
            };
            let instance = process.instance.clone();
            let alive = self.inner.environment.is_alive(&process);
            self.inner.executors.lock().expect(POISON).insert(instance.clone(), process);
            if !alive {
                self.release_executor(&instance).await?;
            }
        }
        Ok(())
    }
}
