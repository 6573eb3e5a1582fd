//! The record layer of TLS 1.3 (RFC 8446 §5): sealing and opening, straight between buffers.
//!
//! Keys come from rustls after its handshake, and anew from it with each key update. One [`Keys`] serves one direction
//! under one traffic key; its sequence number only grows, and no record is sealed once it has reached its limit, so that
//! no nonce is ever used twice.

use aws_lc_rs::{
    aead::{self, Aad, LessSafeKey, Nonce, UnboundKey},
    error::Unspecified,
};
use rustls::{AlertDescription, ConnectionTrafficSecrets, ContentType, crypto::cipher::Iv};
use zeroize::Zeroizing;

use crate::io::Buffer;

/// Type, version and length before each record.
pub const HEADER: usize = 5;

/// Most bytes of content in a record (RFC 8446 §5.1).
pub const MAX_CONTENT: usize = 16 * 1024;

/// Most bytes after the header (RFC 8446 §5.2).
pub const MAX_SEALED: usize = MAX_CONTENT + 256;

/// Of all three ciphers.
const TAG: usize = 16;

/// What a record of full content is on the wire.
pub const MAX_RECORD: usize = HEADER + MAX_CONTENT + 1 + TAG;

/// Records under one AES-GCM key before it is updated: half of rustls' confidentiality limit (RFC 8446 §5.5).
const AES_GCM_LIMIT: u64 = 1 << 23;

/// The keys of one direction.
pub struct Keys {
    key: LessSafeKey,
    iv: Zeroizing<[u8; aead::NONCE_LEN]>,
    sequence: u64,
    limit: u64,
}

/// A record that was opened; its content follows what was in the buffer, not yet committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What the content is.
    pub kind: ContentType,
    /// Its length in bytes.
    pub len: usize,
}

impl Keys {
    /// From what rustls hands out: the next sequence number and the secrets. `None` for a cipher that is not known.
    #[must_use]
    pub fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Option<Self> {
        let (algorithm, key, iv, limit) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv, AES_GCM_LIMIT),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv, AES_GCM_LIMIT),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&aead::CHACHA20_POLY1305, key, iv, u64::MAX)
            }
            _ => return None,
        };
        // The cipher's own length: rustls keeps all keys in the longest one's space.
        let key = key.as_ref().get(..algorithm.key_len())?;
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
        Some(Self { key, iv: Zeroizing::new(bytes_of(iv)?), sequence, limit })
    }

    /// Whether the key has served long enough.
    #[must_use]
    pub const fn is_worn(&self) -> bool {
        self.sequence >= self.limit
    }

    /// Makes them worn after so many more records.
    #[cfg(test)]
    pub fn wear_out_after(&mut self, records: u64) {
        self.limit = self.sequence + records;
    }

    /// How many records they have served for.
    #[cfg(test)]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// As if they had served for so many records.
    #[cfg(test)]
    pub const fn skip_to(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    /// Seals any content, type and padding, also what is not allowed.
    #[cfg(test)]
    pub fn seal_anything(&mut self, inner: &[u8], out: &mut Buffer) {
        let length = u16::try_from(inner.len() + TAG).unwrap().to_be_bytes();
        let header = [23, 3, 3, length[0], length[1]];
        let mut sealed = inner.to_vec();
        let nonce = self.next_nonce().unwrap();
        self.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut sealed).unwrap();
        out.extend(&header);
        out.extend(&sealed);
    }

    /// The nonce of the next record (RFC 8446 §5.3); `None` when there is none left.
    fn next_nonce(&mut self) -> Option<Nonce> {
        let next = self.sequence.checked_add(1)?;
        let mut nonce = *self.iv;
        // The sequence number is padded to the left.
        for (byte, number) in nonce.iter_mut().rev().zip(self.sequence.to_le_bytes()) {
            *byte ^= number;
        }
        self.sequence = next;
        Some(Nonce::assume_unique_for_key(nonce))
    }

    /// Appends one sealed record with `content`, at most [`MAX_CONTENT`] bytes.
    ///
    /// # Errors
    /// [`Unspecified`] when no nonce is left, or the content is too long.
    pub fn seal(&mut self, kind: ContentType, content: &[u8], out: &mut Buffer) -> Result<(), Unspecified> {
        let header = header(content.len())?;
        let record = HEADER + content.len() + 1 + TAG;
        let space = out.space(record).get_mut(..record).ok_or(Unspecified)?;
        let (head, sealed) = space.split_at_mut_checked(HEADER).ok_or(Unspecified)?;
        let (sealed, kind_and_tag) = sealed.split_at_mut_checked(content.len()).ok_or(Unspecified)?;
        let nonce = self.next_nonce().ok_or(Unspecified)?;
        head.copy_from_slice(&header);
        let inner_kind = [u8::from(kind)];
        self.key.seal_out_of_place_scatter(
            nonce,
            Aad::from(header),
            content,
            sealed,
            &inner_kind,
            kind_and_tag,
        )?;
        out.commit(record);
        Ok(())
    }

    /// Seals in place what [`begin`] started: the last `content` bytes of `out`, behind room for their header.
    ///
    /// # Errors
    /// [`Unspecified`] when no nonce is left, or the content is too long.
    pub fn seal_begun(&mut self, content: usize, out: &mut Buffer) -> Result<(), Unspecified> {
        let header = header(content)?;
        out.push(ContentType::ApplicationData.into());
        let start = out.len().checked_sub(HEADER + content + 1).ok_or(Unspecified)?;
        let record = out.filled_mut().get_mut(start..).ok_or(Unspecified)?;
        let (head, sealed) = record.split_at_mut_checked(HEADER).ok_or(Unspecified)?;
        head.copy_from_slice(&header);
        let nonce = self.next_nonce().ok_or(Unspecified)?;
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(header), sealed)?;
        out.extend(tag.as_ref());
        Ok(())
    }

    /// Opens a record that [`first`] found, and puts its content into the free space of `into`, where the caller commits it.
    ///
    /// # Errors
    /// The alert to answer with (RFC 8446 §5.2, §6).
    pub fn open(&mut self, record: &[u8], into: &mut Buffer) -> Result<Opened, AlertDescription> {
        let (header, sealed) = record.split_first_chunk::<HEADER>().ok_or(AlertDescription::DecodeError)?;
        let (sealed, tag) = sealed.split_last_chunk::<TAG>().ok_or(AlertDescription::BadRecordMac)?;
        let space = into.space(sealed.len()).get_mut(..sealed.len()).unwrap_or_default();
        let nonce = self.next_nonce().ok_or(AlertDescription::InternalError)?;
        self.key
            .open_separate_gather(nonce, Aad::from(*header), sealed, tag, space)
            .map_err(|_| AlertDescription::BadRecordMac)?;
        // The type is the last byte that is not padding (RFC 8446 §5.4).
        let last = space.iter().rposition(|byte| *byte != 0).ok_or(AlertDescription::UnexpectedMessage)?;
        let kind = space.get(last).copied().map_or(ContentType::Unknown(0), ContentType::from);
        if last > MAX_CONTENT {
            return Err(AlertDescription::RecordOverflow);
        }
        Ok(Opened { kind, len: last })
    }
}

/// Room for the header of a record whose content is appended next, to be sealed by [`Keys::seal_begun`].
pub fn begin(out: &mut Buffer) {
    out.extend(&[0; HEADER]);
}

/// The length of the whole record at the front of `bytes` (RFC 8446 §5.1); `None` before its header is complete.
#[must_use]
pub fn length(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<HEADER>()?;
    Some(HEADER + usize::from(u16::from_be_bytes([header[3], header[4]])))
}

/// The sealed record at the front of `bytes`, header included; `None` before it is complete.
///
/// # Errors
/// The alert to answer with, as soon as the header shows that it is none.
pub fn first(bytes: &[u8]) -> Result<Option<&[u8]>, AlertDescription> {
    let Some(length) = length(bytes) else { return Ok(None) };
    if bytes.first().copied().map(ContentType::from) != Some(ContentType::ApplicationData) {
        return Err(AlertDescription::UnexpectedMessage);
    }
    if length > HEADER + MAX_SEALED {
        return Err(AlertDescription::RecordOverflow);
    }
    Ok(bytes.get(..length))
}

/// The header of a sealed record, which is also what the seal covers beside the content.
fn header(content: usize) -> Result<[u8; HEADER], Unspecified> {
    if content > MAX_CONTENT {
        return Err(Unspecified);
    }
    let length = u16::try_from(content + 1 + TAG).map_err(|_| Unspecified)?.to_be_bytes();
    Ok([u8::from(ContentType::ApplicationData), 3, 3, length[0], length[1]])
}

fn bytes_of(iv: &Iv) -> Option<[u8; aead::NONCE_LEN]> {
    iv.as_ref().try_into().ok()
}

#[cfg(test)]
mod tests;
