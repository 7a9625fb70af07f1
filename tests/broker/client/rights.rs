//! Each administrative change, and what a connection that was open before may do next.

use leveret::client::{
    Binding, Channel, CloseReason, ConnectOptions, Connection, Consumer, Event, Exchange, ExchangeKind, Get,
    NewUser, Publisher, Queue, ReplyCode, RequestError, Status, Subscription,
};

use super::{connect, soon};
use crate::support::Broker;

/// What becomes of the open connection of a user.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// It goes on.
    Open { administers: bool },
    /// It is closed, with this in the reason.
    Closed(&'static str),
}

/// What is changed, by another administrator.
#[derive(Debug, Clone, Copy)]
enum Change {
    Nothing,
    UserDeleted,
    UserDeletedAndMadeAgain,
    AnotherUserDeleted,
    PasswordChanged,
    AdministratorMade,
    AdministratorTaken,
    AdministratorTakenWithAllVhosts,
    VhostGranted,
    VhostTaken,
    AllVhostsTaken,
    VhostDeleted,
    AnotherVhostDeleted,
    QueueDeleted,
}

const HOME: &str = "home";
const ELSEWHERE: &str = "elsewhere";

/// Ada as she is made.
fn ada(administrator: bool, vhosts: &[&str]) -> NewUser {
    let vhosts = vhosts.iter().map(|vhost| (*vhost).to_owned()).collect();
    NewUser { name: "ada".to_owned(), password: "s3cret".to_owned(), administrator, vhosts }
}

async fn make(change: Change, guest: &Channel, at_home: &Channel) {
    let done = async {
        match change {
            Change::Nothing => Ok(()),
            Change::UserDeleted => guest.delete_user("ada").await,
            Change::UserDeletedAndMadeAgain => {
                guest.delete_user("ada").await?;
                guest.put_user(ada(false, &[HOME])).await
            }
            Change::AnotherUserDeleted => guest.delete_user("bob").await,
            Change::PasswordChanged => {
                guest.put_user(NewUser { password: "changed".to_owned(), ..ada(false, &[HOME]) }).await
            }
            Change::AdministratorMade => guest.put_user(ada(true, &[HOME])).await,
            Change::AdministratorTaken => guest.put_user(ada(false, &[HOME])).await,
            Change::AdministratorTakenWithAllVhosts | Change::AllVhostsTaken => {
                guest.put_user(ada(false, &[])).await
            }
            Change::VhostGranted => guest.put_user(ada(false, &[HOME, ELSEWHERE])).await,
            Change::VhostTaken => guest.put_user(ada(false, &[ELSEWHERE])).await,
            Change::VhostDeleted => guest.delete_vhost(HOME).await,
            Change::AnotherVhostDeleted => guest.delete_vhost(ELSEWHERE).await,
            Change::QueueDeleted => at_home.delete_queue("other", Default::default()).await.map(drop),
        }
    };
    soon(done).await.unwrap();
}

/// A connection with everything open that somebody may use next.
struct Open {
    connection: Connection,
    channel: Channel,
    publisher: Publisher,
    consumer: Consumer,
}

impl Open {
    async fn new(broker: &Broker) -> Self {
        let connection = connect_as(broker, "ada:s3cret").await.unwrap();
        let channel = soon(connection.channel()).await.unwrap();
        for queue in ["q", "other"] {
            soon(channel.declare_queue(Queue::new(queue))).await.unwrap();
        }
        let publisher = soon(channel.publisher("", "q").open()).await.unwrap();
        let consumer = soon(channel.consume("q").start()).await.unwrap();
        Self { connection, channel, publisher, consumer }
    }

    /// All of it works, and administering if that is so.
    async fn goes_on(mut self, administers: bool, change: Change) {
        soon(self.publisher.publish("still here").await.unwrap()).await.unwrap();
        let delivery = soon(self.consumer.next()).await.unwrap().unwrap();
        assert_eq!(delivery.body(), "still here");
        soon(delivery.accept_stored()).await.unwrap();
        soon(self.channel.get("q", Get::default())).await.unwrap();
        soon(self.channel.declare_queue(Queue::new("new"))).await.unwrap();
        soon(self.channel.declare_exchange(Exchange::new("e", ExchangeKind::Topic))).await.unwrap();
        soon(self.channel.bind(Binding::to_queue("e", "new", "#"))).await.unwrap();
        soon(self.channel.declare_subscription(Subscription::new("s").listen("e", "#"))).await.unwrap();
        assert_eq!(soon(self.channel.list_subscriptions()).await.unwrap().len(), 1);
        soon(self.channel.unsubscribe("s")).await.unwrap();
        let administered = [
            soon(self.channel.list_users()).await.map(drop),
            soon(self.channel.put_vhost("hers")).await,
            soon(self.channel.put_user(NewUser { name: "eve".to_owned(), ..ada(true, &[]) })).await,
            soon(self.channel.delete_vhost("hers")).await,
            soon(self.channel.delete_user("eve")).await,
        ];
        for outcome in administered {
            match outcome {
                Ok(()) => assert!(administers, "{change:?}: it administers"),
                Err(RequestError::Refused(refusal)) if refusal.code == ReplyCode::AccessRefused => {
                    assert!(!administers, "{change:?}: {refusal}");
                }
                other => panic!("{change:?}: {other:?}"),
            }
        }
        assert!(matches!(self.connection.status(), Status::Connected));
        soon(self.connection.close()).await.unwrap();
    }

    /// Nothing of it works from the change on, and why is told.
    async fn finds_it_over(self, told: &str, change: Change) {
        let Self { connection, channel, publisher, mut consumer } = self;
        // Asked at once, before anything of the end was heard.
        let published = match publisher.publish("too late").await {
            Ok(confirm) => soon(confirm).await.is_ok(),
            Err(_) => false,
        };
        assert!(!published, "{change:?}: published all the same");
        let mut asked = vec![
            soon(channel.declare_queue(Queue::new("new"))).await.map(drop),
            soon(channel.declare_exchange(Exchange::new("e", ExchangeKind::Topic))).await,
            soon(channel.bind(Binding::to_queue("amq.topic", "q", "#"))).await,
            soon(channel.get("other", Get::default())).await.map(drop),
            soon(channel.declare_subscription(Subscription::new("s").listen("e", "#"))).await.map(drop),
            soon(channel.list_subscriptions()).await.map(drop),
            soon(channel.unsubscribe("s")).await.map(drop),
            soon(channel.list_queues()).await.map(drop),
            soon(channel.list_users()).await.map(drop),
            soon(channel.put_user(ada(true, &[HOME]))).await,
            soon(channel.consume("other").start()).await.map(drop),
            soon(connection.channel()).await.map(drop),
        ];
        asked.retain(|outcome| {
            !matches!(outcome, Err(RequestError::Closed(_) | RequestError::Disconnected(_)))
        });
        assert!(asked.is_empty(), "{change:?}: {asked:?}");
        while let Some(delivery) = soon(consumer.next()).await {
            assert!(delivery.is_err(), "{change:?}: a message came");
        }
        match connection.status() {
            Status::Closed(CloseReason::ByServer(Some(refusal))) => {
                assert!(refusal.text.contains(told), "{change:?}: {refusal}");
            }
            other => panic!("{change:?}: {other:?}"),
        }
    }
}

async fn connect_as(broker: &Broker, login: &str) -> Result<Connection, leveret::client::ConnectError> {
    let options: ConnectOptions = broker.url_as(login, HOME).parse().unwrap();
    soon(Connection::connect(options.no_reconnect())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_open_connection_may_do_after_each_change() {
    use Then::{Closed, Open as Goes};
    let table = [
        // Change, whether she is an administrator before it, what follows, whether she may log in as before.
        (Change::Nothing, false, Goes { administers: false }, true),
        (Change::Nothing, true, Goes { administers: true }, true),
        (Change::UserDeleted, false, Closed("user 'ada' was deleted"), false),
        (Change::UserDeleted, true, Closed("user 'ada' was deleted"), false),
        (Change::UserDeletedAndMadeAgain, false, Closed("user 'ada' was deleted"), true),
        (Change::AnotherUserDeleted, false, Goes { administers: false }, true),
        // As in RabbitMQ: a password is asked for at the door.
        (Change::PasswordChanged, false, Goes { administers: false }, false),
        (Change::AdministratorMade, false, Goes { administers: true }, true),
        (Change::AdministratorTaken, true, Goes { administers: false }, true),
        (Change::AdministratorTakenWithAllVhosts, true, Closed("ada"), false),
        (Change::VhostGranted, false, Goes { administers: false }, true),
        (Change::VhostTaken, false, Closed("ada"), false),
        (Change::VhostTaken, true, Closed("ada"), false),
        (Change::AllVhostsTaken, false, Closed("ada"), false),
        (Change::VhostDeleted, false, Closed("vhost 'home' was deleted"), false),
        (Change::VhostDeleted, true, Closed("vhost 'home' was deleted"), false),
        (Change::AnotherVhostDeleted, false, Goes { administers: false }, true),
        (Change::QueueDeleted, false, Goes { administers: false }, true),
    ];
    let broker = Broker::start();
    let (_connection, guest) = connect(&broker).await;
    for (change, administrator, then, may_log_in) in table {
        for vhost in [HOME, ELSEWHERE] {
            soon(guest.put_vhost(vhost)).await.unwrap();
        }
        soon(guest.put_user(NewUser { name: "bob".to_owned(), ..ada(false, &[HOME]) })).await.unwrap();
        soon(guest.put_user(ada(administrator, &[HOME]))).await.unwrap();
        let guest_at_home = connect_as(&broker, "guest:guest").await.unwrap();
        let at_home = soon(guest_at_home.channel()).await.unwrap();
        let open = Open::new(&broker).await;
        make(change, &guest, &at_home).await;
        match then {
            Goes { administers } => open.goes_on(administers, change).await,
            Closed(told) => {
                open.finds_it_over(told, change).await;
                if !matches!(change, Change::VhostDeleted) {
                    let queue = soon(at_home.find_queue("q")).await.unwrap().unwrap();
                    assert_eq!((queue.messages_ready, queue.consumers), (0, 0), "{change:?}");
                    assert!(soon(at_home.find_queue("new")).await.unwrap().is_none(), "{change:?}");
                }
                let users = soon(guest.list_users()).await.unwrap();
                let is_administrator = users.iter().any(|user| user.name == "ada" && user.administrator);
                assert!(!is_administrator || matches!(change, Change::VhostDeleted), "{change:?}");
            }
        }
        assert_eq!(connect_as(&broker, "ada:s3cret").await.is_ok(), may_log_in, "{change:?}");
        // What was made is not in the way of the next.
        soon(guest.delete_vhost(HOME)).await.unwrap();
    }
}

/// A client that comes back by itself does not knock for ever at a door that stays shut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_shut_out_is_told_once_and_does_not_try_again() {
    let broker = Broker::start();
    let (_connection, guest) = connect(&broker).await;
    soon(guest.put_vhost(HOME)).await.unwrap();
    soon(guest.put_user(ada(false, &[HOME]))).await.unwrap();
    let options: ConnectOptions = broker.url_as("ada:s3cret", HOME).parse().unwrap();
    let connection = soon(Connection::connect(options)).await.unwrap();
    let mut events = connection.events();
    soon(guest.delete_user("ada")).await.unwrap();
    soon(async {
        while let Some(event) = events.next().await {
            assert!(!matches!(event, Event::Reconnected { .. }), "{event:?}");
        }
    })
    .await;
    assert!(matches!(connection.status(), Status::Closed(_)), "{:?}", connection.status());
}
