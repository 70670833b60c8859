//! How often the scheduler asks its plug-in.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use staccato_dataplane::attempt::StopReason;
use staccato_scheduler_plugins::{Decision, Plugin, Snapshot};

use super::Fixture;
use crate::{
    ledger::Scope,
    model::State,
    scheduler::{Scheduler, SchedulerConfig},
};

/// Takes its time, and starts nothing.
struct Slow(Arc<AtomicUsize>);

/// How long it takes. What comes meanwhile waits for several times of it, what goes for none.
const ASKING: Duration = Duration::from_millis(200);

impl Plugin for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn decide(&self, _snapshot: &Snapshot) -> Vec<Decision> {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(ASKING);
        Vec::new()
    }
}

#[tokio::test]
async fn what_comes_waits_for_a_while_and_what_goes_does_not() {
    let fixture = Fixture::new().await;
    let running = fixture.in_state(State::Running).await;
    let asked = Arc::<AtomicUsize>::default();
    let config = SchedulerConfig { turn: Duration::from_secs(60), ..SchedulerConfig::default() };
    let mut scheduler = Scheduler::new(fixture.ledger.clone(), Arc::new(Slow(asked.clone())), config);
    let pause = 9 * ASKING;

    let begun = Instant::now();
    let comes = async {
        for number in 0..5 {
            tokio::time::sleep(ASKING / 4).await;
            fixture.create(&format!("{number}")).await;
        }
    };
    let (turn, ()) = tokio::join!(scheduler.turn(), comes);
    assert!(turn.unwrap() && begun.elapsed() >= pause, "{:?}", begun.elapsed());
    assert_eq!(asked.load(Ordering::Relaxed), 1, "once for all of them");

    let begun = Instant::now();
    let goes = async {
        tokio::time::sleep(ASKING / 4).await;
        fixture.ledger.cancel(running, &Scope::All).await.unwrap();
        fixture.stopped(running, 1, StopReason::Cancel).await;
    };
    let (turn, ()) = tokio::join!(scheduler.turn(), goes);
    assert!(turn.unwrap() && begun.elapsed() < pause, "{:?}", begun.elapsed());
}
