//! Heap memory that a pool uses again.
//!
//! A buffer that is made anew is zeroed, and its pages are met one by one. So those that nobody uses are kept, as long as
//! others are out, and as long as both fit the budget; when the last one comes home, all of them go.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
    rc::Rc,
};

use tokio_uring::buf::{IoBuf, IoBufMut};

use super::AlignedBuf;

/// A buffer that goes home when it is dropped.
pub struct HeapBuf {
    /// Always there but while it is dropped.
    buffer: Option<AlignedBuf>,
    home: Rc<Heap>,
}

/// Where the heap's buffers of one pool are at home.
pub(super) struct Heap {
    bytes_max: usize,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// What nobody uses; what came home last comes last.
    spare: Vec<AlignedBuf>,
    bytes_spare: usize,
    bytes_out: usize,
}

impl Heap {
    /// Nothing, as yet. Whoever takes buffers sees to it that no more than `bytes_max` are out.
    pub fn new(bytes_max: usize) -> Rc<Self> {
        Rc::new(Self { bytes_max, state: RefCell::default() })
    }

    /// A buffer of `len` bytes, a multiple of the alignment, with any content.
    pub fn take(self: &Rc<Self>, len: usize) -> HeapBuf {
        let mut state = self.state.borrow_mut();
        let kept = state.spare.iter().rposition(|buffer| buffer.len() == len);
        let kept = kept.map(|at| state.spare.remove(at));
        state.bytes_spare -= kept.as_ref().map_or(0, |buffer| buffer.len());
        state.bytes_out += len;
        while kept.is_none() && !state.spare.is_empty() && state.bytes_spare + state.bytes_out > self.bytes_max {
            state.bytes_spare -= state.spare.remove(0).len();
        }
        HeapBuf { buffer: Some(kept.unwrap_or_else(|| AlignedBuf::new(len))), home: self.clone() }
    }

    fn come_home(&self, buffer: AlignedBuf) {
        let mut state = self.state.borrow_mut();
        state.bytes_out -= buffer.len();
        if state.bytes_out == 0 {
            *state = State::default();
        } else if state.bytes_spare + state.bytes_out + buffer.len() <= self.bytes_max {
            state.bytes_spare += buffer.len();
            state.spare.push(buffer);
        }
    }
}

impl Drop for HeapBuf {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.home.come_home(buffer);
        }
    }
}

impl Deref for HeapBuf {
    type Target = AlignedBuf;
    fn deref(&self) -> &AlignedBuf {
        self.buffer.as_ref().expect("it is there until it goes home")
    }
}

impl DerefMut for HeapBuf {
    fn deref_mut(&mut self) -> &mut AlignedBuf {
        self.buffer.as_mut().expect("it is there until it goes home")
    }
}

// SAFETY: that of the buffer itself, which this owns; it does not move with the handle.
unsafe impl IoBuf for HeapBuf {
    fn stable_ptr(&self) -> *const u8 {
        (**self).stable_ptr()
    }
    fn bytes_init(&self) -> usize {
        (**self).bytes_init()
    }
    fn bytes_total(&self) -> usize {
        (**self).bytes_total()
    }
}

// SAFETY: as for `IoBuf`; `&mut self` makes the pointer exclusive.
unsafe impl IoBufMut for HeapBuf {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        (**self).stable_mut_ptr()
    }
    unsafe fn set_init(&mut self, _pos: usize) {
        // Everything is initialised from the start.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::ALIGNMENT;

    const LEN: usize = 4 * ALIGNMENT;

    fn bytes_held(heap: &Heap) -> usize {
        let state = heap.state.borrow();
        assert_eq!(state.bytes_spare, state.spare.iter().map(|buffer| buffer.len()).sum::<usize>());
        state.bytes_spare + state.bytes_out
    }

    #[test]
    fn what_came_home_is_used_again_as_long_as_others_are_out() {
        let heap = Heap::new(10 * LEN);
        let (first, second) = (heap.take(LEN), heap.take(LEN));
        let place = first.stable_ptr();
        drop(first);
        let again = heap.take(LEN);
        assert_eq!(again.stable_ptr(), place);
        drop(again);
        assert_eq!(bytes_held(&heap), 2 * LEN);
        drop(second);
        assert_eq!(bytes_held(&heap), 0, "an idle lane has no memory for nothing");
    }

    #[test]
    fn what_is_kept_and_what_is_out_fit_the_budget_whatever_the_lengths() {
        let heap = Heap::new(4 * LEN);
        let out = heap.take(LEN);
        let others = [heap.take(LEN), heap.take(LEN)];
        drop(others);
        assert_eq!(bytes_held(&heap), 3 * LEN);
        let large = heap.take(3 * LEN);
        assert_eq!(bytes_held(&heap), 4 * LEN, "what is kept makes room");
        drop(out);
        assert_eq!(bytes_held(&heap), 4 * LEN);
        drop(large);
        // One request above the budget runs alone.
        drop((heap.take(9 * LEN), heap.take(LEN)));
        assert_eq!(bytes_held(&heap), 0);
    }
}
