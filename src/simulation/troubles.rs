//! How a broker ends, what its disk does to it, and how it begins again.

use std::collections::BTreeMap;
use std::path::Path;

use super::books::{Finding, QueueBook, Stage};
use super::client::Pending;
use super::dying::COLLECTOR;
use super::limits::Limits;
use super::run::Run;
use super::world::{Shown, World};
use crate::storage::testing::{Fault, PowerLoss};
use crate::storage::{Disk as _, SEGMENT_VERSION};

/// Calls of the disk within which what was ordered happens.
const SOON: usize = 30;
/// Where a segment's header has its version.
const SEGMENT_VERSION_AT: usize = 8;
/// Bytes that a full disk has left.
const LAST_BYTES: usize = 20_000;
/// Rounds after which what still moves is taken to move for ever.
const PEACE_ROUNDS_MAX: usize = 20_000;
/// After this it is recorded who is dark.
const PRESENCE_RECORDED_MS: u64 = 1_000;
/// What is recorded of that is known to this.
const RECORDED_APART_MS: u64 = 60_000;

impl Run {
    /// Orders something for the disk.
    pub(super) fn trouble(&mut self) {
        let call = self.disk.changes() + self.random.below(SOON) as u64;
        let (fault, name) = match self.random.below(7) {
            0..=1 => {
                self.disk.cut_power_at(call);
                return self.trace.note(format_args!("the power is to go at call {call}"));
            }
            2 => {
                self.is_full = !self.is_full;
                self.counters.full_disks += u64::from(self.is_full);
                let settle = |pending: &Pending| matches!(pending, Pending::Settle { .. });
                let is_settling = self.clients.iter().any(|client| client.pending.values().any(settle));
                self.counters.full_disks_with_settlements += u64::from(self.is_full && is_settling);
                let used = self.used_bytes();
                let room = self.random.below(LAST_BYTES);
                self.disk.set_capacity(self.is_full.then_some(used + room));
                return self.trace.note(format_args!("the disk is full: {}", self.is_full));
            }
            3 => (Fault::Full, "no room"),
            4 => (Fault::OutOfFiles, "no file"),
            5 => {
                let calls = 1 + self.random.below(8) as u64;
                self.counters.read_faults += calls;
                self.is_troubled = true;
                self.disk.fail_reads(calls);
                return self.trace.note(format_args!("{calls} reads of the disk are to fail"));
            }
            _ => (Fault::Io, "an error"),
        };
        self.counters.faults += 1;
        self.is_troubled = true;
        self.disk.fail_at(call, fault);
        self.trace.note(format_args!("call {call} of the disk meets {name}"));
    }

    pub(super) fn used_bytes(&self) -> usize {
        self.disk.set_capacity(Some(usize::MAX / 2));
        let room = self.disk.room(Path::new("/data")).expect("the power is on");
        self.disk.set_capacity(None);
        (room.total_bytes - room.free_bytes) as usize
    }

    /// Ends a life in which the disk failed: what the broker may refuse then is not held against the books.
    pub(super) fn restart_if_troubled(&mut self) -> Result<(), Finding> {
        if self.is_troubled || self.is_full || self.disk.is_powered_off() {
            return self.crash();
        }
        self.disk.forget_orders();
        Ok(())
    }

    /// The power goes, or the process is killed.
    pub(super) fn crash(&mut self) -> Result<(), Finding> {
        self.counters.crashes += 1;
        self.counters.crashes_while_writing += u64::from(self.world.workers.is_writing());
        self.counters.crashes_while_working += u64::from(self.world.workers.has_work());
        self.counters.crashes_while_merging += u64::from(self.world.workers.is_resting());
        self.count_reuse();
        let was_off = self.disk.is_powered_off();
        let is_killed = !was_off && self.random.one_in(3);
        self.trace.note(format_args!("the {} ends", if is_killed { "process" } else { "power" }));
        self.end_life();
        if is_killed {
            self.disk.kill_process();
        } else {
            self.disk.cut_power();
        }
        self.start_again(is_killed)
    }

    /// Counts a crash in which segments were about to be written over, or had been.
    fn count_reuse(&mut self) {
        let files = self.disk.files();
        let is = |path: &Path, ending: &str| path.extension().is_some_and(|end| end == ending);
        let is_reused = |path: &Path| {
            let content = self.disk.content(path).unwrap_or_default();
            content.get(SEGMENT_VERSION_AT) == Some(&(SEGMENT_VERSION as u8))
        };
        let spares = files.iter().any(|(path, _)| is(path, "spare"));
        let reused = files.iter().any(|(path, _)| is(path, "log") && is_reused(path));
        self.counters.crashes_with_spares += u64::from(spares);
        self.counters.crashes_with_reused += u64::from(reused);
    }

    /// Everything that was begun is done before the power goes: the next broker shows what this one did.
    pub(super) fn crash_in_peace(&mut self) -> Result<(), Finding> {
        self.restart_if_troubled()?;
        self.make_peace()?;
        // What becomes due goes to consumers that wait for it, whether anything is done or not.
        for queue in self.books.there() {
            self.await_due(queue)?;
        }
        self.make_peace()?;
        let before = self.world.shown(&mut self.random)?;
        let expiring = self.books.expiring();
        let retained = self.retained_everywhere()?;
        // Until it is recorded who is dark since when.
        self.world.workers.advance(PRESENCE_RECORDED_MS);
        self.make_peace()?;
        let dark = self.dark()?;
        self.make_peace()?;
        self.counters.crashes += 1;
        self.trace.note(format_args!("the power ends in peace"));
        self.end_life();
        self.disk.cut_power();
        self.start_again(false)?;
        self.check_dark(&dark)?;
        let after = self.world.shown(&mut self.random)?;
        self.note_passing();
        let (before, after) = (before.without(&self.passing), after.without(&self.passing));
        if !self.books.is_as_before(&before, &expiring, &after) {
            return Err(format!(
                "everything was on disk, and after a crash {after:?} is there and not {before:?}"
            ));
        }
        self.check_retained(&retained)
    }

    /// The broker stops as asked, and starts again.
    pub(super) fn stop(&mut self) -> Result<(), Finding> {
        self.trace.note(format_args!("the broker stops"));
        self.counters.stops += 1;
        while !self.clients.is_empty() {
            self.leave(0);
        }
        self.make_peace()?;
        let before = self.world.shown(&mut self.random)?;
        let expiring = self.books.expiring();
        let retained = self.retained_everywhere()?;
        let stopped = self.world.close(&mut self.random)?;
        self.passing.clear();
        self.note_passing();
        self.counters.gone_with_brokers += self.books.ended();
        self.topology_unknown();
        stopped.map_err(|problems| format!("the broker does not stop cleanly: {problems:?}"))?;
        self.world.halt();
        self.disk.kill_process();
        self.open_world()?;
        let shown = self.world.shown(&mut self.random)?;
        self.find(&shown)?;
        let (before, after) = (before.without(&self.passing), shown.without(&self.passing));
        if !self.books.is_as_before(&before, &expiring, &after) {
            return Err(format!("after a stop {after:?} is there and not {before:?}"));
        }
        self.check_retained(&retained)
    }

    /// Since when somebody is dark is recorded, to a minute.
    fn check_dark(&mut self, before: &BTreeMap<String, Option<u64>>) -> Result<(), Finding> {
        let after = self.dark()?;
        let start_ms = self.now_ms;
        for (queue, since) in before {
            let Some(shown) = after.get(queue) else { continue };
            let expected = since.unwrap_or(start_ms).min(start_ms);
            if shown.is_none_or(|shown| shown.abs_diff(expected) >= RECORDED_APART_MS || shown > start_ms) {
                return Err(format!(
                    "queue '{queue}' was dark since {since:?}, and since {shown:?} after a start at {start_ms}"
                ));
            }
            self.counters.darkness_recorded += 1;
        }
        Ok(())
    }

    /// Nobody hears anything of this broker any more.
    fn end_life(&mut self) {
        self.passing.clear();
        self.note_passing();
        self.count_cut_moves();
        for client in std::mem::take(&mut self.clients) {
            self.forget(&client);
        }
        self.world.halt();
        self.counters.gone_with_brokers += self.books.ended();
        self.topology_unknown();
    }

    fn topology_unknown(&mut self) {
        self.topology = None;
        self.is_topology_orphaned = false;
    }

    /// Starts a broker on what is left, perhaps with a crash on the way.
    fn start_again(&mut self, was_killed: bool) -> Result<(), Finding> {
        self.is_full = false;
        self.is_troubled = false;
        // What is torn is the hardest.
        let loss = match self.random.below(5) {
            0 => PowerLoss::KeepsAll,
            1 => PowerLoss::LosesAll,
            _ => PowerLoss::Tears,
        };
        if !was_killed {
            self.disk.restore_power(loss, self.random.number());
        }
        self.disk.forget_orders();
        self.disk.set_capacity(None);
        if self.random.one_in(4) {
            self.trouble_starting();
        }
        self.open_world()?;
        let shown = self.world.shown(&mut self.random)?;
        self.find(&shown)?;
        if !self.random.one_in(5) {
            return Ok(());
        }
        for queue in self.books.for_all() {
            self.look_into(queue)?;
        }
        Ok(())
    }

    /// A start that does not come to its end changes nothing.
    fn trouble_starting(&mut self) {
        let call = self.disk.changes() + self.random.below(12) as u64;
        match self.random.below(3) {
            0 => self.disk.fail_at(call, Fault::Io),
            _ => self.disk.cut_power_at(call),
        }
        self.counters.crashes_while_starting += 1;
        self.trace.note(format_args!("a start is in trouble at call {call}"));
        drop(World::open(&self.disk, self.now_ms));
        let loss = if self.random.one_in(2) { PowerLoss::Tears } else { PowerLoss::LosesAll };
        self.disk.restore_power(loss, self.random.number());
    }

    fn open_world(&mut self) -> Result<(), Finding> {
        // The clock may go back now.
        self.books.note_time(self.world.workers.now().0);
        self.now_ms += 1;
        let opened = World::open(&self.disk, self.now_ms);
        self.world = opened.map_err(|failure| format!("the broker does not start: {failure}"))?;
        self.books.begins(self.now_ms);
        self.books.note_time(self.now_ms);
        Ok(())
    }

    /// Queues and subscriptions that may go, or have gone, though nobody asked for it.
    fn note_passing(&mut self) {
        self.fade();
        let changes = |queue: &&QueueBook| {
            queue.stage == Stage::Fading || !queue.is_durable || queue.limits != Limits::default()
        };
        let fading = self.books.queues.iter().filter(changes);
        self.passing.extend(fading.map(|queue| queue.name));
        // What dies goes there at any time.
        self.passing.insert(COLLECTOR);
        let expired = self.books.subscriptions.iter().filter(|book| book.may_have_expired);
        self.passing.extend(expired.map(|book| book.name));
    }

    fn find(&mut self, shown: &Shown) -> Result<(), Finding> {
        self.fade();
        self.trace.note(format_args!("there are {:?}", shown.contents));
        self.books.found(&shown.queues, &shown.links)?;
        self.books.access.found(&shown.access)?;
        self.books.found_subscriptions(&shown.subscriptions, &shown.links)
    }

    /// Lets everything that was begun come to its end.
    pub(super) fn make_peace(&mut self) -> Result<(), Finding> {
        let mut quiet = 0;
        for _ in 0..PEACE_ROUNDS_MAX {
            self.world.tick(4);
            self.listen()?;
            let worked = self.world.workers.work(&mut self.random);
            self.counters.work += u64::from(worked);
            quiet = if worked | self.world.workers.step_logs() { 0 } else { quiet + 1 };
            if quiet > 4 {
                return Ok(());
            }
        }
        Err("the broker does not come to rest".to_owned())
    }

    /// Looks what became of a change whose client is gone.
    pub(super) fn look(&mut self) -> Result<(), Finding> {
        self.make_peace()?;
        if self.disk.is_powered_off() {
            return Ok(());
        }
        self.topology_unknown();
        let shown = self.world.shown(&mut self.random)?;
        self.find(&shown)?;
        let now_ms = self.world.workers.now().0;
        for queue in &mut self.books.queues {
            queue.attended.until_ms = queue.attended.until_ms.min(now_ms);
        }
        Ok(())
    }
}
