//! What counts as one peer.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The addresses that count as one peer: an IPv4 address, or the first 64 bits of an IPv6 one, since
/// a host may take as many addresses of those as it likes.
///
/// IPv4 addresses are kept as IPv4-mapped ones, and arrive so on some sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network([u8; 16]);

impl Network {
    /// The network of an address.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => (u128::from(address) >> 64 << 64).to_be_bytes(),
        })
    }

    /// Its bytes; no two networks have the same, and none those of a multicast address.
    pub const fn octets(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Ipv6Addr::from(self.0).to_canonical() {
            IpAddr::V4(address) => address.fmt(formatter),
            IpAddr::V6(prefix) => write!(formatter, "{prefix}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(address: &str) -> String {
        Network::of(address.parse().expect("an address")).to_string()
    }

    #[test]
    fn is_an_address_of_ipv4_and_a_prefix_of_ipv6() {
        assert_eq!(shown("10.0.0.1"), "10.0.0.1");
        assert_eq!(shown("::ffff:10.0.0.1"), "10.0.0.1");
        assert_eq!(shown("2001:db8::1"), "2001:db8::/64");
        assert_eq!(shown("2001:db8::ffff:1"), "2001:db8::/64");
        assert_eq!(shown("2001:db8:0:1::1"), "2001:db8:0:1::/64");
        assert_eq!(shown("::1"), "::/64");
    }
}
