//! A play in panes: scenes one after the other, until whoever watches takes over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{Instant, MissedTickBehavior, timeout};

use super::{LINES_MAX, Stage, not_there};
use crate::cli::demo::actor::{Said, listening};
use crate::cli::demo::lines::Lines;
use crate::cli::demo::panes::{Shown, View, Wish};
use crate::cli::demo::patience::ask_until;
use crate::cli::demo::play::{Act, Does, Key, Place};
use crate::cli::demo::voice::Voice;
use crate::cli::draw;
use crate::cli::failure::Failure;
use crate::cli::receipts;
use crate::client::Subscription;

/// From one event that comes by itself to the next.
const EVENT_INTERVAL: Duration = Duration::from_millis(1500);

/// Keys that were pressed and are not done yet.
const WISHES_MAX: usize = 8;

/// Longest time for the picture and the receipts in the end.
const FAREWELL_MAX: Duration = Duration::from_secs(10);

/// What was done by hand.
#[derive(Default)]
struct Hand {
    is_paused: bool,
    /// Events that came by themselves.
    events: u64,
    /// How often each key has published.
    published: BTreeMap<char, u64>,
    /// Keys that were pressed to switch something, and not yet pressed again.
    switched: BTreeSet<char>,
}

impl Stage<'_> {
    /// Performs before somebody who presses keys, until that is enough. In the end there is the picture, and how it stands with
    /// the last message.
    pub(super) async fn perform_in_panes(
        &mut self,
        interrupted: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        let (show, shown) = channel(LINES_MAX);
        let (wish, mut wishes) = channel(WISHES_MAX);
        let vhost = self.options.connect.vhost();
        let mut view = View::open(self.play, vhost, self.connection.channel().await?, shown, wish).await?;
        self.voice = Voice::Panes(show);
        let result = tokio::select! {
            result = self.play_on(&mut wishes) => result,
            result = view.watch() => result,
            () = interrupted => Ok(()),
        };
        drop(view);
        // The terminal may have another size now.
        self.voice = Voice::Lines(Lines::new(self.play, false, self.options.print));
        let farewell = timeout(FAREWELL_MAX, self.farewell()).await;
        let farewell = farewell.unwrap_or_else(|_| Err(Failure::new("the broker does not answer any more")));
        result.and(farewell)
    }

    /// Scene by scene, and then by hand; by hand at once if somebody does not wait for the end.
    async fn play_on(&mut self, wishes: &mut Receiver<Wish>) -> Result<(), Failure> {
        for (number, scene) in (1..).zip(&self.play.scenes) {
            self.voice.scene(number, scene).await?;
            match wishes.recv().await {
                Some(Wish::Next) => {}
                Some(wish) => return self.by_hand(wish, wishes).await,
                None => return Ok(()),
            }
            self.voice.show(Shown::Plays).await;
            self.beats(number, scene).await?;
        }
        self.check_nothing_left().await?;
        self.voice.end().await?;
        self.voice.show(Shown::End).await;
        match wishes.recv().await {
            Some(wish) => self.by_hand(wish, wishes).await,
            None => Ok(()),
        }
    }

    /// Events come by themselves, and keys do something. Ends when no more wishes can come.
    async fn by_hand(&mut self, first: Wish, wishes: &mut Receiver<Wish>) -> Result<(), Failure> {
        self.voice.show(Shown::ByHand).await;
        self.all_as_planned().await?;
        let mut hand = Hand::default();
        self.fulfil(first, &mut hand).await?;
        let mut events = tokio::time::interval(EVENT_INTERVAL);
        events.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let goes_on = !hand.is_paused && self.killed.is_none();
            tokio::select! {
                Some(Said { actor, line }) = self.heard.recv() => self.voice.line(actor, &line?).await?,
                wish = wishes.recv() => match wish {
                    Some(wish) => self.fulfil(wish, &mut hand).await?,
                    None => return Ok(()),
                },
                _ = events.tick(), if goes_on => {
                    hand.events += 1;
                    let (actors, event) = (self.play.by_hand.goes_on)(hand.events);
                    // If none of them is there nothing happens.
                    if let Some(actor) = actors.iter().find(|actor| self.players.contains_key(*actor)) {
                        self.act(&Act::Publish(actor, event)).await?;
                    }
                }
            }
        }
    }

    /// Everybody is there, and listens to what the play says, whatever scenes have made of that.
    async fn all_as_planned(&mut self) -> Result<(), Failure> {
        let missing = self.play.actors.iter().map(|actor| actor.name);
        let missing: Vec<_> = missing.filter(|name| !self.players.contains_key(name)).collect();
        for name in missing {
            self.start(name).await?;
        }
        for plan in self.play.subscriptions.iter().filter(|plan| plan.members.is_empty()) {
            let subscription = listening(Subscription::new(plan.name), plan.listens);
            self.asking.declare_subscription(subscription).await?;
        }
        Ok(())
    }

    async fn fulfil(&mut self, wish: Wish, hand: &mut Hand) -> Result<(), Failure> {
        let number = match wish {
            Wish::Next => return Ok(()),
            Wish::Pause => {
                hand.is_paused = !hand.is_paused;
                self.voice.show(Shown::Paused(hand.is_paused)).await;
                return Ok(());
            }
            Wish::Do(number) => number,
        };
        let play = self.play;
        let Some(Key { letter, does, .. }) = play.by_hand.keys.get(number) else { return Ok(()) };
        if self.killed.is_some() && !matches!(does, Does::KillBroker) {
            return self.voice.note("not while the broker is dead").await;
        }
        match does {
            Does::TakeAway(actors) => self.take_away(actors).await,
            Does::Publish(actor, event) => {
                let number = hand.published.entry(*letter).or_default();
                *number += 1;
                let event = event(*number);
                self.if_there(actor, Act::Publish(actor, event)).await.map(|_| ())
            }
            Does::Switch(actor, name, on, off) => {
                let is_on = hand.switched.contains(letter);
                let places: &[Place] = if is_on { off } else { on };
                if self.if_there(actor, Act::Listen(actor, name, places.to_vec())).await? {
                    match is_on {
                        true => hand.switched.remove(letter),
                        false => hand.switched.insert(*letter),
                    };
                }
                Ok(())
            }
            Does::KillBroker => self.kill_or_start().await,
        }
    }

    async fn take_away(&mut self, actors: &[&'static str]) -> Result<(), Failure> {
        match actors.iter().find(|actor| self.players.contains_key(*actor)) {
            Some(actor) => self.act(&Act::Leave(actor)).await.map(|_| ()),
            None => {
                for actor in actors {
                    self.start(actor).await?;
                }
                Ok(())
            }
        }
    }

    /// Lets an actor do something; whether it is there to do it.
    async fn if_there(&mut self, actor: &'static str, act: Act) -> Result<bool, Failure> {
        if !self.players.contains_key(actor) {
            self.voice.note(&not_there(actor).text()).await?;
            return Ok(false);
        }
        self.act(&act).await.map(|_| true)
    }

    async fn kill_or_start(&mut self) -> Result<(), Failure> {
        if self.killed.is_some() {
            self.revive().await?;
            self.voice.show(Shown::Broker(true)).await;
            return self.voice.note("everybody is connected again").await;
        }
        if self.kill().await? {
            self.voice.show(Shown::Broker(false)).await;
        }
        Ok(())
    }

    /// What is left in the end, to be looked at.
    async fn farewell(&mut self) -> Result<(), Failure> {
        self.voice.title(self.play)?;
        if let Some(child) = &mut self.child
            && !child.is_running()
        {
            child.start().await?;
            self.voice.note("the broker is started again: this is what it has kept").await?;
        }
        let exchanges: Vec<_> = self.play.exchanges.iter().map(|plan| plan.name.to_owned()).collect();
        let (vhost, terminal) = (self.options.connect.vhost(), self.voice.terminal());
        // It may take a moment until the connection is back.
        let picture = ask_until(Instant::now() + FAREWELL_MAX / 2, async || {
            Ok(draw::now(&self.asking, vhost, exchanges.clone(), terminal).await.ok())
        });
        let picture = picture.await?;
        let picture =
            picture.ok_or_else(|| Failure::new("the broker does not answer: there is no picture"))?;
        self.voice.text(&picture).await?;
        let Some(id) = self.last_message.clone() else {
            return self.voice.note("nothing was published").await;
        };
        let told = self.asking.receipts(&id).await?;
        match receipts::check_found(&told, &id) {
            Ok(()) => self.tell_receipts(&id, &told).await.map(|_| ()),
            Err(failure) => self.voice.note(&failure.text()).await,
        }
    }
}
