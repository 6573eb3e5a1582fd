//! A backup that only a key opens: AES-256-GCM over all of it, with a key that PBKDF2 makes of what is in a file.

use std::{num::NonZeroU32, path::Path};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    pbkdf2::{self, PBKDF2_HMAC_SHA256},
    rand,
};
use svidecar_process::private::check_handed;
use zeroize::Zeroizing;

use crate::cli::{error::CliError, files};

/// The first bytes of every sealed backup.
const MAGIC: &[u8] = b"svidecar-sealed 1\n";

const SALT_LEN: usize = 16;

/// So many rounds make a passphrase that is guessed cost a tenth of a second a guess.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(600_000 - 1);

/// Least bytes of a key.
const MIN_KEY: usize = 16;

/// What opens a sealed backup.
pub(super) struct Key(Zeroizing<Vec<u8>>);

impl Key {
    /// Reads one: a passphrase or random bytes; white space around it does not matter.
    pub(super) fn read(path: &Path) -> Result<Self, CliError> {
        check_handed(path).map_err(|error| CliError::message(error.to_string()))?;
        let bytes = Zeroizing::new(files::read(path)?);
        let key = bytes.trim_ascii();
        if key.len() < MIN_KEY {
            return Err(CliError::message(format!(
                "the key in {} has {} bytes; at least {MIN_KEY} are needed, as `openssl rand -base64 32` makes",
                path.display(),
                key.len()
            )));
        }
        Ok(Self(Zeroizing::new(key.to_vec())))
    }

    fn derive(&self, salt: &[u8]) -> Result<LessSafeKey, CliError> {
        let mut key = Zeroizing::new([0; 32]);
        pbkdf2::derive(PBKDF2_HMAC_SHA256, ROUNDS, salt, &self.0, key.as_mut());
        UnboundKey::new(&AES_256_GCM, key.as_ref()).map(LessSafeKey::new).map_err(|_| failed())
    }
}

/// Whether these are the bytes of a sealed backup.
pub(super) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Seals: magic, salt, nonce, then the ciphertext with its tag.
pub(super) fn seal(plain: &[u8], key: &Key) -> Result<Vec<u8>, CliError> {
    let (mut salt, mut nonce) = ([0; SALT_LEN], [0; NONCE_LEN]);
    rand::fill(&mut salt).and_then(|()| rand::fill(&mut nonce)).map_err(|_| failed())?;
    let mut body = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
    body.extend_from_slice(plain);
    let sealing = key.derive(&salt)?;
    let nonce_of = Nonce::assume_unique_for_key(nonce);
    sealing.seal_in_place_append_tag(nonce_of, Aad::from(MAGIC), &mut body).map_err(|_| failed())?;
    Ok([MAGIC, salt.as_slice(), nonce.as_slice(), body.as_slice()].concat())
}

/// Opens what [`seal`] sealed.
pub(super) fn open(sealed: &[u8], key: &Key) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let wrong = || CliError::message("the key does not open this backup, or the file is damaged");
    let rest = sealed.strip_prefix(MAGIC).ok_or_else(wrong)?;
    let (salt, rest) = rest.split_at_checked(SALT_LEN).ok_or_else(wrong)?;
    let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or_else(wrong)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
    let mut body = Zeroizing::new(body.to_vec());
    let length =
        key.derive(salt)?.open_in_place(nonce, Aad::from(MAGIC), &mut body).map_err(|_| wrong())?.len();
    body.truncate(length);
    Ok(body)
}

fn failed() -> CliError {
    CliError::message("the backup cannot be sealed: the crypto library refuses")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key(Zeroizing::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn only_the_key_opens_it_and_only_whole() {
        let sealed = seal(b"all the keys", &key("correct horse battery")).unwrap();
        assert!(is_sealed(&sealed) && !sealed.windows(4).any(|window| window == b"keys"));
        assert_eq!(*open(&sealed, &key("correct horse battery")).unwrap(), b"all the keys");
        assert!(open(&sealed, &key("another horse battery")).is_err());
        let cut = sealed.get(..sealed.len() - 1).unwrap();
        assert!(open(cut, &key("correct horse battery")).is_err());
    }
}
