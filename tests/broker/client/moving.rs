//! Taking out what was published elsewhere: exactly that, and nothing that a consumer has.

use leveret::client::{
    Browse, BrowsedPage, Channel, Get, Message, Queue, QueueEntry, ReplyCode, RequestError,
};

use super::{connect, soon};
use crate::support::Broker;

async fn beginning(broker: &Broker, messages: u64) -> (leveret::client::Connection, Channel, BrowsedPage) {
    let (connection, channel) = connect(broker).await;
    channel.declare_queue(Queue::new("q")).await.unwrap();
    let publisher = channel.publisher("", "q").open().await.unwrap();
    for number in 1..=messages {
        soon(publisher.send(Message::new(number.to_string()))).await.unwrap();
    }
    soon(publisher.wait_for_all()).await.unwrap();
    let page = soon(channel.browse(Browse::new("q")).next_page()).await.unwrap().unwrap();
    (connection, channel, page)
}

async fn queue(channel: &Channel) -> QueueEntry {
    soon(channel.find_queue("q")).await.unwrap().unwrap()
}

#[tokio::test]
async fn what_a_consumer_has_or_had_is_not_taken_out() {
    let broker = Broker::start();
    let (_connection, channel, page) = beginning(&broker, 6).await;
    let sequences: Vec<u64> = page.messages.iter().map(|message| message.sequence).collect();
    let got = soon(channel.get("q", Get { no_ack: true })).await.unwrap().unwrap();
    assert_eq!(&got.delivery.body()[..], b"1");
    let held = soon(channel.get("q", Get::default())).await.unwrap().unwrap();
    let back = soon(channel.get("q", Get::default())).await.unwrap().unwrap();
    back.delivery.requeue().unwrap();

    let named = [&sequences[..4], &[sequences[5] + 1000, u64::MAX]].concat();
    let others = soon(channel.remove_moved("q", page.queue_id, &named)).await.unwrap();
    assert_eq!(others, [sequences[0], sequences[1], sequences[5] + 1000, u64::MAX]);
    let numbers = queue(&channel).await;
    assert_eq!((numbers.messages_ready, numbers.messages_unacknowledged, numbers.moved_total), (2, 1, 2));
    assert_eq!(&held.delivery.body()[..], b"2");
    soon(held.delivery.accept_stored()).await.unwrap();
    let next = soon(channel.get("q", Get { no_ack: true })).await.unwrap().unwrap();
    assert_eq!(&next.delivery.body()[..], b"5", "3 and 4 were moved");
}

#[tokio::test]
async fn requests_that_name_nothing_or_another_queue_are_refused_and_change_nothing() {
    let broker = Broker::start();
    let (_connection, channel, page) = beginning(&broker, 3).await;
    let id = page.queue_id;
    let many: Vec<u64> = (0..5000).collect();
    let (_other, theirs) = connect(&broker).await;
    channel.declare_queue(Queue::new("mine").exclusive()).await.unwrap();
    for (by, name, id, sequences, expected) in [
        (&channel, "q", id, &[][..], ReplyCode::PreconditionFailed),
        (&channel, "q", id, &many[..], ReplyCode::PreconditionFailed),
        (&channel, "q", id + 1, &many[..3], ReplyCode::NotFound),
        (&channel, "q", 0, &many[..3], ReplyCode::NotFound),
        (&channel, "nowhere", id, &many[..3], ReplyCode::NotFound),
        (&theirs, "mine", id, &many[..3], ReplyCode::ResourceLocked),
    ] {
        let refused = soon(by.remove_moved(name, id, sequences)).await;
        let Err(RequestError::Refused(refusal)) = refused else { panic!("{name}, {id}: {refused:?}") };
        assert_eq!(refusal.code, expected, "{name}, {id}, {}", sequences.len());
    }
    assert_eq!(queue(&channel).await.messages_ready, 3);
}
