//! Somebody who sits before a terminal with a command in it.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::{DEADLINE, Outcome, finish, terminal};

/// A terminal in which nothing changes for so long shows what it will show.
const PATIENCE_SECONDS: i64 = 20;

/// Time for a command to end by itself after a test that failed.
const PARTING: Duration = Duration::from_secs(5);

/// A terminal with a command in it, and what is to be seen there.
pub(crate) struct Seat {
    /// Closed before the command is told to end: then it waits for nobody who reads.
    screen: File,
    child: Seated,
    parser: vt100::Parser,
    cooked: LocalModes,
}

/// The command: whatever becomes of the test, it ends with it.
struct Seated(Option<Child>);

impl Seated {
    fn stands_up(mut self) -> Child {
        self.0.take().expect("it has not ended")
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        // So that it can end what it has started itself; it may have ended already.
        let _ = rustix::process::kill_process(Pid::from_child(&child), Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < PARTING && matches!(child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Seat {
    pub(crate) fn start(mut command: Command, columns: u16, rows: u16) -> Self {
        let (screen, stdout) = terminal();
        resize(&screen, columns, rows);
        let cooked = tcgetattr(&screen).unwrap().local_modes;
        let name = rustix::pty::ptsname(&screen, Vec::new()).unwrap();
        let stdin = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        command.env("TERM", "xterm-256color").stdin(stdin).stdout(stdout);
        let child = command.spawn().unwrap();
        Self {
            child: Seated(Some(child)),
            screen,
            parser: vt100::Parser::new(size(rows), size(columns), 0),
            cooked,
        }
    }

    /// Reads until all of these words are on the screen.
    #[track_caller]
    pub(crate) fn see(&mut self, words: &[&str]) -> String {
        self.see_that(|seen| words.iter().all(|word| seen.contains(word)))
    }

    /// Reads until it is so.
    #[track_caller]
    pub(crate) fn see_that(&mut self, is_so: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let seen = self.parser.screen().contents();
            if is_so(&seen) {
                return seen;
            }
            assert!(began.elapsed() < DEADLINE, "it is never seen; the terminal shows\n{seen}");
            self.read(&seen);
        }
    }

    #[track_caller]
    fn read(&mut self, seen: &str) {
        let mut waited = [PollFd::new(&self.screen, PollFlags::IN)];
        let patience = Timespec { tv_sec: PATIENCE_SECONDS, tv_nsec: 0 };
        let comes = poll(&mut waited, Some(&patience)).unwrap();
        assert!(comes > 0, "nothing changes any more; the terminal shows\n{seen}");
        let mut bytes = [0; 16 * 1024];
        let count = self.screen.read(&mut bytes).unwrap_or(0);
        assert!(count > 0, "the terminal was closed; it showed\n{seen}");
        self.parser.process(&bytes[..count]);
    }

    /// Types.
    pub(crate) fn press(&mut self, keys: &[u8]) {
        self.screen.write_all(keys).unwrap();
    }

    /// Tells the command to end.
    pub(crate) fn terminate(&self) {
        let process = Pid::from_child(self.child.0.as_ref().expect("it has not ended"));
        rustix::process::kill_process(process, Signal::TERM).unwrap();
    }

    pub(crate) fn resize(&mut self, columns: u16, rows: u16) {
        resize(&self.screen, columns, rows);
        self.parser.screen_mut().set_size(size(rows), size(columns));
    }

    /// Waits for the end: the terminal is as it was. What the command left there, besides how it ended.
    #[track_caller]
    pub(crate) fn ends(mut self) -> (Outcome, String) {
        while self.parser.screen().alternate_screen() || self.parser.screen().hide_cursor() {
            let seen = self.parser.screen().contents();
            self.read(&seen);
        }
        let modes = tcgetattr(&self.screen).map(|attributes| attributes.local_modes);
        // The rest comes while the command ends, which it may not do before somebody has read it.
        let Self { child, mut screen, mut parser, cooked } = self;
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 16 * 1024];
            // A terminal that nobody has open any more fails to be read.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                parser.process(&bytes[..count]);
            }
            parser.screen().contents()
        });
        let outcome = finish(child.stands_up());
        assert_eq!(modes.unwrap() | LocalModes::empty(), cooked, "it echoes, and gives lines, as before");
        (outcome, reader.join().unwrap())
    }
}

fn size(cells: u16) -> NonZeroU16 {
    NonZeroU16::new(cells).unwrap()
}

fn resize(screen: &File, columns: u16, rows: u16) {
    tcsetwinsize(screen, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

/// Keeps what was seen where cargo keeps what tests make, for people to look at.
pub(crate) fn keep(name: &str, seen: &str) {
    std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), seen).unwrap();
    println!("{name}:\n{seen}");
}

#[test]
fn a_command_ends_with_its_seat_and_holds_no_end_of_another_terminal() {
    let first = terminal();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ls -l /proc/self/fd; trap 'echo told to end' TERM; echo pid $$ waits; while :; do sleep 0.1; done",
    ]);
    let mut seat = Seat::start(command, 200, 50);
    let seen = seat.see(&["waits"]);
    assert!(!seen.contains("ptmx"), "nobody but the test holds the other end of a terminal:\n{seen}");
    let pid = seen.split_once("pid ").unwrap().1.split_once(' ').unwrap().0.parse().unwrap();
    let pid = Pid::from_raw(pid).unwrap();
    assert!(rustix::process::test_kill_process(pid).is_ok());
    drop(seat);
    assert!(rustix::process::test_kill_process(pid).is_err(), "it does not listen, and is gone all the same");
    drop(first);
}
