//! How messages are printed: bare bodies, JSON, or a line for people.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

use serde_json::{Value, json};

use super::clock;
use super::failure::Failure;
use super::field;
use super::output;
use super::properties;
use super::terminal::printable;
use crate::client::{Delivery, Properties};

/// The form in which messages are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The body and a newline.
    Raw,
    /// The same where a terminal would do what control characters in it say: they are written as escapes.
    RawOnTerminal,
    /// A JSON object on a line.
    Json,
    /// Number, routing key, body, and what is remarkable, on a line.
    Readable {
        /// All properties, not only the headers.
        properties: bool,
        /// Begins with the time at which it is printed.
        time: bool,
    },
}

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    pub(super) raw: bool,
    pub(super) json: bool,
    pub(super) properties: bool,
    pub(super) time: bool,
}

impl Form {
    pub(super) fn of(choice: Choice) -> Self {
        let Choice { raw, json, properties, time } = choice;
        match (raw, json) {
            (true, _) if std::io::stdout().is_terminal() => Self::RawOnTerminal,
            (true, _) => Self::Raw,
            (_, true) => Self::Json,
            _ => Self::Readable { properties, time },
        }
    }
}

/// Longest body of which a readable line shows all, in bytes.
const READABLE_BYTES_MAX: usize = 4096;

/// Prints one message; `number` counts from 1.
pub(super) fn print(
    out: &mut impl Write,
    form: Form,
    number: u64,
    delivery: &Delivery,
) -> Result<(), Failure> {
    match form {
        Form::Raw => {
            out.write_all(delivery.body())?;
            out.write_all(b"\n")?;
        }
        Form::RawOnTerminal => {
            // Lines stay lines.
            for line in String::from_utf8_lossy(delivery.body()).split('\n') {
                writeln!(out, "{}", printable(line))?;
            }
        }
        Form::Json => writeln!(out, "{}", output::json_text(&to_json(delivery)?))?,
        Form::Readable { properties, time } => {
            if time {
                write!(out, "{}  ", clock::in_words(clock::now_ms()))?;
            }
            writeln!(out, "{}", readable(number, delivery, properties)?)?;
        }
    }
    Ok(())
}

fn readable(number: u64, delivery: &Delivery, with_properties: bool) -> Result<String, Failure> {
    let properties = delivery.properties()?;
    let mut line =
        format!("{number}  {}  {}", printable(delivery.routing_key()), readable_body(delivery.body()));
    let mut remarks = Vec::new();
    if !delivery.exchange().is_empty() {
        remarks.push(format!("exchange {}", printable(delivery.exchange())));
    }
    if delivery.redelivered() {
        remarks.push(came_back(delivery.delivery_count()));
    }
    if delivery.resent() {
        remarks.push("sent more than once".to_owned());
    }
    if with_properties {
        remarks.extend(properties::in_words(&properties));
    }
    if !properties.headers.is_empty() {
        remarks.push(printable(&field::notation(&properties.headers)));
    }
    if !remarks.is_empty() {
        let _ = write!(line, "  ({})", remarks.join("; "));
    }
    Ok(line)
}

pub(super) fn came_back(times: u32) -> String {
    match times {
        // It was with a consumer whose end nobody has counted, for instance before a restart.
        0 => "redelivered".to_owned(),
        1 => "redelivered, came back once".to_owned(),
        times => format!("redelivered, came back {times} times"),
    }
}

pub(super) fn readable_body(body: &[u8]) -> String {
    match std::str::from_utf8(body) {
        Ok(text) if body.len() <= READABLE_BYTES_MAX => printable(text),
        Ok(text) => {
            let end = (0..=READABLE_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            format!("{}… ({} bytes)", printable(&text[..end]), body.len())
        }
        Err(_) => {
            let first: String = body.iter().take(16).map(|byte| format!("{byte:02x} ")).collect();
            format!("({} bytes, not text: {first}…)", body.len())
        }
    }
}

fn to_json(delivery: &Delivery) -> Result<Value, Failure> {
    let properties = delivery.properties()?;
    let mut json = json!({
        "exchange": delivery.exchange(),
        "routing_key": delivery.routing_key(),
        "redelivered": delivery.redelivered(),
        "delivery_count": delivery.delivery_count(),
        "resent": delivery.resent(),
        "received_at_ms": clock::now_ms(),
        "headers": field::table_to_json(&properties.headers),
        "properties": properties_to_json(&properties),
    });
    put_body(delivery.body(), &mut json);
    Ok(json)
}

/// As text, if it is one.
pub(super) fn put_body(body: &[u8], json: &mut Value) {
    match std::str::from_utf8(body) {
        Ok(text) => json["body"] = json!(text),
        Err(_) => json["body_base64"] = json!(base64(body)),
    }
}

/// The properties that are there, without the headers.
pub(super) fn properties_to_json(properties: &Properties) -> Value {
    let texts = [
        ("content_type", &properties.content_type),
        ("content_encoding", &properties.content_encoding),
        ("correlation_id", &properties.correlation_id),
        ("reply_to", &properties.reply_to),
        ("message_id", &properties.message_id),
        ("type", &properties.kind),
        ("user_id", &properties.user_id),
        ("app_id", &properties.app_id),
    ];
    let numbers = [
        ("priority", Some(u64::from(properties.priority)).filter(|priority| *priority > 0)),
        ("expiration_ms", properties.expiration_ms),
        ("timestamp_ms", properties.timestamp_ms),
        ("delay_ms", properties.delay_ms),
        ("deliver_at_ms", properties.deliver_at_ms),
        ("delivery_mode", Some(u64::from(properties.delivery_mode)).filter(|mode| *mode > 0)),
    ];
    let texts =
        texts.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| (name, json!(text)));
    let numbers = numbers.into_iter().filter_map(|(name, number)| Some((name, json!(number?))));
    texts.chain(numbers).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for letter in 0..4 {
            if letter <= chunk.len() {
                text.push(char::from(LETTERS[(bits >> (18 - 6 * letter) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_in_the_rfc() {
        let check = |bytes: &[u8], expect: &str| assert_eq!(base64(bytes), expect);
        check(b"", "");
        check(b"f", "Zg==");
        check(b"fo", "Zm8=");
        check(b"foo", "Zm9v");
        check(b"foobar", "Zm9vYmFy");
        check(&[0xff, 0xfe, 0xfd], "//79");
    }

    #[test]
    fn bodies_that_are_long_or_no_text_stay_on_a_line() {
        assert_eq!(readable_body(b"a\nb"), "a\\nb");
        assert_eq!(readable_body(&[0, 255]), "(2 bytes, not text: 00 ff …)");
        let long = "é".repeat(3000);
        let shown = readable_body(long.as_bytes());
        assert!(shown.ends_with("… (6000 bytes)") && shown.len() < 4200, "{shown}");
    }
}
