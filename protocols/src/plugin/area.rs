//! The area: memory that this process and a plug-in share, through which bytes go.
//!
//! It is a memfd that both have open, of a fixed length that neither can change. This process reads and writes it with
//! system calls, so that nothing a plug-in does to it meanwhile can harm memory here.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::fs::FileExt},
    sync::{Arc, Mutex},
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of one slot: the longest piece that one message can be about.
pub const SLOT_BYTES: u64 = 4 << 20;
/// Slots of an area: as many pieces can be under way at a time, of all lanes and transfers together.
const SLOTS: u64 = 8;

/// See the module.
pub(super) struct Area {
    file: File,
    free: Arc<Semaphore>,
    /// Where slots begin that nobody has.
    starts: Mutex<Vec<u64>>,
}

/// A slot of the area, until it is dropped.
pub(super) struct Slot {
    area: Arc<Area>,
    start: u64,
    /// Given back behind the slot.
    permit: Option<OwnedSemaphorePermit>,
}

impl Area {
    pub fn new() -> io::Result<Self> {
        let file = memfd_create(c"staccato-area", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, SLOTS * SLOT_BYTES)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let starts = Mutex::new((0..SLOTS).map(|slot| slot * SLOT_BYTES).collect());
        Ok(Self { file: file.into(), free: Arc::new(Semaphore::new(SLOTS as usize)), starts })
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        SLOTS * SLOT_BYTES
    }

    /// The descriptor that a plug-in inherits, under the same number.
    pub fn descriptor(&self) -> i32 {
        self.file.as_raw_fd()
    }

    /// A slot, as soon as there is one.
    pub async fn slot(self: &Arc<Self>) -> Slot {
        let permit = self.free.clone().acquire_owned().await.expect("it is never closed");
        let start = self.starts.lock().expect(POISON).pop().expect("there is a slot for each permit");
        Slot { area: self.clone(), start, permit: Some(permit) }
    }
}

impl Slot {
    /// Where it begins in the area.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Copies from its front.
    pub fn copy_to(&self, target: &mut [u8], at: u64) -> io::Result<()> {
        debug_assert!(at + target.len() as u64 <= SLOT_BYTES);
        self.area.file.read_exact_at(target, self.start + at)
    }

    /// Copies to its front.
    pub fn copy_from(&self, bytes: &[u8]) -> io::Result<()> {
        debug_assert!(bytes.len() as u64 <= SLOT_BYTES);
        self.area.file.write_all_at(bytes, self.start)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.area.starts.lock().expect(POISON).push(self.start);
        self.permit.take();
    }
}

const POISON: &str = "no code panics while it holds this lock";

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn slots_are_handed_out_once_and_come_back() {
        let area = Arc::new(Area::new().unwrap());
        let slots: Vec<_> = (0..SLOTS).map(|_| area.slot().now_or_never().unwrap()).collect();
        let mut starts: Vec<_> = slots.iter().map(Slot::start).collect();
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts.len(), SLOTS as usize);
        assert!(area.slot().now_or_never().is_none());
        drop(slots);
        assert!(area.slot().now_or_never().is_some());
    }

    #[test]
    fn nobody_changes_its_length() {
        let area = Area::new().unwrap();
        assert!(area.file.set_len(1).is_err() && area.file.set_len(1 << 30).is_err());
    }
}
