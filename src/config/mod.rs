//! What the broker is to do: defaults, then a TOML file, then the environment, then flags, checked and with the origin
//! of every value kept.
//!
//! Owns the list of keys ([`KEYS`]), their bounds, and what they mean together. Must never start anything, print
//! anything or guess: an unknown key and a value out of bounds are errors that say where they stand and what is right.
//! Start reading at [`KEYS`], the one table that reading, showing, the example and the flags are made from; then
//! [`Settings::read`], which applies the four layers, and [`Config`], what a program gets in the end.

mod effective;
mod error;
mod example;
mod file;
mod key;
mod machine;
mod settings;
#[cfg(test)]
mod tests;
mod value;

pub use effective::{
    Config, ConnectionLimits, FirstUser, LogFormat, LogLevel, LogOutput, Network, Place, Storage,
};
pub use error::{ConfigError, Problem};
pub use example::example;
pub use key::{Allowed, GROUPS, Group, KEYS, Key};
pub use machine::Machine;
pub use settings::{FILES, GivenBy, Setting, Settings, Sources};
pub use value::Value;
