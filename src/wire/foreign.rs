//! Who speaks another protocol to our port is told so in that protocol.

use bytes::BytesMut;

use super::encode::encode_frame;
use super::pb;
use crate::model::{Entity, FRAME_BYTES_MAX_BEFORE_LOGIN, Refusal, ReplyCode};

/// A protocol that is not ours, recognised from the first four bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// AMQP of any version: its header begins with "AMQP".
    Amqp,
    /// HTTP: a request line.
    Http,
    /// TLS: a ClientHello record.
    Tls,
    /// No protocol known here; as a frame it would be larger than a first frame may be.
    Other {
        /// The length that the four bytes say, if they are one.
        length: u32,
    },
}

/// What a client that speaks something else is told, whatever the form.
const ADVICE: &str = "This port speaks Leveret's own protocol: a 4-byte big-endian length, then a protobuf Frame \
    of that many bytes, the first of them a Connect of 8 KiB at most. See docs/PROTOCOL.md, or use the leveret client.";

/// How HTTP requests begin; "PRI " is HTTP/2 without TLS.
const HTTP_BEGINNINGS: [&[u8; 4]; 10] =
    [b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI", b"PATC", b"CONN", b"TRAC", b"PRI "];

/// A fatal alert `handshake_failure` (RFC 8446 section 6) in a record of version 3.1, which every client reads.
const TLS_ALERT: [u8; 7] = [0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x28];

impl Foreign {
    /// Whether a connection that begins with these bytes speaks another protocol. None of them is a valid beginning:
    /// they announce a first frame of more than 8 KiB.
    pub fn recognise(first_four_bytes: [u8; 4]) -> Option<Self> {
        let length = u32::from_be_bytes(first_four_bytes);
        match &first_four_bytes {
            b"AMQP" => Some(Self::Amqp),
            [0x16, 0x03, _, _] => Some(Self::Tls),
            first if HTTP_BEGINNINGS.contains(&first) => Some(Self::Http),
            _ if length as usize > FRAME_BYTES_MAX_BEFORE_LOGIN => Some(Self::Other { length }),
            _ => None,
        }
    }

    /// The protocol's name, for logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amqp => "AMQP",
            Self::Http => "HTTP",
            Self::Tls => "TLS",
            Self::Other { .. } => "an unknown protocol",
        }
    }

    /// What to send before closing the connection.
    pub fn answer(self) -> Vec<u8> {
        match self {
            Self::Amqp => amqp_answer(),
            Self::Http => http_answer(),
            Self::Tls => TLS_ALERT.to_vec(),
            Self::Other { length } => close_frame(length),
        }
    }
}

/// AMQP 0-9-1 section 4.2.2: a server that does not speak the client's version answers with a header of its own. No
/// version has the number 0.0.0, so clients report a mismatch; the text is for whoever looks at the bytes.
fn amqp_answer() -> Vec<u8> {
    let mut answer = b"AMQP\x00\x00\x00\x00".to_vec();
    answer.extend_from_slice(format!("This is Leveret, not an AMQP broker. {ADVICE}\r\n").as_bytes());
    answer
}

fn http_answer() -> Vec<u8> {
    let body = format!("This is Leveret's message port, not its HTTP port. {ADVICE}\n");
    format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn close_frame(length: u32) -> Vec<u8> {
    let refusal = Refusal::new(
        ReplyCode::FrameError,
        format!("the first four bytes are no length of a first frame: they say {length}"),
    )
    .about(Entity::Frame, "")
    .field("length", format!("at most {FRAME_BYTES_MAX_BEFORE_LOGIN} before login"), length.to_string())
    .hint(ADVICE);
    let close = pb::Close { error: Some(pb::Error::from(&refusal)) };
    let mut out = BytesMut::new();
    encode_frame(0, 0, &pb::frame::Body::Close(close), &mut out);
    out.to_vec()
}
