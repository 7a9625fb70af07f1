//! Where dead letters of a queue go, as the arguments of its declaration say it.

use crate::broker::limits::NoLimit;
use crate::model::{
    DEAD_LETTER_EXCHANGE, DEAD_LETTER_ROUTING_KEY, ExchangeName, FieldTable, FieldValue, NAME_BYTES_MAX,
    RoutingKey,
};

/// The arguments, by name.
pub(in crate::broker) const DEAD_LETTER_ARGUMENTS: [&str; 2] =
    [DEAD_LETTER_EXCHANGE, DEAD_LETTER_ROUTING_KEY];

/// Where dead letters go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct DeadLetterAddress {
    /// The exchange, which need not be there.
    pub(in crate::broker) exchange: ExchangeName,
    /// Their routing key; `None`: their own.
    pub(in crate::broker) routing_key: Option<RoutingKey>,
}

impl DeadLetterAddress {
    /// The exchange, which need not be there.
    pub(in crate::broker) fn exchange(&self) -> &ExchangeName {
        &self.exchange
    }
}

/// Where dead letters of a queue with these arguments go; `None`: there are none.
///
/// # Errors
/// The first argument that says nothing that can be done.
pub(in crate::broker) fn address_of(arguments: &FieldTable) -> Result<Option<DeadLetterAddress>, NoLimit> {
    let text = |argument: &'static str| match arguments.value(argument) {
        None => Ok(None),
        Some(FieldValue::Text(text)) if text.len() <= NAME_BYTES_MAX => Ok(Some(text.as_str())),
        Some(got) => {
            let expected = format!("a text of {NAME_BYTES_MAX} bytes at most");
            Err(NoLimit { argument, expected, got: got.clone() })
        }
    };
    let (exchange, routing_key) = (text(DEAD_LETTER_EXCHANGE)?, text(DEAD_LETTER_ROUTING_KEY)?);
    match (exchange.map(ExchangeName::new), routing_key.map(RoutingKey::new)) {
        (Some(Ok(exchange)), None) => Ok(Some(DeadLetterAddress { exchange, routing_key: None })),
        (Some(Ok(exchange)), Some(Ok(key))) => {
            Ok(Some(DeadLetterAddress { exchange, routing_key: Some(key) }))
        }
        (None, Some(_)) => Err(NoLimit {
            argument: DEAD_LETTER_ROUTING_KEY,
            expected: format!("absent, since there is no {DEAD_LETTER_EXCHANGE}"),
            got: routing_key.unwrap_or_default().into(),
        }),
        // Texts that are too long were refused above.
        (None, None) | (Some(Err(_)), _) | (Some(Ok(_)), Some(Err(_))) => Ok(None),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_key_alone_leads_nowhere() {
        let table = |fields: &[(&str, FieldValue)]| {
            FieldTable(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
        };
        assert_eq!(address_of(&table(&[])).unwrap(), None);
        let address = address_of(&table(&[(DEAD_LETTER_EXCHANGE, "".into())])).unwrap().unwrap();
        assert_eq!((address.exchange.as_str(), address.routing_key), ("", None));
        let both = table(&[(DEAD_LETTER_EXCHANGE, "dlx".into()), (DEAD_LETTER_ROUTING_KEY, "k".into())]);
        assert_eq!(address_of(&both).unwrap().unwrap().routing_key.unwrap().as_str(), "k");
        for wrong in [
            table(&[(DEAD_LETTER_ROUTING_KEY, "k".into())]),
            table(&[(DEAD_LETTER_EXCHANGE, 5i64.into())]),
            table(&[(DEAD_LETTER_EXCHANGE, FieldValue::Text("x".repeat(256)))]),
        ] {
            assert!(address_of(&wrong).is_err(), "{wrong:?}");
        }
    }
}
