#![allow(clippy::unwrap_used)]

use http::HeaderMap;
use indexmap::IndexMap;
use proptest::prelude::*;
use svidecar_config::proxy::HeadersFromPath;

use super::*;

const SPOOFED: &str = "spiffe://demo.org/admin";

fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

fn compile(change: impl FnOnce(&mut IdentityHeaderSettings)) -> IdentityHeaders {
    let mut settings = IdentityHeaderSettings::default();
    change(&mut settings);
    IdentityHeaders::compile(&settings).unwrap()
}

/// The headers of `spiffe://demo.org/shop` with a chain that is any bytes: only its hash is looked at.
fn shop(headers: &IdentityHeaders) -> PeerHeaders {
    let (peer, own) = (id("spiffe://demo.org/shop"), id("spiffe://demo.org/orders"));
    let chain = [CertificateDer::from(b"leaf".as_slice())];
    headers.of_peer(&PeerFacts { id: &peer, own_id: Some(&own), chain: &chain })
}

fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &'static str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static(value))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in pairs.iter().map(pair) {
        headers.append(name, value);
    }
    headers
}

fn fields_of(headers: &HeaderMap) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in headers {
        fields.push(name.as_str().as_bytes(), value.as_bytes());
    }
    fields
}

fn map_of(fields: &Fields) -> HeaderMap {
    let name = |name: &[u8]| HeaderName::from_bytes(name).unwrap();
    fields.iter().map(|(field, value)| (name(field), HeaderValue::from_bytes(value).unwrap())).collect()
}

fn apply(compiled: &IdentityHeaders, headers: &mut HeaderMap, peer: Option<&PeerHeaders>) {
    let mut fields = fields_of(headers);
    compiled.rewrite(&mut fields, peer);
    *headers = map_of(&fields);
}

fn strip(compiled: &IdentityHeaders, trailers: &mut HeaderMap) {
    let mut fields = fields_of(trailers);
    compiled.clean(&mut fields);
    *trailers = map_of(&fields);
}

#[test]
fn the_default_sets_xfcc_and_the_plain_id() {
    let compiled = compile(|_| ());
    let mut headers = map(&[("accept", "*/*")]);
    apply(&compiled, &mut headers, Some(&shop(&compiled)));
    assert_eq!(headers["x-spiffe-id"], "spiffe://demo.org/shop");
    let hash = hex::encode(sha256(b"leaf"));
    assert_eq!(headers[XFCC], format!("By=spiffe://demo.org/orders;Hash={hash};URI=spiffe://demo.org/shop"));
    assert_eq!(headers.len(), 3);
}

/// The matrix of spoofing: every spelling is removed, for a peer and for nobody.
#[test]
fn no_spelling_of_an_identity_header_gets_through() {
    let compiled = compile(|settings| {
        settings.spiffe_id_header = "x-peer-id".into();
        settings.from_path = vec![HeadersFromPath {
            id: "spiffe://demo.org/robot/{robot_id}".parse().unwrap(),
            headers: IndexMap::from([("x-robot-id".to_owned(), "{robot_id}".to_owned())]),
        }];
    });
    for name in [
        "x-forwarded-client-cert",
        "X-Forwarded-Client-Cert",
        "x_forwarded_client_cert",
        "X_Forwarded-Client.Cert",
        "x-spiffe-id",
        "x_spiffe_id",
        "X-SPIFFE_ID",
        "x-peer-id",
        "x_peer_id",
        "x~peer!id",
        "x-robot-id",
        "X_ROBOT_ID",
    ] {
        let mut headers = HeaderMap::new();
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name.clone(), HeaderValue::from_static(SPOOFED));
        headers.append(name.clone(), HeaderValue::from_static(SPOOFED));
        headers.append("x-spiffe-identity", HeaderValue::from_static("not one of them"));
        for peer in [None, Some(shop(&compiled))] {
            let mut applied = headers.clone();
            apply(&compiled, &mut applied, peer.as_ref());
            assert!(applied.values().all(|value| value != SPOOFED), "{name} as {applied:?}");
            assert!(applied.contains_key("x-spiffe-identity"));
            assert_eq!(applied.get_all("x-peer-id").iter().count(), usize::from(peer.is_some()));
            let mut trailers = headers.clone();
            strip(&compiled, &mut trailers);
            assert_eq!(trailers.len(), 1, "{name}");
        }
    }
}

#[test]
fn what_else_was_sent_stays_as_it_was() {
    let compiled = compile(|settings| settings.spiffe_id_header = format!("x-{}", "long".repeat(20)));
    let spelling = format!("X_{}", "LONG".repeat(20));
    let mut fields: Fields = [
        ("Accept", "*/*"),
        ("X-SPIFFE_Id", SPOOFED),
        (&spelling, SPOOFED),
        ("X-Other", "1"),
        ("X-Forwarded.client-Cert", SPOOFED),
        ("accept", "text/html"),
    ]
    .into_iter()
    .collect();
    compiled.rewrite(&mut fields, None);
    assert_eq!(fields, [("Accept", "*/*"), ("X-Other", "1"), ("accept", "text/html")].into_iter().collect());
}

#[test]
fn a_name_that_ends_in_a_sign_is_known_in_all_spellings() {
    let compiled = compile(|settings| settings.spiffe_id_header = "x-peer-id-".into());
    let mut fields: Fields = [("X-Peer-ID_", SPOOFED), ("x-peer-id.", SPOOFED)].into_iter().collect();
    compiled.rewrite(&mut fields, None);
    assert!(fields.is_empty());
}

#[test]
fn nothing_is_set_for_an_unauthenticated_peer() {
    let compiled = compile(|settings| settings.mode = HeaderMode::AppendForward);
    let mut headers = map(&[("x-forwarded-client-cert", "URI=spiffe://demo.org/admin")]);
    apply(&compiled, &mut headers, None);
    assert!(headers.is_empty());
}

#[test]
fn only_listed_peers_are_appended_to() {
    let sent = map(&[("x-forwarded-client-cert", "Hash=aa;URI=spiffe://demo.org/edge")]);
    let ours = |compiled: &IdentityHeaders| {
        let mut headers = sent.clone();
        apply(compiled, &mut headers, Some(&shop(compiled)));
        let value = headers[XFCC].to_str().unwrap().to_owned();
        xfcc::parse(&value)
            .unwrap()
            .iter()
            .map(|e| e.get(&Key::Uri).next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let unlisted =
        compile(|settings| settings.append_from = vec!["spiffe://demo.org/gateway".parse().unwrap()]);
    assert_eq!(ours(&unlisted), ["spiffe://demo.org/shop"]);
    let listed = compile(|settings| settings.append_from = vec!["spiffe://demo.org/*".parse().unwrap()]);
    assert_eq!(ours(&listed), ["spiffe://demo.org/edge", "spiffe://demo.org/shop"]);
}

/// A quote that the peer leaves open would swallow the element that we append.
#[test]
fn what_does_not_parse_is_never_appended_to() {
    let compiled = compile(|settings| settings.append_from = vec!["spiffe://demo.org/**".parse().unwrap()]);
    for sent in ["Subject=\"CN=x", "URI=spiffe://demo.org/admin;Subject=\"", "URI", "URI=a=b", "URI=a,"] {
        let mut headers = map(&[("x-forwarded-client-cert", sent)]);
        apply(&compiled, &mut headers, Some(&shop(&compiled)));
        let value = headers[XFCC].to_str().unwrap();
        let elements = xfcc::parse(value).unwrap();
        assert_eq!(elements.len(), 1, "{sent} gave {value}");
    }
    let long = format!("URI={}", "a".repeat(MAX_APPENDED_BYTES));
    let mut headers = HeaderMap::from_iter([(XFCC, HeaderValue::try_from(long).unwrap())]);
    apply(&compiled, &mut headers, Some(&shop(&compiled)));
    assert!(headers[XFCC].len() < 200);
}

#[test]
fn the_other_modes_do_what_envoys_do() {
    let sent = map(&[("x-forwarded-client-cert", "URI=spiffe://demo.org/edge")]);
    let value = |mode, sent: &HeaderMap| {
        let compiled = compile(|settings| settings.mode = mode);
        let mut headers = sent.clone();
        apply(&compiled, &mut headers, Some(&shop(&compiled)));
        headers.get(XFCC).map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(value(HeaderMode::Sanitize, &sent), None);
    assert_eq!(value(HeaderMode::ForwardOnly, &sent).unwrap(), "URI=spiffe://demo.org/edge");
    assert_eq!(value(HeaderMode::ForwardOnly, &HeaderMap::new()), None);
    let appended = value(HeaderMode::AppendForward, &sent).unwrap();
    assert!(appended.starts_with("URI=spiffe://demo.org/edge,By="), "{appended}");
}

#[test]
fn parts_of_the_id_become_headers() {
    let from_path = |id: &str, name: &str, template: &str| HeadersFromPath {
        id: id.parse().unwrap(),
        headers: IndexMap::from([(name.to_owned(), template.to_owned())]),
    };
    let compiled = compile(|settings| {
        settings.from_path = vec![
            from_path("spiffe://demo.org/robot/{robot_id}", "x-robot-id", "{robot_id}"),
            from_path("spiffe://demo.org/{tenant}/{robot_id}", "x-who", "{tenant}:{robot_id}!"),
            from_path("spiffe://demo.org/car/{plate}", "x-plate", "{plate}"),
        ];
    });
    let peer = id("spiffe://demo.org/robot/r2d2");
    let mut headers = map(&[("x-plate", "spoofed")]);
    let of_peer = compiled.of_peer(&PeerFacts { id: &peer, own_id: None, chain: &[] });
    apply(&compiled, &mut headers, Some(&of_peer));
    assert_eq!(headers["x-robot-id"], "r2d2");
    assert_eq!(headers["x-who"], "robot:r2d2!");
    assert!(!headers.contains_key("x-plate"));

    for (template, problem) in [
        ("{other}", "the pattern has no {other}; it has {robot_id}"),
        ("{robot_id", "is not closed"),
        ("a}", "is not opened"),
    ] {
        let from_path = vec![from_path("spiffe://demo.org/robot/{robot_id}", "x-a", template)];
        let settings = IdentityHeaderSettings { from_path, ..IdentityHeaderSettings::default() };
        let error = IdentityHeaders::compile(&settings).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn all_details_come_in_envoys_order() {
    let compiled = compile(|settings| {
        settings.xfcc_details = vec![
            XfccDetail::Dns,
            XfccDetail::Uri,
            XfccDetail::Subject,
            XfccDetail::Chain,
            XfccDetail::Cert,
            XfccDetail::Hash,
            XfccDetail::By,
        ];
    });
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params =
        rcgen::CertificateParams::new(vec!["a.example.org".into(), "b.example.org".into()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "Mr \"X\", Jr; a=b");
    let leaf = params.self_signed(&key).unwrap();
    let (peer, own) = (id("spiffe://demo.org/shop"), id("spiffe://demo.org/orders"));
    let chain = [leaf.der().clone()];
    let of_peer = compiled.of_peer(&PeerFacts { id: &peer, own_id: Some(&own), chain: &chain });
    let mut headers = HeaderMap::new();
    apply(&compiled, &mut headers, Some(&of_peer));
    let text = headers[XFCC].to_str().unwrap();
    let [element] = &xfcc::parse(text).unwrap()[..] else { panic!("{text}") };
    let pem = element.get(&Key::Cert).next().unwrap();
    assert!(
        pem.starts_with("-----BEGIN%20CERTIFICATE-----%0A")
            && pem.ends_with("-----END%20CERTIFICATE-----%0A")
    );
    assert_eq!(element.get(&Key::Chain).next().unwrap(), pem);
    assert_eq!(element.get(&Key::Dns).collect::<Vec<_>>(), ["a.example.org", "b.example.org"]);
    assert_eq!(element.get(&Key::Subject).next().unwrap(), CertInfo::parse(&chain[0]).unwrap().subject);
    let keys: Vec<_> = ["By=", ";Hash=", ";Cert=\"", ";Chain=\"", ";Subject=\"", ";URI=", ";DNS="]
        .iter()
        .map(|key| text.find(key).unwrap())
        .collect();
    assert!(keys.is_sorted(), "{text}");
}

/// Values as Envoy's documentation of the header shows them.
#[test]
fn envoys_examples_are_read() {
    let text = "By=http://frontend.lyft.com;Hash=468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688;\
                Subject=\"/C=US/ST=CA/L=San Francisco/OU=Lyft/CN=Test Client\";URI=http://testclient.lyft.com,\
                by=http://backend.lyft.com;hash=9ba61d64;uri=http://frontend.lyft.com";
    let elements = xfcc::parse(text).unwrap();
    assert_eq!(elements.len(), 2);
    assert_eq!(
        elements[0].get(&Key::Subject).next(),
        Some("/C=US/ST=CA/L=San Francisco/OU=Lyft/CN=Test Client")
    );
    assert_eq!(elements[1].get(&Key::By).next(), Some("http://backend.lyft.com"));
    assert_eq!(xfcc::parse("By=;URI=a").unwrap()[0].get(&Key::By).next(), Some(""));
}

#[test]
fn breaches_of_the_grammar_are_errors() {
    use xfcc::XfccError::*;
    for (text, error) in [
        ("", NoValue),
        ("URI", NoValue),
        ("URI=a;", NoValue),
        ("URI=a,,URI=b", NoValue),
        ("=a", NoKey),
        ("URI=\"a", Quote),
        ("URI=\"a\"b", Quote),
        ("URI=a\"b\"", Quote),
        ("URI=a=b", Bare),
    ] {
        assert_eq!(xfcc::parse(text), Err(error), "{text}");
    }
    assert_eq!(xfcc::parse(&vec!["a=b"; 300].join(";")), Err(TooMany));
}

fn any_element() -> impl Strategy<Value = Element> {
    let key = prop::sample::select(vec![
        Key::By,
        Key::Hash,
        Key::Cert,
        Key::Chain,
        Key::Subject,
        Key::Uri,
        Key::Dns,
        Key::Other("Later".into()),
    ]);
    // Any value but one that ends in a backslash, which the grammar cannot say.
    let value = "[ -~]{0,20}".prop_filter("no final backslash", |value| !value.ends_with('\\'));
    prop::collection::vec((key, value), 1..6).prop_map(|pairs| {
        let mut element = Element::default();
        pairs.into_iter().for_each(|(key, value)| element.push(key, value));
        element
    })
}

proptest! {
    /// Whatever the name: it gets through exactly if no application could read it as one of ours.
    #[test]
    fn a_field_is_removed_if_it_folds_to_an_identity_header(name in "[xX][-_.!]?[sS]piff[eE2][-_~]{0,2}[iI][dD]") {
        let compiled = compile(|_| ());
        let mut fields: Fields = [(name.as_str(), SPOOFED)].into_iter().collect();
        compiled.rewrite(&mut fields, None);
        let folded: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
            .collect();
        prop_assert_eq!(fields.len(), usize::from(folded != "x_spiffe_id"));
    }

    #[test]
    fn what_is_written_is_read_back(elements in prop::collection::vec(any_element(), 1..4)) {
        let text = elements.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        prop_assert_eq!(xfcc::parse(&text).unwrap(), elements);
    }

    /// No value, however it ends, changes what follows it.
    #[test]
    fn a_value_stays_in_its_place(subject in "[\\\\\"a,;=]{0,8}") {
        let mut element = Element::default();
        element.push(Key::Subject, subject);
        element.push(Key::Uri, "spiffe://demo.org/shop");
        let read = xfcc::parse(&element.to_string()).unwrap();
        prop_assert_eq!(read.len(), 1);
        prop_assert_eq!(read[0].get(&Key::Uri).collect::<Vec<_>>(), vec!["spiffe://demo.org/shop"]);
    }

    #[test]
    fn any_text_is_read_without_panic(text in "\\PC{0,80}") {
        let _ = xfcc::parse(&text);
    }
}
