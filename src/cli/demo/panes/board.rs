//! What is to be seen in the panes: what was told, and what a key means. Nothing here draws or waits.

use std::collections::VecDeque;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::cli::demo::play::Play;
use crate::cli::screen::is_end;

/// Lines of an actor that are kept: more than the highest terminal shows.
pub(super) const LINES_KEPT: usize = 200;

/// Something that is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli::demo) enum Shown {
    /// A scene is next, and waits to be asked for.
    Scene {
        /// Counted from 1.
        number: usize,
        title: &'static str,
        question: &'static str,
    },
    /// What was asked for is being done.
    Plays,
    /// All scenes are over, and whoever watches may take over.
    End,
    /// Whoever watches has taken over.
    ByHand,
    /// Whether events come by themselves.
    Paused(bool),
    /// Whether the broker is there.
    Broker(bool),
    /// An actor comes.
    Comes(&'static str),
    /// An actor goes.
    Leaves(&'static str),
    /// Something that an actor says.
    Line(&'static str, String),
    /// What happens, told by nobody.
    Note(String),
}

/// What somebody wants who pressed a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli::demo) enum Wish {
    /// The next scene; after the last one, events that come by themselves.
    Next,
    /// What the key of this number in [`ByHand`](crate::cli::demo::play::ByHand) does.
    Do(usize),
    /// No more events that come by themselves, or some again.
    Pause,
}

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pressed {
    /// No more.
    Quit,
    /// Something for the stage.
    Wish(Wish),
    /// Something for the eye, which is done; or nothing at all.
    Nothing,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Somebody is to ask for what is next.
    Waits,
    /// A scene is played.
    Plays,
    /// All scenes are over.
    Over,
    /// Events come by themselves, and keys do something.
    ByHand,
}

/// Which parts are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    /// Panes and the picture.
    Both,
    /// The picture has all the room.
    Picture,
    /// The panes have all the room.
    Panes,
}

/// An actor, as it is seen.
#[derive(Debug)]
pub(super) struct Pane {
    pub(super) name: &'static str,
    pub(super) is_here: bool,
    /// What it said, the last of it.
    pub(super) lines: VecDeque<String>,
}

/// All that is to be seen but the picture.
#[derive(Debug)]
pub(super) struct Board {
    play: &'static str,
    about: &'static str,
    keys: Vec<(char, &'static str)>,
    phase: Phase,
    scene: Option<(usize, &'static str, &'static str)>,
    is_paused: bool,
    has_broker: bool,
    parts: Parts,
    pub(super) panes: Vec<Pane>,
    pub(super) notes: VecDeque<String>,
}

impl Board {
    pub(super) fn of(play: &Play) -> Self {
        let panes =
            play.actors.iter().map(|actor| Pane { name: actor.name, is_here: false, lines: VecDeque::new() });
        Self {
            play: play.name,
            about: play.about,
            keys: play.by_hand.keys.iter().map(|key| (key.letter, key.words)).collect(),
            phase: Phase::Plays,
            scene: None,
            is_paused: false,
            has_broker: true,
            parts: Parts::Both,
            panes: panes.collect(),
            notes: VecDeque::new(),
        }
    }

    pub(super) fn parts(&self) -> Parts {
        self.parts
    }

    /// Takes something that is to be shown.
    pub(super) fn take(&mut self, shown: Shown) {
        match shown {
            Shown::Scene { number, title, question } => {
                self.scene = Some((number, title, question));
                self.phase = Phase::Waits;
            }
            Shown::Plays => self.phase = Phase::Plays,
            Shown::End => self.phase = Phase::Over,
            Shown::ByHand => self.phase = Phase::ByHand,
            Shown::Paused(is_paused) => self.is_paused = is_paused,
            Shown::Broker(is_there) => self.has_broker = is_there,
            Shown::Comes(actor) => self.be_here(actor, true),
            Shown::Leaves(actor) => self.be_here(actor, false),
            Shown::Line(actor, line) => {
                if let Some(pane) = self.panes.iter_mut().find(|pane| pane.name == actor) {
                    keep(&mut pane.lines, line);
                }
            }
            Shown::Note(line) => keep(&mut self.notes, line),
        }
    }

    fn be_here(&mut self, actor: &str, is_here: bool) {
        let panes = self.panes.iter_mut().filter(|pane| pane.name == actor);
        panes.for_each(|pane| pane.is_here = is_here);
    }

    /// What a key means now.
    pub(super) fn press(&mut self, key: &KeyEvent) -> Pressed {
        if is_end(key) {
            return Pressed::Quit;
        }
        if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) {
            return Pressed::Nothing;
        }
        match key.code {
            KeyCode::Tab => {
                self.parts = match self.parts {
                    Parts::Both => Parts::Picture,
                    Parts::Picture => Parts::Panes,
                    Parts::Panes => Parts::Both,
                };
                Pressed::Nothing
            }
            KeyCode::Enter if matches!(self.phase, Phase::Waits | Phase::Over) => Pressed::Wish(Wish::Next),
            KeyCode::Char(' ') if self.phase == Phase::ByHand => Pressed::Wish(Wish::Pause),
            KeyCode::Char(typed) if self.phase != Phase::Plays => {
                match self.keys.iter().position(|(letter, _)| *letter == typed) {
                    Some(number) => Pressed::Wish(Wish::Do(number)),
                    None => Pressed::Nothing,
                }
            }
            _ => Pressed::Nothing,
        }
    }

    /// Where it stands, and what to guess.
    pub(super) fn header(&self) -> [String; 2] {
        let play = self.play;
        match (self.phase, self.scene) {
            (Phase::ByHand, _) => {
                let (state, hint) = match (self.has_broker, self.is_paused) {
                    (false, _) => ("the broker is dead", "k starts it again; what waits where?"),
                    (true, true) => ("paused", "space goes on"),
                    (true, false) => ("by hand", "predict what a key does before you press it"),
                };
                [format!("demo {play} · {state}"), hint.to_owned()]
            }
            (Phase::Over, _) => [
                format!("demo {play} · by hand"),
                "all scenes are over: Enter, or any key below, and you take over".to_owned(),
            ],
            (_, Some((number, title, question))) => {
                [format!("demo {play} · {number}. {title}"), format!("predict: {question}")]
            }
            (_, None) => [format!("demo {play}"), self.about.to_owned()],
        }
    }

    /// The keys that do something now.
    pub(super) fn footer(&self) -> String {
        let mut words = vec!["q quits".to_owned()];
        match self.phase {
            Phase::Plays => {}
            Phase::Waits | Phase::Over => words.push("Enter plays".to_owned()),
            Phase::ByHand if self.is_paused => words.push("space plays".to_owned()),
            Phase::ByHand => words.push("space pauses".to_owned()),
        }
        if self.phase != Phase::Plays {
            words.extend(self.keys.iter().map(|(letter, words)| format!("{letter} {words}")));
        }
        words.push("Tab view".to_owned());
        words.join(" · ")
    }
}

fn keep(lines: &mut VecDeque<String>, line: String) {
    if lines.len() == LINES_KEPT {
        lines.pop_front();
    }
    lines.push_back(line);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::caps;

    fn typed(letter: char) -> KeyEvent {
        KeyEvent::from(KeyCode::Char(letter))
    }

    #[test]
    fn a_key_means_what_can_be_done_now() {
        let mut board = Board::of(&caps::play());
        let (enter, driver, space) = (KeyEvent::from(KeyCode::Enter), typed('d'), typed(' '));
        let check = |board: &mut Board, expect: [Pressed; 3]| {
            assert_eq!([&enter, &driver, &space].map(|key| board.press(key)), expect, "{:?}", board.phase);
        };
        let wish = Pressed::Wish;
        check(&mut board, [Pressed::Nothing; 3]);
        board.take(Shown::Scene { number: 1, title: "an order", question: "who hears it?" });
        check(&mut board, [wish(Wish::Next), wish(Wish::Do(0)), Pressed::Nothing]);
        board.take(Shown::Plays);
        check(&mut board, [Pressed::Nothing; 3]);
        board.take(Shown::End);
        check(&mut board, [wish(Wish::Next), wish(Wish::Do(0)), Pressed::Nothing]);
        board.take(Shown::ByHand);
        check(&mut board, [Pressed::Nothing, wish(Wish::Do(0)), wish(Wish::Pause)]);
        assert_eq!(board.press(&typed('z')), Pressed::Nothing, "nobody said what it does");
    }

    #[test]
    fn whatever_happens_one_can_quit() {
        let mut board = Board::of(&caps::play());
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        let phases = [Shown::Plays, Shown::End, Shown::ByHand, Shown::Broker(false), Shown::Paused(true)];
        for shown in phases {
            board.take(shown);
            for key in [typed('q'), KeyEvent::from(KeyCode::Esc), control_c] {
                assert_eq!(board.press(&key), Pressed::Quit);
            }
        }
    }

    #[test]
    fn a_pane_has_what_its_actor_said_and_no_more_than_is_kept() {
        let mut board = Board::of(&caps::play());
        for number in 0..LINES_KEPT + 3 {
            board.take(Shown::Line("hub", format!("EVENT {number}")));
            board.take(Shown::Note(format!("note {number}")));
        }
        board.take(Shown::Line("nobody", "is not heard".to_owned()));
        let said = |name: &str| {
            let pane = board.panes.iter().find(|pane| pane.name == name);
            pane.map(|pane| (pane.lines.len(), pane.lines.front().cloned()))
        };
        assert_eq!(said("hub"), Some((LINES_KEPT, Some("EVENT 3".to_owned()))));
        assert_eq!(said("driver-1"), Some((0, None)));
        assert_eq!(board.notes.len(), LINES_KEPT);
    }

    #[test]
    fn the_header_asks_and_the_footer_says_which_keys_do_something() {
        let mut board = Board::of(&caps::play());
        board.take(Shown::Scene { number: 2, title: "valid events only", question: "who notices?" });
        assert_eq!(board.header(), ["demo caps · 2. valid events only", "predict: who notices?"]);
        assert_eq!(
            board.footer(),
            "q quits · Enter plays · d driver · v vendor · k kill -9 · m misspell · Tab view"
        );
        board.take(Shown::Plays);
        assert_eq!(board.footer(), "q quits · Tab view");
        board.take(Shown::ByHand);
        board.take(Shown::Paused(true));
        assert_eq!(board.header()[0], "demo caps · paused");
        assert!(board.footer().starts_with("q quits · space plays · d driver"));
        board.take(Shown::Broker(false));
        assert_eq!(board.header()[0], "demo caps · the broker is dead");
    }
}
