//! What allowances are kept apart by: a key of fixed size.

use std::net::IpAddr;

use crate::config::Dimension;
use crate::domain::Network;

/// Stands for all peers without an address; no [`Network`] has these bytes.
const NO_ADDRESS: [u8; 16] = [0xff; 16];

/// What limits know of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    key: Key,
}

/// The part of a subject that one policy looks at.
///
/// What a policy does not look at is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Key {
    address: [u8; 16],
    route: u16,
}

impl Subject {
    /// A request for this route from this address; `None` where there is none, as on a Unix
    /// socket.
    pub fn new(route: u16, address: Option<IpAddr>) -> Self {
        Self {
            key: Key {
                address: address.map_or(NO_ADDRESS, |address| Network::of(address).octets()),
                route,
            },
        }
    }

    /// The key of a policy that looks at these dimensions.
    pub(super) fn key(&self, per: &[Dimension]) -> Key {
        let mut key = Key::default();
        for dimension in per {
            match dimension {
                Dimension::Route => key.route = self.key.route,
                Dimension::ClientIp => key.address = self.key.address,
            }
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(per: &[Dimension], route: u16, address: &str) -> Key {
        let address = address.parse().expect("an address");
        Subject::new(route, Some(address)).key(per)
    }

    #[test]
    fn looks_at_nothing_but_its_dimensions() {
        let route = &[Dimension::Route];
        assert_eq!(key(route, 1, "10.0.0.1"), key(route, 1, "10.0.0.2"));
        assert_ne!(key(route, 1, "10.0.0.1"), key(route, 2, "10.0.0.1"));
        let address = &[Dimension::ClientIp];
        assert_eq!(key(address, 1, "10.0.0.1"), key(address, 2, "10.0.0.1"));
        assert_ne!(key(address, 1, "10.0.0.1"), key(address, 1, "10.0.0.2"));
        let both = &[Dimension::ClientIp, Dimension::Route];
        assert_ne!(key(both, 1, "10.0.0.1"), key(both, 2, "10.0.0.1"));
        assert_ne!(key(both, 1, "10.0.0.1"), key(both, 1, "10.0.0.2"));
    }

    #[test]
    fn takes_peers_without_an_address_for_one_that_nobody_else_is() {
        let per = &[Dimension::ClientIp];
        let unix = Subject::new(0, None).key(per);
        assert_eq!(unix, Subject::new(1, None).key(per));
        for other in ["::1", "::", "127.0.0.1"] {
            assert_ne!(unix, key(per, 0, other), "{other}");
        }
    }

    #[test]
    fn takes_a_network_of_ipv6_for_one_address() {
        let per = &[Dimension::ClientIp];
        assert_eq!(key(per, 0, "2001:db8::1"), key(per, 0, "2001:db8::ffff:1"));
        assert_ne!(key(per, 0, "2001:db8::1"), key(per, 0, "2001:db8:0:1::1"));
        assert_eq!(key(per, 0, "::ffff:10.0.0.1"), key(per, 0, "10.0.0.1"));
        assert_ne!(key(per, 0, "10.0.0.1"), key(per, 0, "::1"));
    }
}
