use super::*;

#[test]
fn keys_survive_pkcs8_der_and_pem() {
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let key = PrivateKey::generate(key_type).unwrap();
        for copy in
            [PrivateKey::from_pkcs8_der(key.pkcs8_der()), PrivateKey::from_pem(key.to_pkcs8_pem().as_bytes())]
        {
            let copy = copy.unwrap();
            assert_eq!(copy.key_type(), key_type);
            assert_eq!(copy.spki_der(), key.spki_der());
        }
    }
}

#[test]
fn public_keys_are_rebuilt_bit_by_bit() {
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let spki = PrivateKey::generate(key_type).unwrap().spki_der();
        assert_eq!(PublicKey::parse(&spki).unwrap().spki_der(), spki);
    }
}

#[test]
fn what_is_no_key_is_an_error() {
    assert!(PrivateKey::from_pkcs8_der(b"nonsense").is_err());
    assert!(PrivateKey::from_pem(b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n").is_err());
    assert!(PublicKey::parse(&[0x30, 0]).is_err());
    assert_eq!("ec-p256".parse::<KeyType>(), Ok(KeyType::EcP256));
    assert_eq!("ed25519".parse::<KeyType>().unwrap_err().code(), "unknown_key_type");
}
