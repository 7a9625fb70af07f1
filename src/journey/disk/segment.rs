//! A file of records, as its bytes are.
//!
//! ```text
//! file    magic 8 | version 4 | crc32c of these 12 | records
//! record  length of what it says 4 | crc32c of the length and of what it says 4 | what it says: a StoredChunk
//! ```
//!
//! Numbers are little-endian. What one record tells of may be called by its number in later ones of the same file: behind a record
//! that cannot be read nothing of it can be.

use std::path::{Path, PathBuf};

use prost::Message as _;

use super::super::store::Chunk;
use super::decode::Read;
use super::record::StoredChunk;
use crate::storage::{Access, Disk, DiskAction, DiskError, read_exact_at};

const MAGIC: [u8; 8] = *b"LVJRNYS\n";
/// The version that this program writes and reads.
pub(super) const VERSION: u32 = 1;
/// Bytes before the first record.
pub(super) const HEADER_BYTES: usize = 16;
const RECORD_HEAD_BYTES: usize = 8;
/// No file is longer: the last record of one may be as large as what one frame publishes.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
const SUFFIX: &str = ".journeys";

/// How a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// With its last record.
    Whole,
    /// In the middle of a record that was being written.
    Torn,
    /// With something that was changed after it was written.
    Damaged,
    /// It is of another version, and not read.
    OtherVersion(u32),
}

/// What came of reading a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// Bytes that could be read.
    pub(super) valid: u64,
    pub(super) ending: Ending,
    /// Numbers up to this one are taken in the file.
    pub(super) last_id: u32,
}

pub(super) fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:010}{SUFFIX}"))
}

/// The number in a file's name, if it is one of journeys.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_suffix(SUFFIX)?.parse().ok()?;
    (path_of(Path::new(""), number) == Path::new(name)).then_some(number)
}

pub(super) fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let crc = crc32c::crc32c(&header[..12]);
    header[12..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// A record as it is written.
pub(super) fn record(chunk: &StoredChunk) -> Vec<u8> {
    let bytes = chunk.encoded_len();
    let mut record = Vec::with_capacity(RECORD_HEAD_BYTES + bytes);
    record.extend_from_slice(&(bytes as u32).to_le_bytes());
    record.extend_from_slice(&[0; 4]);
    // A vector grows as it must.
    let _ = chunk.encode(&mut record);
    let crc = checksum(&record);
    record[4..RECORD_HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    record
}

fn checksum(record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&record[..4]), &record[RECORD_HEAD_BYTES..])
}

/// Reads a file from its beginning and shows each chunk, as far as they can be read.
///
/// # Errors
/// The disk's.
pub(super) fn read(
    disk: &dyn Disk,
    path: &Path,
    see: &mut dyn FnMut(Chunk, u64),
) -> Result<Reading, DiskError> {
    let failed = |error: std::io::Error| DiskError::new(DiskAction::Read, path, &error);
    let file = disk.open(path, Access::Read).map_err(failed)?;
    let length = file.len().map_err(failed)?;
    if length > FILE_BYTES_MAX {
        return Ok(Reading { bytes: length, valid: 0, ending: Ending::Damaged, last_id: 0 });
    }
    let mut bytes = vec![0; length as usize];
    read_exact_at(&*file, &mut bytes, 0).map_err(failed)?;
    Ok(read_bytes(&bytes, see))
}

/// As [`read`], of the bytes of a file.
pub(super) fn read_bytes(bytes: &[u8], see: &mut dyn FnMut(Chunk, u64)) -> Reading {
    let length = bytes.len() as u64;
    let mut known = Read::default();
    let ended = |valid: usize, ending, known: &Read| Reading {
        bytes: length,
        valid: valid as u64,
        ending,
        last_id: known.last_id(),
    };
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return ended(0, Ending::Torn, &known);
    };
    if header[..8] != MAGIC || u32_at(header, 12) != crc32c::crc32c(&header[..12]) {
        // A file that was made when the machine went down may be as long as it was to be, and hold nothing.
        let ending = if bytes.iter().all(|byte| *byte == 0) { Ending::Torn } else { Ending::Damaged };
        return ended(0, ending, &known);
    }
    let version = u32_at(header, 8);
    if version != VERSION {
        return ended(0, Ending::OtherVersion(version), &known);
    }
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest.len() < RECORD_HEAD_BYTES {
            return ended(at, Ending::Torn, &known);
        }
        let says = u32_at(rest, 0) as usize;
        let Some(record) = says.checked_add(RECORD_HEAD_BYTES).and_then(|end| rest.get(..end)) else {
            return ended(at, Ending::Torn, &known);
        };
        let is_right = says > 0 && u32_at(record, 4) == checksum(record);
        if !is_right {
            // The end of a file is written last; what is wrong before something else was changed afterwards.
            let is_end = record.len() == rest.len() || rest.iter().all(|byte| *byte == 0);
            return ended(at, if is_end { Ending::Torn } else { Ending::Damaged }, &known);
        }
        let decoded = StoredChunk::decode(&record[RECORD_HEAD_BYTES..]).ok();
        let Some(chunk) = decoded.and_then(|stored| known.decode(stored).ok()) else {
            return ended(at, Ending::Damaged, &known);
        };
        at += record.len();
        see(chunk, record.len() as u64);
    }
    ended(at, Ending::Whole, &known)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..at + 4).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}
