//! Who of several consumers may have messages: one at a time, where there is a single active consumer.

use super::books::{Finding, QueueNumber};
use super::run::Run;
use crate::model::{FieldTable, FieldValue, SINGLE_ACTIVE_CONSUMER};

/// The queues of this name have a single active consumer.
const SINGLE_ACTIVE: &str = "bee";

/// Puts it among the arguments of a declaration, if a queue of this name is to have one.
pub(super) fn put_into(name: &str, arguments: &mut FieldTable) {
    if name == SINGLE_ACTIVE {
        arguments.0.insert(SINGLE_ACTIVE_CONSUMER.to_owned(), FieldValue::Boolean(true));
    }
}

/// The priority of a client's consumer: one of three.
pub(super) fn priority(consumer: u32) -> i32 {
    consumer as i32 % 3 - 1
}

impl Run {
    /// Something was delivered to a consumer: nobody else may have messages of a queue with a single active consumer. What a broker
    /// in trouble took back from one that it ended that one may not have heard.
    pub(super) fn check_single_active(
        &mut self,
        index: usize,
        handle: u32,
        queue: QueueNumber,
    ) -> Result<(), Finding> {
        let name = self.books.queues[queue].name;
        // What went to a consumer without acknowledgements was done with when it went, and may be heard of after what went to the next one.
        let is_final = self.clients[index].consumers.get(&handle).is_some_and(|consumer| consumer.no_ack);
        if name != SINGLE_ACTIVE || is_final || self.is_troubled || self.is_full {
            return Ok(());
        }
        for (other, client) in self.clients.iter().enumerate() {
            let is_other = |number: u32| (other, number) != (index, handle);
            let held = client.held.iter().filter(|(_, (_, of))| *of == queue);
            let mut consumers = held.map(|((number, _), _)| *number).filter(|number| *number != 0);
            if let Some(number) = consumers.find(|number| is_other(*number)) {
                return Err(format!(
                    "queue '{name}' has a single active consumer, and gave something to {handle} of client {} while {number} of client {} had messages",
                    self.clients[index].number, client.number
                ));
            }
            let live =
                client.consumers.iter().filter(|(_, consumer)| consumer.is_live && consumer.queue == queue);
            self.counters.passed_over += live.filter(|(number, _)| is_other(**number)).count() as u64;
        }
        Ok(())
    }
}
