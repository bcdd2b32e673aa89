use baton_packet::{FlowKey, Seq};

use crate::cursor::{Kind, Reader, Writer};
use crate::{Key, Keys, WireError};

/// Length of a release and of its answer (bytes).
///
/// ```text
///  0       4       5               8
/// +-------+-------+---------------+
/// |prefix |outcome| flags |   0   |
/// +-------+-------+-------+-------+
/// |             tag               |  8
/// +---------------+---------------+
/// |  flow key (36 bytes)          | 16
/// |               +---------------+
/// |               |    epoch      | 52
/// +---------------+---------------+
/// |   boundary    |   requests    | 56
/// +---------------+---------------+
/// |   bodiless    |     ack       | 64
/// +---------------+---------------+
/// |     seq       |       0       | 72
/// +---------------+---------------+ 80
/// ```
pub const RELEASE_LEN: usize = 80;

const FORCE: u8 = 1;

/// May this flow leave you? Proxy to back end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// The flow.
    pub key: FlowKey,
    /// Of the bind, as in [`Bind`](crate::Bind).
    pub epoch: u32,
    /// Of the bind.
    pub seq: Seq,
    /// Where the request begins that shall go elsewhere.
    pub boundary: Seq,
    /// Requests since the bind, all of which must be answered.
    pub requests: u32,
    /// Which of them are HEAD, as in [`Bind`](crate::Bind).
    pub bodiless: u32,
    /// The client's newest acknowledgement: the request that waits here carries it, so the server has not seen it.
    pub ack: Seq,
    /// Remove the socket whatever it is doing: the client has begun a new connection.
    pub force: bool,
}

/// The agent's answer to a [`Release`]; it names the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseAnswer {
    /// The flow.
    pub key: FlowKey,
    /// Of the bind.
    pub epoch: u32,
    /// Of the bind.
    pub seq: Seq,
    /// As asked.
    pub boundary: Seq,
    /// As asked.
    pub requests: u32,
    /// As asked.
    pub bodiless: u32,
    /// The answer.
    pub outcome: Outcome,
}

/// What the agent says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All that the server owed is sent and acknowledged, its egress is fenced, its socket removed.
    Released {
        /// The server's next sequence number: the next server goes on there.
        ack: Seq,
    },
    /// Not yet; a notice `ready` says when to ask again.
    Busy,
    /// The server has closed the connection or is about to: the request belongs there.
    Closed,
    /// No such flow here.
    Unknown,
}

impl Release {
    /// The datagram.
    pub fn encode(&self, key: &Key) -> [u8; RELEASE_LEN] {
        let flags = if self.force { FORCE } else { 0 };
        encode(Kind::Release, key, &self.state(), 0, flags, self.ack)
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// [`WireError`]: not a release, or none of the keys made it.
    pub fn decode(message: &[u8], keys: &Keys) -> Result<Release, WireError> {
        let (state, _, flags, ack) = decode(Kind::Release, message, keys)?;
        let State {
            key,
            epoch,
            seq,
            boundary,
            requests,
            bodiless,
        } = state;
        Ok(Release {
            key,
            epoch,
            seq,
            boundary,
            requests,
            bodiless,
            ack,
            force: flags & FORCE != 0,
        })
    }

    /// The answer to this request.
    pub fn answer(&self, outcome: Outcome) -> ReleaseAnswer {
        let State {
            key,
            epoch,
            seq,
            boundary,
            requests,
            bodiless,
        } = self.state();
        ReleaseAnswer {
            key,
            epoch,
            seq,
            boundary,
            requests,
            bodiless,
            outcome,
        }
    }

    fn state(&self) -> State {
        let Release {
            key,
            epoch,
            seq,
            boundary,
            requests,
            bodiless,
            ..
        } = *self;
        State {
            key,
            epoch,
            seq,
            boundary,
            requests,
            bodiless,
        }
    }
}

impl ReleaseAnswer {
    /// The datagram.
    pub fn encode(&self, key: &Key) -> [u8; RELEASE_LEN] {
        let (outcome, ack) = match self.outcome {
            Outcome::Released { ack } => (1, ack),
            Outcome::Busy => (2, Seq(0)),
            Outcome::Closed => (3, Seq(0)),
            Outcome::Unknown => (4, Seq(0)),
        };
        let ReleaseAnswer {
            key: flow,
            epoch,
            seq,
            boundary,
            requests,
            bodiless,
            ..
        } = *self;
        let state = State {
            key: flow,
            epoch,
            seq,
            boundary,
            requests,
            bodiless,
        };
        encode(Kind::ReleaseAnswer, key, &state, outcome, 0, ack)
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// [`WireError`]: not an answer, or none of the keys made it.
    pub fn decode(message: &[u8], keys: &Keys) -> Result<ReleaseAnswer, WireError> {
        let (state, outcome, _, ack) = decode(Kind::ReleaseAnswer, message, keys)?;
        let outcome = match outcome {
            1 => Outcome::Released { ack },
            2 => Outcome::Busy,
            3 => Outcome::Closed,
            4 => Outcome::Unknown,
            other => return Err(WireError::Value(other)),
        };
        let State {
            key,
            epoch,
            seq,
            boundary,
            requests,
            bodiless,
        } = state;
        Ok(ReleaseAnswer {
            key,
            epoch,
            seq,
            boundary,
            requests,
            bodiless,
            outcome,
        })
    }
}

/// What both have in common.
struct State {
    key: FlowKey,
    epoch: u32,
    seq: Seq,
    boundary: Seq,
    requests: u32,
    bodiless: u32,
}

fn encode(
    kind: Kind,
    key: &Key,
    state: &State,
    outcome: u8,
    flags: u8,
    ack: Seq,
) -> [u8; RELEASE_LEN] {
    let mut message = [0; RELEASE_LEN];
    Writer::new(&mut message)
        .bytes(&kind.prefix())
        .u8(outcome)
        .u8(flags)
        .skip(2 + 8)
        .bytes(&state.key.to_bytes())
        .u32(state.epoch)
        .u32(state.boundary.0)
        .u32(state.requests)
        .u32(state.bodiless)
        .u32(ack.0)
        .u32(state.seq.0);
    key.seal(&mut message, &[]);
    message
}

fn decode(kind: Kind, message: &[u8], keys: &Keys) -> Result<(State, u8, u8, Seq), WireError> {
    kind.check(message, RELEASE_LEN)?;
    keys.open(message, &[])?;
    let mut fields = Reader(&message[4..]);
    let (outcome, flags) = (fields.u8(), fields.u8());
    fields.bytes::<10>();
    let (key, epoch, boundary) = (fields.flow_key(), fields.u32(), fields.seq());
    let (requests, bodiless, ack, seq) = (fields.u32(), fields.u32(), fields.seq(), fields.seq());
    Ok((
        State {
            key,
            epoch,
            seq,
            boundary,
            requests,
            bodiless,
        },
        outcome,
        flags,
        ack,
    ))
}
