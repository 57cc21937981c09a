//! What may be reached: every spelling of a private address is refused, whatever it is dressed as.

use std::collections::HashSet;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

/// Spellings of hosts that lead into private networks. Each is fetched as `http://<spelling>:9/`, unless it is a
/// whole URL.
const PRIVATE: &[&str] = &[
    // Loopback: dotted, short, decimal, octal, hexadecimal, mixed, overlong.
    "127.0.0.1",
    "127.0.0.2",
    "127.1",
    "127.0.1",
    "127.255.255.255",
    "127.127.127.127",
    "2130706433",
    "2130706434",
    "017700000001",
    "0177.0.0.1",
    "0177.0.0.01",
    "0177.0.1",
    "0177.1",
    "00177.0.0.1",
    "000000177.0.0.1",
    "0x7f.0.0.1",
    "0x7F.0.0.1",
    "0x7f.1",
    "0x7f000001",
    "0x7F000001",
    "0X7f000001",
    "0x7f.0x0.0x0.0x1",
    "0x000000007f000001",
    "127.0x1",
    "0x7f.0.01",
    "127.0.0x0.1",
    "127.00.00.01",
    "127.0.0.0x1",
    "127.0x000001",
    "127.0.0.1.",
    "127.1.",
    "2130706433.",
    "0x7f000001.",
    // Percent-encoded and in other digits and dots.
    "127%2e0%2e0%2e1",
    "%31%32%37.0.0.1",
    "%6c%6f%63%61%6c%68%6f%73%74",
    "１２７.０.０.１",
    "127。0。0。1",
    "127．0．0．1",
    "127｡0｡0｡1",
    "①②⑦.⓪.⓪.①",
    "𝟏𝟐𝟕.𝟎.𝟎.𝟏",
    "１２７。０。０。１",
    "0ｘ7f.1",
    "２１３０７０６４３３",
    // Names.
    "localhost",
    "LOCALHOST",
    "LocalHost",
    "localhost.",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "ｌｏｃａｌｈｏｓｔ",
    "local\u{00ad}host",
    "foo.localhost",
    "foo.bar.localhost.",
    "localhost.localdomain",
    "localhost6",
    "ip6-localhost",
    "ip6-loopback",
    "printer.local",
    "db.internal",
    "metadata",
    "metadata.google.internal",
    "METADATA.GOOGLE.INTERNAL.",
    "router.lan",
    "nas.home.arpa",
    "1.0.0.127.in-addr.arpa",
    // This network, nothing, everybody.
    "0",
    "0.0.0.0",
    "0.0",
    "0.1.2.3",
    "0x0",
    "00000000000",
    "0.255.255.255",
    "255.255.255.255",
    "4294967295",
    "0xffffffff",
    "037777777777",
    "240.0.0.1",
    "254.1.1.1",
    // Private ranges.
    "10.0.0.1",
    "10.255.255.255",
    "10.1",
    "012.0.0.1",
    "0xa.0.0.1",
    "0x0a000001",
    "167772161",
    "172.16.0.1",
    "172.31.255.255",
    "0xac.16.0.1",
    "172.1048577",
    "2886729729",
    "192.168.0.1",
    "192.168.1",
    "0300.0250.0.1",
    "0xc0a80001",
    "3232235521",
    "192.168.255.255",
    // Link-local, metadata, shared, protocols, benchmarks, documents, relays, multicast.
    "169.254.169.254",
    "169.254.1",
    "0xa9fea9fe",
    "2852039166",
    "0251.0376.0251.0376",
    "169.254.0xa9fe",
    "169.254.170.2",
    "100.100.100.200",
    "100.64.0.1",
    "100.127.255.255",
    "0x64400001",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "192.88.99.1",
    "224.0.0.1",
    "239.255.255.250",
    "0xe0000001",
    // IPv6: loopback, nothing, mapped, compatible, translated.
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "[::0001]",
    "[0::1]",
    "[::]",
    "[::0]",
    "[0:0:0:0:0:0:0:0]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::FFFF:7F00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::ffff:10.0.0.1]",
    "[::ffff:192.168.0.1]",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[::ffff:0.0.0.0]",
    "[::ffff:100.64.0.1]",
    "[::127.0.0.1]",
    "[::7f00:1]",
    "[::10.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[::ffff:0:7f00:1]",
    // IPv6: NAT64, 6to4, Teredo, ISATAP, discard, protocols.
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::10.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2002:7f00:0001::1]",
    "[2002:a00:1::]",
    "[2002:c0a8:1::1]",
    "[2002:a9fe:a9fe::]",
    "[2001::1]",
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
    "[2001:0:0:0:0:0:80ff:fffe]",
    "[2600::5efe:7f00:1]",
    "[2600::200:5efe:10.0.0.1]",
    "[100::1]",
    "[2001:10::1]",
    "[2001:20::1]",
    "[5f00::1]",
    // IPv6: link, site, unique local, multicast, documents, metadata.
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
    "[FE80::A9FE:A9FE]",
    "[febf::1]",
    "[fec0::1]",
    "[feff::1]",
    "[fc00::1]",
    "[fd00::1]",
    "[fd00:ec2::254]",
    "[fdff:ffff::1]",
    "[ff02::1]",
    "[ff0e::1]",
    "[2001:db8::1]",
    "[3fff::1]",
    "[3fff:fff::1]",
    "[4000::1]",
    "[e000::1]",
    // Somebody else's name in front, other schemes, odd slashes, blanks.
    "http://example.com@127.0.0.1/",
    "http://user:pass@10.0.0.1/",
    "http://1.1.1.1%2540@127.0.0.1/",
    "http://127.0.0.1:80\\@example.com/",
    "http:127.0.0.1",
    "http:\\\\127.0.0.1\\",
    "http:///127.0.0.1/",
    "http:////localhost/",
    " http://127.0.0.1/ ",
    "ht\ntp://127.0.0.1/",
    "http://127.0.\t0.1/",
    "HTTP://127.0.0.1/",
    "https://127.0.0.1/",
    "http://127.0.0.1#@example.com/",
    "http://127.0.0.1?@example.com/",
    "file:///etc/passwd",
    "ftp://127.0.0.1/",
    "gopher://127.0.0.1:70/",
    "data:text/plain,hello",
    "javascript:1",
    "ws://127.0.0.1/",
    "unix:/var/run/docker.sock",
    "//127.0.0.1/",
    "",
];

/// Those of the list that are no spelling of an address.
const OTHER_SCHEMES: &[&str] =
    &["file:///etc/passwd", "data:text/plain,hello", "javascript:1", "unix:/var/run/docker.sock", ""];

#[tokio::test]
async fn every_spelling_of_a_private_address_is_refused() {
    // Were a name looked up at all, it would lead to a public address: what is refused is refused before.
    let nowhere = Lookup::Fixed(vec![IpAddr::V4(Ipv4Addr::new(93, 184, 216, 34))]);
    let fetcher = Fetcher::build(Policy::default(), Trust::default(), nowhere).expect("a client");
    let addresses = PRIVATE.iter().filter(|one| !OTHER_SCHEMES.contains(one)).collect::<HashSet<_>>();
    assert!(addresses.len() >= 150, "{} spellings of private addresses", addresses.len());
    for spelling in PRIVATE {
        let whole = spelling.contains("://") || spelling.contains(':') && !spelling.starts_with('[');
        let url = if whole || spelling.is_empty() {
            (*spelling).to_owned()
        } else {
            format!("http://{spelling}:9/")
        };
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
