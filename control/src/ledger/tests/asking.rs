//! A scheduler whose plug-in takes its time.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use serde_json::json;
use staccato_scheduler_plugins::{Decision, Plugin, Snapshot};

use super::Fixture;
use crate::{
    ledger::Scope,
    model::State,
    scheduler::{
        Scheduler, SchedulerConfig,
        outside::{Launch, Options, Outside},
    },
};

/// Long for what takes a moment, on whatever machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts everything, once it is told to.
struct Thinking {
    asked: mpsc::Sender<()>,
    answers: Mutex<mpsc::Receiver<()>>,
}

impl Plugin for Thinking {
    fn name(&self) -> &str {
        "thinking"
    }

    fn decide(&self, snapshot: &Snapshot) -> Vec<Decision> {
        self.asked.send(()).unwrap();
        self.answers.lock().unwrap().recv().unwrap();
        let start = |id| Decision { id, reason: "at last".into() };
        snapshot.waiting.iter().map(|one| start(one.id)).collect()
    }
}

/// On one thread: where the loop waited for its plug-in, nothing else would go on.
#[tokio::test]
async fn while_a_plug_in_thinks_everything_goes_on_and_decisions_count_for_what_still_waits() {
    let fixture = Fixture::new().await;
    let (stays, goes) = (fixture.create("stays").await, fixture.create("goes").await);
    let ((asked, hears), (tell, answers)) = (mpsc::channel(), mpsc::channel());
    let plugin = Arc::new(Thinking { asked, answers: Mutex::new(answers) });
    let mut scheduler = Scheduler::new(fixture.ledger.clone(), plugin, SchedulerConfig::default());
    let meanwhile = async {
        while hears.try_recv().is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        fixture.ledger.cancel(goes, &Scope::All).await.unwrap();
        let comes = fixture.create("comes").await;
        tell.send(()).unwrap();
        comes
    };
    let (decided, comes) = tokio::join!(scheduler.decide(), meanwhile);
    decided.unwrap();
    assert_eq!(fixture.state(stays).await, State::Ready);
    assert_eq!(fixture.state(goes).await, State::Canceled);
    assert_eq!(fixture.state(comes).await, State::New);
    // The change that came meanwhile is not forgotten: where the answer came before it was heard of, one more turn is.
    (0..2).for_each(|_| tell.send(()).unwrap());
    let turns = async {
        while fixture.state(comes).await != State::Ready {
            assert!(scheduler.turn().await.unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, turns).await.expect("it does not wait");
}

#[tokio::test]
async fn a_plug_in_from_outside_sees_hosts_and_no_secret() {
    const SECRET: &str = "s3cr3t";
    let fixture = Fixture::new().await;
    let more = json!({
        "source_url": format!("stub://from/s?sig={SECRET}"),
        "source_options": {"token": SECRET},
        "destination_options": {"token": SECRET},
    });
    let id = fixture.create_with(&format!("d?sig={SECRET}"), more).await;
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let script = format!(
        r#"echo '{{"protocol": 1, "name": "sees"}}'; read -r line; echo "$line" > {}; echo '{{"number": 1, "decisions": []}}'
        cat > /dev/null"#,
        seen.display()
    );
    let launch = Launch { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()], user: None };
    let outside = Arc::new(Outside::start(Options::of(launch, 4, PATIENCE)).unwrap());
    let mut scheduler = Scheduler::new(fixture.ledger.clone(), outside.clone(), SchedulerConfig::default());
    scheduler.decide().await.unwrap();
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(seen.contains(&id.to_string()) && seen.contains(r#""source":"from""#), "{seen}");
    assert!(!seen.contains(SECRET), "{seen}");
    assert_eq!(outside.faults(), 0);
}
