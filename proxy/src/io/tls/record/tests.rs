#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rustls::crypto::cipher::AeadKey;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text.replace([' ', '\n'], "")).unwrap()
}

/// rustls keeps short keys at the front of the longest one's space.
fn aead_key(bytes: &[u8]) -> AeadKey {
    let mut key = [0; 32];
    key[..bytes.len()].copy_from_slice(bytes);
    AeadKey::from(key)
}

fn iv(bytes: &[u8]) -> Iv {
    Iv::from(<[u8; 12]>::try_from(bytes).unwrap())
}

fn aes_128(key: &str, iv_text: &str) -> Keys {
    let secrets = ConnectionTrafficSecrets::Aes128Gcm { key: aead_key(&hex(key)), iv: iv(&hex(iv_text)) };
    Keys::new((0, secrets)).unwrap()
}

/// Two ends that share a key, of each cipher.
fn ends() -> Vec<(Keys, Keys)> {
    let secrets = |cipher| {
        let (key, iv) = (AeadKey::from([7; 32]), Iv::from([9; 12]));
        match cipher {
            0 => ConnectionTrafficSecrets::Aes128Gcm { key, iv },
            1 => ConnectionTrafficSecrets::Aes256Gcm { key, iv },
            _ => ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv },
        }
    };
    (0..3)
        .map(|cipher| (Keys::new((0, secrets(cipher))).unwrap(), Keys::new((0, secrets(cipher))).unwrap()))
        .collect()
}

fn opened(keys: &mut Keys, record: &[u8]) -> Result<(ContentType, Vec<u8>), AlertDescription> {
    let mut into = Buffer::new();
    let record = first(record)?.ok_or(AlertDescription::DecodeError)?;
    let opened = keys.open(record, &mut into)?;
    into.commit(opened.len);
    Ok((opened.kind, into.filled().to_vec()))
}

/// RFC 8448 §3: the application data of the simple 1-RTT handshake, both ways, and the alert of the client.
#[test]
fn records_are_those_of_rfc_8448() {
    let content: Vec<u8> = (0..50).collect();
    let client = ("17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9");
    let sealed = hex(
        "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa 66 bc ab 3f 2b 98 19 a8
         a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14 bd 1e 3d ea e6 3a ee bb 21 69 49 15 e4",
    );
    assert_eq!(
        opened(&mut aes_128(client.0, client.1), &sealed).unwrap(),
        (ContentType::ApplicationData, content.clone())
    );
    let mut out = Buffer::new();
    let mut keys = aes_128(client.0, client.1);
    keys.seal(ContentType::ApplicationData, &content, &mut out).unwrap();
    assert_eq!(out.filled(), sealed);

    out.clear();
    keys.seal(ContentType::Alert, &[1, 0], &mut out).unwrap();
    let alert = hex("17 03 03 00 13 c9 87 27 60 65 56 66 b7 4d 7f f1 15 3e fd 6d b6 d0 b0 e3");
    assert_eq!(out.filled(), alert);
}

#[test]
fn both_ways_of_sealing_give_the_same_records() {
    for (mut one, mut other) in ends().into_iter().zip(ends()).map(|(one, other)| (one.0, other.0)) {
        for content in [&b""[..], b"a", &[5; 1000], &[6; MAX_CONTENT]] {
            let (mut whole, mut begun) = (Buffer::new(), Buffer::new());
            one.seal(ContentType::ApplicationData, content, &mut whole).unwrap();
            begin(&mut begun);
            begun.extend(content);
            other.seal_begun(content.len(), &mut begun).unwrap();
            assert_eq!(whole.filled(), begun.filled());
            assert_eq!(length(whole.filled()), Some(whole.len()));
        }
    }
}

#[test]
fn a_record_that_was_changed_anywhere_is_refused() {
    for (mut sealing, mut opening) in ends() {
        let mut out = Buffer::new();
        sealing.seal(ContentType::ApplicationData, b"content", &mut out).unwrap();
        for position in 0..out.len() {
            let mut record = out.filled().to_vec();
            record[position] ^= 1;
            opening.skip_to(0);
            // The header is looked at before the seal.
            let alert = match position {
                0 => AlertDescription::UnexpectedMessage,
                3 | 4 => {
                    assert!(opened(&mut opening, &record).is_err());
                    continue;
                }
                _ => AlertDescription::BadRecordMac,
            };
            assert_eq!(opened(&mut opening, &record), Err(alert), "{position}");
        }
        opening.skip_to(0);
        assert_eq!(opened(&mut opening, out.filled()).unwrap().1, b"content");
        // The same once more is another record.
        assert_eq!(opened(&mut opening, out.filled()), Err(AlertDescription::BadRecordMac));
    }
}

#[test]
fn padding_is_dropped_and_too_much_content_refused() {
    for (mut sealing, mut opening) in ends() {
        let mut next = |inner: &[u8]| {
            let mut out = Buffer::new();
            sealing.seal_anything(inner, &mut out);
            opened(&mut opening, out.filled())
        };
        assert_eq!(next(b"data\x17\0\0\0\0\0"), Ok((ContentType::ApplicationData, b"data".to_vec())));
        assert_eq!(next(b"\0\0\x16"), Ok((ContentType::Handshake, vec![0, 0])));
        assert_eq!(next(b"\x17\0"), Ok((ContentType::ApplicationData, vec![])));
        assert_eq!(next(b"\0\0\0"), Err(AlertDescription::UnexpectedMessage));
        assert_eq!(next(b""), Err(AlertDescription::UnexpectedMessage));
        let mut full = vec![1; MAX_CONTENT];
        full.push(23);
        assert_eq!(next(&full).unwrap().1.len(), MAX_CONTENT);
        full.extend_from_slice(&[0; 100]);
        assert_eq!(next(&full).unwrap().1.len(), MAX_CONTENT);
        full.insert(0, 1);
        assert_eq!(next(&full), Err(AlertDescription::RecordOverflow));
    }
}

#[test]
fn no_nonce_is_used_twice() {
    for (mut sealing, _) in ends() {
        let mut out = Buffer::new();
        sealing.skip_to(u64::MAX - 1);
        assert!(sealing.seal(ContentType::ApplicationData, b"the last one", &mut out).is_ok());
        let last = out.len();
        assert!(sealing.seal(ContentType::ApplicationData, b"one too many", &mut out).is_err());
        assert_eq!(out.len(), last);
        assert!(sealing.is_worn());
        assert_eq!(opened(&mut sealing, out.filled()), Err(AlertDescription::InternalError));
    }
}

#[test]
fn aes_gcm_keys_wear_out_in_time() {
    let limits: Vec<_> = ends().iter().map(|(keys, _)| keys.limit).collect();
    assert_eq!(limits, [1 << 23, 1 << 23, u64::MAX]);
}

#[test]
fn more_than_a_record_holds_is_not_sealed() {
    for (mut sealing, _) in ends() {
        let mut out = Buffer::new();
        assert!(sealing.seal(ContentType::ApplicationData, &[0; MAX_CONTENT + 1], &mut out).is_err());
        assert_eq!(sealing.sequence(), 0);
    }
}

proptest! {
    #[test]
    fn whatever_comes_is_refused_and_nothing_of_it_told(record in proptest::collection::vec(any::<u8>(), 0..400)) {
        for (_, mut opening) in ends() {
            let mut into = Buffer::new();
            prop_assert!(opening.open(&record, &mut into).is_err());
            prop_assert!(into.is_empty());
            prop_assert!(!matches!(first(&record), Ok(Some(found)) if found.len() > record.len()));
        }
    }

    #[test]
    fn what_is_sealed_is_opened(contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2000), 1..6)) {
        for (mut sealing, mut opening) in ends() {
            for content in &contents {
                let mut out = Buffer::new();
                sealing.seal(ContentType::Handshake, content, &mut out).unwrap();
                prop_assert_eq!(opened(&mut opening, out.filled()), Ok((ContentType::Handshake, content.clone())));
            }
        }
    }
}
