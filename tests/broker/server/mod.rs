//! The server as its clients see it, frame by frame: the protocol's rules, and what does not keep to them.

mod blocking;
mod bounds;
mod browsing;
mod channels;
mod consuming;
mod hand_over;
mod hostile;
mod login;
mod page;
mod publishing;
mod sessions;
mod stopping;
mod support;
mod topology;
