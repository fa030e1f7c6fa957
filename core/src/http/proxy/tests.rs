use alloc::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const PROXY: &str = "http://proxy.test:3128";

fn proxies(variables: &[(&str, &str)]) -> Proxies {
    let variables: BTreeMap<_, _> = variables.iter().copied().collect();
    Proxies::read(|name| variables.get(name).map(|value| (*value).to_owned()))
}

fn to(secure: bool, host: &str, port: u16) -> Destination<'_> {
    Destination { secure, host, port, reach: Reach::Any }
}

/// The proxy on the way to a host, as it prints.
fn way(variables: &[(&str, &str)], secure: bool, host: &str) -> String {
    match proxies(variables).to(&to(secure, host, 443)) {
        Ok(proxy) => proxy.map_or_else(|| "straight".into(), ToString::to_string),
        Err(error) => error.to_string(),
    }
}

#[test]
fn each_scheme_has_its_variable_and_all_have_one() {
    let a = "http://a:1";
    let b = "http://b:2";
    for (variables, plain, secure) in [
        (&[][..], "straight", "straight"),
        (&[("https_proxy", a)], "straight", a),
        (&[("HTTPS_PROXY", a)], "straight", a),
        (&[("http_proxy", a)], a, "straight"),
        (&[("HTTP_PROXY", a)], a, "straight"),
        (&[("all_proxy", a)], a, a),
        (&[("ALL_PROXY", a)], a, a),
        (&[("ALL_PROXY", b), ("https_proxy", a)], b, a),
        (&[("all_proxy", a), ("ALL_PROXY", b)], a, a),
        (&[("https_proxy", a), ("HTTPS_PROXY", b), ("HTTP_PROXY", b)], b, a),
        (&[("https_proxy", ""), ("HTTPS_PROXY", b)], "straight", b),
        (&[("https_proxy", "  ")], "straight", "straight"),
        (&[("NO_PROXY", "*")], "straight", "straight"),
        // Where a web server has started this, a client may have set it.
        (&[("HTTP_PROXY", a), ("REQUEST_METHOD", "GET")], "straight", "straight"),
        (&[("HTTP_PROXY", a), ("ALL_PROXY", b), ("REQUEST_METHOD", "GET")], b, b),
        (&[("http_proxy", a), ("HTTPS_PROXY", b), ("REQUEST_METHOD", "GET")], a, b),
    ] {
        assert_eq!(way(variables, false, "studio.test"), plain, "{variables:?}");
        assert_eq!(way(variables, true, "studio.test"), secure, "{variables:?}");
    }
}

#[test]
fn what_is_listed_is_reached_without_one() {
    let straight = |list: &str, host: &str, port| {
        let proxies = proxies(&[("https_proxy", PROXY), ("no_proxy", list)]);
        proxies.to(&to(true, host, port)).unwrap().is_none()
    };
    for (list, host, port) in [
        ("*", "studio.test", 443),
        ("studio.test", "studio.test", 443),
        ("studio.test", "STUDIO.test.", 443),
        ("Studio.Test", "studio.test", 443),
        ("test", "studio.test", 443),
        (".test", "studio.test", 443),
        (".studio.test", "studio.test", 443),
        ("*.test", "a.studio.test", 443),
        ("a.test,b.test, studio.test", "studio.test", 443),
        ("a.test b.test\tstudio.test", "studio.test", 443),
        ("studio.test:8443", "studio.test", 8443),
        ("10.0.0.7", "10.0.0.7", 443),
        ("10.0.0.7:443", "10.0.0.7", 443),
        ("10.0.0.0/8", "10.255.0.1", 443),
        ("10.0.0.0/8:443", "10.255.0.1", 443),
        ("192.168.2.0/23", "192.168.3.9", 443),
        ("0.0.0.0/0", "8.8.8.8", 443),
        ("10.0.0.0/8", "::ffff:10.0.0.1", 443),
        ("2001:db8::7", "2001:db8:0::7", 443),
        ("[2001:db8::7]", "2001:db8::7", 443),
        ("[2001:db8::7]:443", "2001:db8::7", 443),
        ("fd00::/8", "fd12::1", 443),
        ("::/0", "2001:db8::1", 443),
    ] {
        assert!(straight(list, host, port), "{list} and {host}:{port}");
    }
    for (list, host, port) in [
        ("", "studio.test", 443),
        ("studio.test", "notstudio.test", 443),
        ("a.studio.test", "studio.test", 443),
        ("studio.test:8443", "studio.test", 443),
        ("studio.test:x", "studio.test", 443),
        ("10.0.0.7", "10.0.0.70", 443),
        ("10.0.0.7:80", "10.0.0.7", 443),
        ("10.0.0.0/8", "11.0.0.1", 443),
        ("192.168.2.0/23", "192.168.4.1", 443),
        ("10.0.0.0/33", "10.0.0.1", 443),
        ("10.0.0.0/x", "10.0.0.1", 443),
        ("0.0.0.0/0", "2001:db8::1", 443),
        ("::/0", "8.8.8.8", 443),
        // A name is no address, whatever it leads to.
        ("0.0.0.0/0", "studio.test", 443),
        ("fd00::/8", "fe00::1", 443),
        (".", "studio.test", 443),
    ] {
        assert!(!straight(list, host, port), "{list} and {host}:{port}");
    }
}

#[test]
fn this_machine_is_never_asked_for_at_a_proxy() {
    let all = [("all_proxy", PROXY)];
    for host in [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "[::1]",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "::",
        "localhost",
        "LocalHost.",
        "a.localhost",
    ] {
        assert_eq!(way(&all, true, host), "straight", "{host}");
    }
    for host in ["8.8.8.8", "10.0.0.1", "notlocalhost", "localhost.test"] {
        assert_eq!(way(&all, true, host), PROXY, "{host}");
    }
    let own = Destination { reach: Reach::Loopback, ..to(true, "name.test", 1) };
    assert_eq!(proxies(&all).to(&own), Ok(None));
}

#[test]
fn an_address_of_a_proxy_may_be_short() {
    for (text, means) in [
        ("proxy.test:3128", PROXY),
        ("proxy.test:3128/", PROXY),
        ("HTTP://Proxy.Test:3128", PROXY),
        ("proxy.test", "http://proxy.test:80"),
        ("https://proxy.test", "https://proxy.test:443"),
        ("http://u:p@proxy.test:3128", PROXY),
        ("u:p@proxy.test:3128", PROXY),
        ("http://127.0.0.1:3128", "http://127.0.0.1:3128"),
        ("[::1]:3128", "http://[::1]:3128"),
    ] {
        assert_eq!(way(&[("https_proxy", text)], true, "studio.test"), means, "{text}");
    }
}

#[test]
fn what_is_no_address_of_a_proxy_is_named_and_not_quoted() {
    let why = "HTTPS_PROXY is not the address of a proxy: give one like http://proxy.example:3128";
    for text in [
        "http://",
        "ftp://proxy.test",
        "http://u:p@",
        "proxy host:1",
        "proxy:99999",
        "http://a%3Ab:p@proxy.test",
    ] {
        assert_eq!(way(&[("HTTPS_PROXY", text)], true, "studio.test"), why, "{text}");
    }
    let socks = "all_proxy names a SOCKS proxy, and only HTTP proxies are used: give one like http://proxy.example:3128";
    for text in ["socks5://u:p@proxy.test:1080", "SOCKS5H://proxy.test", "socks4a://proxy.test"] {
        assert_eq!(way(&[("all_proxy", text)], true, "studio.test"), socks, "{text}");
        assert_eq!(way(&[("all_proxy", text)], true, "localhost"), "straight", "it would not count");
    }
}

#[test]
fn credentials_are_said_to_the_proxy_alone() {
    let proxies = proxies(&[("https_proxy", "http://al%40ice:pa%3Ass%20wd@proxy.test:3128")]);
    let proxy = proxies.to(&to(true, "studio.test", 443)).unwrap().unwrap();
    let basic = STANDARD.encode("al@ice:pa:ss wd");
    assert_eq!(
        proxy.request("studio.test:443").reveal(),
        format!(
            "CONNECT studio.test:443 HTTP/1.1\r\nHost: studio.test:443\r\nProxy-Authorization: Basic {basic}\r\n\r\n"
        )
    );
    let secrets: Vec<_> = proxies.secrets().iter().map(|secret| secret.reveal().to_owned()).collect();
    assert_eq!(secrets, ["pa%3Ass%20wd", "pa:ss wd", &basic]);
    let shown = format!("{proxies:?} {proxy:?} {proxy} {}", proxy.refusal("studio.test:443", 407));
    assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{shown}");
    assert!(shown.contains("is wrong"), "{shown}");
    let without = self::proxies(&[("https_proxy", PROXY)]);
    let proxy = without.to(&to(true, "studio.test", 443)).unwrap().unwrap();
    assert!(!proxy.request("studio.test:443").reveal().contains("Authorization"));
    assert!(proxy.refusal("studio.test:443", 407).contains("give them in https_proxy"));
}

#[test]
fn an_address_of_ipv6_has_its_brackets() {
    assert_eq!(to(true, "2001:db8::1", 443).authority(), "[2001:db8::1]:443");
    assert_eq!(to(true, "studio.test", 8443).authority(), "studio.test:8443");
}

fn variables() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let names = [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "no_proxy",
        "NO_PROXY",
        "REQUEST_METHOD",
    ];
    let value = prop_oneof![
        "http://[a-z%:@]{0,8}proxy\\.test(:[0-9]{1,5})?",
        "[a-z0-9.:/*,@\\[\\] -]{0,24}",
        "\\PC{0,24}",
    ];
    proptest::collection::vec((proptest::sample::select(Vec::from(names)), value), 0..6)
}

proptest! {
    /// Whatever the variables say: it is decided, this machine is reached straight, and the decision is the same for any
    /// way of writing a name.
    #[test]
    fn any_variables_decide(variables in variables(), secure: bool, host in "[a-z0-9.:-]{1,16}", port: u16) {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let proxies = proxies(&variables);
        for own in ["localhost", "127.0.0.1", "::1"] {
            prop_assert_eq!(proxies.to(&to(secure, own, port)), Ok(None));
        }
        let upper = host.to_uppercase();
        prop_assert_eq!(proxies.to(&to(secure, &host, port)), proxies.to(&to(secure, &upper, port)));
    }

    /// A net has the addresses that begin with its bits, counted one by one.
    #[test]
    fn a_net_is_its_first_bits(net: u32, other: u32, flip in 0_u32..33, bits in 0_u32..33) {
        let near = net ^ 1_u32.checked_shl(flip).unwrap_or(0);
        for other in [other, near] {
            let (left, right) = (IpAddr::V4(net.into()), IpAddr::V4(other.into()));
            let alike = (0..bits).all(|bit| (net >> (31 - bit)) & 1 == (other >> (31 - bit)) & 1);
            prop_assert_eq!(begins_alike(left, right, bits), alike);
            let list = format!("{left}/{bits}");
            let exception = Exception::parse(&list).unwrap();
            prop_assert_eq!(exception.covers(&Host::Address(right), 1), alike);
        }
    }

    /// No password is shown, however odd it is.
    #[test]
    fn no_password_is_shown(password in "[a-zA-Z0-9%!$&'()*+,;=_.~-]{6,20}") {
        let value = format!("http://user:{password}@proxy.test:3128");
        let proxies = proxies(&[("all_proxy", &value)]);
        let refused = match proxies.to(&to(true, "studio.test", 443)) {
            Ok(proxy) => proxy.unwrap().refusal("studio.test:443", 407),
            Err(error) => error.to_string(),
        };
        let shown = format!("{proxies:?} {refused}");
        prop_assert!(!shown.contains(&password), "{}", shown);
    }
}
