//! The nine octets before each frame (RFC 9113 §4.1), and what types and flags there are.

/// The length of a frame header, in octets.
pub const HEADER: usize = 9;

/// The least that any peer takes as payload, in octets.
pub const LEAST_MAX_FRAME: u32 = 16_384;

/// The most that a length can say, in octets.
pub const MOST_MAX_FRAME: u32 = (1 << 24) - 1;

/// The largest window, in octets (RFC 9113 §6.9.1).
pub const LARGEST_WINDOW: u32 = i32::MAX.cast_unsigned();

/// What a client sends before its first frame (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (RFC 9113 §6).
pub mod kind {
    pub const DATA: u8 = 0x0;
    pub const HEADERS: u8 = 0x1;
    pub const PRIORITY: u8 = 0x2;
    pub const RST_STREAM: u8 = 0x3;
    pub const SETTINGS: u8 = 0x4;
    pub const PUSH_PROMISE: u8 = 0x5;
    pub const PING: u8 = 0x6;
    pub const GOAWAY: u8 = 0x7;
    pub const WINDOW_UPDATE: u8 = 0x8;
    pub const CONTINUATION: u8 = 0x9;
}

/// Flags (RFC 9113 §6).
pub mod flag {
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// A frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Octets of payload.
    pub length: usize,
    /// One of [`kind`], or one that nobody knows.
    pub kind: u8,
    /// Some of [`flag`].
    pub flags: u8,
    /// 0 for the connection.
    pub stream: u32,
}

impl Header {
    /// Reads the header at the front, if it is there in full.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (&[l2, l1, l0, kind, flags, s3, s2, s1, s0], _) = bytes.split_first_chunk::<HEADER>()?;
        let length = u32::from_be_bytes([0, l2, l1, l0]) as usize;
        let stream = u32::from_be_bytes([s3 & 0x7f, s2, s1, s0]);
        Some(Self { length, kind, flags, stream })
    }

    /// The header as it goes out.
    #[must_use]
    pub fn write(self) -> [u8; HEADER] {
        let [_, l2, l1, l0] = u32::try_from(self.length).unwrap_or(MOST_MAX_FRAME).to_be_bytes();
        let [s3, s2, s1, s0] = self.stream.to_be_bytes();
        [l2, l1, l0, self.kind, self.flags, s3, s2, s1, s0]
    }

    /// Whether this flag is set.
    #[must_use]
    pub const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_wire_and_the_reserved_bit_does_not() {
        let header = Header { length: 0x01_02_03, kind: 9, flags: 0x2d, stream: 0x7fff_fffe };
        assert_eq!(Header::read(&header.write()), Some(header));
        let mut bytes = header.write();
        bytes[5] |= 0x80;
        assert_eq!(Header::read(&bytes), Some(header));
        assert_eq!(Header::read(&bytes[..8]), None);
    }
}
