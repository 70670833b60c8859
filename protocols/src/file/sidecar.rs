//! The sidecar: CRCs of a partial's blocks.
//!
//! Format, version 1, little endian. A header of 16 bytes: the magic `STACCRC1`, the block size (u32), CRC-32 of these
//! 12 bytes. Then records of 16 bytes: index of the block (u64), CRC-32 of its bytes (u32), CRC-32 of the record's
//! first 12 bytes. Records are appended; a later one for the same block wins. The sidecar is never synced: it only says
//! *which* blocks of a range differ, the ledger says whether a range is durable. So a damaged record is skipped, and a
//! damaged header means that nothing is known.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
};

use crate::CRC_BLOCK;

const MAGIC: &[u8; 8] = b"STACCRC1";
const RECORD_BYTES: usize = 16;
/// A block is noted once for each time it is fetched; so often is not plausible.
const RECORDS_PER_BLOCK_MAX: u64 = 64;
/// A sidecar is read in pieces of so many bytes; whole records.
const PIECE_BYTES: usize = 1 << 20;

/// An open sidecar.
pub(super) struct Sidecar {
    file: File,
    /// Where the next record goes; a multiple of the record size.
    end: u64,
}

impl Sidecar {
    /// Takes over `file`, which is empty or a sidecar, perhaps a damaged one.
    pub fn open(file: File) -> io::Result<Self> {
        let len = file.metadata()?.size();
        let mut header = [0; RECORD_BYTES];
        let valid = len >= RECORD_BYTES as u64 && {
            file.read_exact_at(&mut header, 0)?;
            header == Self::header()
        };
        if !valid {
            file.set_len(0)?;
            file.write_all_at(&Self::header(), 0)?;
            return Ok(Self { file, end: RECORD_BYTES as u64 });
        }
        Ok(Self { file, end: len - len % RECORD_BYTES as u64 })
    }

    fn header() -> [u8; RECORD_BYTES] {
        let mut header = [0; RECORD_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&(CRC_BLOCK as u32).to_le_bytes());
        seal(&mut header);
        header
    }

    /// The last CRC noted for each of the first `blocks` blocks. A sidecar that is longer than attempts make it is
    /// somebody else's work, and tells nothing.
    pub fn load(&self, blocks: u64) -> io::Result<BTreeMap<u64, u32>> {
        let mut known = BTreeMap::new();
        let records_max = RECORDS_PER_BLOCK_MAX.saturating_mul(blocks.saturating_add(1));
        if self.end / RECORD_BYTES as u64 > records_max {
            return Ok(known);
        }
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = RECORD_BYTES as u64;
        while at < self.end {
            let piece = &mut piece[..PIECE_BYTES.min((self.end - at) as usize)];
            self.file.read_exact_at(piece, at)?;
            known.extend(piece.chunks_exact(RECORD_BYTES).filter_map(decode).filter(|(block, _)| *block < blocks));
            at += piece.len() as u64;
        }
        Ok(known)
    }

    /// Appends records.
    pub fn append(&mut self, blocks: &[(u64, u32)]) -> io::Result<()> {
        let bytes: Vec<u8> = blocks.iter().flat_map(|&(block, crc)| encode(block, crc)).collect();
        self.file.write_all_at(&bytes, self.end)?;
        self.end += bytes.len() as u64;
        Ok(())
    }
}

fn encode(block: u64, crc: u32) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(&block.to_le_bytes());
    record[8..12].copy_from_slice(&crc.to_le_bytes());
    seal(&mut record);
    record
}

fn seal(record: &mut [u8; RECORD_BYTES]) {
    let check = crc32fast::hash(&record[..12]);
    record[12..].copy_from_slice(&check.to_le_bytes());
}

fn decode(record: &[u8]) -> Option<(u64, u32)> {
    let (content, check) = record.split_at(12);
    if crc32fast::hash(content).to_le_bytes() != check {
        return None;
    }
    let (block, crc) = content.split_at(8);
    Some((u64::from_le_bytes(block.try_into().ok()?), u32::from_le_bytes(crc.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_a_torn_tail_and_a_damaged_record() {
        let file = || tempfile::tempfile().unwrap();
        let whole = file();
        let mut sidecar = Sidecar::open(whole.try_clone().unwrap()).unwrap();
        sidecar.append(&[(0, 10), (1, 11)]).unwrap();
        sidecar.append(&[(2, 12)]).unwrap();
        whole.set_len(16 + 2 * 16 + 7).unwrap();
        whole.write_all_at(&[0xff], 16 + 3).unwrap();
        let mut again = Sidecar::open(whole.try_clone().unwrap()).unwrap();
        assert_eq!(again.load(3).unwrap(), [(1, 11)].into());
        again.append(&[(2, 22)]).unwrap();
        assert_eq!(Sidecar::open(whole).unwrap().load(3).unwrap(), [(1, 11), (2, 22)].into());
    }

    #[test]
    fn a_damaged_header_means_nothing_is_known() {
        let file = tempfile::tempfile().unwrap();
        Sidecar::open(file.try_clone().unwrap()).unwrap().append(&[(0, 10)]).unwrap();
        file.write_all_at(b"X", 0).unwrap();
        assert_eq!(Sidecar::open(file).unwrap().load(1).unwrap(), [].into());
    }

    #[test]
    fn the_last_record_of_a_block_counts_also_across_pieces_and_blocks_beyond_the_object_do_not() {
        let mut sidecar = Sidecar::open(tempfile::tempfile().unwrap()).unwrap();
        let many = 3 * (PIECE_BYTES / RECORD_BYTES) as u64 / 2;
        let crc = |block: u64| block as u32 ^ 7;
        sidecar.append(&(0..many).map(|block| (block, 0)).collect::<Vec<_>>()).unwrap();
        sidecar.append(&(0..many).map(|block| (block, crc(block))).collect::<Vec<_>>()).unwrap();
        assert_eq!(sidecar.load(many - 1).unwrap(), (0..many - 1).map(|block| (block, crc(block))).collect());
    }

    #[test]
    fn a_sidecar_of_impossible_length_is_not_read() {
        let file = tempfile::tempfile().unwrap();
        Sidecar::open(file.try_clone().unwrap()).unwrap().append(&[(0, 10)]).unwrap();
        file.set_len(1 << 40).unwrap();
        assert_eq!(Sidecar::open(file).unwrap().load(1000).unwrap(), [].into());
    }
}
