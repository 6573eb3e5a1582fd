//! What the two kinds of addresses accept, print and refuse.

use super::*;

fn listen(text: &str) -> ListenAddress {
    text.parse().unwrap()
}

#[test]
fn a_bare_port_is_loopback() {
    for text in ["8443", ":8443", "localhost:8443", "127.0.0.1:8443"] {
        assert_eq!(listen(text).to_string(), "127.0.0.1:8443", "{text}");
        assert!(listen(text).is_local());
    }
    assert!(!listen("0.0.0.0:8443").is_local());
    assert_eq!(listen("*:8443").to_string(), "[::]:8443");
}

#[test]
fn unix_sockets_have_one_or_three_slashes() {
    for text in ["unix:/run/a.sock", "unix:///run/a.sock"] {
        assert_eq!(listen(text), ListenAddress::Unix("/run/a.sock".into()));
        assert_eq!(listen(text).to_string(), "unix:/run/a.sock");
    }
}

#[test]
fn targets_may_be_names() {
    for (text, printed, local) in [
        ("8080", "127.0.0.1:8080", true),
        ("127.1.2.3:80", "127.1.2.3:80", true),
        ("[::1]:80", "[::1]:80", true),
        ("localhost:80", "localhost:80", true),
        ("10.0.0.1:80", "10.0.0.1:80", false),
        ("orders.internal:8443", "orders.internal:8443", false),
        ("my_app:8443", "my_app:8443", false),
        ("unix:/run/app.sock", "unix:/run/app.sock", true),
    ] {
        let address: Address = text.parse().unwrap();
        assert_eq!(address.to_string(), printed);
        assert_eq!(address.is_local(), local, "{text}");
    }
}

#[test]
fn wrong_addresses_say_what_to_write() {
    for (text, part) in [
        ("", "HOST:PORT"),
        ("localhost", "HOST:PORT"),
        ("127.0.0.1:99999", "HOST:PORT"),
        ("::1:80", "in brackets"),
        ("[nope]:80", "not an IPv6 address"),
        ("http://localhost:80", "drop the scheme"),
        ("/run/app.sock", "write `unix:/run/app.sock`"),
        ("unix:run/app.sock", "absolute"),
        ("a b:80", "neither an IP address nor a DNS name"),
        ("-a:80", "neither"),
        ("*:80", "neither"),
        (&format!("unix:/{}", "x".repeat(107)), "at most 107 bytes"),
    ] {
        let error = text.parse::<Address>().unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    let error = "orders.internal:80".parse::<ListenAddress>().unwrap_err().to_string();
    assert!(error.contains("is a name; write an IP address"), "{error}");
}

#[test]
fn clashes_are_equal_ports_on_overlapping_addresses() {
    for (a, b, clash) in [
        ("8443", "127.0.0.1:8443", true),
        ("0.0.0.0:8443", "127.0.0.1:8443", true),
        ("127.0.0.2:8443", "127.0.0.1:8443", false),
        ("127.0.0.1:0", "127.0.0.1:0", false),
        ("8443", "8444", false),
        ("unix:/a", "unix:/a", true),
        ("unix:/a", "8443", false),
    ] {
        assert_eq!(listen(a).clashes_with(&listen(b)), clash, "{a} {b}");
    }
}

#[test]
fn off_is_an_optional_address() {
    assert_eq!("off".parse::<OptionalListenAddress>().unwrap().address(), None);
    let at: OptionalListenAddress = "15000".parse().unwrap();
    assert_eq!(at.to_string(), "127.0.0.1:15000");
    assert_eq!(OptionalListenAddress::default().to_string(), "off");
}
