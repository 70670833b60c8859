//! How many questions may leave the rack: the way out is shared by everybody in it.
//!
//! Where racks' uplinks or the core carry less than the hosts could send, chunks from elsewhere take longer than those from
//! the rack. Each host then asks for less from outside, down to one chunk at a time, and its rack passes on what has come in.
//! Fewer flows on what is shared make each of them faster, those to the source among them.

use std::time::Duration;

/// So many times what a chunk from the rack takes, one from elsewhere may take before fewer are asked for, in percent.
const LONGER_PERCENT: u32 = 120;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    limit: usize,
}

impl Reach {
    pub fn new(asks_max: usize) -> Self {
        Self { limit: asks_max }
    }

    /// Questions to peers elsewhere that may be under way.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether the way out is what is short.
    pub fn is_narrow(&self) -> bool {
        self.limit == 1
    }

    /// A chunk has come from elsewhere; what it usually takes from the rack and from there.
    pub fn arrived(&mut self, near: Option<Duration>, far: Option<Duration>, asks_max: usize) {
        let Some((near, far)) = near.zip(far) else { return };
        if far * 100 > near * LONGER_PERCENT {
            self.limit = (self.limit / 2).max(1);
        } else {
            self.limit = (self.limit + 1).min(asks_max.max(1));
        }
    }
}
