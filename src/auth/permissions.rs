//! What a user may do in a vhost: to exchanges and queues by their names, under topic exchanges by routing keys.

use std::fmt;

use super::pattern::{PATTERN_BYTES_MAX, Pattern, PatternRefused};
use crate::model::{UserName, VhostName};

/// A kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Make and delete it.
    Configure,
    /// Put messages in, or lead them there.
    Write,
    /// Take messages out, or lead them on.
    Read,
}

impl Permission {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which exchanges and queues of one vhost somebody may make, write to and read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// Names of what may be made and deleted.
    pub configure: Pattern,
    /// Names of exchanges that may be published to and led on to, and of queues that may be led to.
    pub write: Pattern,
    /// Names of queues that may be taken from, and of exchanges that may be led from.
    pub read: Pattern,
}

impl Permissions {
    /// All of them.
    pub fn everything() -> Self {
        let all = Pattern::everything();
        Self { configure: all.clone(), write: all.clone(), read: all }
    }

    /// Whether they are written so that every name matches each.
    pub fn is_everything(&self) -> bool {
        [&self.configure, &self.write, &self.read].into_iter().all(Pattern::is_everything)
    }

    /// The pattern for a kind of operation.
    pub fn pattern(&self, permission: Permission) -> &Pattern {
        match permission {
            Permission::Configure => &self.configure,
            Permission::Write => &self.write,
            Permission::Read => &self.read,
        }
    }
}

/// Which routing keys somebody may use with one topic exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPermissions {
    /// Keys to publish under.
    pub write: Pattern,
    /// Keys to bind with.
    pub read: Pattern,
}

/// A pattern of a user for routing keys in a vhost, in which `{username}` and `{vhost}` stand for their names, letter by letter:
/// a name with a dot in it matches that dot alone. `{client_id}` stands for itself: as in RabbitMQ, clients have none unless they
/// speak MQTT.
///
/// # Errors
/// If it is too long, too complex or no regular expression.
pub fn topic_pattern(source: &str, user: &UserName, vhost: &VhostName) -> Result<Pattern, PatternRefused> {
    let bytes = source.len();
    if bytes > PATTERN_BYTES_MAX {
        return Err(PatternRefused::Length { bytes });
    }
    let variables = [("{username}", user.as_str()), ("{vhost}", vhost.as_str()), (CLIENT_ID, CLIENT_ID)];
    let mut expression = String::with_capacity(source.len());
    let mut rest = source;
    // One pass, so that a name that looks like a variable stays a name.
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        expression.push_str(before);
        rest = match variables.into_iter().find(|(variable, _)| from.starts_with(variable)) {
            Some((variable, value)) => {
                expression.push_str(&regex::escape(value));
                &from[variable.len()..]
            }
            None => {
                expression.push('{');
                &from[1..]
            }
        };
    }
    expression.push_str(rest);
    Pattern::compiled(source, &expression)
}

/// The variable that clients will have a value for that speak a protocol with such ids.
const CLIENT_ID: &str = "{client_id}";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn matches(pattern: &str, user: &str, key: &str) -> bool {
        let (user, vhost) = (UserName::new(user).unwrap(), VhostName::new("shop").unwrap());
        topic_pattern(pattern, &user, &vhost).unwrap().matches(key)
    }

    #[test]
    fn variables_stand_for_who_uses_it() {
        assert!(matches("^{username}\\.", "ada", "ada.x"));
        assert!(!matches("^{username}\\.", "ada", "bob.x"));
        assert!(matches("^{vhost}\\.{username}$", "ada", "shop.ada"));
        assert!(matches("^dev-{client_id}$", "ada", "dev-{client_id}"));
        assert!(!matches("^dev-{client_id}$", "ada", "dev-ada"));
        assert!(matches("^a{2}$", "ada", "aa"), "other braces are a pattern's own");
    }

    #[test]
    fn names_are_taken_by_the_letter() {
        assert!(matches("^{username}$", "a.b", "a.b"));
        assert!(!matches("^{username}$", "a.b", "axb"));
        assert!(!matches("^{username}$", ".*", "anything"));
        assert!(!matches("{username}", ".*", "anything"), "not even alone");
        assert!(matches("^{username}$", "{vhost}", "{vhost}"));
        assert!(!matches("^{username}$", "{vhost}", "shop"));
    }

    #[test]
    fn what_is_no_pattern_is_refused_when_it_is_made() {
        let (user, vhost) = (UserName::new("ada").unwrap(), VhostName::new("/").unwrap());
        let refused = |source: &str| topic_pattern(source, &user, &vhost).unwrap_err();
        assert!(matches!(refused("{username}("), PatternRefused::Syntax(_)));
        assert!(matches!(refused("a{user}"), PatternRefused::Syntax(_)));
        assert_eq!(refused(&"a".repeat(1025)), PatternRefused::Length { bytes: 1025 });
    }

    #[test]
    fn every_kind_of_operation_has_its_pattern() {
        let pattern = |text: &str| Pattern::new(text).unwrap();
        let permissions = Permissions { configure: pattern("c"), write: pattern("w"), read: pattern("r") };
        for (permission, expected) in
            [(Permission::Configure, "c"), (Permission::Write, "w"), (Permission::Read, "r")]
        {
            assert_eq!(permissions.pattern(permission).as_str(), expected);
        }
        assert!(Permissions::everything().is_everything() && !permissions.is_everything());
    }
}
