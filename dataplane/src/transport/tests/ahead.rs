//! Questions that an owner hears while it answers another one.

use staccato_protocols::{ByteRange, CRC_BLOCK, Code, conformance::SourceHarness as _};

use super::{
    super::frame::{Content, Frame},
    HELLO, Host, answers, open,
};

#[test]
fn what_is_asked_for_while_an_answer_leaves_is_answered_behind_it_and_as_ever() {
    let host = Host::start();
    let made = host.make("a", 5 * CRC_BLOCK as usize);
    let range = |start, len| ByteRange::at(start, len).unwrap();
    let fetch = |request, object, range| Frame::Fetch { request, object, range };
    let (whole, small, later) = (range(0, 5 * CRC_BLOCK), range(CRC_BLOCK, 100), range(3 * CRC_BLOCK, CRC_BLOCK));
    let asked = [
        HELLO,
        open(1, 1, &made.url),
        fetch(2, 1, whole),
        Frame::Ping { nonce: 7 },
        Frame::Ping { nonce: 7 },
        fetch(3, 1, small),
        fetch(4, 1, range(4 * CRC_BLOCK, 2 * CRC_BLOCK)),
        fetch(5, 9, small),
        fetch(6, 1, later),
        Frame::Revalidate { request: 7, object: 1 },
        fetch(8, 1, small),
        Frame::Close { object: 1 },
        fetch(9, 1, small),
    ];
    let mut said = Vec::<(u32, Result<Vec<u8>, Code>)>::new();
    let mut pongs = 0;
    for (frame, bytes) in answers(&host, &asked) {
        match frame {
            Frame::Opened { request, .. } | Frame::Valid { request } => said.push((request, Ok(Vec::new()))),
            Frame::Refused { request, error } => said.push((request, Err(error.code))),
            Frame::Pong { nonce: 7 } => pongs += 1,
            Frame::Chunk { request, range, content } => {
                let bytes = if content == Content::Zero { vec![0; range.len() as usize] } else { bytes };
                match said.last_mut() {
                    Some((last, Ok(so_far))) if *last == request => so_far.extend(bytes),
                    _ => said.push((request, Ok(bytes))),
                }
            }
            _ => (),
        }
    }
    let of = |range: ByteRange| Ok(made.bytes[range.start() as usize..range.end() as usize].to_vec());
    let expected = [
        (1, Ok(Vec::new())),
        (2, of(whole)),
        (3, of(small)),
        (4, Err(Code::RangeOutsideObject)),
        (5, Err(Code::ProtocolViolation)),
        (6, of(later)),
        (7, Ok(Vec::new())),
        (8, of(small)),
        (9, Err(Code::ProtocolViolation)),
    ];
    assert!(
        said == expected,
        "{:?}",
        said.iter().map(|(request, said)| (request, said.as_ref().map(Vec::len))).collect::<Vec<_>>()
    );
    assert_eq!(pongs, 2);
}
