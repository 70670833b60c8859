//! Answers that bring more than one chunk: what is left of each waits here for whoever reads on.

use std::cell::RefCell;

use super::{answer::Facts, body::Body, reader::buffer};
use crate::{ByteRange, Chunk, Code, Error, chunk::BlockCrcs};

/// Answers that wait at a time; whoever reads on has forgotten the oldest of more.
const WAITING_MAX: usize = 64;

/// The answers about one object that are being read.
#[derive(Default)]
pub(crate) struct Stretches {
    waiting: RefCell<Vec<Answer>>,
}

/// An answer, read up to somewhere.
struct Answer {
    body: Body,
    /// What it still brings.
    rest: ByteRange,
}

impl Stretches {
    /// Fills a chunk that was taken for `range` from the answer that goes on there, or else from a new one, which is asked
    /// for up to `end`. `known`: what was true of the object when it was opened.
    pub async fn read(
        &self,
        range: ByteRange,
        end: u64,
        known: &Facts,
        mut chunk: Chunk,
        ask: impl AsyncFnOnce(ByteRange) -> Result<Body, Error>,
    ) -> Result<Chunk, Error> {
        if let Some(answer) = self.going_on_with(range) {
            match self.fill(answer, range, end, &mut chunk).await {
                // A server need not keep an answer for as long as nobody reads it.
                Err(error) if error.code == Code::ConnectionLost => (),
                result => return result.map(|()| chunk),
            }
        }
        let rest = ByteRange::new(range.start(), end.max(range.end())).expect("it is not shorter than the range");
        let body = ask(rest).await?;
        body.head().check_part(rest, known)?;
        self.fill(Answer { body, rest }, range, end, &mut chunk).await.map(|()| chunk)
    }

    fn going_on_with(&self, range: ByteRange) -> Option<Answer> {
        let mut waiting = self.waiting.borrow_mut();
        let goes_on = |answer: &Answer| answer.rest.start() == range.start() && answer.rest.end() >= range.end();
        let index = waiting.iter().position(goes_on)?;
        Some(waiting.remove(index))
    }

    async fn fill(&self, mut answer: Answer, range: ByteRange, end: u64, chunk: &mut Chunk) -> Result<(), Error> {
        let mut crcs = BlockCrcs::default();
        let got = answer.body.fill(buffer(chunk, range), &mut crcs).await? as u64;
        if got < range.len() {
            return Err(answer.body.ended_early(got, range.len()));
        }
        chunk.set_crcs(crcs);
        match ByteRange::new(range.end(), answer.rest.end()).filter(|rest| !rest.is_empty()) {
            // The stretch ends earlier by now: nobody will ask for what follows.
            Some(rest) if rest.start() >= end => (),
            Some(rest) => {
                let mut waiting = self.waiting.borrow_mut();
                if waiting.len() == WAITING_MAX {
                    waiting.remove(0);
                }
                waiting.push(Answer { rest, ..answer });
            }
            None if !answer.body.is_at_end().await? => {
                return Err(answer
                    .body
                    .head()
                    .violation(format_args!("sent more than was asked for, up to {}", range.end())));
            }
            None => (),
        }
        Ok(())
    }
}
