//! The files: one is written, the others are read when somebody asks.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::resume::Unfinished;
use super::super::store::{Chunk, Entry};
use super::encode::Written;
use super::segment::{self, Ending, HEADER_BYTES};
use crate::model::Timestamp;
use crate::storage::{Access, Disk, DiskAction, DiskError, DiskFile, write_all_at};

/// Files that the room is divided into: so much of it goes at a time.
const FILES: u64 = 16;
/// A file is no longer than this, in bytes, but for its last record.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// How much is copied at once.
const COPIED_BYTES: usize = 1024 * 1024;

/// The folder of a data directory in which journeys are. Shared by who writes and who reads.
#[derive(Debug)]
pub struct Folder {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    bytes_max: u64,
    parts: Mutex<Parts>,
    writer: Mutex<Writer>,
}

#[derive(Debug, Default)]
struct Parts {
    /// In order; the last one may be written.
    parts: VecDeque<Part>,
    /// Publications in files that have given way.
    lost: u64,
}

/// A file, and what is in it.
#[derive(Debug, Clone)]
pub(in crate::journey) struct Part {
    number: u64,
    bytes: u64,
    /// Bytes that can be read.
    valid: u64,
    /// Places of its chunks among all: of the first, and behind the last; the same if it has none.
    first_index: u64,
    end_index: u64,
    pub(in crate::journey) first_at: Option<Timestamp>,
    /// Lowest number of a message that was published in it.
    pub(in crate::journey) first_number: Option<u64>,
    /// Behind the highest number of a message that something is told of.
    end_number: u64,
    publications: u64,
}

#[derive(Default)]
struct Writer {
    open: Option<OpenFile>,
    written: Written,
    is_closed: bool,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

struct OpenFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    end: u64,
}

/// What was found in a folder.
#[derive(Debug, Default)]
pub struct Found {
    /// What could not be read, and what was done about it: a sentence each.
    pub told: Vec<String>,
    /// Stories that have not come to their end.
    pub unfinished: Unfinished,
    /// Behind the highest number of a message.
    pub end_number: u64,
    /// The place of the next chunk.
    pub next_index: u64,
}

impl Folder {
    /// Opens a folder, which is made if it is not there, and reads all that is in it. The end of a file that was being written when
    /// the broker ended is cut. What cannot be read stays, and is told; that nothing could be done with the folder is told, too.
    pub fn open(disk: Arc<dyn Disk>, path: &Path, bytes_max: u64) -> (Self, Found) {
        let mut found = Found::default();
        let folder = Self {
            disk,
            path: path.to_path_buf(),
            bytes_max,
            parts: Mutex::default(),
            writer: Mutex::default(),
        };
        let numbers = match folder.numbers() {
            Ok(numbers) => numbers,
            Err(error) => {
                found.told.push(format!("journeys of before cannot be read: {error}"));
                Vec::new()
            }
        };
        for (place, number) in numbers.iter().enumerate() {
            let is_last = place + 1 == numbers.len();
            if let Err(error) = folder.read_in(*number, is_last, &mut found) {
                let part = Part { number: *number, ..Part::empty(*number) };
                folder.parts().parts.push_back(part);
                found.told.push(format!("some journeys of before cannot be read: {error}"));
            }
        }
        if let Err(error) = folder.make_room(0) {
            found.told.push(format!("journeys of before take more room than they may: {error}"));
        }
        (folder, found)
    }

    /// Bytes that the journeys in a folder take; 0 if there is none.
    pub fn bytes_in(disk: &dyn Disk, path: &Path) -> u64 {
        let entries = disk.list(path).unwrap_or_default();
        let numbers = entries.iter().filter_map(|entry| segment::number_of(entry.name.to_str()?));
        let lengths = numbers.map(|number| {
            let file = disk.open(&segment::path_of(path, number), Access::Read);
            file.and_then(|file| file.len()).unwrap_or(0)
        });
        lengths.sum()
    }

    /// Copies the journeys in a folder to another one, durably, while somebody may be writing them. `tell` hears how many bytes
    /// more were copied. A folder that is not there has none.
    ///
    /// # Errors
    /// The disk's.
    pub fn copy(disk: &dyn Disk, from: &Path, to: &Path, tell: &mut dyn FnMut(u64)) -> Result<(), DiskError> {
        let entries = match disk.list(from) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            listed => listed.map_err(|error| DiskError::new(DiskAction::List, from, &error))?,
        };
        disk.create_directory(to).map_err(|error| DiskError::new(DiskAction::Create, to, &error))?;
        for number in entries.iter().filter_map(|entry| segment::number_of(entry.name.to_str()?)) {
            let (original, copy) = (segment::path_of(from, number), segment::path_of(to, number));
            let file = match disk.open(&original, Access::Read) {
                // It gave way a moment ago.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                opened => opened.map_err(|error| DiskError::new(DiskAction::Open, &original, &error))?,
            };
            let create = |error| DiskError::new(DiskAction::Create, &copy, &error);
            let written = disk.create(&copy).map_err(create)?;
            let mut piece = vec![0; COPIED_BYTES];
            let mut at = 0;
            loop {
                let read = |error| DiskError::new(DiskAction::Read, &original, &error);
                let bytes = file.read_at(&mut piece, at).map_err(read)?;
                if bytes == 0 {
                    break;
                }
                let write = |error| DiskError::new(DiskAction::Write, &copy, &error);
                write_all_at(&*written, &mut [IoSlice::new(&piece[..bytes])], at, 0).map_err(write)?;
                at += bytes as u64;
                tell(bytes as u64);
            }
            written.sync_data().map_err(|error| DiskError::new(DiskAction::Sync, &copy, &error))?;
        }
        disk.sync_directory(to).map_err(|error| DiskError::new(DiskAction::Sync, to, &error))
    }

    fn numbers(&self) -> Result<Vec<u64>, DiskError> {
        let create = |error| DiskError::new(DiskAction::Create, &self.path, &error);
        self.disk.create_directory(&self.path).map_err(create)?;
        let list = |error| DiskError::new(DiskAction::List, &self.path, &error);
        let entries = self.disk.list(&self.path).map_err(list)?;
        let names = entries.iter().filter(|entry| entry.is_file);
        let mut numbers: Vec<u64> =
            names.filter_map(|entry| segment::number_of(entry.name.to_str()?)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Reads a file at a start, and goes on writing to the last one if it is as it should be.
    fn read_in(&self, number: u64, is_last: bool, found: &mut Found) -> Result<(), DiskError> {
        let path = segment::path_of(&self.path, number);
        let mut part =
            Part { first_index: found.next_index, end_index: found.next_index, ..Part::empty(number) };
        let unfinished = &mut found.unfinished;
        let reading = segment::read(&*self.disk, &path, &mut |chunk, _| {
            part.note(&chunk);
            chunk.entries.iter().for_each(|entry| unfinished.note(entry));
        })?;
        (part.bytes, part.valid) = (reading.bytes, reading.valid);
        found.next_index = found.next_index.max(part.end_index);
        found.end_number = found.end_number.max(part.end_number);
        let lost = reading.bytes - reading.valid;
        let mut goes_on = is_last && reading.bytes < self.file_bytes();
        match reading.ending {
            Ending::Whole => {}
            // Its beginning was being written: there is nothing in it.
            Ending::Torn if is_last && reading.valid < HEADER_BYTES as u64 => {
                return match self.disk.remove(&path) {
                    Ok(()) => Ok(()),
                    Err(error) => Err(DiskError::new(DiskAction::Remove, &path, &error)),
                };
            }
            Ending::Torn if is_last => {
                self.cut(&path, reading.valid)?;
                part.bytes = reading.valid;
                found.told.push(format!(
                    "the last {lost} bytes of {} were being written when the broker ended, and were cut: what they told of \
                     messages is not known",
                    path.display()
                ));
            }
            Ending::Torn | Ending::Damaged => {
                goes_on = false;
                found.told.push(format!(
                    "{} cannot be read from byte {} on: what the {lost} bytes there tell of messages is not known. \
                     Nothing else depends on them; the file goes when room is needed",
                    path.display(),
                    reading.valid
                ));
            }
            Ending::OtherVersion(version) => {
                goes_on = false;
                found.told.push(format!(
                    "{} has journeys in format {version}, and this version of leveret knows {}: what they tell is not \
                     read. The file stays until room is needed",
                    path.display(),
                    segment::VERSION
                ));
            }
        }
        self.parts().parts.push_back(part);
        if goes_on {
            let open = |error| DiskError::new(DiskAction::Open, &path, &error);
            let file = self.disk.open(&path, Access::ReadWrite).map_err(open);
            // One that cannot be written to is not needed for reading: another one is begun.
            if let Ok(file) = file {
                let mut writer = self.writer();
                writer.written = Written::after(reading.last_id);
                writer.open = Some(OpenFile { file, path, end: reading.valid });
            }
        }
        Ok(())
    }

    fn cut(&self, path: &Path, bytes: u64) -> Result<(), DiskError> {
        let cut = |error| DiskError::new(DiskAction::Truncate, path, &error);
        let file = self.disk.open(path, Access::ReadWrite).map_err(cut)?;
        file.set_len(bytes).map_err(cut)
    }

    fn file_bytes(&self) -> u64 {
        (self.bytes_max / FILES).min(FILE_BYTES_MAX)
    }

    /// Writes a chunk behind all others. `false`: it is larger than all the room, or nothing is written any more.
    ///
    /// # Errors
    /// The disk's; then the next one goes into another file.
    pub(in crate::journey) fn append(&self, chunk: &Chunk) -> Result<bool, DiskError> {
        let mut writer = self.writer();
        if writer.is_closed {
            return Ok(false);
        }
        if writer.written.is_exhausted()
            || writer.open.as_ref().is_some_and(|open| open.end >= self.file_bytes())
        {
            writer.finish()?;
        }
        let record = segment::record(&writer.written.encode(chunk));
        let result = self.write(&mut writer, chunk, &record);
        if !matches!(result, Ok(true)) {
            // What the file is believed to have may not be in it.
            writer.abandon();
        }
        result
    }

    fn write(&self, writer: &mut Writer, chunk: &Chunk, record: &[u8]) -> Result<bool, DiskError> {
        let bytes = record.len() as u64 + if writer.open.is_none() { HEADER_BYTES as u64 } else { 0 };
        if !self.make_room(bytes)? {
            return Ok(false);
        }
        if writer.open.is_none() {
            writer.open = Some(self.begin()?);
        }
        let Some(open) = &mut writer.open else { return Ok(false) };
        let failed = |error| DiskError::new(DiskAction::Write, &open.path, &error);
        write_all_at(&*open.file, &mut [IoSlice::new(record)], open.end, 0).map_err(failed)?;
        open.end += record.len() as u64;
        let mut parts = self.parts();
        if let Some(part) = parts.parts.back_mut() {
            part.note(chunk);
            (part.bytes, part.valid) = (open.end, open.end);
        }
        Ok(true)
    }

    fn begin(&self) -> Result<OpenFile, DiskError> {
        let number = self.numbers()?.last().map_or(1, |last| last + 1);
        let path = segment::path_of(&self.path, number);
        let create = |error| DiskError::new(DiskAction::Create, &path, &error);
        let file = self.disk.create(&path).map_err(create)?;
        let write = |error| DiskError::new(DiskAction::Write, &path, &error);
        if let Err(error) = write_all_at(&*file, &mut [IoSlice::new(&segment::header())], 0, 0).map_err(write)
        {
            // One more would be left each time that it is tried; a start deals with one that cannot be removed.
            let _ = self.disk.remove(&path);
            return Err(error);
        }
        let bytes = HEADER_BYTES as u64;
        self.parts().parts.push_back(Part { bytes, valid: bytes, ..Part::empty(number) });
        let sync = |error| DiskError::new(DiskAction::Sync, &self.path, &error);
        self.disk.sync_directory(&self.path).map_err(sync)?;
        Ok(OpenFile { file, path, end: HEADER_BYTES as u64 })
    }

    /// Removes the oldest files until there is room for so much more. `false`: there never is.
    fn make_room(&self, bytes: u64) -> Result<bool, DiskError> {
        loop {
            let mut parts = self.parts();
            let taken: u64 = parts.parts.iter().map(|part| part.bytes).sum();
            if taken.saturating_add(bytes) <= self.bytes_max {
                return Ok(true);
            }
            // The last one is written.
            if parts.parts.len() < 2 {
                return Ok(false);
            }
            let Some(oldest) = parts.parts.pop_front() else { return Ok(false) };
            parts.lost += oldest.publications;
            drop(parts);
            let path = segment::path_of(&self.path, oldest.number);
            match self.disk.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    self.parts().parts.push_front(oldest);
                    return Err(DiskError::new(DiskAction::Remove, &path, &error));
                }
                _ => {}
            }
        }
    }

    /// Makes all that was written durable; nothing more is written.
    ///
    /// # Errors
    /// The disk's.
    pub(in crate::journey) fn close(&self) -> Result<(), DiskError> {
        let mut writer = self.writer();
        writer.is_closed = true;
        writer.finish()
    }

    /// The files there are, and publications in those that have given way.
    pub(in crate::journey) fn contents(&self) -> (Vec<Part>, u64) {
        let parts = self.parts();
        (parts.parts.iter().cloned().collect(), parts.lost)
    }

    /// The lowest number of a message that was published in a file that is there.
    pub(in crate::journey) fn oldest_number(&self) -> Option<u64> {
        self.parts().parts.iter().find_map(|part| part.first_number)
    }

    /// Bytes that all files take.
    pub(in crate::journey) fn bytes(&self) -> u64 {
        self.parts().parts.iter().map(|part| part.bytes).sum()
    }

    /// Reads a file from its beginning and shows its chunks with lower places than this one. One that has given way has none.
    ///
    /// # Errors
    /// The disk's.
    pub(in crate::journey) fn read(
        &self,
        part: &Part,
        below: u64,
        see: &mut dyn FnMut(&Chunk),
    ) -> Result<(), DiskError> {
        if part.valid == 0 || part.first_index >= below.min(part.end_index) {
            return Ok(());
        }
        let path = segment::path_of(&self.path, part.number);
        let read = segment::read(&*self.disk, &path, &mut |chunk, _| {
            if chunk.index < below {
                see(&chunk);
            }
        });
        match read {
            Err(error) if error.kind == std::io::ErrorKind::NotFound => Ok(()),
            other => other.map(|_| ()),
        }
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Ends the file that is written.
    fn finish(&mut self) -> Result<(), DiskError> {
        self.written = Written::default();
        let Some(open) = self.open.take() else { return Ok(()) };
        open.file.sync_data().map_err(|error| DiskError::new(DiskAction::Sync, &open.path, &error))
    }

    /// Ends it where its last whole record ends. If not even that can be done, a start finds out.
    fn abandon(&mut self) {
        self.written = Written::default();
        if let Some(open) = self.open.take() {
            let _ = open.file.set_len(open.end);
        }
    }
}

impl Part {
    fn empty(number: u64) -> Self {
        Self {
            number,
            bytes: 0,
            valid: 0,
            first_index: 0,
            end_index: 0,
            first_at: None,
            first_number: None,
            end_number: 0,
            publications: 0,
        }
    }

    /// Whether something in it may be told of a message with this or a higher number.
    pub(in crate::journey) fn tells_from(&self, number: u64) -> bool {
        self.end_number > number
    }

    fn note(&mut self, chunk: &Chunk) {
        if self.first_index >= self.end_index {
            self.first_index = chunk.index;
        }
        self.end_index = self.end_index.max(chunk.index.saturating_add(1));
        for entry in &chunk.entries {
            let (at, first, count) = match entry {
                Entry::Publication(publication) => {
                    let lowest = self.first_number.map_or(publication.first, |at| at.min(publication.first));
                    self.first_number = Some(lowest);
                    self.publications += 1;
                    (publication.at, publication.first, publication.count)
                }
                Entry::Event(event) => (event.at, event.first, event.count),
            };
            self.first_at.get_or_insert(at);
            self.end_number = self.end_number.max(first + u64::from(count));
        }
    }
}
