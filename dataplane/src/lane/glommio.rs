//! The glommio lane: O_DIRECT, registered memory, thread per core.

use std::{
    thread::{self, JoinHandle},
    time::Duration,
};

use ::glommio::{Latency, LocalExecutorBuilder, Placement, Shares, executor, timer::TimerActionRepeat};
use staccato_protocols::{BufferPool, Error, Lane, Runtime};

use super::{LaneConfig, Ready, failed_to_start, message::Command, service};

/// How long a turn of glommio's loop may last. That there is a limit at all makes the queue one for which latency
/// matters: wake-ups from other threads then end the turn at once. See [`PULSE`] for why the limit is not a short one.
const TURN_MAX: Duration = Duration::from_millis(100);

/// How often a lane is woken whatever happens.
///
/// When the timer of [`TURN_MAX`] runs out before the turn's first task has begun (the thread was put aside, or the
/// process stopped and continued), glommio 0.9 takes that for a turn with nothing to do and sleeps on work that is
/// ready, until the next event; with none to come, for ever. (Mended upstream by glommio/glommio#53, not released.) A
/// long limit makes that rare, and the pulse makes it end.
const PULSE: Duration = Duration::from_millis(50);

pub(super) fn start(
    config: LaneConfig,
    ready: Ready,
    inbox: flume::Receiver<Command>,
) -> Result<JoinHandle<()>, Error> {
    let placement = config.core.map_or(Placement::Unbound, Placement::Fixed);
    let builder = LocalExecutorBuilder::new(placement)
        .name(&format!("lane-glommio-{}", config.index))
        .io_memory(config.registered_bytes);
    let handle = builder
        .spawn(move || async move {
            let queue = executor().create_task_queue(Shares::Static(1000), Latency::Matters(TURN_MAX), "lane");
            let pulse = TimerActionRepeat::repeat(async || Some(PULSE));
            let lane = |bytes: usize| {
                let (pool, _) = BufferPool::new(Runtime::Glommio, bytes, 0, 0);
                Lane { index: config.index, runtime: Runtime::Glommio, pool }
            };
            // Apart: two hosts that read from one another must not each wait for memory that holds what it waits for.
            let (own, others) = (lane(config.memory_bytes - config.serving_bytes), lane(config.serving_bytes));
            match ::glommio::spawn_local_into(service::serve(own, others, inbox), queue) {
                Ok(task) => {
                    let _ = ready.send(Ok(()));
                    task.await;
                }
                Err(error) => drop(ready.send(Err(failed_to_start(&error)))),
            }
            pulse.cancel().await;
        })
        .map_err(|error| failed_to_start(&error))?;
    let builder = thread::Builder::new().name(format!("join-glommio-{}", config.index));
    // glommio's handle is joined by a thread of ours, so that both kinds of lane end alike.
    builder
        .spawn(move || {
            if let Err(error) = handle.join() {
                tracing::error!(%error, "a glommio lane ended with an error");
            }
        })
        .map_err(|error| failed_to_start(&error))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        time::{Duration, Instant},
    };

    use super::*;
    use crate::lane::{
        message::{Input, JobRef},
        placement,
    };

    /// Others on the lane's core take it away at any moment, also between two steps of glommio's loop.
    #[test]
    fn a_lane_that_is_put_aside_at_any_moment_still_answers() {
        let core = placement::cores()[0];
        let (commands, inbox) = flume::unbounded();
        let (ready, is_ready) = flume::bounded(1);
        let memory_bytes = 1 << 20;
        let config = LaneConfig {
            index: 0,
            core: Some(core),
            memory_bytes,
            serving_bytes: 0,
            registered_bytes: 0,
            chunk_bytes: memory_bytes,
        };
        let lane = start(config, ready, inbox).unwrap();
        is_ready.recv().unwrap().unwrap();

        let enough = Arc::new(AtomicBool::new(false));
        let others: Vec<_> = (0..4)
            .map(|_| {
                let enough = enough.clone();
                thread::spawn(move || {
                    placement::pin(Some(core));
                    while !enough.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                })
            })
            .collect();

        let (replies, answers) = flume::unbounded();
        let began = Instant::now();
        let mut rounds = 0;
        while began.elapsed() < Duration::from_secs(5) {
            let job = JobRef { attempt: 0, lane: 0, replies: replies.clone(), interrupt: Default::default() };
            commands.send(Command::Close { job }).unwrap();
            let answer = answers.recv_timeout(Duration::from_secs(20));
            assert!(matches!(answer, Ok(Input::Lane { .. })), "no answer in round {rounds}");
            rounds += 1;
        }
        enough.store(true, Ordering::Relaxed);
        others.into_iter().for_each(|other| other.join().unwrap());
        drop(commands);
        lane.join().unwrap();
        eprintln!("{rounds} rounds");
    }
}
