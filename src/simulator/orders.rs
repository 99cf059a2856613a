//! Which orders were committed, and how often?

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::domain::Environment;

use super::payment::Payment;

/// What is known of one order.
///
/// What MODEN does with a second submission of the same `sn` is undocumented. The simulator takes
/// the worst case and commits it again, so that a doubled payment shows as a count above one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OrderRecord {
    /// The environment whose order this is; the same `sn` in the other one is another order.
    pub environment: Environment,
    /// How often it was committed; more than once is a payment too many.
    pub committed: u32,
    /// The amount of the first submission.
    pub amount: f64,
    /// The `timestamp` of the first submission, in Unix seconds.
    pub timestamp: i64,
}

/// The order store is full and has never heard of this order.
#[derive(Debug)]
pub(super) struct OrdersFull;

/// All orders of both environments, by `sn`.
pub(super) struct Orders {
    limit: usize,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    sandbox: BTreeMap<String, OrderRecord>,
    production: BTreeMap<String, OrderRecord>,
    committed_total: u64,
}

impl Orders {
    /// An empty store for at most `limit` orders.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            ledger: Mutex::default(),
        }
    }

    /// Commits a payment, whether for the first time or again, and returns the number of this
    /// commit among all.
    ///
    /// # Errors
    /// The order is new and the store is full; nothing was committed.
    pub(super) fn commit(
        &self,
        environment: Environment,
        payment: Payment,
    ) -> Result<u64, OrdersFull> {
        let mut ledger = self.lock();
        let is_full = ledger.sandbox.len() + ledger.production.len() >= self.limit;
        let orders = ledger.of(environment);
        match orders.get_mut(&payment.sn) {
            Some(order) => order.committed = order.committed.saturating_add(1),
            None if is_full => return Err(OrdersFull),
            None => {
                let order = OrderRecord {
                    environment,
                    committed: 1,
                    amount: payment.amount,
                    timestamp: payment.timestamp,
                };
                orders.insert(payment.sn, order);
            }
        }
        ledger.committed_total += 1;
        Ok(ledger.committed_total)
    }

    /// A copy of one environment's orders.
    pub(super) fn list(&self, environment: Environment) -> BTreeMap<String, OrderRecord> {
        self.lock().of(environment).clone()
    }

    /// How many commits there were in both environments together, doubled ones included.
    pub(super) fn committed_total(&self) -> u64 {
        self.lock().committed_total
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    fn of(&mut self, environment: Environment) -> &mut BTreeMap<String, OrderRecord> {
        match environment {
            Environment::Sandbox => &mut self.sandbox,
            Environment::Production => &mut self.production,
        }
    }
}
