//! The protocol as a state machine: what a frame means in the state a connection is in.
//!
//! Owns the order of the handshake, which channels are open, which numbers publishers and consumers have, which limits were agreed on, and the checks that need
//! nothing but the frame. Must never touch a socket, a clock or the broker: frames go in, answers and [`Action`]s come
//! out. Start reading at [`Connection::receive`].

mod action;
mod answer;
mod channels;
mod connection;
mod login;
mod negotiate;

pub use action::{Action, PublishTo};
pub use answer::{put_done, put_error, put_refused};
pub use connection::{Connection, Stage};
pub use login::Login;
pub use negotiate::Limits;
