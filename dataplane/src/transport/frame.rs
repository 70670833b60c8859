//! What executors say to one another: a codec without I/O.
//!
//! A frame is a head of [`HEAD_BYTES`] and a body. Numbers are little-endian:
//!
//! | bytes of the head | what |
//! | --- | --- |
//! | 0 to 3 | length of the body, at most [`BODY_BYTES_MAX`] |
//! | 4 | kind |
//! | 5 to 7 | zero |
//! | 8 to 11 | CRC-32 of bytes 0 to 7 and of the body |
//!
//! Behind a [`Frame::Chunk`] with data, its bytes follow as they are: they have CRCs of their own.
//!
//! A connection begins with a [`Frame::Hello`] from both sides; those that have no version in common part at once. The
//! reader asks ([`Frame::Open`], [`Frame::Fetch`], [`Frame::Sums`], [`Frame::Revalidate`]; of an object of many
//! [`Frame::Watch`] and [`Frame::Vouch`]), numbers its questions, and every answer repeats the number. Ahead of an answer the owner may tell what became of what it has sent
//! ([`Frame::SenderReport`]). Objects are numbered by the reader, too, so that it need not wait for one to be open
//! before it asks for its bytes: what comes behind an `Open` that is refused is refused like it.
//!
//! What is promised of the codec:
//!
//! - Nothing is allocated or parsed that is longer than its bound.
//! - Any bytes give frames, or an error, and never a panic; what is an error once stays one whatever follows.
//! - A body has no other encoding than the one that is written: what was decoded gives the same bytes again (but for codes
//!   of errors that this build does not know).

mod values;

#[cfg(test)]
mod tests;

use staccato_protocols::{Access, ByteRange, CRC_BLOCK, Error, Validator, url::URL_BYTES_MAX};
pub(super) use values::encode_object;
use values::{decode_error, decode_validator, encode_error, encode_validator};

use super::wire::{Malformed, Reader, Writer};

/// Versions of the protocol that this build speaks, first and last. Version 1 may change until the first release.
pub const VERSIONS: (u16, u16) = (1, 1);
/// Bytes before each body.
pub const HEAD_BYTES: usize = 12;
/// Longest body.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// Most bytes that are asked for, or come, at a time.
pub const CHUNK_BYTES_MAX: u64 = 64 << 20;
/// Longest object that comes with the answer to its opening.
pub const WHOLE_BYTES_MAX: u32 = 256 << 10;
/// Longest ticket.
pub const TICKET_BYTES_MAX: usize = 16 << 10;
/// Longest entity tag.
pub const ETAG_BYTES_MAX: usize = 4 << 10;
/// Longest sentence of a refusal; a longer one is cut.
pub const DETAIL_BYTES_MAX: usize = 1 << 10;
/// Most blocks whose CRCs are asked for at a time.
pub const SUMS_MAX: u64 = 8 << 10;
/// Most ranges that are told at a time.
pub const RANGES_MAX: usize = 4000;
/// Longest voucher.
pub const VOUCHER_BYTES_MAX: usize = 4 << 10;

const MAGIC: [u8; 8] = *b"staccato";

/// One thing that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// First on a connection, from both sides. Never changes its form.
    Hello {
        /// Versions that the speaker knows, first and last.
        versions: (u16, u16),
        /// Its [`CRC_BLOCK`]: the same on both sides, or they cannot work together.
        crc_block: u32,
    },
    /// Asks for an object; answered by [`Frame::Opened`]. One that is no longer than `whole_up_to` comes as a whole behind
    /// that: its [`Frame::Chunk`]s, and [`Frame::Valid`], when it is known to have been the same until its last byte was
    /// read; the object is closed again then. Where it cannot be read, or has changed, [`Frame::Refused`] follows in their
    /// place. Many small objects are a question each that way.
    Open {
        /// Number of the question.
        request: u32,
        /// Number of the object from now on.
        object: u32,
        /// What allows it ([`ticket`](super::ticket)).
        ticket: Vec<u8>,
        /// Where it is, as its owner knows it.
        url: String,
        /// The version that must be read; none at the first open of a transfer.
        pinned: Option<Validator>,
        /// Whether every range that will be asked for begins at a multiple of [`CRC_BLOCK`].
        aligned: bool,
        /// 0: whatever its length is, none of its bytes are wanted yet. At most [`WHOLE_BYTES_MAX`].
        whole_up_to: u32,
    },
    /// The object is open.
    Opened {
        /// Number of the question.
        request: u32,
        /// Its length.
        size: Option<u64>,
        /// What tells this version of it from others.
        validator: Option<Validator>,
        /// How its bytes may be asked for.
        access: Access,
    },
    /// Asks for bytes; answered by [`Frame::Chunk`]s, in order, until the range is through.
    Fetch {
        /// Number of the question.
        request: u32,
        /// Number of the object.
        object: u32,
        /// Which bytes: not none, at most [`CHUNK_BYTES_MAX`].
        range: ByteRange,
    },
    /// Bytes of an object.
    Chunk {
        /// Number of the question.
        request: u32,
        /// Which bytes: not none, at most [`CHUNK_BYTES_MAX`].
        range: ByteRange,
        /// What they are.
        content: Content,
    },
    /// Asks for the CRCs of bytes; answered by [`Frame::Summed`].
    Sums {
        /// Number of the question.
        request: u32,
        /// Number of the object.
        object: u32,
        /// Of which bytes: at most [`SUMS_MAX`] blocks.
        range: ByteRange,
    },
    /// CRCs of blocks.
    Summed {
        /// Number of the question.
        request: u32,
        /// Which bytes they are about.
        range: ByteRange,
        /// One for each [`CRC_BLOCK`] of the range, counted from its start.
        crcs: Vec<u32>,
    },
    /// Asks whether the object still is the one that was opened; answered by [`Frame::Valid`].
    Revalidate {
        /// Number of the question.
        request: u32,
        /// Number of the object.
        object: u32,
    },
    /// It is.
    Valid {
        /// Number of the question.
        request: u32,
    },
    /// The answer to any question that cannot be done.
    Refused {
        /// Number of the question.
        request: u32,
        /// Why, and what the reader can do about it.
        error: Error,
    },
    /// Asks what the owner has of an object that is not all there yet; answered by [`Frame::Have`], as soon as that is more
    /// than it told before, or after a while.
    Watch {
        /// Number of the question.
        request: u32,
        /// Number of the object.
        object: u32,
        /// The last [`Frame::Have`]'s `known`; 0 at first.
        known: u64,
    },
    /// What the owner has got since.
    Have {
        /// Number of the question.
        request: u32,
        /// How much was told by now: what the next question repeats.
        known: u64,
        /// What was told with this answer: at most [`RANGES_MAX`], none of them empty.
        ranges: Vec<ByteRange>,
    },
    /// Asks who vouches for bytes, and for which; answered by [`Frame::Vouched`].
    Vouch {
        /// Number of the question.
        request: u32,
        /// Number of the object.
        object: u32,
        /// Which bytes: not none, at most [`CHUNK_BYTES_MAX`].
        range: ByteRange,
    },
    /// Whoever read them first does, with a [`voucher`](super::voucher).
    Vouched {
        /// Number of the question.
        request: u32,
        /// The voucher.
        voucher: Vec<u8>,
    },
    /// The object is not needed any more. Not answered.
    Close {
        /// Number of the object.
        object: u32,
    },
    /// Are you there? Answered before anything else, as soon as it is read.
    Ping {
        /// To be repeated.
        nonce: u64,
    },
    /// I am.
    Pong {
        /// That of the question.
        nonce: u64,
    },
    /// What the owner knows of its packets on this connection, since it said so last: whoever receives them cannot know.
    SenderReport {
        /// Those that it sent.
        packets: u32,
        /// Those that were lost.
        lost: u32,
    },
}

/// What the bytes of a chunk are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// They follow the frame. One CRC-32 for each [`CRC_BLOCK`] of the range, counted from its start.
    Data(Vec<u32>),
    /// All of them are zero, and do not travel.
    Zero,
}

/// Why bytes are no frame. The connection is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than any body may be.
    #[error("a frame of {0} bytes; no body has more than {BODY_BYTES_MAX}")]
    TooLong(u32),
    /// Damaged on its way, or no frame at all.
    #[error("a frame's CRC is wrong")]
    Damaged,
    /// A kind that this version does not know.
    #[error("a frame of the unknown kind {0}")]
    UnknownKind(u8),
    /// Its body is not what its kind says.
    #[error("a frame is malformed: {0}")]
    Malformed(&'static str),
}

impl From<Malformed> for FrameError {
    fn from(Malformed(how): Malformed) -> Self {
        Self::Malformed(how)
    }
}

impl Frame {
    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0; HEAD_BYTES]);
        self.encode_body(&mut Writer(out));
        let body = u32::try_from(out.len() - start - HEAD_BYTES).expect("bodies are short");
        assert!(body as usize <= BODY_BYTES_MAX, "a body of {body} bytes");
        out[start..start + 4].copy_from_slice(&body.to_le_bytes());
        out[start + 4] = self.kind();
        let crc = crc(&out[start..start + 8], &out[start + HEAD_BYTES..]);
        out[start + 8..start + HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    }

    /// The frame that `bytes` begin with, and how many of them it takes; nothing while it is not all there.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, FrameError> {
        let Some((head, behind)) = bytes.split_at_checked(HEAD_BYTES) else { return Ok(None) };
        let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
        let len = number(0);
        if len as usize > BODY_BYTES_MAX {
            return Err(FrameError::TooLong(len));
        }
        let Some(body) = behind.get(..len as usize) else { return Ok(None) };
        if crc(&head[..8], body) != number(8) {
            return Err(FrameError::Damaged);
        }
        if head[5..8] != [0; 3] {
            return Err(FrameError::Malformed("its head has something where nothing belongs"));
        }
        let mut reader = Reader(body);
        let frame = Self::decode_body(head[4], &mut reader)?;
        reader.end()?;
        Ok(Some((frame, HEAD_BYTES + body.len())))
    }

    /// How many bytes follow the frame.
    pub fn payload_bytes(&self) -> u64 {
        match self {
            Self::Chunk { range, content: Content::Data(_), .. } => range.len(),
            _ => 0,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => 1,
            Self::Open { .. } => 2,
            Self::Opened { .. } => 3,
            Self::Fetch { .. } => 4,
            Self::Chunk { .. } => 5,
            Self::Sums { .. } => 6,
            Self::Summed { .. } => 7,
            Self::Revalidate { .. } => 8,
            Self::Valid { .. } => 9,
            Self::Refused { .. } => 10,
            Self::Close { .. } => 11,
            Self::Ping { .. } => 12,
            Self::Pong { .. } => 13,
            Self::SenderReport { .. } => 14,
            Self::Watch { .. } => 15,
            Self::Have { .. } => 16,
            Self::Vouch { .. } => 17,
            Self::Vouched { .. } => 18,
        }
    }

    fn encode_body(&self, to: &mut Writer<'_>) {
        match self {
            Self::Hello { versions, crc_block } => {
                to.0.extend(MAGIC);
                to.u16(versions.0);
                to.u16(versions.1);
                to.u32(*crc_block);
            }
            Self::Open { request, object, ticket, url, pinned, aligned, whole_up_to } => {
                to.u32(*request);
                to.u32(*object);
                to.bytes(ticket, TICKET_BYTES_MAX);
                to.bytes(url.as_bytes(), URL_BYTES_MAX);
                encode_validator(pinned.as_ref(), to);
                to.u8((*aligned).into());
                to.u32(*whole_up_to);
            }
            Self::Opened { request, size, validator, access } => {
                to.u32(*request);
                to.optional_u64(*size);
                encode_validator(validator.as_ref(), to);
                to.u8((*access == Access::Sequential).into());
            }
            Self::Fetch { request, object, range }
            | Self::Sums { request, object, range }
            | Self::Vouch { request, object, range } => {
                to.u32(*request);
                to.u32(*object);
                to.range(*range);
            }
            Self::Chunk { request, range, content } => {
                to.u32(*request);
                to.range(*range);
                to.u8((*content == Content::Zero).into());
                if let Content::Data(crcs) = content {
                    assert_eq!(crcs.len() as u64, blocks(*range), "a CRC for each block");
                    crcs.iter().for_each(|crc| to.u32(*crc));
                }
            }
            Self::Summed { request, range, crcs } => {
                assert_eq!(crcs.len() as u64, blocks(*range), "a CRC for each block");
                to.u32(*request);
                to.range(*range);
                crcs.iter().for_each(|crc| to.u32(*crc));
            }
            Self::Revalidate { request, object } => {
                to.u32(*request);
                to.u32(*object);
            }
            Self::Valid { request } => to.u32(*request),
            Self::Refused { request, error } => {
                to.u32(*request);
                encode_error(error, to);
            }
            Self::Close { object } => to.u32(*object),
            Self::Ping { nonce } | Self::Pong { nonce } => to.u64(*nonce),
            Self::SenderReport { packets, lost } => {
                to.u32(*packets);
                to.u32(*lost);
            }
            Self::Watch { request, object, known } => {
                to.u32(*request);
                to.u32(*object);
                to.u64(*known);
            }
            Self::Have { request, known, ranges } => {
                assert!(ranges.len() <= RANGES_MAX, "{} ranges", ranges.len());
                to.u32(*request);
                to.u64(*known);
                to.u16(ranges.len() as u16);
                ranges.iter().for_each(|range| to.range(*range));
            }
            Self::Vouched { request, voucher } => {
                to.u32(*request);
                to.bytes(voucher, VOUCHER_BYTES_MAX);
            }
        }
    }

    fn decode_body(kind: u8, from: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(match kind {
            1 => {
                if from.u64()?.to_le_bytes() != MAGIC {
                    return Err(FrameError::Malformed("it is no Staccato's"));
                }
                Self::Hello { versions: (from.u16()?, from.u16()?), crc_block: from.u32()? }
            }
            2 => Self::Open {
                request: from.u32()?,
                object: from.u32()?,
                ticket: from.bytes(TICKET_BYTES_MAX)?.to_vec(),
                url: from.text(URL_BYTES_MAX)?,
                pinned: decode_validator(from)?,
                aligned: from.flag()?,
                whole_up_to: whole_up_to(from)?,
            },
            3 => Self::Opened {
                request: from.u32()?,
                size: from.optional_u64()?,
                validator: decode_validator(from)?,
                access: if from.flag()? { Access::Sequential } else { Access::Random },
            },
            4 => Self::Fetch { request: from.u32()?, object: from.u32()?, range: chunk_range(from)? },
            5 => {
                let (request, range) = (from.u32()?, chunk_range(from)?);
                let zero = from.flag()?;
                let content = if zero { Content::Zero } else { Content::Data(crcs(from, blocks(range))?) };
                Self::Chunk { request, range, content }
            }
            6 => Self::Sums { request: from.u32()?, object: from.u32()?, range: summed_range(from)? },
            7 => {
                let (request, range) = (from.u32()?, summed_range(from)?);
                Self::Summed { request, range, crcs: crcs(from, blocks(range))? }
            }
            8 => Self::Revalidate { request: from.u32()?, object: from.u32()? },
            9 => Self::Valid { request: from.u32()? },
            10 => Self::Refused { request: from.u32()?, error: decode_error(from)? },
            11 => Self::Close { object: from.u32()? },
            12 => Self::Ping { nonce: from.u64()? },
            13 => Self::Pong { nonce: from.u64()? },
            14 => Self::SenderReport { packets: from.u32()?, lost: from.u32()? },
            15 => Self::Watch { request: from.u32()?, object: from.u32()?, known: from.u64()? },
            16 => Self::Have { request: from.u32()?, known: from.u64()?, ranges: ranges(from)? },
            17 => Self::Vouch { request: from.u32()?, object: from.u32()?, range: chunk_range(from)? },
            18 => Self::Vouched { request: from.u32()?, voucher: from.bytes(VOUCHER_BYTES_MAX)?.to_vec() },
            unknown => return Err(FrameError::UnknownKind(unknown)),
        })
    }
}

/// The version that two sides speak: the highest that both know.
pub fn common_version(ours: (u16, u16), theirs: (u16, u16)) -> Option<u16> {
    let highest = ours.1.min(theirs.1);
    (highest >= ours.0.max(theirs.0)).then_some(highest)
}

pub(super) fn crc(head: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(body);
    hasher.finalize()
}

/// Blocks of a range, counted from its start.
fn blocks(range: ByteRange) -> u64 {
    range.len().div_ceil(CRC_BLOCK)
}

fn whole_up_to(from: &mut Reader<'_>) -> Result<u32, FrameError> {
    let bytes = from.u32()?;
    if bytes > WHOLE_BYTES_MAX {
        return Err(FrameError::Malformed("an object is wanted at once that is too long"));
    }
    Ok(bytes)
}

fn chunk_range(from: &mut Reader<'_>) -> Result<ByteRange, FrameError> {
    let range = from.range()?;
    if range.is_empty() || range.len() > CHUNK_BYTES_MAX {
        return Err(FrameError::Malformed("a chunk has no bytes, or too many"));
    }
    Ok(range)
}

fn summed_range(from: &mut Reader<'_>) -> Result<ByteRange, FrameError> {
    let range = from.range()?;
    if blocks(range) > SUMS_MAX {
        return Err(FrameError::Malformed("it is about too many blocks"));
    }
    Ok(range)
}

fn ranges(from: &mut Reader<'_>) -> Result<Vec<ByteRange>, FrameError> {
    let count = usize::from(from.u16()?);
    if count > RANGES_MAX {
        return Err(FrameError::Malformed("it tells too many ranges at once"));
    }
    let range = |_| Some(from.range()).filter(|range| !range.is_ok_and(ByteRange::is_empty));
    let ranges: Option<Result<Vec<_>, _>> = (0..count).map(range).collect();
    Ok(ranges.ok_or(FrameError::Malformed("a range that is told has no bytes"))??)
}

fn crcs(from: &mut Reader<'_>, count: u64) -> Result<Vec<u32>, Malformed> {
    (0..count).map(|_| from.u32()).collect()
}
