//! Checksums of whole objects, computed while these move, on a thread of the attempt's own.
//!
//! Lanes show a chunk between its reading and its writing. When it is its turn ([`Front`]), or nearly, it waits until it is
//! hashed, and so moves at the speed of the hash; the lane goes on with others meanwhile. When it is not, it is read back
//! later.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use flume::RecvTimeoutError;
use staccato_protocols::{
    ByteRange, Checksum, ChecksumKind, Chunk, Code, Error,
    checksum::Hasher,
    chunk::{Lent, Shown},
};

use crate::engine::front::{Front, Run};

/// Most bytes that are read back before it is looked again whose turn it is.
const RUN_BYTES_MAX: u64 = 64 << 20;
/// How long chunks are held in memory while there is nothing to hash. Attempts that hold memory on several lanes can wait
/// for one another's: this is what ends it.
const PATIENCE: Duration = Duration::from_millis(100);

/// The checksums of one attempt's object. The thread that computes them ends with the last hold on them.
pub(crate) struct Checksums {
    front: Arc<Mutex<Front<Shown>>>,
    /// In the order of the front.
    work: flume::Sender<Work>,
}

/// For the thread.
enum Work {
    /// The next bytes.
    Add(Shown),
    /// Chunks wait for their turn.
    Watch,
    /// Nothing that was added counts.
    BeginAnew,
    /// Tell what there is.
    Tell(flume::Sender<Vec<Checksum>>),
}

impl Checksums {
    /// Of these kinds. What is shown early by at most `hold_bytes` is held until its turn.
    pub fn start(kinds: &[ChecksumKind], hold_bytes: u64) -> Result<Arc<Self>, Error> {
        let front = Arc::new(Mutex::new(Front::new(hold_bytes)));
        let (work, inbox) = flume::unbounded();
        let computing =
            Computing { new: kinds.iter().map(|kind| Hasher::new(*kind)).collect(), front: front.clone(), inbox };
        let spawned = thread::Builder::new().name("checksums".into()).spawn(move || computing.run());
        spawned.map_err(|error| Error::from_io(&error, Code::Internal, "start a thread for checksums"))?;
        Ok(Arc::new(Self { front, work }))
    }

    /// A chunk is about to be written at `range`.
    pub fn show(&self, range: ByteRange, chunk: Chunk) -> Lent {
        let (lent, shown) = chunk.lend();
        let mut front = self.front();
        self.begin_anew_for(&mut front, range);
        self.take(&mut front, range, shown);
        lent
    }

    /// A chunk was found where an earlier attempt had written it.
    pub fn show_found(&self, range: ByteRange, chunk: Chunk) -> Lent {
        let (lent, shown) = chunk.lend();
        self.take(&mut self.front(), range, shown);
        lent
    }

    /// A range is about to be written with what is not shown.
    pub fn rewrite(&self, range: ByteRange) {
        self.begin_anew_for(&mut self.front(), range);
    }

    /// Says so while the front is held, so that nothing that is taken from then on is said before it.
    fn begin_anew_for(&self, front: &mut Front<Shown>, range: ByteRange) {
        if front.rewrite(range) {
            self.send(Work::BeginAnew);
            tracing::debug!(%range, "what was hashed is written again: the checksum is begun anew");
        }
    }

    fn take(&self, front: &mut Front<Shown>, range: ByteRange, shown: Shown) {
        front.show(range, shown);
        if front.holds() {
            self.send(Work::Watch);
        }
        self.pass_on(front);
    }

    /// A range is written, and can be read back.
    pub fn note(&self, range: ByteRange) {
        self.front().note(range);
    }

    /// What to read back now.
    pub fn next_run(&self) -> Option<Run> {
        self.front().next_run(RUN_BYTES_MAX)
    }

    /// A piece of a run was read back; nothing where the run is not wanted any more.
    pub fn show_piece(&self, run: Run, piece: ByteRange, chunk: Chunk) -> Option<Lent> {
        let (lent, shown) = chunk.lend();
        let mut front = self.front();
        let wanted = front.show_piece(run, piece, shown);
        self.pass_on(&mut front);
        wanted.then_some(lent)
    }

    /// A run is over.
    pub fn end_run(&self, run: Run) {
        let mut front = self.front();
        front.end_run(run);
        self.pass_on(&mut front);
    }

    /// Nobody will ask any more.
    pub fn give_up(&self) {
        self.front().give_up();
    }

    /// The checksums, where all of `0..length` was taken.
    pub fn of(&self, length: u64) -> Option<Vec<Checksum>> {
        if self.front().taken() != length {
            return None;
        }
        let (tell, told) = flume::bounded(1);
        self.send(Work::Tell(tell));
        Some(told.recv().expect(OUTLIVES))
    }

    /// Passes on what was taken, with the front locked, so that the order is its.
    fn pass_on(&self, front: &mut Front<Shown>) {
        while let Some(shown) = front.poll() {
            self.send(Work::Add(shown));
        }
    }

    fn send(&self, work: Work) {
        self.work.send(work).expect(OUTLIVES);
    }

    fn front(&self) -> MutexGuard<'_, Front<Shown>> {
        self.front.lock().expect("nobody panics with it")
    }
}

const OUTLIVES: &str = "the thread lives as long as somebody can ask it";

/// What the thread has.
struct Computing {
    /// Hashers that have seen nothing.
    new: Vec<Hasher>,
    front: Arc<Mutex<Front<Shown>>>,
    inbox: flume::Receiver<Work>,
}

impl Computing {
    fn run(self) {
        let mut hashers = self.new.clone();
        let mut watching = false;
        loop {
            let work = if watching {
                self.inbox.recv_timeout(PATIENCE)
            } else {
                self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match work {
                Ok(Work::Add(shown)) => {
                    shown.pieces(|piece| hashers.iter_mut().for_each(|hasher| hasher.update(piece)));
                }
                Ok(Work::Watch) => watching = true,
                Ok(Work::BeginAnew) => hashers.clone_from(&self.new),
                Ok(Work::Tell(tell)) => {
                    // Who does not wait for it any more needs no answer.
                    let _ = tell.send(hashers.iter().cloned().map(Hasher::finish).collect());
                }
                Err(RecvTimeoutError::Timeout) => {
                    let mut front = self.front.lock().expect("nobody panics with it");
                    if front.holds() {
                        front.lose_patience();
                    }
                    watching = false;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures_util::FutureExt;
    use staccato_protocols::{BufferPool, Runtime, conformance::on_lane};

    use super::*;

    const KINDS: [ChecksumKind; 2] = [ChecksumKind::Md5, ChecksumKind::Crc32];

    fn chunk(byte: u8, len: usize) -> Chunk {
        let mut chunk = BufferPool::heap(1 << 20).take(len).now_or_never().unwrap();
        chunk.buffer_mut().unwrap()[..len].fill(byte);
        chunk
    }

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).unwrap()
    }

    fn wanted(bytes: &[u8]) -> Option<Vec<Checksum>> {
        let of_kind = |kind: &ChecksumKind| {
            let mut hasher = Hasher::new(*kind);
            hasher.update(bytes);
            hasher.finish()
        };
        Some(KINDS.iter().map(of_kind).collect())
    }

    #[test]
    fn what_is_shown_or_read_back_is_hashed_in_order_with_every_kind() {
        let checksums = Checksums::start(&KINDS, 0).unwrap();
        assert_eq!(checksums.of(0), wanted(b""));
        let early = checksums.show(range(3, 5), chunk(b'b', 2)).back().now_or_never();
        assert!(early.is_some(), "it is not its turn: nobody looks at it");
        checksums.note(range(3, 5));
        drop(checksums.show(range(0, 3), chunk(b'a', 3)));
        let run = checksums.next_run().unwrap();
        assert_eq!(run.range, range(3, 5));
        drop(checksums.show_piece(run, range(3, 5), chunk(b'b', 2)).unwrap());
        checksums.end_run(run);
        drop(checksums.show(range(5, 7), Chunk::zero(2)));
        assert_eq!(checksums.of(7), wanted(b"aaabb\0\0"));
        assert_eq!(checksums.of(8), None, "not all of it was there");
    }

    #[test]
    fn what_is_written_again_counts_as_it_was_written_last() {
        let checksums = Checksums::start(&KINDS, 0).unwrap();
        drop(checksums.show(range(0, 2), chunk(b'a', 2)));
        drop(checksums.show(range(0, 2), chunk(b'b', 2)));
        assert_eq!(checksums.of(2), wanted(b"bb"));
        checksums.rewrite(range(0, 2));
        assert_eq!(checksums.of(2), None);
    }

    #[test]
    fn a_chunk_that_waits_for_its_turn_is_let_go_when_none_comes() {
        on_lane(Runtime::TokioUring, async |_| {
            let checksums = Checksums::start(&KINDS, 10).unwrap();
            let began = Instant::now();
            drop(checksums.show(range(2, 4), chunk(b'b', 2)).back().await);
            assert!(began.elapsed() >= PATIENCE, "it was waited for the first");
            let lent = checksums.show(range(4, 6), chunk(b'c', 2));
            assert!(lent.back().now_or_never().is_some(), "once is enough");
            drop(checksums.show(range(0, 2), chunk(b'a', 2)).back().await);
            let (held, turn) =
                (checksums.show(range(4, 6), chunk(b'c', 2)), checksums.show(range(2, 4), chunk(b'b', 2)));
            drop((held.back().await, turn.back().await));
            assert_eq!(checksums.of(6), wanted(b"aabbcc"));
        });
    }
}
