//! Signs of life: who is quiet, who wants to hear one, who is gone.

use std::time::Duration;

/// How often a connection without heartbeats looks whether it is idle.
const IDLE_TICK: Duration = Duration::from_secs(30);
/// Ticks, two to a heartbeat, after which a silent client counts as gone.
const SILENT_TICKS_MAX: u32 = 4;
/// Bytes in a tick that are no work: a few signs of life.
const QUIET_BYTES_MAX: u64 = 64;

/// What the last ticks have seen.
#[derive(Debug, Default)]
pub(in crate::server) struct Pulse {
    /// 0: none are wanted.
    heartbeat_seconds: u32,
    read: u64,
    written: u64,
    ticks_without_read: u32,
    ticks_without_write: u32,
}

/// How things stand at a tick.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct Traffic {
    /// Bytes ever read.
    pub(in crate::server) read: u64,
    /// Bytes ever written.
    pub(in crate::server) written: u64,
    /// Nothing is read now: the client may have sent many signs of life.
    pub(in crate::server) is_paused: bool,
    /// Something waits to be written.
    pub(in crate::server) has_to_write: bool,
}

/// What a tick has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) struct Finding {
    /// Next to nothing was read or written.
    pub(in crate::server) is_quiet: bool,
    pub(in crate::server) life: Life,
}

/// What a tick has shown of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Life {
    /// All is well.
    Well,
    /// It has heard nothing for a while: it needs a sign of life.
    NeedsSign,
    /// It seems to be gone, for this reason.
    Gone(&'static str),
}

impl Pulse {
    /// The pulse of a client that is to show signs of life so often; 0: never.
    pub(in crate::server) fn new(heartbeat_seconds: u32) -> Self {
        Self { heartbeat_seconds, ..Self::default() }
    }

    /// From one tick to the next: half a heartbeat.
    pub(in crate::server) fn interval(&self) -> Duration {
        match self.heartbeat_seconds {
            0 => IDLE_TICK,
            seconds => Duration::from_millis(u64::from(seconds) * 500),
        }
    }

    /// Looks at what has happened since the last tick.
    pub(in crate::server) fn tick(&mut self, traffic: Traffic) -> Finding {
        let Traffic { read, written, is_paused, has_to_write } = traffic;
        let is_quiet = (read - self.read).max(written - self.written) <= QUIET_BYTES_MAX;
        let counted = |ticks: u32, is_silent: bool| if is_silent { ticks + 1 } else { 0 };
        self.ticks_without_read = counted(self.ticks_without_read, read == self.read && !is_paused);
        self.ticks_without_write = counted(self.ticks_without_write, written == self.written);
        (self.read, self.written) = (read, written);
        let life = if self.heartbeat_seconds == 0 {
            Life::Well
        } else if !has_to_write && self.ticks_without_write > 0 {
            Life::NeedsSign
        } else if has_to_write && self.ticks_without_write >= SILENT_TICKS_MAX {
            Life::Gone("it reads nothing")
        } else if self.ticks_without_read >= SILENT_TICKS_MAX {
            Life::Gone("it sends no heartbeats")
        } else {
            Life::Well
        };
        Finding { is_quiet, life }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Traffic = Traffic { read: 0, written: 0, is_paused: false, has_to_write: false };

    /// What ticks with this traffic show, one after another.
    fn lives(pulse: &mut Pulse, traffic: Traffic, ticks: usize) -> Vec<Life> {
        (0..ticks).map(|_| pulse.tick(traffic).life).collect()
    }

    #[test]
    fn a_client_that_takes_nothing_is_gone() {
        let stuck = Traffic { read: 1, has_to_write: true, ..NOTHING };
        let seen = lives(&mut Pulse::new(10), stuck, 4);
        assert_eq!(seen, [Life::Well, Life::Well, Life::Well, Life::Gone("it reads nothing")]);
    }

    #[test]
    fn a_client_that_says_nothing_is_gone_unless_nobody_listens() {
        for (is_paused, last) in [(false, Life::Gone("it sends no heartbeats")), (true, Life::Well)] {
            let mut pulse = Pulse::new(10);
            let mut seen = Life::Well;
            for written in 1..=4 {
                seen = pulse.tick(Traffic { written, is_paused, ..NOTHING }).life;
            }
            assert_eq!(seen, last, "paused: {is_paused}");
        }
    }

    #[test]
    fn a_client_that_hears_nothing_is_sent_a_sign() {
        assert_eq!(lives(&mut Pulse::new(10), NOTHING, 1), [Life::NeedsSign]);
        assert_eq!(
            lives(&mut Pulse::new(0), NOTHING, 9),
            [Life::Well; 9],
            "without heartbeats nobody expects one"
        );
    }

    #[test]
    fn signs_of_life_are_no_work() {
        let mut pulse = Pulse::new(10);
        assert!(pulse.tick(Traffic { read: 60, written: 60, ..NOTHING }).is_quiet);
        assert!(!pulse.tick(Traffic { read: 60, written: 1_000, ..NOTHING }).is_quiet);
        assert_eq!(Pulse::new(10).interval(), Duration::from_secs(5));
    }
}
