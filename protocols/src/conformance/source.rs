//! What every source must do.

use std::{pin::pin, rc::Rc};

use futures_util::{FutureExt, future::join_all};

use super::{CHUNK_BYTES, Made, SourceHarness, begin, critical_sizes, must_fail};
use crate::{
    Access, BufferPool, ByteRange, CRC_BLOCK, Chunk, Code, Disposition, Error, FileTime, Interrupt, Lane, Source,
    Validator, contract::SourceRequest,
};

pub(super) async fn all(harness: &dyn SourceHarness, lane: &Lane) {
    let suite = Suite { harness, lane };
    suite.objects_of_critical_sizes_are_read_whole().await;
    suite.names_with_spaces_unicode_and_percent_signs_are_found().await;
    suite.ranges_of_every_kind_are_exact().await;
    suite.reads_out_of_order_and_at_once_are_exact().await;
    suite.stretches_are_exact_also_where_they_cross_and_end_early().await;
    suite.nothing_is_read_beyond_the_end().await;
    suite.holes_are_zero().await;
    suite.sums_are_those_of_the_bytes().await;
    suite.a_pinned_version_opens_again().await;
    suite.another_version_than_the_pinned_one_is_refused().await;
    suite.a_change_while_reading_is_noticed().await;
    suite.a_missing_object_is_said_to_be_missing().await;
    suite.what_is_interrupted_is_right_or_canceled().await;
    suite.buffers_come_back_to_the_pool().await;
}

struct Suite<'a> {
    harness: &'a dyn SourceHarness,
    lane: &'a Lane,
}

impl Suite<'_> {
    fn request(&self, made: &Made, pinned: Option<Validator>, aligned: bool) -> SourceRequest {
        let request = SourceRequest {
            url: made.url.clone(),
            options: self.harness.options(),
            pinned,
            aligned,
            interrupt: Interrupt::default(),
        };
        self.harness.protocol().check_source(&request.url, &request.options).expect("the policy half accepts it");
        request
    }

    async fn try_open(&self, request: &SourceRequest) -> Result<Rc<dyn Source>, Error> {
        self.harness.protocol().open_source(request, self.lane).await
    }

    async fn open(&self, made: &Made, aligned: bool) -> Rc<dyn Source> {
        self.try_open(&self.request(made, None, aligned)).await.expect("the object opens")
    }

    async fn objects_of_critical_sizes_are_read_whole(&self) {
        begin("objects_of_critical_sizes_are_read_whole");
        for len in critical_sizes() {
            let made = self.harness.make(&format!("whole-{len}"), len);
            assert_eq!(made.bytes.len(), len, "the harness makes what it is told");
            let source = self.open(&made, true).await;
            let object = source.object().clone();
            assert!(object.size.is_none_or(|size| size == len as u64), "{len} bytes, but {object:?}");
            assert!(object.size.is_some() || object.access == Access::Sequential, "only streams may hide their size");
            assert_eq!(object.validator.is_some(), self.harness.validates(), "{object:?}");
            let mut at = 0;
            loop {
                let end = match object.size {
                    Some(size) => size.min(at + CHUNK_BYTES as u64),
                    None => at + CHUNK_BYTES as u64,
                };
                if at == end {
                    break;
                }
                let range = range(at, end);
                let chunk = source.read(range, &self.lane.pool).await.expect("the chunk is read");
                compare(&chunk, &made, range);
                at += chunk.len() as u64;
                if (chunk.len() as u64) < range.len() {
                    break;
                }
            }
            assert_eq!(at, len as u64, "all bytes were read");
            source.revalidate().await.expect("nothing changed");
            source.close().await;
        }
    }

    async fn names_with_spaces_unicode_and_percent_signs_are_found(&self) {
        begin("names_with_spaces_unicode_and_percent_signs_are_found");
        for name in ["two words", "größe 你好", "100%", "%41 %2e%2e", "a+b&c=d;e#f?g", "-"] {
            let made = self.harness.make(name, 17);
            let source = self.open(&made, true).await;
            compare(&source.read(range(0, 17), &self.lane.pool).await.expect(name), &made, range(0, 17));
            source.close().await;
        }
    }

    async fn ranges_of_every_kind_are_exact(&self) {
        begin("ranges_of_every_kind_are_exact");
        let len = CHUNK_BYTES as u64 + 4097;
        let made = self.harness.make("ranges", len as usize);
        let source = self.open(&made, false).await;
        let mut ranges = vec![(0, 1), (0, 4095), (1, 2), (4095, 4097), (4096, 8192), (5000, 5001)];
        ranges.extend([(CRC_BLOCK - 1, CRC_BLOCK + 1), (CRC_BLOCK, 2 * CRC_BLOCK), (3, CHUNK_BYTES as u64 + 3)]);
        ranges.extend([(len - 1, len), (len - 4098, len)]);
        // In the order of their starts, so that streams need not go back; and once back to the front.
        ranges.sort_unstable();
        ranges.push((0, len));
        for (start, end) in ranges {
            let range = range(start, end);
            compare(&source.read(range, &self.lane.pool).await.expect("the range is read"), &made, range);
        }
        source.close().await;
    }

    async fn reads_out_of_order_and_at_once_are_exact(&self) {
        begin("reads_out_of_order_and_at_once_are_exact");
        let len = 5 * CHUNK_BYTES + 12_345;
        let made = self.harness.make("at once", len);
        let source = self.open(&made, true).await;
        if source.object().access == Access::Random {
            let mut pieces: Vec<_> = range(0, len as u64).pieces(CHUNK_BYTES as u64).collect();
            pieces.reverse();
            pieces.swap(1, 3);
            let chunks = join_all(pieces.iter().map(|piece| source.read(*piece, &self.lane.pool))).await;
            for (piece, chunk) in pieces.into_iter().zip(chunks) {
                compare(&chunk.expect("the chunk is read"), &made, piece);
            }
        }
        source.close().await;
    }

    async fn stretches_are_exact_also_where_they_cross_and_end_early(&self) {
        begin("stretches_are_exact_also_where_they_cross_and_end_early");
        let chunk = CHUNK_BYTES as u64;
        let len = 6 * chunk + 77;
        let made = self.harness.make("stretches", len as usize);
        let source = self.open(&made, true).await;
        if source.object().access == Access::Random {
            // Chunk and end of its stretch: two that are read side by side, one that is left, one that goes on behind a
            // gap, and one that is read twice.
            for (at, end) in
                [(0, 3), (3, 7), (1, 3), (4, 7), (2, 3), (5, 7), (0, 7), (2, 7), (3, 7), (6, 7), (3, 4), (3, 4)]
            {
                let (piece, end) = (range(at * chunk, len.min((at + 1) * chunk)), len.min(end * chunk));
                let read = source.read_on(piece, end, &self.lane.pool).await;
                compare(&read.expect("the chunk is read"), &made, piece);
            }
            let [first, other] = [range(0, chunk), range(3 * chunk, 4 * chunk)];
            let reads =
                [(first, 2 * chunk), (other, len)].map(|(piece, end)| source.read_on(piece, end, &self.lane.pool));
            for (piece, chunk) in [first, other].into_iter().zip(join_all(reads).await) {
                compare(&chunk.expect("the chunk is read"), &made, piece);
            }
        }
        source.close().await;
    }

    /// The contract forbids such reads, but a module must not answer them with made-up bytes.
    async fn nothing_is_read_beyond_the_end(&self) {
        begin("nothing_is_read_beyond_the_end");
        let made = self.harness.make("end", 10_000);
        let source = self.open(&made, false).await;
        for (start, end) in [(9_000, 10_001), (10_000, 10_001), (1 << 40, (1 << 40) + 1)] {
            assert!(!source.is_hole(range(start, end)), "what is not there is no hole");
            match source.read(range(start, end), &self.lane.pool).await {
                Err(error) => assert_ne!(error.disposition, Disposition::SourceChanged, "nothing changed: {error}"),
                Ok(chunk) => {
                    assert_eq!(source.object().size, None, "the size is known, and {start}..{end} lies outside");
                    assert_eq!(chunk.len() as u64, 10_000u64.saturating_sub(start), "only what is there");
                }
            }
        }
        source.close().await;
    }

    async fn holes_are_zero(&self) {
        begin("holes_are_zero");
        let made = self.harness.make("holes", 3 * CRC_BLOCK as usize + 5);
        let source = self.open(&made, true).await;
        for piece in range(0, made.bytes.len() as u64).pieces(CRC_BLOCK) {
            if source.is_hole(piece) {
                let zero = made.bytes[piece.start() as usize..piece.end() as usize].iter().all(|byte| *byte == 0);
                assert!(zero, "{piece} is no hole");
            }
        }
        source.close().await;
    }

    async fn sums_are_those_of_the_bytes(&self) {
        begin("sums_are_those_of_the_bytes");
        let len = 5 * CRC_BLOCK + 4_097;
        let made = self.harness.make("sums", len as usize);
        for aligned in [true, false] {
            let source = self.open(&made, aligned).await;
            let Some(sums) = source.sums() else { return source.close().await };
            let odd = [(0, len), (CRC_BLOCK, 2 * CRC_BLOCK), (2 * CRC_BLOCK, len), (5 * CRC_BLOCK, len)];
            let even = [(1, len), (4_095, CRC_BLOCK + 4_096), (len - 1, len)];
            for (start, end) in odd.into_iter().chain(even.into_iter().filter(|_| !aligned)) {
                let wanted = made.bytes[start as usize..end as usize].chunks(CRC_BLOCK as usize).map(crc32fast::hash);
                let told = sums.crcs(range(start, end), &self.lane.pool).await.expect("the sums are told");
                assert_eq!(told, wanted.collect::<Vec<_>>(), "{start}..{end}");
            }
            // Who tells them needs no more memory than there is, however much is asked for.
            let (pool, _) = BufferPool::new(self.lane.runtime, 4 * CRC_BLOCK as usize, 0, 0);
            sums.crcs(range(0, len), &pool).await.expect("the sums are told");
            assert!(pool.take(4 * CRC_BLOCK as usize).now_or_never().is_some(), "a buffer is still out");
            source.close().await;
        }
    }

    async fn a_pinned_version_opens_again(&self) {
        begin("a_pinned_version_opens_again");
        let made = self.harness.make("pinned", 5_000);
        let first = self.open(&made, true).await;
        let Some(validator) = first.object().validator.clone() else { return first.close().await };
        let again = self.try_open(&self.request(&made, Some(validator), true)).await.expect("it is the same");
        assert_eq!(again.object(), first.object());
        compare(&again.read(range(0, 5_000), &self.lane.pool).await.expect("it is read"), &made, range(0, 5_000));
        again.close().await;
        first.close().await;
    }

    async fn another_version_than_the_pinned_one_is_refused(&self) {
        begin("another_version_than_the_pinned_one_is_refused");
        let made = self.harness.make("other", 5_000);
        let epoch = FileTime { seconds: 0, nanoseconds: 0 };
        let foreign = [
            Validator::Etag { etag: "\"no such tag\"".into(), size: Some(5_000) },
            Validator::Constant { size: 4_999, seed: None },
            Validator::Inode { device: 0, inode: 0, size: 5_000, mtime: epoch, ctime: epoch },
        ];
        for validator in foreign {
            let result = self.try_open(&self.request(&made, Some(validator), true)).await;
            assert_changed(result.map(drop));
        }
        let first = self.open(&made, true).await;
        let pinned = first.object().validator.clone();
        first.close().await;
        if pinned.is_some() && self.harness.change(&made) {
            assert_changed(self.try_open(&self.request(&made, pinned, true)).await.map(drop));
        }
    }

    async fn a_change_while_reading_is_noticed(&self) {
        begin("a_change_while_reading_is_noticed");
        // More than connections and read buffers hold of it when it changes.
        let len = 8 * CHUNK_BYTES;
        let made = self.harness.make("changing", len);
        let source = self.open(&made, true).await;
        let pieces: Vec<_> = range(0, len as u64).pieces(CHUNK_BYTES as u64).collect();
        compare(&source.read(pieces[0], &self.lane.pool).await.expect("it is read"), &made, pieces[0]);
        if !self.harness.change(&made) || source.object().validator.is_none() {
            return source.close().await;
        }
        for piece in &pieces[1..] {
            match source.read(*piece, &self.lane.pool).await {
                // A storage that cannot hold on to a version is caught by the check before commit.
                Ok(_) => (),
                Err(error) => assert_changed(Err(error)),
            }
        }
        assert_changed(source.revalidate().await);
        source.close().await;
    }

    async fn a_missing_object_is_said_to_be_missing(&self) {
        begin("a_missing_object_is_said_to_be_missing");
        let Some(url) = self.harness.missing() else { return };
        let request = self.request(&Made { url, bytes: Vec::new() }, None, true);
        let error = must_fail(self.try_open(&request).await, &[Code::SourceMissing], "opening nothing");
        assert_eq!(error.disposition, Disposition::Fatal);
    }

    async fn what_is_interrupted_is_right_or_canceled(&self) {
        begin("what_is_interrupted_is_right_or_canceled");
        let made = self.harness.make("interrupted", CHUNK_BYTES);
        let request = self.request(&made, None, true);
        let source = self.try_open(&request).await.expect("the object opens");
        let whole = range(0, CHUNK_BYTES as u64);
        let first = {
            let mut under_way = pin!(source.read(whole, &self.lane.pool));
            let early = under_way.as_mut().now_or_never();
            request.interrupt.raise();
            match early {
                Some(result) => result,
                None => under_way.await,
            }
        };
        for result in [first, source.read(whole, &self.lane.pool).await] {
            match result {
                Ok(chunk) => compare(&chunk, &made, whole),
                Err(error) => assert_eq!(error, Error::canceled()),
            }
        }
        if let Err(error) = source.revalidate().await {
            assert_eq!(error, Error::canceled());
        }
        source.close().await;
        match self.try_open(&request).await {
            Ok(source) => source.close().await,
            Err(error) => assert_eq!(error, Error::canceled()),
        }
    }

    async fn buffers_come_back_to_the_pool(&self) {
        begin("buffers_come_back_to_the_pool");
        let made = self.harness.make("buffers", 4 * CHUNK_BYTES);
        let (pool, _) = BufferPool::new(self.lane.runtime, 2 * CHUNK_BYTES, 0, 0);
        let source = self.open(&made, true).await;
        for piece in range(0, 4 * CHUNK_BYTES as u64).pieces(CHUNK_BYTES as u64) {
            compare(&source.read(piece, &pool).await.expect("it is read"), &made, piece);
        }
        drop(source.read(range(1 << 40, (1 << 40) + 1), &pool).await);
        source.close().await;
        let first = pool.take(CHUNK_BYTES).now_or_never();
        let second = pool.take(CHUNK_BYTES).now_or_never();
        assert!(first.is_some() && second.is_some(), "a buffer is still out");
    }
}

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange::new(start, end).expect("ranges of the suite are in order")
}

fn compare(chunk: &Chunk, made: &Made, range: ByteRange) {
    let end = range.end().min(made.bytes.len() as u64);
    let wanted = &made.bytes[range.start().min(end) as usize..end as usize];
    assert_eq!(chunk.len(), wanted.len(), "length of {range}");
    let equal = match chunk.bytes() {
        Some(bytes) => bytes == wanted,
        None => wanted.iter().all(|byte| *byte == 0),
    };
    assert!(equal, "the bytes of {range} differ");
}

fn assert_changed(result: Result<(), Error>) {
    let error = must_fail(result, &[Code::SourceChanged], "reading another version");
    assert_eq!(error.disposition, Disposition::SourceChanged, "{error}");
}
