//! Ring buffers as queues of events.

use crate::abi::{self, address_from_words, as_bytes, from_bytes, key_from_bytes};
use crate::{Error, Result};
use baton_packet::{FlowKey, Seq};
use libbpf_rs::{MapHandle, MapMut, RingBuffer, RingBufferBuilder};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Duration;

/// A client's packet that needs a decision.
#[derive(Clone, Debug)]
pub struct Punt {
    /// The flow.
    pub key: FlowKey,
    /// Index of the VIP, as given to [`Proxy::set_vips`](crate::Proxy::set_vips).
    pub vip: u16,
    /// The packet opened the cookie: what the client's SYN offered.
    pub fresh: Option<Offered>,
    /// Another proxy may know more of the flow, or this one before it was restarted: its server is to be asked first.
    pub doubt: bool,
    /// The IP packet.
    pub packet: Vec<u8>,
}

/// What a client's SYN offered and the SYN-ACK took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Largest segment that the client takes (bytes).
    pub mss: u16,
    /// Its window scale, if both scale.
    pub wscale: Option<u8>,
    /// Both use selective acknowledgements.
    pub sack: bool,
    /// Both use timestamps.
    pub timestamps: bool,
}

/// What an agent's program tells its user space.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// `enum notice_what`.
    pub what: u8,
    /// `enum refusal`.
    pub reason: u8,
    /// The flow.
    pub key: FlowKey,
    /// Of the bind.
    pub epoch: u32,
    /// Of the bind.
    pub seq: Seq,
    /// Of the bind.
    pub ack: Seq,
    /// Who sent the newest header.
    pub proxy: IpAddr,
}

/// What the access log is written from. Times are those of [`monotonic`](crate::monotonic); `flow` numbers the binds of one agent.
#[derive(Clone, Debug)]
pub enum Access {
    /// A packet with a bind header, of a first or a later request.
    Request {
        /// The bind.
        flow: u64,
        /// The client's connection.
        key: FlowKey,
        /// When it came.
        at: Duration,
        /// How many requests of the bind were before this header, and where the first one after them begins. None: the header is that
        /// of the packet before.
        after: Option<(u32, Seq)>,
        /// Of the first of the bytes.
        seq: Seq,
        /// What the client sent.
        bytes: Vec<u8>,
    },
    /// An answer has left.
    Answer(Answered),
    /// The connection has ended before this answer had left, or that cannot be known.
    End(Answered),
}

/// How far an answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The bind.
    pub flow: u64,
    /// Of the answer since the bind, from 1.
    pub number: u32,
    /// None if not even the head left.
    pub status: Option<u16>,
    /// Of the body, as sent: with chunk sizes and trailers.
    pub bytes: u64,
    /// When the head had left.
    pub head: Option<Duration>,
    /// When the last byte had.
    pub end: Duration,
}

/// Something that a ring buffer carries.
pub trait Event: Sized + 'static {
    /// Reads one record; none if it is not whole.
    fn parse(record: &[u8]) -> Option<Self>;
}

impl Event for Punt {
    fn parse(record: &[u8]) -> Option<Punt> {
        let head: abi::punt = from_bytes(record)?;
        let at = size_of::<abi::punt>();
        let has = |offer: u8| head.offers & offer != 0;
        Some(Punt {
            key: key_from_bytes(as_bytes(&head.key))?,
            vip: head.vip,
            fresh: (head.fresh != 0).then(|| Offered {
                mss: head.mss,
                wscale: has(abi::offer::WSCALE).then_some(head.client_wscale),
                sack: has(abi::offer::SACK),
                timestamps: has(abi::offer::TIMESTAMPS),
            }),
            doubt: head.doubt != 0,
            packet: record.get(at..at + head.length as usize)?.to_vec(),
        })
    }
}

/// A flow whose entry the proxy's program has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed(
    /// The flow.
    pub FlowKey,
);

impl Event for Changed {
    fn parse(record: &[u8]) -> Option<Changed> {
        key_from_bytes(record).map(Changed)
    }
}

impl Event for Told {
    fn parse(record: &[u8]) -> Option<Told> {
        let n: abi::notice = from_bytes(record)?;
        Some(Told {
            what: n.what,
            reason: n.reason,
            key: key_from_bytes(as_bytes(&n.key))?,
            epoch: n.epoch,
            seq: Seq(n.seq),
            ack: Seq(n.ack),
            proxy: address_from_words(n.proxy),
        })
    }
}

impl Event for Access {
    fn parse(record: &[u8]) -> Option<Access> {
        let what = u32::from_ne_bytes(*record.first_chunk()?);
        if what == abi::access_what::REQUEST {
            let head: abi::access_request = from_bytes(record)?;
            let at = size_of::<abi::access_request>();
            return Some(Access::Request {
                flow: head.flow,
                key: key_from_bytes(as_bytes(&head.key))?,
                at: Duration::from_nanos(head.at_ns),
                after: (head.number != abi::ACCESS_SAME).then_some((head.number, Seq(head.begins))),
                seq: Seq(head.seq),
                bytes: record.get(at..at + head.length as usize)?.to_vec(),
            });
        }
        let a: abi::access_answer = from_bytes(record)?;
        let answered = Answered {
            flow: a.flow,
            number: a.number,
            status: (a.status != 0).then_some(a.status),
            bytes: a.bytes,
            head: (a.head_ns != 0).then(|| Duration::from_nanos(a.head_ns)),
            end: Duration::from_nanos(a.end_ns),
        };
        match what {
            abi::access_what::ANSWER => Some(Access::Answer(answered)),
            abi::access_what::END => Some(Access::End(answered)),
            _ => None,
        }
    }
}

/// A ring buffer of one kind of event. It stays on the thread that made it.
pub struct Events<E> {
    ring: RingBuffer<'static>,
    queue: Rc<RefCell<Vec<E>>>,
    _map: Box<MapHandle>,
}

/// A ring buffer that nobody reads yet; goes to the thread that will.
pub struct Queue<E> {
    table: &'static str,
    map: MapHandle,
    event: PhantomData<fn() -> E>,
}

impl<E: Event> Queue<E> {
    pub(crate) fn of(table: &'static str, map: &MapMut<'_>) -> Result<Queue<E>> {
        let map = MapHandle::try_from(map).map_err(|source| Error::Table { table, source })?;
        Ok(Queue {
            table,
            map,
            event: PhantomData,
        })
    }

    pub(crate) fn from_handle(table: &'static str, map: MapHandle) -> Queue<E> {
        Queue {
            table,
            map,
            event: PhantomData,
        }
    }

    /// Reads it, on the calling thread.
    pub fn open(self) -> Result<Events<E>> {
        Events::new(self.table, self.map)
    }
}

impl<E: Event> Events<E> {
    fn new(table: &'static str, map: MapHandle) -> Result<Events<E>> {
        let error = |source| Error::Table { table, source };
        let map = Box::new(map);
        let queue = Rc::new(RefCell::new(Vec::new()));
        let sink = queue.clone();
        let mut builder = RingBufferBuilder::new();
        // SAFETY: the handle is boxed and dropped after the ring (field order), so the reference outlives its use.
        let handle: &'static MapHandle = unsafe { &*std::ptr::from_ref(map.as_ref()) };
        builder
            .add(handle, move |record| {
                sink.borrow_mut().extend(E::parse(record));
                0
            })
            .map_err(error)?;
        Ok(Events {
            ring: builder.build().map_err(error)?,
            queue,
            _map: map,
        })
    }

    /// Takes all events that are there, in order.
    pub fn drain(&self, into: &mut Vec<E>) {
        // One pass can miss a record that is committed while it ends; the last, empty pass cannot.
        while self.ring.consume_raw() > 0 {
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        }
        into.append(&mut self.queue.borrow_mut());
    }

    /// Readable when there are events.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring owns the descriptor and lives as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.ring.epoll_fd()) }
    }
}
