use std::{fs, path::Path, time::Duration};

use proptest::prelude::*;
use staccato_protocols::{Code, FileTime};

use super::{
    super::fuzz::{self, framed},
    *,
};

const MIB: u64 = 1 << 20;

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange::new(start, end).unwrap()
}

/// A frame of each kind, as version 1 has them, with names.
fn samples() -> Vec<(&'static str, Frame)> {
    let time = |seconds| FileTime { seconds, nanoseconds: 999_999_999 };
    let inode = Validator::Inode { device: 64769, inode: 12, size: 3 * MIB, mtime: time(-1), ctime: time(i64::MAX) };
    let etag = Validator::Etag { etag: "\"a b\"".into(), size: Some(7) };
    let constant = Validator::Constant { size: 5, seed: None };
    let url = "file:///images/ä.raw".to_owned();
    let error = Error::retry(Code::ReadFailed, "cannot read /a: it is broken").after(Duration::from_millis(1500));
    vec![
        ("hello", Frame::Hello { versions: VERSIONS, crc_block: CRC_BLOCK as u32 }),
        (
            "open",
            Frame::Open {
                request: 1,
                object: 2,
                ticket: vec![0, 1, 254, 255],
                url,
                pinned: Some(inode),
                aligned: true,
                whole_up_to: 65_536,
            },
        ),
        ("opened", Frame::Opened { request: 1, size: None, validator: Some(etag), access: Access::Sequential }),
        (
            "opened-constant",
            Frame::Opened { request: 3, size: Some(5), validator: Some(constant), access: Access::Random },
        ),
        ("fetch", Frame::Fetch { request: 4, object: 2, range: range(MIB, 3 * MIB) }),
        (
            "chunk-data",
            Frame::Chunk { request: 4, range: range(MIB, 2 * MIB + 1), content: Content::Data(vec![1, u32::MAX]) },
        ),
        ("chunk-zero", Frame::Chunk { request: 4, range: range(2 * MIB, 3 * MIB), content: Content::Zero }),
        ("sums", Frame::Sums { request: 5, object: 2, range: range(1, SUMS_MAX * MIB + 1) }),
        ("summed", Frame::Summed { request: 5, range: range(0, 2 * MIB), crcs: vec![3, 4] }),
        ("revalidate", Frame::Revalidate { request: 6, object: 2 }),
        ("valid", Frame::Valid { request: 6 }),
        ("refused", Frame::Refused { request: 7, error }),
        ("refused-fatal", Frame::Refused { request: 8, error: Error::fatal(Code::SourceMissing, "") }),
        ("close", Frame::Close { object: 2 }),
        ("ping", Frame::Ping { nonce: 0x0102_0304_0506_0708 }),
        ("pong", Frame::Pong { nonce: u64::MAX }),
        ("sender-report", Frame::SenderReport { packets: 70_000, lost: 701 }),
        ("watch", Frame::Watch { request: 9, object: 2, known: 70_000 }),
        ("have", Frame::Have { request: 9, known: 70_002, ranges: vec![range(0, MIB), range(5 * MIB, 6 * MIB + 1)] }),
        ("vouch", Frame::Vouch { request: 10, object: 2, range: range(MIB, 3 * MIB) }),
        ("vouched", Frame::Vouched { request: 10, voucher: vec![1, 2, 255] }),
    ]
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

/// What an earlier build wrote must be read for ever. A new version gets a file of its own; this one never changes.
#[test]
fn version_1_is_what_the_golden_file_says() {
    let golden = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/transport/frame/golden-v1.txt"));
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let lines: Vec<_> = samples().iter().map(|(name, frame)| format!("{name} {}", hex(&encoded(frame)))).collect();
    assert_eq!(golden.unwrap_or_default().lines().collect::<Vec<_>>(), lines, "{}", lines.join("\n"));
}

#[test]
fn frames_are_read_as_they_were_written_also_piece_by_piece() {
    let mut stream = Vec::new();
    for (name, frame) in samples() {
        let bytes = encoded(&frame);
        for end in 0..bytes.len() {
            assert_eq!(Frame::decode(&bytes[..end]), Ok(None), "{name}, {end} bytes");
        }
        assert_eq!(Frame::decode(&bytes), Ok(Some((frame, bytes.len()))), "{name}");
        stream.extend(bytes);
    }
    fuzz::frames(&stream);
}

#[test]
fn every_changed_bit_of_a_frame_is_seen() {
    for (name, frame) in samples() {
        let bytes = encoded(&frame);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // A greater length waits for more, until what comes does not fit.
            damaged.resize(HEAD_BYTES + BODY_BYTES_MAX, 0);
            assert!(Frame::decode(&damaged).is_err(), "{name}, bit {bit}");
        }
    }
}

#[test]
fn what_is_out_of_bounds_is_refused_before_it_is_there() {
    let long = (BODY_BYTES_MAX as u32 + 1).to_le_bytes();
    let head: Vec<u8> = long.into_iter().chain([0; HEAD_BYTES - 4]).collect();
    assert_eq!(Frame::decode(&head), Err(FrameError::TooLong(BODY_BYTES_MAX as u32 + 1)));
    assert_eq!(Frame::decode(&framed(0, b"")), Err(FrameError::UnknownKind(0)));
    assert_eq!(Frame::decode(&framed(200, b"")), Err(FrameError::UnknownKind(200)));
    let (_, open) = samples().swap_remove(1);
    let mut body = encoded(&open).split_off(HEAD_BYTES);
    let at = body.len() - 4;
    for (bytes, is_right) in [(WHOLE_BYTES_MAX, true), (WHOLE_BYTES_MAX + 1, false)] {
        body[at..].copy_from_slice(&bytes.to_le_bytes());
        assert_eq!(Frame::decode(&framed(2, &body)).is_ok(), is_right, "an object of {bytes} bytes as a whole");
    }
    let malformed = |kind: u8, parts: &[&[u8]]| {
        let decoded = Frame::decode(&framed(kind, &parts.concat()));
        assert!(matches!(decoded, Err(FrameError::Malformed(_))), "{decoded:?}");
    };
    let number = u64::to_le_bytes;
    malformed(1, &[b"stranger", &[0; 8]]);
    // A fetch of nothing, of too much, and of less than nothing; one that has more behind it.
    for (start, end) in [(5, 5), (0, CHUNK_BYTES_MAX + 1), (6, 5)] {
        malformed(4, &[&[0; 8], &number(start), &number(end)]);
    }
    malformed(4, &[&[0; 8], &number(0), &number(1), &[0]]);
    // A chunk with fewer CRCs than blocks; with more; with a flag that is none.
    malformed(5, &[&[0; 4], &number(0), &number(2 * MIB), &[0], &[0; 4]]);
    malformed(5, &[&[0; 4], &number(0), &number(1), &[0], &[0; 8]]);
    malformed(5, &[&[0; 4], &number(0), &number(1), &[2]]);
    malformed(6, &[&[0; 8], &number(0), &number(SUMS_MAX * MIB + 1)]);
    malformed(7, &[&[0; 4], &number(0), &number(u64::MAX)]);
    // Ranges without bytes, and too many of them.
    malformed(16, &[&[0; 4], &number(1), &[1, 0], &number(7), &number(7)]);
    malformed(16, &[&[0; 4], &number(1), &(RANGES_MAX as u16 + 1).to_le_bytes(), &[0; 16]]);
    // A text that is longer than it may be, and one that is none.
    malformed(10, &[&[0; 4], &[65, 0], &[b'a'; 65], &[2, 0, 0]]);
    malformed(10, &[&[0; 4], &[1, 0], &[0xff], &[2, 0, 0]]);
}

#[test]
fn a_code_that_only_a_later_build_knows_keeps_its_disposition() {
    let mut body = vec![0; 4];
    body.extend([4, 0]);
    body.extend(b"newx");
    body.extend([2, 2, 0]);
    body.extend(b"no");
    let (frame, _) = Frame::decode(&framed(10, &body)).unwrap().unwrap();
    assert_eq!(frame, Frame::Refused { request: 0, error: Error::fatal(Code::Internal, "no") });
}

#[test]
fn long_sentences_are_cut_between_characters() {
    let error = Error::fatal(Code::Internal, "ä".repeat(DETAIL_BYTES_MAX));
    let bytes = encoded(&Frame::Refused { request: 0, error });
    let Ok(Some((Frame::Refused { error, .. }, _))) = Frame::decode(&bytes) else { panic!("a refusal") };
    assert_eq!(error.message, "ä".repeat(DETAIL_BYTES_MAX / 2));
}

#[test]
fn two_sides_speak_the_highest_version_that_both_know() {
    for (ours, theirs, common) in [
        ((1, 1), (1, 1), Some(1)),
        ((1, 3), (2, 5), Some(3)),
        ((2, 5), (1, 3), Some(3)),
        ((1, 2), (3, 4), None),
        ((3, 4), (1, 2), None),
    ] {
        assert_eq!(common_version(ours, theirs), common, "{ours:?}, {theirs:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz::frames(&bytes);
    }

    #[test]
    fn any_body_is_a_frame_or_an_error(kind in 0u8..20, body in prop::collection::vec(any::<u8>(), 0..100)) {
        fuzz::frames(&framed(kind, &body));
    }

    #[test]
    fn a_changed_body_is_a_frame_or_an_error(sample in 0usize..21, at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let bytes = encoded(&samples()[sample].1);
        let mut body = bytes[HEAD_BYTES..].to_vec();
        let at = at.index(body.len());
        body[at] = value;
        fuzz::frames(&framed(bytes[4], &body));
    }
}
