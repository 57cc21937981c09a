//! What may be reached: every spelling of a private address is refused, whatever it is dressed as.

use std::collections::HashSet;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{
    spellings::{OTHER_SCHEMES, PRIVATE, url_of},
    *,
};

#[tokio::test]
async fn every_spelling_of_a_private_address_is_refused() {
    // Were a name looked up at all, it would lead to a public address: what is refused is refused before.
    let nowhere = Lookup::Fixed(vec![IpAddr::V4(Ipv4Addr::new(93, 184, 216, 34))]);
    let fetcher = Fetcher::build(Policy::default(), Trust::default(), nowhere).expect("a client");
    let addresses = PRIVATE.iter().filter(|one| !OTHER_SCHEMES.contains(one)).collect::<HashSet<_>>();
    assert!(addresses.len() >= 150, "{} spellings of private addresses", addresses.len());
    for spelling in PRIVATE {
        let url = url_of(spelling, 9);
        let error = fetcher.get(&url).await.expect_err(&url);
        assert!(matches!(error, FetchError::Forbidden(_)), "{url}: {error:?}");
    }
}

#[tokio::test]
async fn a_name_that_leads_into_a_private_network_is_refused_when_it_is_connected_to() {
    for address in
        ["127.0.0.1", "10.0.0.7", "169.254.169.254", "::1", "fd00::1", "::ffff:192.168.0.1", "64:ff9b::a00:1"]
    {
        let lookup = Lookup::Fixed(vec![address.parse().expect("an address")]);
        let fetcher = Fetcher::build(Policy::default(), Trust::default(), lookup).expect("a client");
        let error = fetcher.get("http://innocent.example/").await.expect_err(address);
        assert!(
            matches!(&error, FetchError::Forbidden(why) if why.contains("not a public address")),
            "{error:?}"
        );
    }
}

#[test]
fn public_addresses_are_public() {
    for text in [
        "1.1.1.1",
        "93.184.216.34",
        "100.63.255.255",
        "100.128.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "192.167.255.255",
        "2606:4700:4700::1111",
        "2001:4860:4860::8888",
        "::ffff:1.1.1.1",
        "2002:101:101::",
        "64:ff9b::101:101",
    ] {
        assert!(is_public(text.parse().expect("an address")), "{text} was refused");
    }
}

#[tokio::test]
async fn the_real_resolver_refuses_this_machine_too() {
    let fetcher = Fetcher::new(Policy::default()).expect("a client");
    let refused = fetcher.get("http://localhost:9/").await.expect_err("refused");
    assert!(matches!(refused, FetchError::Forbidden(_)), "{refused:?}");
}

/// Answers every connection with these bytes.
async fn answering(bytes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut seen = [0; 4096];
            let _ = socket.read(&mut seen).await;
            let _ = socket.write_all(bytes).await;
        }
    });
    address
}

fn open() -> Policy {
    Policy { allow_private_networks: true, max_bytes: 64, ..Policy::default() }
}

#[tokio::test]
async fn a_denied_place_is_refused_under_every_name_and_its_neighbour_is_not() {
    let address = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
    let denied = format!("http://127.0.0.1:{}/", address.port());
    let fetcher =
        Fetcher::build(open(), Trust::default(), Lookup::Fixed(vec![address.ip()])).expect("a client");
    assert_eq!(fetcher.get(&denied).await.expect("an answer").body, b"ok");
    let fetcher = fetcher.denying([denied.as_str()]);
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.0.9",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "somebody.example",
    ] {
        let url = format!("http://{host}:{}/", address.port());
        let error = fetcher.get(&url).await.expect_err(&url);
        assert!(matches!(error, FetchError::Forbidden(_)), "{url}: {error:?}");
    }
    let neighbour = answering(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
    assert_eq!(fetcher.get(&format!("http://{neighbour}/")).await.expect("an answer").status, 204);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let address = answering(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    let fetched =
        Fetcher::new(open()).expect("a client").get(&format!("http://{address}/")).await.expect("an answer");
    assert_eq!((fetched.status, fetched.header("location")), (302, Some("http://127.0.0.1:1/")));
}

#[tokio::test]
async fn an_answer_without_an_end_is_cut_at_the_limit() {
    let address = answering(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n0123456789012345678901234567890123456789012345678901234567890123456789").await;
    let error = Fetcher::new(open())
        .expect("a client")
        .get(&format!("http://{address}/"))
        .await
        .expect_err("too long");
    assert!(matches!(error, FetchError::Failed(_)), "{error:?}");
}

#[tokio::test]
async fn what_was_never_sent_is_told_from_what_got_no_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let fetcher = Fetcher::new(open()).expect("a client");
    let unsent = fetcher.get(&format!("http://{address}/")).await.expect_err("nobody");
    assert!(matches!(unsent, FetchError::Unsent(_)), "{unsent:?}");
    let silent = answering(b"").await;
    let lost = fetcher.get(&format!("http://{silent}/")).await.expect_err("no answer");
    assert!(matches!(lost, FetchError::Failed(_)), "{lost:?}");
}

#[tokio::test]
async fn where_loopback_is_allowed_nothing_else_is() {
    let address = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
    let port = address.port();
    let policy = Policy { allow_loopback: true, ..Policy::default() };
    let fetcher =
        Fetcher::build(policy, Trust::default(), Lookup::Fixed(vec![address.ip()])).expect("a client");
    let here = format!("http://127.0.0.1:{port}/");
    assert_eq!(fetcher.get(&here).await.expect("an answer").body, b"ok");
    // Names are refused even where they lead to this machine, and so is every other private address.
    for host in [
        "localhost",
        "somebody.example",
        "0.0.0.0",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "[::ffff:127.0.0.1]",
        "[fd00::1]",
        "[::]",
    ] {
        let url = format!("http://{host}:{port}/");
        let error = fetcher.get(&url).await.expect_err(&url);
        assert!(matches!(error, FetchError::Forbidden(_)), "{url}: {error:?}");
    }
    let denied = fetcher.denying([here.as_str()]);
    for host in ["127.0.0.1", "127.0.0.2", "[::1]"] {
        let url = format!("http://{host}:{port}/");
        let error = denied.get(&url).await.expect_err(&url);
        assert!(matches!(error, FetchError::Forbidden(_)), "{url}: {error:?}");
    }
}
