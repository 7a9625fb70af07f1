//! What stands where in terminals of some sizes.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent};

use super::*;
use crate::cli::demo::play::Does;
use crate::cli::demo::{caps, chores, nmq, rooms};

/// A board on which something was said already.
fn board() -> Board {
    let mut board = Board::of(&caps::play());
    let told = [
        Shown::Scene { number: 2, title: "valid events only", question: "who notices?" },
        Shown::Comes("driver-1"),
        Shown::Line("driver-1", "picked up a-1".to_owned()),
        Shown::Line("hub", format!("EVENT {} the end", "long ".repeat(20))),
        Shown::Line("web-shop", "\u{1b}[31mred".to_owned()),
        Shown::Note("driver-1 is here".to_owned()),
    ];
    told.into_iter().for_each(|shown| board.take(shown));
    board
}

fn painted(board: &Board, columns: u16, rows: u16) -> Vec<String> {
    let mut animation = Animation::of_exchanges("/", Vec::new(), LOOK_INTERVAL, Look::default());
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| paint::paint(board, &mut animation, frame)).unwrap();
    let cells = terminal.backend().buffer().content().chunks(usize::from(columns));
    cells.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect()).collect()
}

#[track_caller]
fn check(seen: &[String], words: &[&str]) {
    for word in words {
        assert!(seen.iter().any(|row| row.contains(word)), "'{word}' is not in:\n{}", seen.join("\n"));
    }
}

#[test]
fn panes_picture_question_and_keys_are_seen_in_small_and_large_terminals() {
    for (columns, rows) in [(80, 24), (200, 50)] {
        let seen = painted(&board(), columns, rows);
        assert!(seen[0].starts_with("demo caps · 2. valid events only"), "{seen:?}");
        assert!(seen[1].starts_with("predict: who notices?"), "{seen:?}");
        check(&seen, &["picked up a-1", "┌ driver-1 ─", "┌ driver-2, not here ─", "\\u{1b}[31mred"]);
        check(&seen, &["vhost /: 0 producers", "· driver-1 is here"]);
        let footer = "q quits · Enter plays · d driver · v vendor · k kill -9 · m misspell · Tab view";
        assert!(seen.last().unwrap().starts_with(footer), "{seen:?}");
        assert!(seen.iter().all(|row| !row.contains('\u{1b}')), "nothing does anything to a terminal");
    }
}

#[test]
fn a_long_line_is_cut_in_a_low_pane_and_goes_on_in_a_high_one() {
    check(&painted(&board(), 80, 24), &["EVENT long long long lon…"]);
    let high = painted(&board(), 60, 50);
    check(&high, &["EVENT long", "the end"]);
    let panes = &high[..high.len() - 1];
    assert!(panes.iter().all(|row| !row.contains('…')), "{}", panes.join("\n"));
}

#[test]
fn tab_gives_the_room_to_the_picture_then_to_the_panes_then_to_both() {
    let mut board = board();
    let has = |board: &Board| {
        let seen = painted(board, 80, 24).join("\n");
        (seen.contains("vhost /"), seen.contains("┌ driver-2"))
    };
    let mut all = vec![has(&board)];
    for _ in 0..3 {
        assert_eq!(board.press(&KeyEvent::from(KeyCode::Tab)), Pressed::Nothing);
        all.push(has(&board));
    }
    assert_eq!(all, [(true, true), (true, false), (false, true), (true, true)]);
}

#[test]
fn a_terminal_that_is_too_small_is_told_how_to_get_out_of_it() {
    check(&painted(&board(), 60, 24), &["no room for the picture (72 x 14)"]);
    check(&painted(&board(), 40, 12), &["no room for 4 of 6 panes", "q quits"]);
    check(&painted(&board(), 39, 12), &["40 columns and 10 rows are needed; q"]);
    painted(&board(), 1, 1);
}

#[test]
fn every_key_of_a_demo_means_one_thing_and_is_about_somebody_who_takes_part() {
    for play in [caps::play(), nmq::play(), rooms::play(), chores::play()] {
        let mut board = Board::of(&play);
        board.take(Shown::ByHand);
        let is_actor = |name: &&str| play.actors.iter().any(|actor| actor.name == *name);
        for (number, key) in play.by_hand.keys.iter().enumerate() {
            let typed = KeyEvent::from(KeyCode::Char(key.letter));
            assert_eq!(board.press(&typed), Pressed::Wish(Wish::Do(number)), "{} {}", play.name, key.letter);
            let takes_part = match &key.does {
                Does::TakeAway(actors) => !actors.is_empty() && actors.iter().all(is_actor),
                Does::Publish(actor, _) => is_actor(actor),
                Does::Switch(actor, name, ..) => {
                    is_actor(actor) && play.subscriptions.iter().any(|plan| plan.name == *name)
                }
                Does::KillBroker => play.kills_broker(),
            };
            assert!(takes_part, "{} {}", play.name, key.letter);
        }
        assert!((1..20).all(|number| (play.by_hand.goes_on)(number).0.iter().all(is_actor)), "{}", play.name);
    }
}
