//! Where and how to connect.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::model::without_line_end;

/// Default port.
pub const PORT: u16 = 7672;

/// Where to connect, as whom, and what to do when the connection breaks.
///
/// ```
/// use leveret::client::ConnectOptions;
///
/// let options: ConnectOptions = "leveret://me:secret@broker.example:7672/shop".parse()?;
/// assert_eq!(options.vhost(), "shop");
/// # Ok::<(), leveret::client::UrlError>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct ConnectOptions {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) vhost: String,
    pub(crate) connection_name: String,
    pub(crate) heartbeat_seconds: u32,
    pub(crate) frame_bytes_max: u32,
    pub(crate) channel_max: u32,
    pub(crate) connect_timeout: Duration,
    pub(crate) reconnect: Option<Backoff>,
    pub(crate) retry_first: Option<Backoff>,
}

/// How to connect again: the delay doubles from `delay_first` to `delay_max`, each one shortened at random by up to
/// half so that clients do not come back in step.
#[derive(Debug, Clone, PartialEq)]
pub struct Backoff {
    /// Before the second attempt (the first comes at once).
    pub delay_first: Duration,
    /// The longest delay.
    pub delay_max: Duration,
    /// Give up after so many attempts.
    pub attempts_max: u32,
    /// Give up when so much time has passed since the connection broke.
    pub give_up_after: Duration,
}

impl Default for Backoff {
    /// From 50 ms up to 5 s, for 10 minutes at most.
    fn default() -> Self {
        Self {
            delay_first: Duration::from_millis(50),
            delay_max: Duration::from_secs(5),
            attempts_max: u32::MAX,
            give_up_after: Duration::from_secs(600),
        }
    }
}

impl Default for ConnectOptions {
    /// `leveret://guest:guest@127.0.0.1:7672/`, connecting again when the connection breaks.
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: PORT,
            user: "guest".to_owned(),
            password: "guest".to_owned(),
            vhost: "/".to_owned(),
            connection_name: String::new(),
            heartbeat_seconds: 0,
            frame_bytes_max: 0,
            channel_max: 0,
            connect_timeout: Duration::from_secs(10),
            reconnect: Some(Backoff::default()),
            retry_first: None,
        }
    }
}

impl ConnectOptions {
    /// The vhost.
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// The user.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// `host:port`, with brackets around an IPv6 address.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Another host, by name or address.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// Another port.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Who connects.
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = user.into();
        self.password = password.into();
        self
    }

    /// The vhost to work in.
    pub fn in_vhost(mut self, vhost: impl Into<String>) -> Self {
        self.vhost = vhost.into();
        self
    }

    /// A name for people who look at lists of connections. At most 255 bytes.
    pub fn connection_name(mut self, name: impl Into<String>) -> Self {
        self.connection_name = name.into();
        self
    }

    /// Seconds between signs of life; 0: as the server wishes. The smaller wish of both ends wins.
    pub fn heartbeat_seconds(mut self, seconds: u32) -> Self {
        self.heartbeat_seconds = seconds;
        self
    }

    /// Largest frame to take, in bytes; 0: what the server offers. A larger message cannot be received.
    pub fn frame_bytes_max(mut self, bytes: u32) -> Self {
        self.frame_bytes_max = bytes;
        self
    }

    /// Highest channel number to use; 0: what the server offers.
    pub fn channel_max(mut self, channels: u32) -> Self {
        self.channel_max = channels;
        self
    }

    /// Time for connecting and logging in, for each attempt.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How to connect again.
    pub fn reconnect(mut self, backoff: Backoff) -> Self {
        self.reconnect = Some(backoff);
        self
    }

    /// Try the first connection, too, more than once: a program may start before its broker does. Without this it is tried
    /// once. What another attempt cannot change, such as a wrong password, fails at once in any case.
    pub fn retry_first(mut self, backoff: Backoff) -> Self {
        self.retry_first = Some(backoff);
        self
    }

    /// Do not connect again: when the connection breaks everything on it ends with an error.
    pub fn no_reconnect(mut self) -> Self {
        self.reconnect = None;
        self
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("address", &self.address())
            .field("user", &self.user)
            .field("password", &"(hidden)")
            .field("vhost", &self.vhost)
            .field("connection_name", &self.connection_name)
            .field("heartbeat_seconds", &self.heartbeat_seconds)
            .field("frame_bytes_max", &self.frame_bytes_max)
            .field("channel_max", &self.channel_max)
            .field("connect_timeout", &self.connect_timeout)
            .field("reconnect", &self.reconnect)
            .field("retry_first", &self.retry_first)
            .finish()
    }
}

/// A URL that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlError {
    /// What is wrong with it.
    pub problem: String,
}

impl UrlError {
    fn new(problem: impl Into<String>) -> Self {
        Self { problem: problem.into() }
    }
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the URL is not usable: {} (expected leveret://user:password@host:port/vhost)",
            self.problem
        )
    }
}

impl std::error::Error for UrlError {}

impl FromStr for ConnectOptions {
    type Err = UrlError;

    /// Reads `leveret://user:password@host:port/vhost`. Everything after the scheme may be left out; user, password and
    /// vhost are percent-decoded. An empty path, or "/", is the vhost "/". One line end after it, as files have it, is
    /// not part of it.
    fn from_str(url: &str) -> Result<Self, UrlError> {
        let url = without_line_end(url);
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(UrlError::new("it does not begin with leveret://"));
        };
        if !scheme.eq_ignore_ascii_case("leveret") {
            return Err(UrlError::new(format!("its scheme is '{scheme}', not 'leveret'")));
        }
        if let Some(extra) = rest.find(['?', '#']) {
            return Err(UrlError::new(format!(
                "nothing is known that could follow '{}'",
                &rest[extra..=extra]
            )));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut options = Self::default();
        let place = match authority.rsplit_once('@') {
            Some((who, place)) => {
                let (user, password) = who.split_once(':').unwrap_or((who, ""));
                options.user = percent_decoded(user, "user")?;
                options.password = percent_decoded(password, "password")?;
                place
            }
            None => authority,
        };
        options.set_place(place)?;
        if !path.is_empty() {
            if path.contains('/') {
                return Err(UrlError::new("its vhost has a '/': write it as %2F"));
            }
            options.vhost = percent_decoded(path, "vhost")?;
        }
        let parts = [("user", &options.user), ("password", &options.password), ("vhost", &options.vhost)];
        if let Some((part, _)) = parts.into_iter().find(|(_, text)| text.contains(char::is_control)) {
            return Err(UrlError::new(format!(
                "its {part} has a control character, perhaps the end of a line"
            )));
        }
        Ok(options)
    }
}

impl ConnectOptions {
    fn set_place(&mut self, place: &str) -> Result<(), UrlError> {
        let (host, port) = if let Some(bracketed) = place.strip_prefix('[') {
            let Some((host, after)) = bracketed.split_once(']') else {
                return Err(UrlError::new("the bracket around its IPv6 address is not closed"));
            };
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(UrlError::new(format!("'{after}' follows its address"))),
            }
        } else {
            match place.rsplit_once(':') {
                Some((host, _)) if host.contains(':') => {
                    return Err(UrlError::new("an IPv6 address needs brackets: [::1]"));
                }
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            }
        };
        if !host.is_empty() {
            self.host = percent_decoded(host, "host")?;
        }
        if let Some(port) = port.filter(|port| !port.is_empty()) {
            self.port = match port.parse() {
                Ok(0) | Err(_) => return Err(UrlError::new(format!("its port '{port}' is not 1 to 65535"))),
                Ok(port) => port,
            };
        }
        Ok(())
    }
}

fn percent_decoded(text: &str, part: &str) -> Result<String, UrlError> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            decoded.push(byte);
            rest = after;
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let value = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let Some(value) = value.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            return Err(UrlError::new(format!(
                "a '%' in its {part} is not followed by two hexadecimal digits"
            )));
        };
        decoded.push(value);
        rest = &after[2..];
    }
    String::from_utf8(decoded).map_err(|_| UrlError::new(format!("its {part} is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, user: &str, password: &str, address: &str, vhost: &str) {
        let options: ConnectOptions = url.parse().expect("a good URL");
        assert_eq!(
            (options.user.as_str(), options.password.as_str(), options.address().as_str(), options.vhost()),
            (user, password, address, vhost),
            "{url}"
        );
    }

    fn check_refused(url: &str, needle: &str) {
        let error = url.parse::<ConnectOptions>().expect_err(url).to_string();
        assert!(error.contains(needle), "{url}: {error}");
    }

    #[test]
    fn reads_urls() {
        check("leveret://", "guest", "guest", "127.0.0.1:7672", "/");
        check("leveret://guest:guest@127.0.0.1:7672/", "guest", "guest", "127.0.0.1:7672", "/");
        check("LEVERET://host", "guest", "guest", "host:7672", "/");
        check("leveret://me@host:1/shop", "me", "", "host:1", "shop");
        check("leveret://me:p%40ss%3A@host/%2F", "me", "p@ss:", "host:7672", "/");
        check("leveret://a@b:c@[::1]:99/v%20w", "a@b", "c", "[::1]:99", "v w");
        check("leveret://[fe80::1]", "guest", "guest", "[fe80::1]:7672", "/");
        check("leveret://:77", "guest", "guest", "127.0.0.1:77", "/");
        check("leveret://me:s3cret@host/shop\n", "me", "s3cret", "host:7672", "shop");
        check("leveret://me:s3cret@host/shop\r\n", "me", "s3cret", "host:7672", "shop");
    }

    #[test]
    fn refuses_urls() {
        check_refused("localhost", "does not begin with leveret://");
        check_refused("amqp://localhost", "scheme is 'amqp'");
        check_refused("leveret://h:0", "port '0'");
        check_refused("leveret://h:65536", "port '65536'");
        check_refused("leveret://h:x", "port 'x'");
        check_refused("leveret://::1", "brackets");
        check_refused("leveret://[::1", "not closed");
        check_refused("leveret://[::1]x", "'x' follows");
        check_refused("leveret://h/a/b", "%2F");
        check_refused("leveret://h/a?b=c", "'?'");
        check_refused("leveret://h/%zz", "two hexadecimal digits");
        check_refused("leveret://h/%+1", "two hexadecimal digits");
        check_refused("leveret://h/%f", "two hexadecimal digits");
        check_refused("leveret://h/%ff", "not UTF-8");
        check_refused("leveret://me:s3cret%0A@h", "its password has a control character");
        check_refused("leveret://me%00:s3cret@h", "its user has a control character");
        check_refused("leveret://me:s3cret@h/shop\n\n", "its vhost has a control character");
    }

    #[test]
    fn hides_the_password() {
        let options: ConnectOptions = "leveret://me:hunter2@h".parse().expect("a good URL");
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
