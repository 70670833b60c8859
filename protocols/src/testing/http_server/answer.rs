//! What the server sends for a request.

use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Framing, Page, Reply, Seen, Trick, lock, wire::Wire};

/// Bodies are written in pieces of this length: odd, so that no reader can rely on their boundaries.
const PIECE_BYTES: usize = 100_003;

/// An answer, ready to be sent in its way.
pub(super) struct Answer {
    head: String,
    body: Vec<u8>,
    framing: Framing,
    delivery: Delivery,
}

/// How much of an answer is sent, and what then.
enum Delivery {
    Whole,
    HeadOnly,
    Hang(usize),
    Close(usize),
    Reset(usize),
    GarbageChunk,
    Trickle(Duration),
}

impl Answer {
    pub fn status(status: u16, headers: &[(&'static str, String)]) -> Self {
        let mut head = format!("HTTP/1.1 {status} Whatever\r\n");
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        Self { head, body: Vec::new(), framing: Framing::Length, delivery: Delivery::Whole }
    }

    pub fn reply(Reply { status, headers, body }: Reply, method: &str) -> Self {
        let delivery = if method == "HEAD" { Delivery::HeadOnly } else { Delivery::Whole };
        Self { body, delivery, ..Self::status(status, &headers) }
    }

    pub fn of(page: &Page, request: &Seen, trick: Option<Trick>) -> Self {
        let trick = trick.as_ref();
        if let Some(Trick::Status(status, headers)) = trick {
            return Self::status(*status, headers);
        }
        let etag = match trick {
            Some(Trick::OtherEtag(etag)) => Some((*etag).to_owned()),
            Some(Trick::NoEtag) => None,
            _ => page.etag.clone(),
        };
        let size = page.body.len();
        let same = match request.headers.get("if-range") {
            Some(_) if matches!(trick, Some(Trick::IgnoreIfRange | Trick::OtherEtag(_) | Trick::NoEtag)) => true,
            Some(condition) => etag.as_ref() == Some(condition) && !condition.starts_with("W/"),
            None => true,
        };
        let asked = request.headers.get("range").and_then(|range| parse_range(range, size));
        let asked = asked.filter(|_| page.ranges && same && !matches!(trick, Some(Trick::IgnoreRange)));
        let total = match trick {
            Some(Trick::OtherTotal(total)) => *total,
            _ => size as u64,
        };

        let mut answer = match asked {
            None => {
                let mut whole = Self::status(200, &[]);
                whole.body = page.body.to_vec();
                whole.framing = page.framing;
                whole
            }
            Some(None) => return Self::status(416, &[("Content-Range", format!("bytes */{total}"))]),
            Some(Some((first, last))) => {
                let shift = usize::from(matches!(trick, Some(Trick::ShiftedRange)));
                let (first, last) = ((first + shift).min(size - 1), (last + shift).min(size - 1));
                let header = ("Content-Range", format!("bytes {first}-{last}/{total}"));
                let headers = if matches!(trick, Some(Trick::NoContentRange)) { vec![] } else { vec![header] };
                let mut part = Self::status(206, &headers);
                part.body = page.body[first..=last].to_vec();
                part
            }
        };
        for (name, value) in [("ETag", &etag), ("Last-Modified", &page.last_modified)] {
            if let Some(value) = value {
                answer.head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        answer.play(trick);
        answer
    }

    fn play(&mut self, trick: Option<&Trick>) {
        match trick {
            Some(Trick::SurplusChunked(count)) => {
                self.framing = Framing::Chunked;
                self.body.extend(vec![b'x'; *count]);
            }
            Some(Trick::MissingChunked(count)) => {
                self.framing = Framing::Chunked;
                self.body.truncate(self.body.len().saturating_sub(*count));
            }
            Some(Trick::Encoded) => self.head.push_str("Content-Encoding: gzip\r\n"),
            Some(Trick::HangAfter(count)) => self.delivery = Delivery::Hang(*count),
            Some(Trick::CloseAfter(count)) => self.delivery = Delivery::Close(*count),
            Some(Trick::ResetAfter(count)) => self.delivery = Delivery::Reset(*count),
            Some(Trick::GarbageChunk) => {
                (self.framing, self.delivery) = (Framing::Chunked, Delivery::GarbageChunk);
            }
            Some(Trick::Trickle(pause)) => self.delivery = Delivery::Trickle(*pause),
            _ => (),
        }
    }

    pub fn send(mut self, wire: &mut Wire, meter: &Meter<'_>) -> io::Result<Then> {
        self.head.push_str(&match self.framing {
            // Where there is none, a length would be one too many (RFC 9110 §8.6).
            Framing::Length if self.head.starts_with("HTTP/1.1 204") => "\r\n".to_owned(),
            Framing::Length => format!("Content-Length: {}\r\n\r\n", self.body.len()),
            Framing::Chunked => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
            Framing::UntilClose => "Connection: close\r\n\r\n".to_owned(),
        });
        wire.write_all(self.head.as_bytes())?;
        let cut = |count: usize| &self.body[..count.min(self.body.len())];
        match self.delivery {
            Delivery::Whole => {
                self.write_body(wire, &self.body, meter)?;
                if self.framing == Framing::Chunked {
                    wire.write_all(b"0\r\n\r\n")?;
                }
                wire.flush()?;
                return Ok(if self.framing == Framing::UntilClose { Then::Finish } else { Then::Next });
            }
            Delivery::HeadOnly => {
                wire.flush()?;
                return Ok(Then::Next);
            }
            Delivery::Hang(count) => {
                self.write_body(wire, cut(count), meter)?;
                wire.flush()?;
                wire.wait_for_peer()?;
            }
            Delivery::Close(count) => {
                self.write_body(wire, cut(count), meter)?;
                wire.flush()?;
            }
            Delivery::Reset(count) => {
                self.write_body(wire, cut(count), meter)?;
                wire.flush()?;
                // What the reset overtakes is lost; let the bytes before it arrive.
                thread::sleep(Duration::from_millis(30));
                wire.reset()?;
            }
            Delivery::GarbageChunk => wire.write_all(b"zzz\r\nwhat is this?\r\n")?,
            Delivery::Trickle(pause) => {
                for byte in &self.body {
                    self.write_body(wire, std::slice::from_ref(byte), meter)?;
                    wire.flush()?;
                    thread::sleep(pause);
                }
            }
        }
        Ok(Then::Drop)
    }

    fn write_body(&self, wire: &mut Wire, bytes: &[u8], meter: &Meter<'_>) -> io::Result<()> {
        for piece in bytes.chunks(PIECE_BYTES) {
            meter.wait(piece.len());
            if self.framing == Framing::Chunked {
                wire.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
            }
            wire.write_all(piece)?;
            if self.framing == Framing::Chunked {
                wire.write_all(b"\r\n")?;
            }
            meter.bytes_sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// What becomes of the connection after an answer.
pub(super) enum Then {
    /// It waits for the next request.
    Next,
    /// It is closed in an orderly way.
    Finish,
    /// It is dropped.
    Drop,
}

/// Counts what is sent, and holds it back.
pub(super) struct Meter<'a> {
    pub bytes_sent: &'a AtomicU64,
    pub pace: Option<Arc<Pace>>,
}

impl Meter<'_> {
    fn wait(&self, bytes: usize) {
        if let Some(pace) = &self.pace {
            thread::sleep(pace.reserve(bytes, Instant::now()));
        }
    }
}

/// A rate that all connections to a page share.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    /// When the next piece may be sent.
    next: Mutex<Instant>,
}

impl Pace {
    pub fn new(bytes_per_second: u64) -> Self {
        assert!(bytes_per_second > 0, "nothing is ever sent at this rate");
        Self { bytes_per_second, next: Mutex::new(Instant::now()) }
    }

    /// How long to wait before so many bytes are sent.
    fn reserve(&self, bytes: usize, now: Instant) -> Duration {
        let mut next = lock(&self.next);
        let begin = (*next).max(now);
        *next = begin + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        begin - now
    }
}

/// `bytes=FIRST-LAST` within `size`: none if it is another kind of range, `Some(None)` if it lies outside.
fn parse_range(text: &str, size: usize) -> Option<Option<(usize, usize)>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let first: usize = first.parse().ok()?;
    let last: usize = if last.is_empty() { usize::MAX } else { last.parse().ok()? };
    Some((first < size && first <= last).then(|| (first, last.min(size - 1))))
}
