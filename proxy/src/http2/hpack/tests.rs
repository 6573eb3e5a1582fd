use proptest::prelude::*;

use super::*;
use crate::http2::field::Kind;

/// Collects the fields of a block, with whether they are sensitive.
#[derive(Default)]
struct Collect(Vec<(String, String, bool)>);

impl Sink for Collect {
    fn field(&mut self, name: &[u8], value: &[u8], _: Kind, sensitive: bool) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        self.0.push((text(name), text(value), sensitive));
    }
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String, bool)>, BadBlock> {
    let mut fields = Collect::default();
    decoder.decode(block, &mut fields).map(|()| fields.0)
}

/// Decodes blocks of one connection in turn; a field is `name: value`, a sensitive one begins with `!`.
fn assert_blocks(limit: usize, blocks: &[(&str, &[&str])]) {
    let mut decoder = Decoder::new(limit);
    for (block, expected) in blocks {
        let fields = decode(&mut decoder, &hex::decode(block.replace(' ', "")).unwrap()).unwrap();
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value, sensitive)| format!("{}{name}: {value}", if *sensitive { "!" } else { "" }))
            .collect();
        assert_eq!(fields, *expected, "{block}");
    }
}

#[test]
fn single_fields_of_appendix_c_2() {
    for (block, expected) in [
        ("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", "custom-key: custom-header"),
        ("040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path"),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", "!password: secret"),
        ("82", ":method: GET"),
    ] {
        assert_blocks(4096, &[(block, &[expected])]);
    }
}

const REQUESTS: [&[&str]; 3] = [
    &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"],
    &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com", "cache-control: no-cache"],
    &[
        ":method: GET",
        ":scheme: https",
        ":path: /index.html",
        ":authority: www.example.com",
        "custom-key: custom-value",
    ],
];

#[test]
fn requests_of_appendix_c_3() {
    let [first, second, third] = REQUESTS;
    assert_blocks(
        4096,
        &[
            ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", first),
            ("8286 84be 5808 6e6f 2d63 6163 6865", second),
            ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", third),
        ],
    );
}

#[test]
fn packed_requests_of_appendix_c_4() {
    let [first, second, third] = REQUESTS;
    assert_blocks(
        4096,
        &[
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", first),
            ("8286 84be 5886 a8eb 1064 9cbf", second),
            ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", third),
        ],
    );
}

const RESPONSES: [&[&str]; 3] = [
    &[
        ":status: 302",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:21 GMT",
        "location: https://www.example.com",
    ],
    &[
        ":status: 307",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:21 GMT",
        "location: https://www.example.com",
    ],
    &[
        ":status: 200",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:22 GMT",
        "location: https://www.example.com",
        "content-encoding: gzip",
        "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    ],
];

#[test]
fn responses_of_appendix_c_5_with_a_table_that_overflows() {
    let [first, second, third] = RESPONSES;
    assert_blocks(
        256,
        &[
            (
                "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 \
                 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                first,
            ),
            ("4803 3330 37c1 c0bf", second),
            (
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 \
                 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 \
                 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
                third,
            ),
        ],
    );
}

#[test]
fn packed_responses_of_appendix_c_6_with_a_table_that_overflows() {
    let [first, second, third] = RESPONSES;
    assert_blocks(
        256,
        &[
            (
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad \
                 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                first,
            ),
            ("4883 640e ffc1 c0bf", second),
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 \
                 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                third,
            ),
        ],
    );
}

#[test]
fn what_breaks_the_format_is_refused() {
    for (block, why) in [
        (&[0x80][..], "index 0"),
        (&[0xbe], "an index of an empty table"),
        (&[0x41], "a name without a value"),
        (&[0x40, 0x05, b'a'], "a string that is longer than the block"),
        (&[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01], "an integer that is too long"),
        (&[0x82, 0x20], "a table that changes size after a field"),
        (&[0x3f, 0xe2, 0x1f], "a table that is larger than allowed"),
        (&[0x40, 0x81, 0x00, 0x00], "a packed string with wrong padding"),
        (&[0xff], "an integer that is cut"),
    ] {
        decode(&mut Decoder::new(4096), block).expect_err(why);
    }
    decode(&mut Decoder::new(4096), &[0x20, 0x3f, 0xe1, 0x1f, 0x82])
        .expect("two changes of size, the second up again");
}

#[test]
fn the_name_of_an_entry_survives_that_the_entry_makes_room() {
    let mut decoder = Decoder::new(64);
    let name = "a-name-of-twenty-octs";
    let mut block = vec![0x40, 21];
    block.extend(name.as_bytes());
    block.extend([1, b'1']);
    block.extend([0x40 | 62, 11]);
    block.extend(b"another one");
    let fields = decode(&mut decoder, &block).unwrap();
    assert_eq!(fields[1], (name.into(), "another one".into(), false));
    assert_eq!(decode(&mut decoder, &[0xbe]).unwrap()[0].1, "another one");
}

/// What an encoder makes of fields, as a decoder that was there from the start understands it.
struct Pair(Encoder, Decoder);

impl Pair {
    fn new() -> Self {
        Self(Encoder::new(), Decoder::new(4096))
    }

    fn pass(&mut self, fields: &[(String, String, bool)]) -> (Vec<(String, String, bool)>, usize) {
        let mut block = Vec::new();
        self.0.begin(&mut block);
        for (name, value, sensitive) in fields {
            self.0.field(name.as_bytes(), value.as_bytes(), *sensitive, &mut block);
        }
        (decode(&mut self.1, &block).unwrap(), block.len())
    }
}

#[test]
fn what_repeats_becomes_one_octet_and_what_does_not_stays_out() {
    let mut pair = Pair::new();
    let mut lengths = Vec::new();
    for number in 0..300 {
        let fields = [
            ("user-agent", "a client/1.0", false),
            ("x-request-id", &format!("{number:036}"), false),
            ("authorization", "Bearer secret", true),
        ]
        .map(|(name, value, sensitive)| (name.to_string(), value.to_string(), sensitive));
        let (passed, length) = pair.pass(&fields);
        assert_eq!(passed, fields);
        lengths.push(length);
    }
    let unique = 1 + 13 + 1 + 36;
    let secret = 2 + 1 + 13;
    assert_eq!(lengths[0], 2 + 1 + 12 + unique + secret);
    assert!(lengths[2..].iter().all(|length| *length == 1 + unique + secret), "{lengths:?}");
}

#[test]
fn the_table_is_as_small_as_the_peer_says() {
    let mut pair = Pair::new();
    let fields = [("x-a".to_string(), "b".to_string(), false)];
    pair.pass(&fields);
    pair.pass(&fields);
    assert_eq!(pair.pass(&fields).1, 1);
    pair.0.resize(0);
    let (passed, length) = pair.pass(&fields);
    assert_eq!((passed, length), (fields.to_vec(), 1 + 1 + 1 + 3 + 1 + 1));
    pair.0.resize(0);
    pair.0.resize(1 << 20);
    pair.pass(&fields);
    assert_eq!(pair.pass(&fields).1, 1);
}

fn field() -> impl Strategy<Value = (String, String, bool)> {
    let name = prop_oneof!["[a-z-]{1,20}", Just("content-type".to_string()), Just("x-a".to_string())];
    (name, prop_oneof!["[ -~]{0,200}", "[ab]"], prop::bool::weighted(0.1))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn fields_survive_whatever_came_before(
        heads in prop::collection::vec((prop::collection::vec(field(), 0..20), prop::option::of(0_usize..5000)), 1..20),
    ) {
        let mut pair = Pair::new();
        for (fields, resize) in heads {
            if let Some(size) = resize {
                pair.0.resize(size);
            }
            // Twice, so that much of it comes from the table.
            prop_assert_eq!(&pair.pass(&fields).0, &fields);
            prop_assert_eq!(&pair.pass(&fields).0, &fields);
        }
    }

    #[test]
    fn nothing_panics(blocks: Vec<Vec<u8>>) {
        let mut decoder = Decoder::new(4096);
        for block in blocks {
            let _ = decoder.decode(&block, &mut crate::http2::head::Discard);
        }
    }
}
