//! What any bytes are held against: by `dataplane/fuzz`, and by a test that runs everywhere.
//!
//! The promises are those of [`frame`](super::frame) and of [`ticket`](super::ticket): bytes give what was written, or an
//! error, and no panic; and what was read is written as the same bytes again.

use std::{future::Future, pin::pin};

use futures_util::FutureExt as _;
use staccato_protocols::{CRC_BLOCK, Code, chunk::BlockCrcs};

use super::{
    connection::Connection,
    frame::{Frame, HEAD_BYTES, VERSIONS, crc},
    spoken::Spoken,
    ticket::Ticket,
};

/// Bytes as they may come over a connection: frames, one behind the other.
pub fn frames(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some((frame, len))) = Frame::decode(rest) {
        let mut again = Vec::new();
        frame.encode(&mut again);
        let unknown_code = matches!(&frame, Frame::Refused { error, .. } if error.code == Code::Internal);
        assert!(again == rest[..len] || unknown_code, "{frame:?} has two encodings");
        assert_eq!(Frame::decode(&again), Ok(Some((frame, again.len()))));
        rest = &rest[len..];
    }
}

/// A kind (the first byte) and a body, which are given the head that belongs to them: without its CRC, hardly any bytes
/// would come as far as the body.
pub fn bodies(bytes: &[u8]) {
    if let Some((kind, body)) = bytes.split_first() {
        frames(&framed(*kind, body));
    }
}

/// What of a ticket is signed.
pub fn tickets(bytes: &[u8]) {
    if let Ok(ticket) = Ticket::parse(bytes) {
        assert!(ticket.fields() == bytes, "{ticket:?} has two encodings");
    }
}

/// What comes behind a greeting, in pieces (the first byte tells how long): what is heard does not depend on them, and ends
/// with an error or with the bytes; nor on how often its hearer thinks better of waiting. Frames are given right CRCs.
pub fn ears(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let mut said = Vec::new();
    Frame::Hello { versions: VERSIONS, crc_block: CRC_BLOCK as u32 }.encode(&mut said);
    let begin = said.len();
    said.extend(bytes);
    correct(&mut said[begin..]);
    let stream = || Spoken::new(said.clone(), usize::from(*piece) + 1);
    let heard = heard_from(stream(), said.len());
    assert_eq!(heard_from(stream().with_pauses(), said.len()), heard, "whoever gives up waiting loses something");
    let mut rest = &said[begin..];
    for frame in &heard {
        let (decoded, len) = Frame::decode(rest).expect("it was heard").expect("all of it");
        assert_eq!(decoded, *frame);
        rest = rest.get(len + frame.payload_bytes() as usize..).unwrap_or_default();
    }
    let later = Frame::decode(rest);
    assert!(!matches!(later, Ok(Some(_))), "{later:?} was not heard");
}

/// All frames of a stream that says so many bytes.
fn heard_from(stream: Spoken, bytes: usize) -> Vec<Frame> {
    let connection = finish(Connection::begin(Box::new(stream), "somebody".into())).expect("the greeting is right");
    let (_, mut ears) = connection.halves();
    let (mut heard, mut scrap) = (Vec::new(), vec![0; bytes]);
    // Whoever waits for a frame may think better of it at any time, and ask again.
    while let Some(Ok(Some(frame))) = (0..2 * bytes).find_map(|_| ears.receive().now_or_never()) {
        let payload = usize::try_from(frame.payload_bytes()).expect("chunks are short");
        heard.push(frame);
        let mut crcs = BlockCrcs::default();
        if payload > scrap.len() || finish(ears.take_payload(&mut scrap[..payload], &mut crcs)).is_err() {
            break;
        }
    }
    heard
}

/// What comes of something that has to wait for nobody else.
fn finish<T>(doing: impl Future<Output = T>) -> T {
    let mut doing = pin!(doing);
    loop {
        if let Some(done) = doing.as_mut().now_or_never() {
            return done;
        }
    }
}

/// A frame of this kind, whatever its body is.
pub(super) fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len()).expect("bodies are short").to_le_bytes().to_vec();
    bytes.extend([kind, 0, 0, 0]);
    bytes.extend(crc(&bytes, body).to_le_bytes());
    bytes.extend(body);
    bytes
}

/// Gives frames, one behind the other, their CRCs.
fn correct(mut bytes: &mut [u8]) {
    while bytes.len() >= HEAD_BYTES {
        let len = u32::from_le_bytes(bytes[..4].try_into().expect("4 bytes")) as usize;
        let Some(end) = len.checked_add(HEAD_BYTES).filter(|end| *end <= bytes.len()) else { return };
        let right = crc(&bytes[..8], &bytes[HEAD_BYTES..end]);
        bytes[8..HEAD_BYTES].copy_from_slice(&right.to_le_bytes());
        let Ok(Some((frame, len))) = Frame::decode(bytes) else { return };
        let Ok(payload) = usize::try_from(frame.payload_bytes()) else { return };
        let Some(rest) = std::mem::take(&mut bytes).get_mut(len + payload..) else { return };
        bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
        path::Path,
    };

    use super::*;

    /// Which panics where a promise is broken.
    type Target = fn(&[u8]);

    const MUTATIONS: usize = 2_000;

    /// A few changes of the kinds that a fuzzer makes.
    fn mutate(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
        const NUMBERS: [u64; 8] = [0, 1, 0x7F, 0xFF, 0xFFFF, 0x0001_0000, u32::MAX as u64, u64::MAX];
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..=bytes.len());
            let len = random.usize(0..9).min(bytes.len() - at);
            match random.u8(..6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
                1 => bytes[at..at + len].copy_from_slice(&random.choice(NUMBERS).unwrap().to_le_bytes()[..len]),
                2 => drop(bytes.drain(at..at + len)),
                3 => drop(bytes.splice(at..at, std::iter::repeat_with(|| random.u8(..)).take(len))),
                4 => bytes.truncate(at),
                _ => bytes.extend_from_within(at..at + len),
            }
        }
    }

    /// The corpus of `dataplane/fuzz`, and changes of it.
    #[test]
    fn whatever_was_found_by_fuzzing_and_whatever_is_like_it_does_no_harm() {
        let seed = std::env::var("TEST_FUZZ_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
        eprintln!("TEST_FUZZ_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let targets: [(_, Target); 4] = [("frames", frames), ("bodies", bodies), ("tickets", tickets), ("ears", ears)];
        for (name, target) in targets {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
            let mut paths: Vec<_> = fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
            paths.sort();
            let seeds: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
            assert!(!seeds.is_empty(), "{} is there", corpus.display());
            let hold = |bytes: &[u8]| {
                let held = catch_unwind(AssertUnwindSafe(|| target(bytes)));
                held.unwrap_or_else(|panic| {
                    eprintln!("{name}: {bytes:02x?}");
                    resume_unwind(panic)
                });
            };
            seeds.iter().for_each(|bytes| hold(bytes));
            for _ in 0..MUTATIONS {
                let mut bytes = random.choice(&seeds).unwrap().clone();
                mutate(&mut bytes, &mut random);
                hold(&bytes);
            }
        }
    }
}
