//! Decides whose address counts: the peer's own, unless it is a proxy of ours that says for whom it asks
//! (`OA_TRUSTED_PROXIES`). What anybody else says about addresses is not looked at.

use std::net::IpAddr;

use crate::identity::settings::Network;

/// Each proxy adds the address it saw at the end of the list, so it is read from the end: the first address that
/// is no proxy of ours is the client's. What stands before it anybody may have written.
pub fn client(trusted: &[Network], peer: IpAddr, forwarded_for: &str, real_ip: &str) -> IpAddr {
    let is_ours = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_ours(peer) {
        return peer;
    }
    let mut nearest = None;
    for entry in forwarded_for.rsplit(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let Some(address) = address(entry) else { break };
        nearest = Some(address);
        if !is_ours(address) {
            break;
        }
    }
    nearest.or_else(|| address(real_ip.trim())).unwrap_or(peer)
}

/// Some proxies write a port behind the address.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|both| both.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, forwarded_for: &str, real_ip: &str) -> String {
        let trusted = ["127.0.0.1", "10.0.0.0/8"].map(|one| Network::parse(one).expect(one));
        client(&trusted, peer.parse().expect(peer), forwarded_for, real_ip).to_string()
    }

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(seen("192.0.2.1", "198.51.100.7", "198.51.100.8"), "192.0.2.1");
        let nobody = client(&[], "127.0.0.1".parse().expect("an address"), "198.51.100.7", "");
        assert_eq!(nobody.to_string(), "127.0.0.1");
    }

    #[test]
    fn the_last_address_that_is_no_proxy_of_ours_counts() {
        assert_eq!(seen("127.0.0.1", "198.51.100.7", ""), "198.51.100.7");
        assert_eq!(seen("127.0.0.1", "203.0.113.9, 198.51.100.7, 10.1.2.3", ""), "198.51.100.7");
        assert_eq!(seen("127.0.0.1", "10.9.9.9, 10.1.2.3", ""), "10.9.9.9");
        assert_eq!(seen("::ffff:127.0.0.1", "[2001:db8::1]:443", ""), "2001:db8::1");
        assert_eq!(seen("127.0.0.1", "198.51.100.7:5000,", ""), "198.51.100.7");
    }

    #[test]
    fn what_is_no_address_ends_the_reading() {
        assert_eq!(seen("127.0.0.1", "198.51.100.7, unknown", ""), "127.0.0.1");
        assert_eq!(seen("127.0.0.1", "198.51.100.7, unknown, 10.1.2.3", ""), "10.1.2.3");
        assert_eq!(seen("127.0.0.1", "", "198.51.100.8"), "198.51.100.8");
        assert_eq!(seen("127.0.0.1", "", "nonsense"), "127.0.0.1");
    }
}
