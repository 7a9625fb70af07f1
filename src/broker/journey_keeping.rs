//! Journeys on disk: read before the shards start, and written beside everything else.

use std::future::poll_fn;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use super::broker::Broker;
use super::catalog::{Catalog, Surroundings};
use super::options::BrokerOptions;
use super::platform::Platform;
use crate::journey::{Event, Folder, Found, Journeys, Unfinished, What};
use crate::model::{JourneyNumber, Timestamp};
use crate::shard::{DiskGauge, run_blocking};
use crate::storage::DataDirectory;

/// The folder in the data directory.
pub(in crate::broker) const JOURNEYS_DIRECTORY: &str = "journeys";
/// What happens in such a time is written together: so much a crash may cost.
const WRITE_EVERY: Duration = Duration::from_millis(100);
/// After the disk has failed it is tried again when so much time has passed.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// The store, and stories that go on. What is wrong with what was kept is told, and keeps nobody from starting.
pub(super) fn open_journeys(
    platform: &Platform,
    options: &BrokerOptions,
    directory: Option<&DataDirectory>,
) -> (Journeys, Unfinished) {
    let first = JourneyNumber::first_at((platform.clock)());
    let folder = directory.map(|directory| directory.path().join(JOURNEYS_DIRECTORY));
    let (Some(bytes_max), Some(folder)) = (options.journey_disk_bytes_max, &folder) else {
        if options.journey_disk_bytes_max.is_some() {
            tracing::warn!("journeys are kept in memory: without a data directory there is no disk for them");
        }
        if let Some(folder) = folder {
            tell_of_those_left(platform, &folder);
        }
        return (Journeys::new(options.journey_bytes_max, first), Unfinished::default());
    };
    let (folder, found) = Folder::open(Arc::clone(&platform.disk), folder, bytes_max);
    let Found { told, unfinished, end_number, next_index } = found;
    told.iter().for_each(|what| tracing::warn!("journeys: {what}"));
    // The clock may have been put back.
    let first = first.max(JourneyNumber(end_number));
    (Journeys::on_disk(options.journey_bytes_max, first, folder, next_index), unfinished)
}

fn tell_of_those_left(platform: &Platform, folder: &Path) {
    let bytes = Folder::bytes_in(&*platform.disk, folder);
    if bytes > 0 {
        tracing::info!(
            "{bytes} bytes of journeys in {} are left as they are: with journey_store = \"memory\" they are not read. With \
             \"disk\" they are told again; the folder may be removed while the broker is stopped",
            folder.display()
        );
    }
}

/// Tells of messages that no shard has taken up: of those that went with queues that are no more, and of those of which
/// not everything was written. Then all is on disk that is known so far, before anything new happens.
pub(super) fn settle_strays(
    journeys: &Journeys,
    unfinished: &Unfinished,
    catalog: &Catalog,
    surroundings: &Surroundings,
    now: Timestamp,
) {
    let queues = catalog.vhosts.values().flat_map(|vhost| vhost.queues.values());
    let known: std::collections::BTreeSet<_> = queues.map(|queue| queue.id).collect();
    let mut events = Vec::new();
    for stray in unfinished.strays() {
        let queue = stray.queue;
        let what = match known.contains(&queue) {
            // It may be repaired, and then tell.
            true if stray.shard.is_some_and(|shard| surroundings.failed_shards.contains_key(&shard)) => {
                continue;
            }
            true => What::Missed { queue },
            false => What::QueueDeleted { queue },
        };
        push(&mut events, (stray.number, stray.number + stray.count), now, &what);
    }
    if let Some(range) = unfinished.left_out() {
        push(&mut events, range, now, &What::Unwatched);
    }
    journeys.tell(&mut events);
    if let Err(error) = journeys.write_out() {
        tracing::warn!("journeys of before cannot be gone on with on disk: {error}");
    }
}

fn push(events: &mut Vec<Event>, (mut first, end): (u64, u64), at: Timestamp, what: &What) {
    while first < end {
        let count = u32::try_from(end - first).unwrap_or(u32::MAX);
        events.push(Event { first, count, at, what: what.clone() });
        first += u64::from(count);
    }
}

/// Writes what happens, as long as there is a broker. While the disk fails, or has no room to spare, journeys are in memory
/// alone, which is told once.
pub(super) async fn keep_journeys_on_disk(
    platform: Platform,
    journeys: Weak<Journeys>,
    gauge: Weak<DiskGauge>,
) {
    let mut is_failing = false;
    loop {
        let unwritten = poll_fn(|context| match journeys.upgrade() {
            Some(journeys) => journeys.poll_unwritten(context).map(|()| true),
            None => Poll::Ready(false),
        });
        if !unwritten.await {
            return;
        }
        platform.workers.sleep(WRITE_EVERY).await;
        let (Some(journeys), Some(gauge)) = (journeys.upgrade(), gauge.upgrade()) else { return };
        let why = match gauge.reason() {
            Some(reason) => Some(reason),
            None => match run_blocking(&platform.workers, move || journeys.write_out()).await {
                Some(written) => written.err().map(|error| error.to_string()),
                None => return,
            },
        };
        match why {
            None if is_failing => {
                is_failing = false;
                tracing::info!("journeys are kept on disk again");
            }
            None => {}
            Some(why) => {
                if !is_failing {
                    is_failing = true;
                    tracing::warn!(
                        "journeys are kept in memory alone, until they can be written again: {why}"
                    );
                }
                drop(gauge);
                platform.workers.sleep(TRY_AGAIN).await;
            }
        }
    }
}

impl Broker {
    /// All that was told is on disk. That it is not keeps nobody from stopping.
    pub(super) async fn close_journeys(&self) {
        if self.shared.options.journey_disk_bytes_max.is_none() {
            return;
        }
        let journeys = Arc::clone(&self.shared.gauges.journeys);
        let closed = run_blocking(&self.shared.platform.workers, move || journeys.close()).await;
        // It tells of a panic itself.
        if let Some(Err(error)) = closed {
            tracing::warn!("the last journeys could not be written: {error}");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;

    use super::*;
    use crate::broker::Workers;
    use crate::model::QueueId;
    use crate::storage::Disk as _;
    use crate::storage::testing::MemoryDisk;

    /// Work is done at once, and time passes as soon as all others have had their turn.
    struct Hasty;

    impl Workers for Hasty {
        fn run(&self, work: Box<dyn FnOnce() + Send>) {
            work();
        }

        fn run_later(&self, _pause: Duration, work: Box<dyn FnOnce() + Send>) {
            work();
        }

        fn sleep(&self, _pause: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(tokio::task::yield_now())
        }
    }

    fn something(journeys: &Journeys) {
        let what = What::Left { queue: QueueId(1), departure: crate::queue::Departure::Accepted };
        journeys.tell(&mut vec![Event { first: 1, count: 1, at: Timestamp(1), what }]);
    }

    async fn others_take_turns() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_happens_is_written_unless_there_is_no_room_and_then_when_there_is_again() {
        let disk = MemoryDisk::new();
        let platform = Platform { workers: Arc::new(Hasty), ..Platform::on(Arc::new(disk.clone())) };
        let place = Path::new("/journeys");
        disk.create_directory(place).unwrap();
        let (folder, _) = Folder::open(Arc::new(disk.clone()), place, 1024 * 1024);
        let journeys = Arc::new(Journeys::on_disk(1024 * 1024, JourneyNumber(1), folder, 0));
        let gauge = Arc::new(DiskGauge::default());
        let (weak, weak_gauge) = (Arc::downgrade(&journeys), Arc::downgrade(&gauge));
        let task = tokio::spawn(keep_journeys_on_disk(platform, weak, weak_gauge));
        others_take_turns().await;
        assert_eq!(journeys.bytes_on_disk(), 0, "nothing has happened");
        something(&journeys);
        others_take_turns().await;
        let written = journeys.bytes_on_disk();
        assert!(written > 0);

        // What is left of the disk is for messages.
        gauge.note_free(Some("too little is free".to_owned()));
        something(&journeys);
        others_take_turns().await;
        assert_eq!(journeys.bytes_on_disk(), written);
        gauge.note_free(None);
        others_take_turns().await;
        let written_then = journeys.bytes_on_disk();
        assert!(written_then > written);

        disk.set_capacity(Some(usize::try_from(written_then).unwrap()));
        something(&journeys);
        others_take_turns().await;
        assert_eq!(journeys.bytes_on_disk(), written_then);
        disk.set_capacity(None);
        others_take_turns().await;
        assert!(journeys.bytes_on_disk() > written_then);
        assert_eq!(journeys.held().1, 3, "memory has them, too");

        drop(journeys);
        task.await.unwrap();
    }
}
