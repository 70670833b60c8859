//! What is encrypted and waits to be sent.

use std::ops::Range;

/// Its room stays as long as it is, from use to use: a `Vec` that is emptied and grown again is filled with zeros each
/// time, which costs as much as one more copy of everything that is sent.
#[derive(Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
    waiting: Range<usize>,
}

impl Outgoing {
    /// What is to be sent.
    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.waiting.clone()]
    }

    /// Room for at least so many bytes behind it.
    pub fn room(&mut self, bytes: usize) -> &mut [u8] {
        let end = self.waiting.end + bytes;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.waiting.end..]
    }

    /// So many bytes of that room are to be sent, too.
    pub fn note_written(&mut self, bytes: usize) {
        self.waiting.end += bytes;
        assert!(self.waiting.end <= self.bytes.len(), "what was written had room");
    }

    /// So many bytes have left.
    pub fn note_sent(&mut self, bytes: usize) {
        self.waiting.start += bytes;
        assert!(self.waiting.start <= self.waiting.end, "what was sent had waited");
        if self.waiting.is_empty() {
            self.waiting = 0..0;
        }
    }

    /// Gives its room back, where it is longer than this and nothing waits.
    pub fn shrink(&mut self, kept_bytes: usize) {
        if self.waiting.is_empty() && self.bytes.len() > kept_bytes {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_leaves_in_order_and_its_room_serves_again() {
        let mut outgoing = Outgoing::default();
        assert!(outgoing.waiting().is_empty() && outgoing.room(0).is_empty());
        outgoing.room(3).copy_from_slice(b"one");
        outgoing.note_written(3);
        outgoing.room(4)[..3].copy_from_slice(b"two");
        outgoing.note_written(3);
        outgoing.note_sent(2);
        assert_eq!(outgoing.waiting(), b"etwo");
        outgoing.shrink(0);
        outgoing.note_sent(4);
        assert!(outgoing.waiting().is_empty());
        assert_eq!(outgoing.room(1).len(), 7, "all of it is free again");
        outgoing.shrink(7);
        assert_eq!(outgoing.room(0).len(), 7);
        outgoing.shrink(6);
        assert!(outgoing.room(0).is_empty());
    }
}
