//! Single rules of the engine; the simulation walks their combinations.

use std::collections::BTreeMap;

use staccato_protocols::contract::Present;

use super::{repair::Reuse, *};
use crate::attempt::VerifiedRange;

mod writes;

const BLOCK: u64 = CRC_BLOCK;
const T0: Duration = Duration::ZERO;

/// A file of so many blocks, a chunk each, none of which is there.
pub(crate) fn config(blocks: u64) -> EngineConfig {
    EngineConfig {
        length: Some(blocks * BLOCK),
        chunk_bytes: BLOCK,
        window_chunks_max: 2,
        connections: Connections::Unlimited,
        request_cost: Duration::ZERO,
        chosen: false,
        sequential: false,
        writes: Writes::Anywhere,
        fresh: true,
        started_over: false,
        rate_limit: None,
        sync_bytes_max: SYNC_BYTES_MAX,
        checkpoint: Vec::new(),
        sidecar: BTreeMap::new(),
        present: None,
    }
}

fn block(index: u64) -> ByteRange {
    ByteRange::at(index * BLOCK, BLOCK).unwrap()
}

/// What there is to do. Places in stretches are left out: `stretch` has tests of its own.
fn all(engine: &mut Engine, now: Duration) -> Vec<Action> {
    let without_place = |action| match action {
        Action::Fetch { range, untouched, reuse, .. } => Action::Fetch { range, untouched, reuse, place: None },
        other => other,
    };
    std::iter::from_fn(|| engine.poll(now)).map(without_place).collect()
}

fn fetch(index: u64) -> Action {
    Action::Fetch { range: block(index), untouched: true, reuse: None, place: None }
}

fn arrive(engine: &mut Engine, index: u64, now: Duration) {
    engine.handle_chunk(block(index), BLOCK, BLOCK, &[index as u32 + 1], now);
}

#[test]
fn only_writes_completed_before_the_sync_began_become_durable() {
    let mut engine = Engine::new(config(3));
    assert_eq!(all(&mut engine, T0), [fetch(0), fetch(1)]);
    arrive(&mut engine, 0, T0);
    assert_eq!(all(&mut engine, T0), [fetch(2)]);
    let later = SYNC_INTERVAL_MAX;
    assert_eq!(engine.poll_timeout(T0), Some(later));
    assert_eq!(all(&mut engine, later), [Action::Sync { blocks: vec![(0, 1)] }]);
    arrive(&mut engine, 1, later);
    engine.handle_synced(Ok(()));
    let checkpoint = vec![VerifiedRange { range: block(0), crc32: 1 }];
    assert_eq!(all(&mut engine, later), [Action::Checkpoint(checkpoint)]);
    assert_eq!(engine.bytes_durable(), BLOCK);
}

#[test]
fn the_end_is_length_then_sync_then_finish() {
    let mut engine = Engine::new(config(1));
    all(&mut engine, T0);
    arrive(&mut engine, 0, T0);
    assert_eq!(all(&mut engine, T0), [Action::SetLength(BLOCK)]);
    engine.handle_length_set();
    // The commit follows: there will be nothing to compare.
    assert_eq!(all(&mut engine, T0), [Action::Sync { blocks: vec![] }]);
    engine.handle_synced(Ok(()));
    assert_eq!(all(&mut engine, T0), [Action::Finish { length: BLOCK, crc32: 1 }]);
    assert_eq!(all(&mut engine, T0), []);
}

#[test]
fn an_empty_object_is_finished_without_fetching() {
    let mut engine = Engine::new(config(0));
    assert_eq!(engine.poll(T0), Some(Action::SetLength(0)));
    engine.handle_length_set();
    assert_eq!(engine.poll(T0), Some(Action::Sync { blocks: vec![] }));
    engine.handle_synced(Ok(()));
    assert_eq!(engine.poll(T0), Some(Action::Finish { length: 0, crc32: 0 }));
}

#[test]
fn a_failed_sync_ends_the_attempt_and_checkpoints_nothing() {
    let mut engine = Engine::new(config(3));
    all(&mut engine, T0);
    arrive(&mut engine, 0, T0);
    all(&mut engine, SYNC_INTERVAL_MAX);
    let error = Error::retry(Code::SyncFailed, "EIO");
    engine.handle_synced(Err(error.clone()));
    assert_eq!(engine.poll(SYNC_INTERVAL_MAX), None, "two chunks are in flight");
    arrive(&mut engine, 1, SYNC_INTERVAL_MAX);
    arrive(&mut engine, 2, SYNC_INTERVAL_MAX);
    assert_eq!(all(&mut engine, SYNC_INTERVAL_MAX), [Action::End(Ending::Failed(error))]);
}

#[test]
fn a_pause_keeps_what_is_written_and_a_cancel_does_not() {
    for (reason, keeps) in [(StopReason::Pause, true), (StopReason::Cancel, false), (StopReason::LeaseLost, false)] {
        let mut engine = Engine::new(config(3));
        all(&mut engine, T0);
        arrive(&mut engine, 0, T0);
        engine.handle_stop(reason);
        assert_eq!(engine.poll(T0), None, "a chunk is in flight");
        arrive(&mut engine, 1, T0);
        if keeps {
            assert_eq!(all(&mut engine, T0), [Action::Sync { blocks: vec![(0, 1), (1, 2)] }]);
            engine.handle_synced(Ok(()));
            assert!(matches!(all(&mut engine, T0)[..], [Action::Checkpoint(_)]));
            engine.handle_checkpointed();
        }
        assert_eq!(all(&mut engine, T0), [Action::End(Ending::Stopped(reason))]);
    }
}

#[test]
fn a_chunk_that_a_stop_interrupts_is_no_failure() {
    for reason in [StopReason::Pause, StopReason::Cancel, StopReason::LeaseLost, StopReason::Shutdown] {
        let mut engine = Engine::new(config(1));
        assert_eq!(
            all(&mut engine, T0),
            [Action::Fetch { range: block(0), untouched: true, reuse: None, place: None }]
        );
        engine.handle_stop(reason);
        engine.handle_chunk_failed(block(0), Error::canceled(), T0);
        assert_eq!(all(&mut engine, T0), [Action::End(Ending::Stopped(reason))]);
    }
}

#[test]
fn a_chunk_is_tried_three_times() {
    let mut engine = Engine::new(EngineConfig { window_chunks_max: 1, ..config(1) });
    let error = Error::retry(Code::ReadFailed, "EIO");
    let mut now = T0;
    for attempt in 0..CHUNK_TRIES_MAX {
        let untouched = attempt == 0;
        assert_eq!(all(&mut engine, now), [Action::Fetch { range: block(0), untouched, reuse: None, place: None }]);
        engine.handle_chunk_failed(block(0), error.clone(), now);
        now = engine.poll_timeout(now).unwrap_or(now);
    }
    assert_eq!(all(&mut engine, now), [Action::End(Ending::Failed(error))]);
}

#[test]
fn what_was_checkpointed_stays_in_checkpoints_until_it_is_refuted() {
    let known = VerifiedRange { range: block(0), crc32: 1 };
    let mut engine =
        Engine::new(EngineConfig { fresh: false, checkpoint: vec![known], window_chunks_max: 4, ..config(3) });
    let fetch = |index| Action::Fetch { range: block(index), untouched: false, reuse: None, place: None };
    assert_eq!(all(&mut engine, T0), [Action::ReadBack(block(0)), fetch(1), fetch(2)]);
    arrive(&mut engine, 1, T0);
    all(&mut engine, SYNC_INTERVAL_MAX);
    engine.handle_synced(Ok(()));
    let actions = all(&mut engine, SYNC_INTERVAL_MAX);
    let [Action::Checkpoint(ranges)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(ranges[0].range.end(), 2 * BLOCK, "the undecided block is still promised");
    engine.handle_checkpointed();
    engine.handle_read_back(block(0), Some(&[99]));
    assert_eq!(engine.bytes_refuted(), BLOCK);
    let actions = all(&mut engine, SYNC_INTERVAL_MAX);
    let [Action::Checkpoint(ranges)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(ranges[0].range, block(1), "and promised no more");
    engine.handle_checkpointed();
    assert_eq!(all(&mut engine, SYNC_INTERVAL_MAX), [fetch(0)], "only then is it written over");
}

#[test]
fn what_a_report_on_its_way_promises_is_not_written_over() {
    let known = [0, 2].map(|index| VerifiedRange { range: block(index), crc32: 1 });
    let mut engine = Engine::new(EngineConfig { fresh: false, checkpoint: known.to_vec(), ..config(3) });
    let fetch = |index| Action::Fetch { range: block(index), untouched: false, reuse: None, place: None };
    assert_eq!(all(&mut engine, T0), [Action::ReadBack(block(0)), fetch(1)]);
    engine.handle_read_back(block(0), Some(&[9]));
    let actions = all(&mut engine, T0);
    assert_eq!(actions, [Action::Checkpoint(vec![known[1]]), Action::ReadBack(block(2))]);
    engine.handle_read_back(block(2), None);
    assert_eq!(all(&mut engine, T0), []);
    engine.handle_checkpointed();
    assert_eq!(all(&mut engine, T0), [Action::Checkpoint(vec![]), fetch(0)], "the third block is still promised");
    engine.handle_checkpointed();
    arrive(&mut engine, 0, T0);
    assert_eq!(all(&mut engine, T0), [fetch(2)]);
}

#[test]
fn starting_over_first_takes_back_what_was_promised() {
    let mut engine = Engine::new(EngineConfig { started_over: true, ..config(1) });
    assert_eq!(all(&mut engine, T0), [Action::Checkpoint(vec![])]);
    assert_eq!(engine.poll_timeout(T0), None, "only the answer helps");
    engine.handle_checkpointed();
    assert_eq!(all(&mut engine, T0), [fetch(0)]);
}

#[test]
fn a_stream_is_read_one_chunk_after_the_other_until_it_ends() {
    let mut engine = Engine::new(EngineConfig { length: None, sequential: true, ..config(0) });
    assert_eq!(all(&mut engine, T0), [fetch(0)]);
    arrive(&mut engine, 0, T0);
    assert_eq!(all(&mut engine, T0), [fetch(1)]);
    engine.handle_chunk(block(1), 5, 5, &[2], T0);
    assert_eq!(all(&mut engine, T0), [Action::SetLength(BLOCK + 5)]);
}

#[test]
fn a_limited_rate_is_kept() {
    let mut engine = Engine::new(EngineConfig { rate_limit: Some(BLOCK), window_chunks_max: 8, ..config(8) });
    let mut now = T0;
    let mut handed_out = 0;
    while handed_out < 8 {
        handed_out += all(&mut engine, now).len();
        if handed_out < 8 {
            now = engine.poll_timeout(now).expect("the limit ends some time");
        }
    }
    assert!((Duration::from_millis(5900)..Duration::from_millis(7500)).contains(&now), "{now:?}");
}

#[test]
fn a_stream_waits_for_what_has_failed() {
    let mut engine = Engine::new(EngineConfig { sequential: true, ..config(2) });
    all(&mut engine, T0);
    engine.handle_chunk_failed(block(0), Error::retry(Code::ReadFailed, "EIO"), T0);
    assert_eq!(engine.poll(T0), None, "the second chunk lies behind the first");
    let rested = engine.poll_timeout(T0).unwrap();
    assert_eq!(
        all(&mut engine, rested),
        [Action::Fetch { range: block(0), untouched: false, reuse: None, place: None }]
    );
}

#[test]
fn an_end_that_nobody_told_is_found_by_walking_up_to_it() {
    let mut engine = Engine::new(EngineConfig { length: None, sequential: false, ..config(0) });
    assert_eq!(all(&mut engine, T0), [fetch(0)]);
}

#[test]
fn a_checkpoint_that_ends_within_a_block_tells_the_length() {
    let known = VerifiedRange { range: ByteRange::new(0, BLOCK + 5).unwrap(), crc32: 1 };
    let engine = Engine::new(EngineConfig { length: None, fresh: false, checkpoint: vec![known], ..config(0) });
    assert_eq!(engine.length(), Some(BLOCK + 5));
}

#[test]
fn a_source_that_ends_before_what_it_gave_has_changed() {
    let known = VerifiedRange { range: block(2), crc32: 1 };
    let mut engine = Engine::new(EngineConfig { length: None, fresh: false, checkpoint: vec![known], ..config(0) });
    all(&mut engine, T0);
    engine.handle_read_back(block(2), Some(&[1]));
    engine.handle_chunk(block(0), 5, 5, &[1], T0);
    let actions = all(&mut engine, T0);
    assert!(
        matches!(&actions[..], [Action::End(Ending::Failed(error))] if error.code == Code::SourceChanged),
        "{actions:?}"
    );
}

#[test]
fn fetching_stops_while_too_much_waits_for_a_slow_sync() {
    let mut engine = Engine::new(EngineConfig { sync_bytes_max: 2 * BLOCK, ..config(9) });
    all(&mut engine, T0);
    arrive(&mut engine, 0, T0);
    arrive(&mut engine, 1, T0);
    assert_eq!(all(&mut engine, T0), [Action::Sync { blocks: vec![(0, 1), (1, 2)] }, fetch(2), fetch(3)]);
    arrive(&mut engine, 2, T0);
    arrive(&mut engine, 3, T0);
    assert_eq!(all(&mut engine, T0), [], "four blocks are not durable");
    assert_eq!(engine.poll_timeout(T0), None, "only the sync's answer helps");
    engine.handle_synced(Ok(()));
    let actions = all(&mut engine, T0);
    assert!(
        matches!(actions[..], [Action::Checkpoint(_), Action::Sync { .. }, Action::Fetch { .. }, _]),
        "{actions:?}"
    );
}

#[test]
fn what_becomes_possible_between_poll_and_timeout_is_done_at_once() {
    let mut engine = Engine::new(EngineConfig { window_chunks_max: 1, ..config(1) });
    all(&mut engine, T0);
    engine.handle_chunk_failed(block(0), Error::retry(Code::ReadFailed, "EIO"), T0);
    assert_eq!(engine.poll(T0), None);
    let late = T0 + 10 * SYNC_INTERVAL_MAX;
    assert!(engine.poll_timeout(late).expect("a chunk waits") <= late);
}

#[test]
fn no_time_passes_for_an_answer() {
    let mut engine = Engine::new(config(1));
    all(&mut engine, T0);
    arrive(&mut engine, 0, T0);
    assert_eq!(all(&mut engine, T0), [Action::SetLength(BLOCK)]);
    assert_eq!(engine.poll_timeout(T0), None, "a sync is due in a second, but it waits for the length");
}

#[test]
fn an_end_waits_for_the_length_that_is_being_set() {
    let error = Error::retry(Code::NoSpace, "ENOSPC");
    for answer in [Ok(()), Err(error)] {
        let mut engine = Engine::new(config(0));
        assert_eq!(all(&mut engine, T0), [Action::SetLength(0)]);
        engine.handle_stop(StopReason::Pause);
        assert_eq!(engine.poll(T0), None);
        match answer {
            Ok(()) => engine.handle_length_set(),
            Err(error) => engine.handle_length_failed(error),
        }
        assert_eq!(all(&mut engine, T0), [Action::End(Ending::Stopped(StopReason::Pause))]);
    }
}

#[test]
fn a_failed_sync_is_not_tried_again_by_a_pause() {
    let mut engine = Engine::new(config(3));
    all(&mut engine, T0);
    arrive(&mut engine, 0, T0);
    all(&mut engine, SYNC_INTERVAL_MAX);
    engine.handle_stop(StopReason::Pause);
    engine.handle_synced(Err(Error::retry(Code::SyncFailed, "EIO")));
    arrive(&mut engine, 1, SYNC_INTERVAL_MAX);
    arrive(&mut engine, 2, SYNC_INTERVAL_MAX);
    assert_eq!(all(&mut engine, SYNC_INTERVAL_MAX), [Action::End(Ending::Stopped(StopReason::Pause))]);
}

#[test]
fn a_name_that_cannot_be_synced_ends_the_attempt_without_checkpoints() {
    let mut engine = Engine::new(config(9));
    all(&mut engine, T0);
    arrive(&mut engine, 0, T0);
    all(&mut engine, SYNC_INTERVAL_MAX);
    engine.handle_synced(Ok(()));
    assert!(matches!(all(&mut engine, SYNC_INTERVAL_MAX)[..], [Action::Checkpoint(_)]));
    let error = Error::retry(Code::WriteFailed, "EIO");
    engine.handle_checkpoint_failed(error.clone());
    arrive(&mut engine, 1, SYNC_INTERVAL_MAX);
    arrive(&mut engine, 2, SYNC_INTERVAL_MAX);
    assert_eq!(all(&mut engine, SYNC_INTERVAL_MAX), [Action::End(Ending::Failed(error))]);
}

#[test]
fn a_lost_lease_overrides_everything_and_a_cancel_all_else() {
    let failed = Error::retry(Code::NoSpace, "ENOSPC");
    for (first, then, last) in [
        (StopReason::Cancel, StopReason::LeaseLost, StopReason::LeaseLost),
        (StopReason::LeaseLost, StopReason::Cancel, StopReason::LeaseLost),
        (StopReason::Pause, StopReason::Cancel, StopReason::Cancel),
        (StopReason::Cancel, StopReason::Pause, StopReason::Cancel),
        (StopReason::Pause, StopReason::Shutdown, StopReason::Pause),
    ] {
        let mut engine = Engine::new(config(0));
        engine.handle_stop(first);
        engine.handle_stop(then);
        assert_eq!(engine.poll(T0), Some(Action::End(Ending::Stopped(last))));
    }
    for reason in [StopReason::Cancel, StopReason::LeaseLost] {
        let mut engine = Engine::new(config(1));
        all(&mut engine, T0);
        engine.handle_chunk_failed(block(0), Error { disposition: Disposition::Fatal, ..failed.clone() }, T0);
        engine.handle_stop(reason);
        assert_eq!(all(&mut engine, T0), [Action::End(Ending::Stopped(reason))]);
    }
}

#[test]
fn connections_are_those_that_read_whatever_is_being_written() {
    let connections = Connections::Fixed(2);
    let mut engine = Engine::new(EngineConfig { window_chunks_max: 4, connections, ..config(8) });
    assert!(engine.counts_reads());
    assert_eq!(all(&mut engine, T0), [fetch(0), fetch(1)]);
    engine.handle_read(block(0), T0);
    assert_eq!(all(&mut engine, T0), [fetch(2)]);
    engine.handle_read(block(1), T0);
    assert_eq!(all(&mut engine, T0), [fetch(3)], "four are under way");
    engine.handle_read(block(2), T0);
    assert_eq!(all(&mut engine, T0), [], "and more do not fit the window");
    arrive(&mut engine, 0, T0);
    assert_eq!(all(&mut engine, T0), [fetch(4)]);
}

#[test]
fn a_server_that_refuses_is_asked_for_less_at_a_time() {
    let connections = Connections::Adaptive { max: 4 };
    let mut engine = Engine::new(EngineConfig { window_chunks_max: 4, connections, ..config(8) });
    assert_eq!(all(&mut engine, T0).len(), 4);
    for refused in [0, 1] {
        engine.handle_chunk_failed(block(refused), Error::retry(Code::HttpStatus, "503"), T0);
    }
    let later = Duration::from_secs(1);
    assert_eq!(all(&mut engine, later), [], "two are under way, and two are granted");
    arrive(&mut engine, 2, later);
    assert_eq!(all(&mut engine, later).iter().filter(|action| matches!(action, Action::Fetch { .. })).count(), 1);
}

fn repair(blocks: u64, present: Present) -> Engine {
    Engine::new(EngineConfig { fresh: !present.in_place, present: Some(present), ..config(blocks) })
}

fn compare(index: u64) -> Action {
    Action::Compare(block(index))
}

fn same(engine: &mut Engine, index: u64) {
    engine.handle_compared(block(index), Some(&[index as u32 + 1]), T0);
}

/// Fetches a block that may be there, and has never been written.
fn reuse(index: u64, present: Present) -> Action {
    let reuse = Some(Reuse { end: block(index).end(), in_place: present.in_place, wanted: None });
    Action::Fetch { range: block(index), untouched: !present.in_place, reuse, place: None }
}

/// The same of one that was only compared.
fn reuse_known(index: u64, present: Present) -> Action {
    let wanted = Some(vec![index as u32 + 1]);
    let reuse = Some(Reuse { end: block(index).end(), in_place: present.in_place, wanted });
    Action::Fetch { range: block(index), untouched: !present.in_place, reuse, place: None }
}

#[test]
fn what_is_right_as_a_whole_is_compared_and_stays() {
    for in_place in [false, true] {
        let mut engine = repair(3, Present { length: 3 * BLOCK, in_place });
        assert_eq!(all(&mut engine, T0), [compare(0), compare(1)]);
        same(&mut engine, 1);
        assert_eq!(all(&mut engine, T0), [compare(2)]);
        same(&mut engine, 2);
        same(&mut engine, 0);
        assert_eq!(all(&mut engine, T0), [Action::KeepPresent]);
        engine.handle_present(true);
        let crc32 = checkpoint::combine_blocks([(BLOCK, 1), (BLOCK, 2), (BLOCK, 3)]);
        assert_eq!(all(&mut engine, T0), [Action::Finish { length: 3 * BLOCK, crc32 }]);
        assert_eq!(engine.bytes_fetched(), 0);
    }
}

#[test]
fn from_the_first_difference_on_it_is_written() {
    let present = Present { length: 4 * BLOCK, in_place: false };
    let mut engine = repair(4, present);
    assert_eq!(all(&mut engine, T0), [compare(0), compare(1)]);
    same(&mut engine, 0);
    assert_eq!(all(&mut engine, T0), [compare(2)]);
    engine.handle_compared(block(1), None, T0);
    assert_eq!(all(&mut engine, T0), [reuse_known(0, present)], "what was right is not written yet");
    same(&mut engine, 2);
    assert_eq!(all(&mut engine, T0), [reuse(1, present)]);
    engine.handle_chunk(block(0), BLOCK, 0, &[1], T0);
    engine.handle_chunk(block(1), BLOCK, BLOCK, &[2], T0);
    assert_eq!(all(&mut engine, T0), [reuse_known(2, present), reuse(3, present)]);
    engine.handle_chunk(block(2), BLOCK, 0, &[3], T0);
    engine.handle_chunk(block(3), BLOCK, 0, &[4], T0);
    assert_eq!(all(&mut engine, T0), [Action::SetLength(4 * BLOCK)]);
    assert_eq!(engine.bytes_fetched(), BLOCK);
}

#[test]
fn what_is_right_in_a_clone_is_not_gone_through_again() {
    let present = Present { length: 3 * BLOCK, in_place: true };
    let mut engine = repair(3, present);
    assert_eq!(all(&mut engine, T0), [compare(0), compare(1)]);
    same(&mut engine, 0);
    assert_eq!(all(&mut engine, T0), [compare(2)]);
    engine.handle_compared(block(1), None, T0);
    assert_eq!(all(&mut engine, T0), [reuse(1, present)]);
    same(&mut engine, 2);
    engine.handle_chunk(block(1), BLOCK, BLOCK, &[2], T0);
    assert_eq!(all(&mut engine, T0), [Action::SetLength(3 * BLOCK)]);
    engine.handle_length_set();
    assert_eq!(all(&mut engine, T0), [Action::Sync { blocks: vec![] }], "all of it, not only what was fetched");
    engine.handle_synced(Ok(()));
    let crc32 = checkpoint::combine_blocks([(BLOCK, 1), (BLOCK, 2), (BLOCK, 3)]);
    assert_eq!(all(&mut engine, T0), [Action::Finish { length: 3 * BLOCK, crc32 }]);
}

#[test]
fn what_changed_while_it_was_compared_is_completed_and_replaced() {
    for in_place in [false, true] {
        let present = Present { length: BLOCK, in_place };
        let mut engine = repair(1, present);
        assert_eq!(all(&mut engine, T0), [compare(0)]);
        same(&mut engine, 0);
        assert_eq!(all(&mut engine, T0), [Action::KeepPresent]);
        engine.handle_present(false);
        if !in_place {
            assert_eq!(all(&mut engine, T0), [reuse_known(0, present)]);
            engine.handle_chunk(block(0), BLOCK, BLOCK, &[1], T0);
        }
        assert_eq!(all(&mut engine, T0), [Action::SetLength(BLOCK)]);
    }
}

#[test]
fn another_length_or_a_checkpoint_is_not_compared_first() {
    let present = Present { length: BLOCK, in_place: false };
    let mut engine = repair(2, present);
    let behind = Action::Fetch { range: block(1), untouched: true, reuse: None, place: None };
    assert_eq!(all(&mut engine, T0), [reuse(0, present), behind]);
    let known = VerifiedRange { range: block(0), crc32: 1 };
    let present = Some(Present { length: 2 * BLOCK, in_place: false });
    let mut engine = Engine::new(EngineConfig { fresh: false, checkpoint: vec![known], present, ..config(2) });
    let reuse = Some(Reuse { end: 2 * BLOCK, in_place: false, wanted: None });
    let fetch = Action::Fetch { range: block(1), untouched: false, reuse, place: None };
    assert_eq!(all(&mut engine, T0), [Action::ReadBack(block(0)), fetch]);
}

#[test]
fn comparing_is_not_slowed_by_a_rate_limit() {
    let present = Present { length: 4 * BLOCK, in_place: false };
    let limited = EngineConfig { rate_limit: Some(1), present: Some(present), ..config(4) };
    let mut engine = Engine::new(EngineConfig { window_chunks_max: 8, ..limited });
    assert_eq!(all(&mut engine, T0), [compare(0), compare(1), compare(2), compare(3)]);
}
