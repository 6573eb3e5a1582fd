//! What comes on a finished connection beside data: alerts, key updates and tickets (RFC 8446 §4.6, §6).

use rustls::{
    AlertDescription, ContentType, HandshakeType, client::ClientConnectionData, kernel::KernelConnection,
    server::ServerConnectionData,
};

use super::record::Keys;
use crate::io::Buffer;

/// A close_notify alert: level warning, description 0.
pub const CLOSE_NOTIFY: [u8; 2] = [1, 0];

/// A KeyUpdate message that asks for none in return (RFC 8446 §4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// Type and length before each handshake message.
const MESSAGE_HEADER: usize = 4;

/// The longest message after the handshake: a ticket has at most 2^16 - 1 bytes.
const MAX_MESSAGE: usize = 0xffff;

/// Records without data, one after the other, that are borne with.
const MOST_WITHOUT_DATA: u8 = 64;

/// A fatal alert.
#[must_use]
pub fn fatal(alert: AlertDescription) -> [u8; 2] {
    [2, alert.into()]
}

/// What a record without data means for the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It goes on.
    Nothing,
    /// The other side sends nothing more.
    Closed,
    /// The other side gave up.
    Failed(AlertDescription),
}

/// Our side's end of the key schedule.
pub enum Side {
    /// We dialled; tickets come to us.
    Client(KernelConnection<ClientConnectionData>),
    /// We accepted.
    Server(KernelConnection<ServerConnectionData>),
}

/// What is left of the handshake.
pub struct AfterHandshake {
    pub(super) side: Box<Side>,
    /// The beginning of a message that more records continue.
    fragment: Vec<u8>,
    without_data: u8,
    owes_key_update: bool,
}

impl AfterHandshake {
    /// Of a handshake that is over.
    #[must_use]
    pub fn new(side: Side) -> Self {
        Self { side: Box::new(side), fragment: Vec::new(), without_data: 0, owes_key_update: false }
    }

    /// A record with data came.
    ///
    /// # Errors
    /// The alert to end the connection with.
    pub fn data_came(&mut self) -> Result<(), AlertDescription> {
        self.without_data = 0;
        self.check_not_within_message()
    }

    /// The records of one message come one after the other (RFC 8446 §5.1).
    fn check_not_within_message(&self) -> Result<(), AlertDescription> {
        if self.fragment.is_empty() { Ok(()) } else { Err(AlertDescription::UnexpectedMessage) }
    }

    /// Whether the other side waits for new keys of ours.
    #[must_use]
    pub const fn owes_key_update(&self) -> bool {
        self.owes_key_update
    }

    /// Takes a record that is not data, or is empty.
    ///
    /// # Errors
    /// The alert to end the connection with.
    pub fn receive(
        &mut self,
        kind: ContentType,
        content: &[u8],
        opening: &mut Keys,
    ) -> Result<Told, AlertDescription> {
        self.without_data += 1;
        if self.without_data > MOST_WITHOUT_DATA {
            return Err(AlertDescription::UnexpectedMessage);
        }
        if kind != ContentType::Handshake {
            self.check_not_within_message()?;
        }
        match (kind, content) {
            (ContentType::ApplicationData, _) => Ok(Told::Nothing),
            (ContentType::Alert, [_, description]) => Ok(match AlertDescription::from(*description) {
                AlertDescription::CloseNotify => Told::Closed,
                AlertDescription::UserCanceled => Told::Nothing,
                other => Told::Failed(other),
            }),
            (ContentType::Alert, _) => Err(AlertDescription::DecodeError),
            (ContentType::Handshake, [_, ..]) => self.receive_messages(content, opening),
            _ => Err(AlertDescription::UnexpectedMessage),
        }
    }

    fn receive_messages(&mut self, content: &[u8], opening: &mut Keys) -> Result<Told, AlertDescription> {
        let mut joined = std::mem::take(&mut self.fragment);
        let mut rest = content;
        if !joined.is_empty() {
            joined.extend_from_slice(content);
            rest = &joined;
        }
        while let Some((header, body)) = rest.split_first_chunk::<MESSAGE_HEADER>() {
            let [kind, length @ ..] = *header;
            let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
            if length > MAX_MESSAGE {
                return Err(AlertDescription::DecodeError);
            }
            let Some((message, next)) = body.split_at_checked(length) else { break };
            self.receive_message(HandshakeType::from(kind), message, next.is_empty(), opening)?;
            rest = next;
        }
        self.fragment = rest.to_vec();
        Ok(Told::Nothing)
    }

    fn receive_message(
        &mut self,
        kind: HandshakeType,
        message: &[u8],
        ends_record: bool,
        opening: &mut Keys,
    ) -> Result<(), AlertDescription> {
        match (kind, &mut *self.side) {
            // Nothing under the old keys may follow (RFC 8446 §5.1).
            (HandshakeType::KeyUpdate, _) if !ends_record => Err(AlertDescription::UnexpectedMessage),
            (HandshakeType::KeyUpdate, side) => {
                match message {
                    [0] => {}
                    // One update answers any number of requests.
                    [1] => self.owes_key_update = true,
                    [_] => return Err(AlertDescription::IllegalParameter),
                    _ => return Err(AlertDescription::DecodeError),
                }
                let updated = match side {
                    Side::Client(connection) => connection.update_rx_secret(),
                    Side::Server(connection) => connection.update_rx_secret(),
                };
                let secrets = updated.map_err(|_| AlertDescription::InternalError)?;
                *opening = Keys::new(secrets).ok_or(AlertDescription::InternalError)?;
                Ok(())
            }
            (HandshakeType::NewSessionTicket, Side::Client(connection)) => {
                connection.handle_new_session_ticket(message).map_err(|_| AlertDescription::DecodeError)
            }
            _ => Err(AlertDescription::UnexpectedMessage),
        }
    }

    /// Tells the other side that new keys seal what comes next, and changes to them. `None` when that is not possible.
    pub fn update_sealing(&mut self, sealing: &mut Keys, out: &mut Buffer) -> Option<()> {
        let updated = match &mut *self.side {
            Side::Client(connection) => connection.update_tx_secret(),
            Side::Server(connection) => connection.update_tx_secret(),
        };
        let keys = Keys::new(updated.ok()?)?;
        sealing.seal(ContentType::Handshake, &KEY_UPDATE, out).ok()?;
        *sealing = keys;
        self.owes_key_update = false;
        Some(())
    }
}
