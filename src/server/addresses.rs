//! How many connections each address has, where that is bounded.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::Network;

/// How often a listener says at most that it has closed connections of an address that had enough.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// The addresses that have a connection to one listener.
///
/// An entry lives as long as its address has a connection, so there are never more of them than
/// connections. The control thread takes the lock when it accepts, a core when a connection ends.
#[derive(Debug)]
pub(super) struct Addresses {
    /// `max_connections_per_address`.
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: HashMap<Network, usize>,
    said: Option<Instant>,
    unsaid: u64,
}

/// One connection of an address; dropping it counts it out.
#[derive(Debug)]
pub(super) struct AddressPlace {
    addresses: Arc<Addresses>,
    network: Network,
}

/// An address has as many connections as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Whose connection it is.
    pub(super) network: Network,
    /// How many were refused since that was last told, this one among them; `None` if it was told
    /// too short a time ago.
    pub(super) to_tell: Option<u64>,
}

impl Addresses {
    /// `None` where there is no bound, which costs nothing then.
    pub(super) fn build(most: usize) -> Option<Arc<Self>> {
        (most > 0).then(|| {
            Arc::new(Self {
                most,
                state: Mutex::default(),
            })
        })
    }

    /// Counts one more connection of an address.
    ///
    /// # Errors
    /// When it has as many as it may.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<AddressPlace, Refused> {
        let network = Network::of(address);
        let mut state = self.lock();
        let count = state.counts.entry(network).or_default();
        if *count >= self.most {
            let to_tell = state.refuse(Instant::now());
            return Err(Refused { network, to_tell });
        }
        *count += 1;
        Ok(AddressPlace {
            addresses: Arc::clone(self),
            network,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn refuse(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        if self.said.is_some_and(|said| now - said < SAY_EVERY) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut state = self.addresses.lock();
        if let Entry::Occupied(mut entry) = state.counts.entry(self.network) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        if state.counts.is_empty() {
            // What a rush has left behind.
            state.counts.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_so_many_and_no_more() {
        let addresses = Addresses::build(2).expect("a bound");
        let first = addresses.admit(address("10.0.0.1"));
        let second = addresses.admit(address("::ffff:10.0.0.1"));
        assert!(first.is_ok() && second.is_ok());
        assert!(addresses.admit(address("10.0.0.1")).is_err());
        let other = addresses.admit(address("10.0.0.2"));
        assert!(other.is_ok(), "another address has its own");
        drop(first);
        assert!(addresses.admit(address("10.0.0.1")).is_ok());
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_are_one() {
        let addresses = Addresses::build(1).expect("a bound");
        let first = addresses.admit(address("2001:db8::1"));
        assert!(first.is_ok());
        assert!(addresses.admit(address("2001:db8::ffff")).is_err());
        assert!(addresses.admit(address("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn remembers_only_who_has_a_connection() {
        let addresses = Addresses::build(1).expect("a bound");
        for number in 0..1000_u32 {
            let place = addresses.admit(IpAddr::V4(number.into()));
            assert!(place.is_ok());
            assert_eq!(addresses.lock().counts.len(), 1);
        }
        assert_eq!(addresses.lock().counts.capacity(), 0);
    }

    #[test]
    fn tells_once_a_second_how_many_were_refused() {
        let mut state = State::default();
        let began = Instant::now();
        assert_eq!(state.refuse(began), Some(1));
        assert_eq!(state.refuse(began), None);
        assert_eq!(state.refuse(began + SAY_EVERY / 2), None);
        assert_eq!(state.refuse(began + SAY_EVERY), Some(3));
    }

    #[test]
    fn no_bound_keeps_no_account() {
        assert!(Addresses::build(0).is_none());
    }
}
