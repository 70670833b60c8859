//! A connection to an owner on which one object is open, and the questions about it.

use std::{cell::Cell, future::poll_fn, pin::pin, task::Poll, time::Duration};

use staccato_protocols::{ByteRange, CRC_BLOCK, Disposition, Error, Object, Validator, chunk::BlockCrcs};
use tokio::sync::{Mutex, MutexGuard};

use super::{
    choose::Kind,
    connection::{Connection, Ears, Mouth},
    frame::{BODY_BYTES_MAX, Content, Frame},
    gauge::Gauge,
    patience::{SLOWEST, within},
    way::Way,
};

/// So often an owner may ask before an answer whether this end is there, or tell of its packets.
const ASIDES_MAX: usize = 1000;
/// So many bytes that have come are told of at a time: chunks would be too many for whoever measures a slow link.
const TOLD_BYTES: usize = 256 << 10;
/// Longest wait that another executor may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// See the module. Questions are sent one behind the other, without waiting for answers, and are
/// answered in that order. A question that is given up before its answer was heard to its end breaks the line: what
/// would come next is nobody's.
pub struct Line {
    mouth: Mutex<Mouth>,
    ears: Mutex<Ears>,
    last_request: Cell<u32>,
    /// The number of the object.
    object: u32,
    /// What it goes over.
    pub kind: Kind,
    /// Hears what moves.
    way: Way,
    gauge: Gauge,
    /// Packets of the other end, and those of them that were lost, as it has told since [`Line::tell`].
    reported: Cell<(u64, u64)>,
    /// Questions that are not answered to their ends.
    asked: Cell<usize>,
    broken: Cell<bool>,
    /// Another one was found to be gone since this one was made.
    doubted: Cell<bool>,
}

/// What is asked for when an object is opened ([`Frame::Open`]).
#[derive(Clone)]
pub struct Opening {
    pub ticket: Vec<u8>,
    pub url: String,
    pub pinned: Option<Validator>,
    pub aligned: bool,
    pub whole_up_to: u32,
}

/// A connection on which nothing is under way, and nothing open.
pub struct Wire {
    mouth: Mouth,
    ears: Ears,
    gauge: Gauge,
    last_request: u32,
    last_object: u32,
}

/// The turn of a question whose answer comes next.
struct Turn<'a> {
    line: &'a Line,
    request: u32,
    ears: MutexGuard<'a, Ears>,
    asked: Asked<'a>,
}

/// A question that was asked; dropped before [`Asked::over`], it breaks its line.
struct Asked<'a> {
    line: &'a Line,
    over: bool,
}

impl Wire {
    pub fn new(connection: Connection, gauge: Gauge) -> Self {
        let (mouth, ears) = connection.halves();
        Self { mouth, ears, gauge, last_request: 0, last_object: 0 }
    }
}

impl Line {
    /// For the next object on a connection.
    pub fn new(kind: Kind, way: Way, Wire { mouth, ears, gauge, last_request, last_object }: Wire) -> Self {
        Self {
            mouth: Mutex::new(mouth),
            ears: Mutex::new(ears),
            last_request: Cell::new(last_request),
            object: last_object.wrapping_add(1),
            kind,
            way,
            gauge,
            reported: Cell::default(),
            asked: Cell::new(0),
            broken: Cell::new(false),
            doubted: Cell::new(false),
        }
    }

    /// Closes the object; what is left is for the next one. Nothing where the line is broken.
    pub async fn close(self) -> Option<Wire> {
        let object = self.object;
        let mut wire = self.rest()?;
        wire.mouth.send(&Frame::Close { object }, &[]).await.ok()?;
        Some(wire)
    }

    /// What is left of it for the next object, when this one is closed already. Nothing where the line is broken.
    pub fn rest(self) -> Option<Wire> {
        if self.broken.get() || self.asked.get() > 0 {
            return None;
        }
        let Self { mouth, ears, gauge, last_request, object, .. } = self;
        let (mouth, ears) = (mouth.into_inner(), ears.into_inner());
        Some(Wire { mouth, ears, gauge, last_request: last_request.get(), last_object: object })
    }

    /// Tells what is known of its path.
    pub fn tell(&self) {
        let seen = self.gauge.look().unwrap_or_default();
        self.way.seen(seen.round_trip, self.reported.take());
    }

    /// Asks, and waits until it is this question's turn to be answered.
    async fn ask(&self, question: impl FnOnce(u32) -> Frame) -> Result<Turn<'_>, Error> {
        let asked = Asked::new(self);
        let mut mouth = self.mouth.lock().await;
        let request = self.last_request.get().wrapping_add(1);
        self.last_request.set(request);
        mouth.send(&question(request), &[]).await?;
        // Whoever asks next is behind this one also where answers are awaited.
        let mut turn = pin!(self.ears.lock());
        let ears = match poll_fn(|context| Poll::Ready(turn.as_mut().poll(context))).await {
            Poll::Ready(ears) => ears,
            Poll::Pending => {
                drop(mouth);
                turn.await
            }
        };
        if self.broken.get() {
            return Err(ears.lost("it failed while something else was asked"));
        }
        Ok(Turn { line: self, request, ears, asked })
    }

    /// Whether it cannot be used any more.
    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// Questions that are not answered to their ends.
    pub fn asked(&self) -> usize {
        self.asked.get()
    }

    /// Whether another line was found to be gone since this one answered.
    pub fn is_doubted(&self) -> bool {
        self.doubted.get()
    }

    /// Another line was found to be gone.
    pub fn doubt(&self) {
        self.doubted.set(true);
    }

    /// Opens the object; also its bytes, where they come as a whole: then it is closed again.
    pub async fn open(&self, opening: Opening) -> Result<(Object, Option<Box<[u8]>>), Error> {
        let (object, whole_up_to) = (self.object, opening.whole_up_to);
        let Opening { ticket, url, pinned, aligned, .. } = opening;
        let open = |request| Frame::Open { request, object, ticket, url, pinned, aligned, whole_up_to };
        let mut turn = self.ask(open).await?;
        let Frame::Opened { size, validator, access, .. } = turn.answer().await? else {
            return Err(turn.unexpected());
        };
        let mut whole = None;
        if let Some(size) = size.filter(|size| whole_up_to > 0 && *size <= whole_up_to.into()) {
            let mut bytes = vec![0; size as usize].into_boxed_slice();
            turn.take(ByteRange::new(0, size).expect("0 is the smallest start"), &mut bytes).await?;
            let Frame::Valid { .. } = turn.answer().await? else { return Err(turn.unexpected()) };
            whole = Some(bytes);
        }
        turn.over();
        Ok((Object { size, validator, access }, whole))
    }

    pub async fn revalidate(&self) -> Result<(), Error> {
        let mut turn = self.ask(|request| Frame::Revalidate { request, object: self.object }).await?;
        let Frame::Valid { .. } = turn.answer().await? else { return Err(turn.unexpected()) };
        turn.over();
        Ok(())
    }

    pub async fn sums(&self, wanted: ByteRange) -> Result<Vec<u32>, Error> {
        let mut turn = self.ask(|request| Frame::Sums { request, object: self.object, range: wanted }).await?;
        match turn.answer().await? {
            Frame::Summed { range, crcs, .. } if range == wanted => {
                turn.over();
                Ok(crcs)
            }
            _ => Err(turn.unexpected()),
        }
    }

    pub async fn watch(&self, known: u64) -> Result<(u64, Vec<ByteRange>), Error> {
        let mut turn = self.ask(|request| Frame::Watch { request, object: self.object, known }).await?;
        let Frame::Have { known, ranges, .. } = turn.answer().await? else { return Err(turn.unexpected()) };
        turn.over();
        Ok((known, ranges))
    }

    pub async fn vouch(&self, range: ByteRange) -> Result<Vec<u8>, Error> {
        let mut turn = self.ask(|request| Frame::Vouch { request, object: self.object, range }).await?;
        let Frame::Vouched { voucher, .. } = turn.answer().await? else { return Err(turn.unexpected()) };
        turn.over();
        Ok(voucher)
    }

    pub async fn fetch(&self, wanted: ByteRange, buffer: &mut [u8]) -> Result<BlockCrcs, Error> {
        let mut turn = self.ask(|request| Frame::Fetch { request, object: self.object, range: wanted }).await?;
        let crcs = turn.take(wanted, buffer).await?;
        turn.over();
        Ok(crcs)
    }
}

impl Turn<'_> {
    /// The bytes of a range; they are compared with their CRCs.
    async fn take(&mut self, wanted: ByteRange, buffer: &mut [u8]) -> Result<BlockCrcs, Error> {
        let (mut crcs, mut at) = (BlockCrcs::default(), wanted.start());
        while at < wanted.end() {
            let Frame::Chunk { range, content, .. } = self.answer().await? else { return Err(self.unexpected()) };
            let from = at - wanted.start();
            if range.start() != at || range.end() > wanted.end() || !from.is_multiple_of(CRC_BLOCK) {
                return Err(self.ears.violation(&format!("sent {range} where {at} should go on")));
            }
            let part = &mut buffer[from as usize..][..range.len() as usize];
            match content {
                Content::Zero => {
                    part.fill(0);
                    crcs.update(part);
                }
                Content::Data(announced) => {
                    let (line, ears) = (self.line, &mut self.ears);
                    let taking = async {
                        for piece in part.chunks_mut(TOLD_BYTES) {
                            ears.take_payload(piece, &mut crcs).await?;
                            line.way.moved(line.kind, piece.len() as u64);
                        }
                        Ok(())
                    };
                    let taken = within(SLOWEST.time_for(range.len()), taking).await;
                    taken.unwrap_or_else(|| Err(self.ears.late()))?;
                    if crcs.blocks()[(from / CRC_BLOCK) as usize..] != announced {
                        return Err(self.ears.violation(&format!("sent bytes at {range} with another CRC")));
                    }
                }
            }
            at = range.end();
        }
        Ok(crcs)
    }

    /// What is answered; a refusal is an error, and the end of the answer.
    async fn answer(&mut self) -> Result<Frame, Error> {
        let heard = within(SLOWEST.time_for(BODY_BYTES_MAX as u64), self.hear()).await;
        match heard.unwrap_or_else(|| Err(self.ears.late()))? {
            Frame::Refused { request, error } if request == self.request => {
                self.asked.over = true;
                Err(self.believed(error))
            }
            Frame::Opened { request, .. }
            | Frame::Chunk { request, .. }
            | Frame::Summed { request, .. }
            | Frame::Valid { request }
            | Frame::Have { request, .. }
            | Frame::Vouched { request, .. }
            | Frame::Refused { request, .. }
                if request != self.request =>
            {
                Err(self.unexpected())
            }
            frame => Ok(frame),
        }
    }

    /// What comes next, but for pings and reports.
    async fn hear(&mut self) -> Result<Frame, Error> {
        for _ in 0..=ASIDES_MAX {
            match self.ears.receive().await? {
                Some(Frame::Ping { nonce }) => {
                    self.line.mouth.lock().await.send(&Frame::Pong { nonce }, &[]).await?;
                }
                Some(Frame::SenderReport { packets, lost }) => {
                    let before = self.line.reported.get();
                    self.line.reported.set((before.0 + u64::from(packets), before.1 + u64::from(lost)));
                }
                Some(frame) => return Ok(frame),
                None => return Err(self.ears.lost("it was closed instead of an answer")),
            }
        }
        Err(self.ears.violation("says without end what nobody has asked"))
    }

    /// A refusal, as far as it is the other end's to say what this one does.
    fn believed(&self, error: Error) -> Error {
        match error.disposition {
            Disposition::Canceled => self.ears.lost(&error.message),
            Disposition::Retry { after: Some(wait) } => error.after(wait.min(RETRY_AFTER_MAX)),
            _ => error,
        }
    }

    fn unexpected(&self) -> Error {
        self.ears.violation("answers what it was not asked")
    }

    /// The answer was heard to its end.
    fn over(mut self) {
        self.asked.over = true;
        self.line.doubted.set(false);
    }
}

impl<'a> Asked<'a> {
    fn new(line: &'a Line) -> Self {
        line.asked.set(line.asked.get() + 1);
        Self { line, over: false }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.line.asked.set(self.line.asked.get() - 1);
        if !self.over {
            self.line.broken.set(true);
        }
    }
}
