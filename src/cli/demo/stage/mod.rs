//! Performs a play: does what it says, shows what is said, and holds that against what is to be heard.

mod by_hand;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, timeout, timeout_at};

use super::actor::{Outcome, Player, Said, listening};
use super::child_broker::ChildBroker;
use super::lines::{Lines, Print};
use super::patience::{PATIENCE, ask_until};
use super::play::{Act, Awaited, Beat, Play, Scene};
use super::voice::Voice;
use crate::cli::draw;
use crate::cli::failure::Failure;
use crate::cli::receipts;
use crate::client::{
    Channel, ConnectOptions, Connection, DeleteExchange, Event, Events, Journey, JourneyRule, JourneyScope,
    Journeys, Subscription,
};

/// Lines that were said and not shown yet; who says more waits.
const LINES_MAX: usize = 64;

/// How a demo is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    /// As lines that are the same each time.
    Script,
    /// As lines, as they are said.
    Lines,
    /// In panes, in a terminal that is drawn on as a whole, with keys.
    Panes,
}

/// How a demo is run.
pub(super) struct Options {
    pub(super) connect: ConnectOptions,
    pub(super) shows: Shows,
    pub(super) seed: u64,
    /// Longest time for what a single act leads to.
    pub(super) patience: Duration,
    pub(super) print: Print,
}

/// Performs a play from its first scene to its last, and leaves nothing behind on the broker. `child` is the broker, if it is
/// there to be killed: then it is tidied away as a whole.
pub(super) async fn perform(
    play: &Play,
    options: Options,
    child: Option<&mut ChildBroker>,
    interrupted: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let goes_with_the_demo = child.is_some();
    let connection = Connection::connect(options.connect.clone().connection_name("stage")).await?;
    let asking = connection.channel().await?;
    check_free(play, &asking).await?;
    let told_before = told_before(play, &asking).await?;
    let (said, heard) = channel(LINES_MAX);
    let lines = Lines::new(play, options.shows == Shows::Script, options.print);
    let mut stage = Stage {
        play,
        options,
        voice: Voice::Lines(lines),
        connection: connection.clone(),
        asking: asking.clone(),
        told_before,
        child,
        killed: None,
        last_message: None,
        players: BTreeMap::new(),
        said,
        heard,
    };
    let result = match stage.options.shows {
        Shows::Panes => stage.perform_in_panes(interrupted).await,
        Shows::Script | Shows::Lines => tokio::select! {
            result = stage.run() => result,
            () = interrupted => Err(Failure::new("the demo was stopped before its end")),
        },
    };
    let tidied = timeout(PATIENCE, async {
        stage.leave_all().await;
        match goes_with_the_demo {
            true => Ok(()),
            false => tidy(play, &asking).await,
        }
    });
    let tidied = tidied.await.unwrap_or_else(|_| {
        Err(Failure::new("what the demo has made could not be deleted: the broker does not answer"))
    });
    // All that was asked is answered, or never will be.
    let _ = connection.close().await;
    result.and(tidied)
}

/// Fails if the broker has something under a name of the play: it may be somebody's.
async fn check_free(play: &Play, asking: &Channel) -> Result<(), Failure> {
    let exchanges = asking.list_exchanges().await?;
    let exchange = play.exchanges.iter().find(|plan| exchanges.iter().any(|entry| entry.name == plan.name));
    let subscriptions = asking.list_subscriptions().await?;
    let subscription =
        play.subscriptions.iter().find(|plan| subscriptions.iter().any(|entry| entry.name == plan.name));
    let (what, command) = match (exchange, subscription) {
        (Some(plan), _) => (format!("an exchange '{}'", plan.name), format!("delete exchange {}", plan.name)),
        (None, Some(plan)) => {
            (format!("a subscription '{}'", plan.name), format!("unsubscribe {}", plan.name))
        }
        (None, None) => return Ok(()),
    };
    Err(Failure::new(format!("there is {what} already, and this demo would make and delete one"))
        .hint(format!("without --url the demo brings its own broker; `leveret {command}` takes this away")))
}

/// Messages of which the broker tells before the play has published any.
async fn told_before(play: &Play, asking: &Channel) -> Result<BTreeSet<String>, Failure> {
    let mut told = BTreeSet::new();
    for beat in play.scenes.iter().flat_map(|scene| &scene.beats) {
        if let Act::Receipts(id) = &beat.act {
            told.extend(asking.receipts(id).await?.journeys.into_iter().map(|journey| journey.id));
        }
    }
    Ok(told)
}

/// Deletes what the play has made.
async fn tidy(play: &Play, asking: &Channel) -> Result<(), Failure> {
    for plan in &play.subscriptions {
        asking.unsubscribe(plan.name).await?;
    }
    let exchanges = asking.list_exchanges().await?;
    for plan in play.exchanges.iter().filter(|plan| exchanges.iter().any(|entry| entry.name == plan.name)) {
        asking.keep_no_journeys(&JourneyScope::Exchange(plan.name.to_owned())).await?;
        asking.delete_exchange(plan.name, DeleteExchange::default()).await?;
    }
    Ok(())
}

struct Stage<'a> {
    play: &'a Play,
    options: Options,
    voice: Voice,
    /// Over which the stage itself asks.
    connection: Connection,
    asking: Channel,
    /// Messages that had the same ids, of an earlier performance on this broker: the ids that the broker made.
    told_before: BTreeSet<String>,
    child: Option<&'a mut ChildBroker>,
    /// While the broker is killed: what each connection tells, of which it is to be heard that it is back.
    killed: Option<Vec<Events>>,
    /// The id of the last message that is in a queue.
    last_message: Option<String>,
    players: BTreeMap<&'static str, Player>,
    said: Sender<Said>,
    heard: Receiver<Said>,
}

impl Stage<'_> {
    async fn run(&mut self) -> Result<(), Failure> {
        self.voice.title(self.play)?;
        for (number, scene) in (1..).zip(&self.play.scenes) {
            self.voice.scene(number, scene).await?;
            self.beats(number, scene).await?;
        }
        // Not for scripts: connections have other addresses each time.
        if self.options.shows != Shows::Script {
            let exchanges = self.play.exchanges.iter().map(|plan| plan.name.to_owned()).collect();
            let vhost = self.options.connect.vhost();
            let picture = draw::now(&self.asking, vhost, exchanges, self.voice.terminal()).await?;
            self.voice.text(&format!("\n{picture}")).await?;
        }
        self.check_silence().await?;
        self.voice.end().await
    }

    async fn beats(&mut self, number: usize, scene: &Scene) -> Result<(), Failure> {
        for beat in &scene.beats {
            let place = |failure: Failure| failure.detail(format!("in scene {number}, {}", scene.title));
            self.beat(beat).await.map_err(place)?;
        }
        Ok(())
    }

    async fn beat(&mut self, beat: &Beat) -> Result<(), Failure> {
        let answer = timeout(PATIENCE, self.act(&beat.act)).await;
        let answer = answer.map_err(|_| Failure::new("the broker does not answer"))??;
        if answer != beat.answer {
            let failure = Failure::new("the answer is not the expected one");
            let failure = in_details("answered", answer.as_deref(), failure);
            return Err(in_details("expected", beat.answer.as_deref(), failure));
        }
        let mut awaited = Awaited::of(self.play, beat);
        let deadline = Instant::now() + self.options.patience;
        while !awaited.is_over() {
            let Ok(said) = timeout_at(deadline, self.heard.recv()).await else {
                let missing = awaited.missing().map(|(actor, line)| format!("{actor} never said: {line}"));
                let failure =
                    Failure::new(format!("not all was heard within {} s", self.options.patience.as_secs()));
                return Err(missing.fold(failure, Failure::detail));
            };
            let Some(Said { actor, line }) = said else { return Err(Failure::new("nobody is there")) };
            let line = line?;
            if self.options.shows != Shows::Script {
                self.voice.line(actor, &line).await?;
            }
            awaited.hear(actor, &line).map_err(|unexpected| {
                let expected = unexpected.instead_of.unwrap_or_else(|| "nothing more".to_owned());
                Failure::new(format!("{actor} said what it should not"))
                    .detail(format!("said: {line}"))
                    .detail(format!("expected: {expected}"))
            })?;
        }
        if self.options.shows == Shows::Script {
            self.show_in_order(beat).await?;
        }
        Ok(())
    }

    /// Shows what was said, which is what was expected, actor by actor: who of them was faster is different each time.
    async fn show_in_order(&self, beat: &Beat) -> Result<(), Failure> {
        for actor in &self.play.actors {
            let lines = beat.heard.iter().filter(|(name, _)| *name == actor.name);
            for line in lines.flat_map(|(_, lines)| lines) {
                self.voice.line(actor.name, line).await?;
            }
        }
        Ok(())
    }

    /// Does something, shows it, and gives the answer.
    async fn act(&mut self, act: &Act) -> Result<Option<String>, Failure> {
        match act {
            Act::Start(actors) => {
                for actor in shuffled(actors, self.options.seed) {
                    self.start(actor).await?;
                }
                Ok(None)
            }
            Act::Leave(actor) => {
                self.voice.goes(actor).await?;
                let player = self.players.remove(actor).ok_or_else(|| not_there(actor))?;
                player.leave().await?;
                Ok(None)
            }
            Act::Publish(actor, event) => {
                let confirmed = self.play.confirmed;
                let answer = match self.player(actor)?.mouth.publish(event).await? {
                    Outcome::Confirmed(queues) => {
                        self.last_message = Some(event.id.clone());
                        confirmed(event, queues)
                    }
                    Outcome::Returned => {
                        format!("{}/{} came back: nobody listens to it", event.exchange, event.key)
                    }
                    Outcome::Refused(reason) => format!("refused: {reason}"),
                };
                self.voice.line(actor, &answer).await?;
                Ok(Some(answer))
            }
            Act::KillBroker => {
                if self.kill().await? {
                    self.revive().await?;
                }
                Ok(None)
            }
            Act::Settle(actor) => {
                self.player(actor)?.settle().await?;
                Ok(None)
            }
            Act::Listen(actor, name, places) => {
                let subscription = listening(Subscription::new(*name), places);
                self.player(actor)?.mouth.channel.declare_subscription(subscription).await?;
                let places: Vec<_> =
                    places.iter().map(|(exchange, key)| format!("{exchange}/{key}")).collect();
                let answer = format!("listens to {}", places.join(", "));
                self.voice.line(actor, &answer).await?;
                Ok(Some(answer))
            }
            Act::Look(name) => {
                let answer = self.look(name).await?;
                self.voice.note(&format!("subscription {name}: {answer}")).await?;
                Ok(Some(answer))
            }
            Act::Receipts(id) => {
                let told = self.asking.receipts(id).await?;
                receipts::check_found(&told, id)?;
                Ok(Some(self.tell_receipts(id, &told).await?))
            }
        }
    }

    /// Shows the receipts of what this performance has published under an id; in words.
    async fn tell_receipts(&self, id: &str, told: &Journeys) -> Result<String, Failure> {
        // In the order in which they were published.
        let journeys = told.journeys.iter().rev();
        let journeys: Vec<&Journey> =
            journeys.filter(|journey| !self.told_before.contains(&journey.id)).collect();
        let answer = receipts_in_words(&journeys);
        self.voice.note(&format!("receipts of {id}:")).await?;
        let terminal = self.voice.terminal();
        if terminal.columns.is_none() {
            self.voice.note(&answer).await?;
            return Ok(answer);
        }
        for journey in journeys {
            let table = receipts::table(&journey.receipts).render(terminal);
            self.voice.text(&format!("{}{table}", receipts::head(journey))).await?;
        }
        Ok(answer)
    }

    async fn start(&mut self, name: &'static str) -> Result<(), Failure> {
        self.voice.comes(name).await?;
        let actor =
            self.play.actors.iter().find(|actor| actor.name == name).ok_or_else(|| not_there(name))?;
        let player = Player::start(self.play, actor, self.options.connect.clone(), self.said.clone()).await?;
        self.players.insert(name, player);
        self.keep_journeys().await
    }

    async fn keep_journeys(&self) -> Result<(), Failure> {
        for plan in &self.play.exchanges {
            let rule = JourneyRule::new(JourneyScope::Exchange(plan.name.to_owned()));
            self.asking.keep_journeys(&rule).await?;
        }
        Ok(())
    }

    /// Kills the broker; whether there is one that may be killed.
    async fn kill(&mut self) -> Result<bool, Failure> {
        let Some(child) = &mut self.child else {
            self.voice.note("the broker is not killed: it is not the demo's own").await?;
            return Ok(false);
        };
        let connections = self.players.values().map(Player::connection).chain([&self.connection]);
        self.killed = Some(connections.map(Connection::events).collect());
        child.kill().await?;
        self.voice.note("the broker is killed: kill -9").await?;
        Ok(true)
    }

    /// Starts a broker that was killed, and waits until all who were there are back.
    async fn revive(&mut self) -> Result<(), Failure> {
        let (Some(child), Some(watched)) = (&mut self.child, self.killed.take()) else { return Ok(()) };
        child.start().await?;
        self.voice.note("the broker is started again").await?;
        let deadline = Instant::now() + self.options.patience;
        for mut events in watched {
            let is_back = async {
                while let Some(event) = events.next().await {
                    if matches!(event, Event::Reconnected { .. }) {
                        return true;
                    }
                }
                false
            };
            match timeout_at(deadline, is_back).await {
                Ok(true) => {}
                Ok(false) | Err(_) => return Err(Failure::new("somebody did not connect again")),
            }
        }
        Ok(())
    }

    fn player(&mut self, name: &str) -> Result<&mut Player, Failure> {
        self.players.get_mut(name).ok_or_else(|| not_there(name))
    }

    /// How it stands with a subscription, once the broker has noticed who is gone.
    async fn look(&self, name: &str) -> Result<String, Failure> {
        let waiting = ask_until(Instant::now() + self.options.patience, async || {
            let entries = self.asking.find_subscription(name).await?;
            let is_at_rest = entries.iter().all(|entry| entry.messages_unacknowledged == 0);
            let is_dark = is_at_rest && entries.iter().any(|entry| entry.dark_since.is_some());
            Ok(is_dark.then(|| entries.iter().map(|entry| entry.messages_ready).sum::<u64>()))
        });
        match waiting.await? {
            Some(waiting) => Ok(format!("dark, messages that wait: {waiting}")),
            None => Err(Failure::new(format!("subscription '{name}' is not dark, or not at rest"))),
        }
    }

    /// Fails if anybody has said something since, or something waits that nobody has taken.
    async fn check_silence(&mut self) -> Result<(), Failure> {
        self.check_nothing_left().await?;
        self.leave_all().await;
        match self.heard.try_recv() {
            Err(_) => Ok(()),
            Ok(Said { actor, line }) => {
                Err(Failure::new(format!("{actor} said something in the end")).detail(line?))
            }
        }
    }

    async fn check_nothing_left(&self) -> Result<(), Failure> {
        for plan in &self.play.subscriptions {
            for entry in self.asking.find_subscription(plan.name).await? {
                let left = entry.messages_ready + entry.messages_unacknowledged;
                if left > 0 {
                    return Err(Failure::new(format!("messages left in '{}': {left}", plan.name)));
                }
            }
        }
        Ok(())
    }

    async fn leave_all(&mut self) {
        for (_, player) in std::mem::take(&mut self.players) {
            // The play is over: whether its connection was closed properly changes nothing.
            let _ = player.leave().await;
        }
    }
}

/// Adds an answer, line by line.
fn in_details(what: &str, answer: Option<&str>, failure: Failure) -> Failure {
    let lines = answer.unwrap_or("nothing").lines();
    lines.fold(failure, |failure, line| failure.detail(format!("{what}: {line}")))
}

fn not_there(actor: &str) -> Failure {
    Failure::new(format!("{actor} is not there"))
}

/// Receipts without what is different each time: a line for each queue that a message was for.
fn receipts_in_words(journeys: &[&Journey]) -> String {
    let lines = journeys.iter().flat_map(|journey| {
        let mut rows: Vec<String> = journey
            .receipts
            .iter()
            .map(|receipt| {
                let (owner, state) = (receipts::owner(receipt), receipts::state(receipt));
                format!("{} for {owner}: {state}, sent {}", journey.routing_key, receipt.deliveries)
            })
            .collect();
        rows.sort();
        rows
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The names in an order that the seed decides (Fisher and Yates, with SplitMix64).
fn shuffled(names: &[&'static str], seed: u64) -> Vec<&'static str> {
    let mut names = names.to_vec();
    let mut state = seed;
    for end in (1..names.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        names.swap(end, (mixed % (end as u64 + 1)) as usize);
    }
    names
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cli::demo::chores;
    use crate::cli::demo::own_broker::OwnBroker;

    /// Chores with something changed: what the performance says.
    async fn perform_changed(patience: Duration, change: impl FnOnce(&mut Play)) -> Result<(), String> {
        let mut play = chores::play();
        change(&mut play);
        let broker = OwnBroker::start().await.unwrap();
        let print: Print = |_| Ok(());
        let options = Options { connect: broker.options(), shows: Shows::Script, seed: 1, patience, print };
        let performed = perform(&play, options, None, std::future::pending()).await;
        broker.stop().await.unwrap();
        performed.map_err(|failure| failure.to_string())
    }

    #[tokio::test]
    async fn a_play_fails_if_anything_is_not_as_it_expects() {
        assert_eq!(perform_changed(PATIENCE, |_| ()).await, Ok(()));
        type Change = fn(&mut Play);
        let changes: [(Change, &[&str]); 5] = [
            (
                |play| play.scenes[0].beats[1].answer = Some("added: c-1 cat".to_owned()),
                &["answered: added: c-1 dishes", "expected: added: c-1 cat", "in scene 1, chores are added"],
            ),
            (
                |play| play.scenes[1].beats[0].heard[0].1.swap(1, 3),
                &["ann said what it should not", "said: gets c-1 dishes", "expected: gets c-2 dog"],
            ),
            (
                |play| drop(play.scenes[2].beats[0].heard[0].1.pop()),
                &["ann said what it should not", "said: received: c-3", "expected: gets c-4 windows"],
            ),
            (|play| drop(play.scenes[4].beats.drain(2..)), &["messages left in 'chores.news': 1"]),
            (
                |play| play.scenes[4].beats[4].answer = None,
                &["answered: news for chores.news:ann: accepted, sent 1\n", "expected: nothing"],
            ),
        ];
        for (change, needles) in changes {
            let told = perform_changed(PATIENCE, change).await.unwrap_err();
            for needle in needles {
                assert!(told.contains(needle), "'{needle}' is not in: {told}");
            }
        }
    }

    #[tokio::test]
    async fn who_never_says_what_is_awaited_is_told() {
        // Nothing is ever said in this beat, however long one waits.
        let told = perform_changed(Duration::ZERO, |play| {
            play.scenes[0].beats[0].heard.push((chores::PARENT, vec!["hello".to_owned()]));
        });
        let told = told.await.unwrap_err();
        assert!(told.contains("parent never said: hello"), "{told}");
    }

    #[test]
    fn a_seed_is_an_order_and_each_order_has_a_seed() {
        let names = ["ann", "ben", "cleo"];
        assert_eq!(shuffled(&names, 7), shuffled(&names, 7));
        let orders: std::collections::BTreeSet<_> = (0..100).map(|seed| shuffled(&names, seed)).collect();
        assert_eq!(orders.len(), 6);
    }
}
