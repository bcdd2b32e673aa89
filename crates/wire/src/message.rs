use crate::cursor::Kind;
use crate::notice::decode_notices;
use crate::replica::decode_replicas;
use crate::{Ask, Heartbeat, Keep, Kept, Keys, Notice, Release, ReleaseAnswer, Replica, Truth};

/// A datagram that a node's user space receives. (`bind`, `forward` and `pass` are taken by BPF programs.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// To a back end.
    Release(Release),
    /// To a proxy.
    ReleaseAnswer(ReleaseAnswer),
    /// To a proxy.
    Notices(Vec<Notice>),
    /// To any node.
    Heartbeat(Heartbeat),
    /// To a proxy.
    Entries(Vec<Replica>),
    /// To whoever may have a flow.
    Ask(Ask),
    /// To a proxy.
    Truth(Truth),
    /// To a proxy.
    Keep(Box<Keep>),
    /// To a proxy.
    Kept(Kept),
}

/// Why a datagram is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Shorter or longer than messages of its kind are.
    #[error("message of {0} bytes: not the length of its kind")]
    Length(usize),
    /// Not one of Baton's messages.
    #[error("message does not begin with \"BT\"")]
    Magic,
    /// Of another version of Baton.
    #[error("message of version {0}, this node speaks 1: upgrade the older node")]
    Version(u8),
    /// A kind that is unknown, or not expected here.
    #[error("message of kind {0} is unknown or not for this receiver")]
    Kind(u8),
    /// A field has a value without meaning.
    #[error("message has a field with the meaningless value {0}")]
    Value(u8),
    /// Forged, damaged, or of a node with another secret.
    #[error("wrong tag: the sender has another cluster secret, or the message is forged")]
    Tag,
}

impl Message {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`WireError`]: not a message, or none of the keys made it.
    pub fn decode(datagram: &[u8], keys: &Keys) -> Result<Message, WireError> {
        match Kind::of(datagram)? {
            Kind::Release => Release::decode(datagram, keys).map(Message::Release),
            Kind::ReleaseAnswer => {
                ReleaseAnswer::decode(datagram, keys).map(Message::ReleaseAnswer)
            }
            Kind::Notices => decode_notices(datagram, keys).map(Message::Notices),
            Kind::Heartbeat => Heartbeat::decode(datagram, keys).map(Message::Heartbeat),
            Kind::Entries => decode_replicas(datagram, keys).map(Message::Entries),
            Kind::Ask => Ask::decode(datagram, keys).map(Message::Ask),
            Kind::Truth => Truth::decode(datagram, keys).map(Message::Truth),
            Kind::Keep => Keep::decode(datagram, keys).map(|keep| Message::Keep(Box::new(keep))),
            Kind::Kept => Kept::decode(datagram, keys).map(Message::Kept),
            other @ (Kind::Bind | Kind::Forward | Kind::Pass) => Err(WireError::Kind(other as u8)),
        }
    }
}
