//! The bytes drawn in `docs/LOG.md` are those that the log writes, and reads.

use std::path::Path;

use bytes::Bytes;
use leveret::{
    model::{BodySequence, Timestamp},
    storage::{Batch, Disk as _, LogIndex, ShardLog as _, testing::MemoryDisk},
};

use super::support::{DIRECTORY, assert_same, open, options};

const SEGMENT: &str = "/data/shard-0/00000000000000000000.log";

/// The lines between "```hex" and "```": an offset, bytes, and a remark after a semicolon.
fn drawn() -> Vec<u8> {
    let document = include_str!("../../../docs/LOG.md");
    let dump = document.split_once("```hex\n").unwrap().1.split_once("```").unwrap().0;
    let mut bytes = Vec::new();
    for line in dump.lines() {
        let mut words = line.split(';').next().unwrap().split_whitespace();
        let Some(offset) = words.next() else { continue };
        assert_eq!(usize::from_str_radix(offset, 16).unwrap(), bytes.len(), "offset of line {line:?}");
        bytes.extend(words.map(|word| u8::from_str_radix(word, 16).unwrap()));
    }
    bytes
}

fn hello() -> Batch {
    Batch {
        first_body: BodySequence(1),
        bodies: 1,
        operations: 1,
        recorded_at: Timestamp(1_700_000_000_000),
        payload: vec![Bytes::from_static(b"he"), Bytes::from_static(b"llo")],
    }
}

#[test]
fn what_is_written_is_what_is_drawn() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk, &options(1 << 20, 0)).unwrap();
    log.propose(hello()).unwrap();
    log.step().unwrap();
    log.rest().unwrap();
    let written = disk.content(Path::new(SEGMENT)).unwrap();
    let lines: Vec<String> = written.chunks(8).map(|bytes| format!("{bytes:02x?}")).collect();
    assert!(written == drawn(), "the format changed; the bytes are now:\n{}", lines.join("\n"));
}

/// Logs of this version stay readable, whatever is written later.
#[test]
fn what_is_drawn_can_be_read() {
    let disk = MemoryDisk::new();
    disk.create_directory(Path::new(DIRECTORY)).unwrap();
    disk.put(Path::new(SEGMENT), &drawn()).unwrap();
    let (log, replayed) = open(&disk, &options(1 << 20, 0)).unwrap();
    assert_eq!(replayed.batches.len(), 1);
    assert_same(&replayed.batches[0], &hello(), 1);
    assert_eq!(log.recovery().cut, None);
    assert_eq!(log.reader().read(LogIndex(1), LogIndex(2)).unwrap()[0].payload, "hello");
}
