//! Further routing keys that a message names in its headers, as in RabbitMQ: sender-selected distribution.

use super::{Entity, FieldTable, FieldValue, NAME_BYTES_MAX, Refusal, ReplyCode};

/// A header: a list of further routing keys of its message.
pub const CC: &str = "CC";
/// The same, and nobody who gets the message sees it.
pub const BCC: &str = "BCC";

/// Further keys of one message.
const FURTHER_KEYS_MAX: usize = 1_024;

/// The keys that headers name besides the routing key: those of [`CC`], then those of [`BCC`]. What is no text in these lists is passed
/// over.
///
/// # Errors
/// One of the two is there and no list, or there are too many keys, or too long ones: 406.
pub fn further_keys(headers: &FieldTable) -> Result<Vec<String>, Box<Refusal>> {
    let mut keys = Vec::new();
    for header in [CC, BCC] {
        match headers.value(header) {
            None => {}
            Some(FieldValue::List(entries)) => {
                for entry in entries {
                    let FieldValue::Text(key) = entry else { continue };
                    if key.len() > NAME_BYTES_MAX {
                        let expected = format!("keys of {NAME_BYTES_MAX} bytes at most");
                        return Err(refused(header, "has a key that is too long", expected, key.len()));
                    }
                    keys.push(key.clone());
                }
            }
            Some(_) => {
                return Err(refused(header, "is no list", "a list of texts", "one value"));
            }
        }
    }
    if keys.len() > FURTHER_KEYS_MAX {
        let expected = format!("{FURTHER_KEYS_MAX} at most, with those of {CC}");
        return Err(refused(BCC, "makes it too many routing keys", expected, keys.len()));
    }
    Ok(keys)
}

fn refused(header: &str, why: &str, expected: impl Into<String>, got: impl ToString) -> Box<Refusal> {
    let refusal = Refusal::new(ReplyCode::PreconditionFailed, format!("the message's header {header} {why}"))
        .about(Entity::Message, "")
        .field(header, expected, got.to_string())
        .hint(format!(
            "{CC} and {BCC} list further routing keys; name a header otherwise that is to mean something else"
        ));
    Box::new(refusal)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn list(entries: &[FieldValue]) -> FieldValue {
        FieldValue::List(entries.to_vec())
    }

    fn keys(headers: &[(&str, FieldValue)]) -> Result<Vec<String>, Box<Refusal>> {
        further_keys(&FieldTable(
            headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        ))
    }

    #[test]
    fn keys_of_cc_come_before_those_of_bcc_and_what_is_no_text_is_passed_over() {
        let cc = list(&["a".into(), FieldValue::Integer(5), "b".into(), FieldValue::Bytes(b"x".to_vec())]);
        let bcc = list(&[FieldValue::Void, "".into()]);
        assert_eq!(keys(&[("BCC", bcc), ("CC", cc), ("cc", list(&["no".into()]))]).unwrap(), ["a", "b", ""]);
        assert_eq!(keys(&[("CC", list(&[])), ("other", 5i64.into())]).unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_no_list_of_keys_is_refused() {
        let refusal = keys(&[("CC", "a".into())]).unwrap_err();
        assert_eq!((refusal.code, &*refusal.field), (ReplyCode::PreconditionFailed, "CC"));
        let refusal = keys(&[("CC", list(&["a".into()])), ("BCC", FieldValue::Void)]).unwrap_err();
        assert_eq!((&*refusal.text, &*refusal.field), ("the message's header BCC is no list", "BCC"));
        let long = |bytes| list(&[FieldValue::Text("k".repeat(bytes))]);
        assert_eq!(keys(&[("BCC", long(255))]).unwrap().len(), 1);
        assert_eq!(keys(&[("BCC", long(256))]).unwrap_err().got, "256");
    }

    #[test]
    fn there_is_a_bound_on_all_of_them_together() {
        let many = |count| list(&vec!["k".into(); count]);
        assert_eq!(keys(&[("CC", many(1_000)), ("BCC", many(24))]).unwrap().len(), 1_024);
        assert_eq!(keys(&[("CC", many(1_000)), ("BCC", many(25))]).unwrap_err().got, "1025");
    }
}
