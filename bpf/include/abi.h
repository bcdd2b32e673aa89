/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* All that C and Rust share: map layouts, ring events, wire headers, counters. Rust sees it through the generated skeletons. */
#ifndef BATON_ABI_H
#define BATON_ABI_H

#include <linux/types.h>

/* ---- flows ---------------------------------------------------------------------------------------------------------- */

/* One client TCP connection to a VIP. Network byte order; IPv4 as ::ffff:a.b.c.d. Also on the wire (docs/wire.md). */
struct flow_key {
	__be32 client[4];
	__be32 vip[4];
	__be16 client_port;
	__be16 vip_port;
};

enum flow_state {
	FLOW_PENDING = 1, /* the first request is with user space */
	FLOW_BOUND = 2,   /* packets go to `server` */
	FLOW_RESET = 3,   /* the connection was reset: what still comes of it is answered so */
};

enum flow_flags {
	FLOW_PINNED = 1 << 0,    /* boundary at infinity: nothing is parsed any more */
	FLOW_CONFIRMED = 1 << 1, /* the server has the newest bind header */
	FLOW_LOCAL = 1 << 2,     /* bound to this node's relay */
	FLOW_REUSED = 1 << 3,    /* a SYN came for it: check first segments for a new flow (port reuse) */
	FLOW_CLOSING = 1 << 4,   /* a FIN or RST passed: forget it sooner */
	FLOW_ELSEWHERE = 1 << 5, /* bound to the relay of another proxy: `server` is its place in `peers` */
};

enum tcp_offer {
	OFFER_TIMESTAMPS = 1 << 0,
	OFFER_SACK = 1 << 1,
	OFFER_WSCALE = 1 << 2,
};

/* A proxy's entry. Host byte order. */
struct flow_entry {
	__u8 state;
	__u8 flags;
	__u16 server;        /* index into `servers`, or into `peers` */
	__u32 epoch;         /* of the present bind: cluster clock when it was made, and above the one before */
	__u32 boundary;      /* client sequence number at which its next request begins */
	__u32 bind_seq;      /* where the present bind was made */
	__u32 bind_ack;
	__u32 unconfirmed;   /* client bytes [unconfirmed, header_end) need the bind header until confirmed */
	__u32 header_end;
	__u32 header_ack;    /* confirmed once the client acknowledges more than this */
	__u32 requests;      /* since the bind */
	__u32 bodiless;      /* see docs/wire.md */
	__u32 newest_ack;    /* of the client's packets */
	__u32 newest_tsval;
	__u32 min_rtt_ms;    /* smallest cluster clock - TSecr on acknowledgements of new data; 0xffffffff unknown */
	__u16 window;        /* newest, unscaled */
	__u16 mss;           /* the client's */
	__u8 offers;         /* enum tcp_offer: what both sides agreed on */
	__u8 client_wscale;
	__u16 vip;           /* index into `vips` */
	__u32 first_seq;     /* the connection's first segment: the one that opened the cookie */
	__u32 first_ack;
	__u32 claimed;       /* the boundary at which user space was given bytes: it decides what begins there */
	__u64 seen_ns;       /* CLOCK_MONOTONIC of the newest packet */
	__u64 known;         /* hash of the newest request, if the kernel decided it; else 0 */
	__u32 term;          /* in which this node last decided about it, or heard from its server: `struct membership` */
	__u32 told;          /* the newest round in which user space was told of a change */
};

enum served_state {
	SERVED_HELD = 1,   /* a socket here answers it */
	SERVED_FENCED = 2, /* released: nothing leaves any more */
	SERVED_ENDED = 3,  /* closed by both sides; kept for a while so that its bind is not adopted twice */
	SERVED_ADOPTING = 4, /* given to the kernel; nothing of a socket was seen yet */
	SERVED_REFUSED = 5,  /* its bind failed, and the proxy was told: it must not be adopted after all */
};

enum served_flags {
	SERVED_OPAQUE = 1 << 0,     /* framing not followed: never complete */
	SERVED_WAITED_FOR = 1 << 1, /* a release was refused as busy: tell the proxy when it may ask again */
	SERVED_CLIENT_FIN = 1 << 2,
	SERVED_SERVER_FIN = 1 << 3,
	SERVED_ACKNOWLEDGED = 1 << 4, /* the client has something of its answers */
	SERVED_PINNED = 1 << 5,       /* boundary at infinity: never complete either */
	SERVED_FORCED = 1 << 6,       /* released whatever it was doing: nobody may go on behind it */
};

/* Where in an answer the framing stands (framing.h). */
struct framing {
	__u32 next;    /* server sequence number of the first byte not yet accounted for */
	__u32 answers; /* complete ones since the bind */
	__u64 length;  /* of the body, or of the chunk whose size is being read */
	__u16 column;  /* in the line being read */
	__u16 status;
	__u8 phase;    /* enum framing_phase */
	__u8 names;    /* header names that the line may still be */
	__u8 body;     /* enum framing_body: what the head has said so far */
	__u8 pad;
};

/* Where in the bytes sent the access log stands (access.h). */
struct access {
	__u64 flow;     /* number of the bind at this agent; 0: not logged */
	__u64 position; /* bytes sent since the bind */
	__u64 body_at;  /* where of them the body of the present answer begins */
	__u64 head_ns;  /* CLOCK_MONOTONIC when its head had left; 0: it has not */
	__u32 at;       /* sequence number at `position` */
	__u32 pad;
};

/* An agent's entry. Host byte order. */
struct served_flow {
	__u8 state;
	__u8 flags;
	__u8 service;
	__u8 refusal; /* enum refusal, if refused */
	__u8 offers;  /* enum tcp_offer; this and the next two as in `bind` */
	__u8 scales;
	__u16 mss;
	__u32 epoch;
	__u32 seq;      /* of the bind */
	__u32 ack;
	__u32 boundary;
	__u32 requests;
	__u32 bodiless;
	__u32 released_at; /* the server's next sequence number when it was released */
	__u32 client_fin;  /* sequence number after the client's FIN */
	__be32 proxy[4];   /* who sent the newest header */
	struct framing framing;
	__u64 seen_ns;
	struct access access;
};

/* Until then a proxy surely does not take this node for dead (CLOCK_MONOTONIC). */
struct lease {
	__u64 until_ns;
};

/* ---- configuration of the programs ------------------------------------------------------------------------------------ */

struct endpoint { /* a key of `vips` and `services` */
	__be32 address[4];
	__be16 port; /* 0: the address alone (fragments, ICMP) */
	__u16 pad;
};

struct vip {
	__u16 index;
	__u16 mss;   /* that fits the path and leaves room for the bind header */
	__u8 offers; /* enum tcp_offer that every back end accepts */
	__u8 pad[3];
};

enum via {
	VIA_NEIGHBOUR = 1, /* same network: link-layer address only */
	VIA_UDP = 2,       /* encapsulated */
};

struct server {
	__be32 address[4];
	__be32 source[4]; /* this node's address, for the encapsulation */
	__u32 ifindex;    /* 0: no such server */
	__u8 via;
	__u8 pad[3];
};

struct service {
	__be32 listener[4]; /* where the web server listens */
	__be16 port;
	__u16 index;
};

struct settings {
	__u64 message_key[2][2]; /* current, previous (equal when there is none) */
	__u64 cookie_key[2][2];
	__u64 clock_offset_ms;   /* cluster clock = CLOCK_MONOTONIC + this; Unix time at start */
	__be32 address[4];       /* this node's, for messages; all zero: any */
	__be16 port;             /* the cluster port */
	__u8 answers_by_route;   /* packets come by other nodes: answers do not go back the way that they came */
	__u8 pad[5];
};

/* ---- several proxies ---------------------------------------------------------------------------------------------------- */

#define SLOTS 16384 /* of flows; each has one owner */
#define PEERS_MAX 32

/* ---- balancer ------------------------------------------------------------------------------------------------------------ */

enum spread_mode {
	SPREAD_FLOW = 1,   /* by the flow's slot */
	SPREAD_BATCH = 2,  /* so many packets to one proxy before the next */
	SPREAD_RANDOM = 3,
};

/* How a balancer spreads packets. */
struct spread {
	__u32 places; /* that are used; 0: there is no proxy */
	__u32 batch_packets;
	__be16 port;  /* the cluster port */
	__u8 mode;    /* enum spread_mode */
	__u8 pad;
	__u8 proxies[SLOTS]; /* by place: index into `proxies` */
};

/* One: how this proxy sees the cluster at the moment. Alone, it owns every slot for ever. */
struct membership {
	__u64 decide_until_ns; /* CLOCK_MONOTONIC; after that it decides nothing */
	__u32 term;            /* cluster clock (ms) when the owners last changed, or it began; never 0 */
	__u8 own;              /* its place in `peers` */
	__u8 count;            /* of owners; more than one: they tell each other what changes */
	__u8 ready;            /* its clock is the cluster's: it may shake hands */
	__u8 other;            /* of the owners, who may know better when this one may not decide; itself: nobody */
	__u8 owners[SLOTS];    /* places in `peers` */
};

/* ---- requests that the kernel decides by itself (known.h) ---------------------------------------------------------------- */

#define KNOWN_BYTES_MAX 1408 /* of a request: one segment */
#define POOL_SERVERS_MAX 1024
#define POOL_CARDS_MAX 2048

struct known_rules { /* one: what user space decides by at the moment */
	__u64 key[2]; /* of the hashes */
	__u32 number; /* 0: nothing is known */
	__u32 pad;
};

struct known_key {
	__u64 hash;   /* of the request's bytes */
	__u32 rules;  /* that it was decided by */
	__u16 vip;
	__u16 length; /* of the request */
};

struct known_request {
	__u16 pool;
	__u16 bodiless; /* it is a HEAD */
};

struct pool_key {
	__u32 rules;
	__u32 pool;
};

/* A pool as the kernel needs it: flows at its members stay; new ones get the servers that the policy has dealt in advance. */
struct pool_cards {
	__u64 members[POOL_SERVERS_MAX / 64];
	__u32 dealt; /* how many of the cards */
	__u32 cards;
	__u16 deck[POOL_CARDS_MAX];
};

/* ---- wire (docs/wire.md), network byte order ------------------------------------------------------------------------- */

#define WIRE_PREFIX 0x42540100 /* "BT", version 1, kind in the low byte */
enum wire_kind { WIRE_BIND = 1, WIRE_FORWARD = 2, WIRE_RELEASE = 3, WIRE_RELEASE_ANSWER = 4, WIRE_NOTICES = 5, WIRE_HEARTBEAT = 6,
		 WIRE_PASS = 7, WIRE_ASK = 9, WIRE_TRUTH = 10 };

struct wire_bind {
	__be32 prefix;
	__u8 flags; /* enum tcp_offer and BIND_PINNED */
	__u8 scales;
	__be16 mss;
	__u64 tag;
	__be32 epoch, seq, ack, boundary, requests, bodiless, clock, service;
};
#define BIND_PINNED (1 << 3)
#define BIND_TELL (1 << 4) /* say what the socket has taken */

struct wire_forward {
	__be32 prefix;
	__be32 zero;
};

enum release_outcome { RELEASE_RELEASED = 1, RELEASE_BUSY = 2, RELEASE_CLOSED = 3, RELEASE_UNKNOWN = 4 };
#define RELEASE_FORCE (1 << 0)

struct wire_release {
	__be32 prefix;
	__u8 outcome;
	__u8 flags;
	__u16 zero;
	__u64 tag;
	struct flow_key key;
	__be32 epoch, boundary, requests, bodiless, ack, seq, zero2;
};

/* To a proxy, in front of a client's packet; so many proxies have passed it on. */
struct wire_pass {
	__be32 prefix;
	__u8 hops;
	__u8 zero[3];
};
#define HOPS_MAX 2

enum truth_state {
	TRUTH_HELD = 1,
	TRUTH_UNKNOWN = 2,
	TRUTH_RELEASED = 3, /* or its bind was refused: it can be bound at (boundary, next) */
	TRUTH_ENDED = 4,
	TRUTH_SOCKET = 5,   /* a socket has the addresses, and no more is known: the agent was restarted */
};

/* Both the question (state 0, and only `key` and `nonce` say something) and its answer. */
struct wire_truth {
	__be32 prefix;
	__u8 state;
	__u8 flags; /* enum tcp_offer and BIND_PINNED */
	__be16 mss;
	__u64 tag;
	struct flow_key key;
	__be32 scales;
	__be32 epoch, seq, ack, boundary, requests, bodiless;
	__be32 next; /* the server's next sequence number */
	__be32 nonce; /* as asked */
};

/* ---- events to user space -------------------------------------------------------------------------------------------- */

/* A client's packet that needs a decision; the IP packet follows. */
struct punt {
	struct flow_key key;
	__u16 vip;
	__u8 fresh; /* the packet opened the cookie: the fields below are the client's */
	__u8 offers;
	__u16 mss;
	__u8 client_wscale;
	__u8 doubt; /* another proxy may know more of it: the servers are to be asked first */
	__u32 length; /* of the packet that follows */
};

enum notice_what { NOTICE_READY = 1, NOTICE_GONE = 2, NOTICE_REFUSED = 3, NOTICE_UNKNOWN = 4, NOTICE_TAKEN = 5 };

struct notice {
	__u8 what;
	__u8 reason; /* enum refusal */
	__u16 pad;
	struct flow_key key;
	__u32 epoch, seq, ack;
	__be32 proxy[4];
};

enum refusal {
	REFUSED_NO_LISTENER = 1, /* nobody listens at the service's address */
	REFUSED_BY_KERNEL = 2,   /* bpf_sk_assign_tcp_reqsk: options that this kernel does not accept */
	REFUSED_STALE = 3,       /* the proxy's clock is behind what it was: a recorded bind, or its time of day was set back */
	REFUSED_MPTCP = 4,       /* the listener is an MPTCP socket, for which the kernel adopts nothing */
};

enum access_what {
	ACCESS_REQUEST = 1, /* a packet with a bind header, for a later request too */
	ACCESS_ANSWER = 2,  /* an answer has left */
	ACCESS_END = 3,     /* the connection has ended before it had */
};

#define ACCESS_SAME 0xffffffff
#define ACCESS_BYTES 8192 /* of a packet */

/* Followed by `length` bytes of the client's. */
struct access_request {
	__u32 what;
	__u32 seq;    /* of the first of the bytes */
	__u64 flow;   /* struct access */
	__u64 at_ns;  /* CLOCK_MONOTONIC, here and below */
	struct flow_key key;
	__u32 number; /* requests of the bind before this header; ACCESS_SAME: as the one before */
	__u32 begins; /* sequence number at which its first request begins */
	__u32 length;
};

struct access_answer {
	__u32 what;
	__u16 status;  /* 0: no head left */
	__u16 pad;
	__u64 flow;
	__u64 bytes;   /* of the body, as sent: with chunk sizes */
	__u64 head_ns; /* 0: no head left */
	__u64 end_ns;
	__u32 number;  /* of the answer since the bind, from 1 */
	__u32 pad2;
};

/* ---- counters: one list, read by the metrics --------------------------------------------------------------------------- */

/* X(name, verdict label, reason label) */
#define PROXY_COUNTERS(X)                                       \
	X(SYN_ANSWERED, "answered", "syn")                          \
	X(PROBE_ANSWERED, "answered", "keepalive")                  \
	X(FIN_ANSWERED, "answered", "fin")                          \
	X(EXPIRED_ANSWERED, "answered", "expired_cookie")           \
	X(RESET_ANSWERED, "answered", "reset")                      \
	X(FORWARDED, "forwarded", "bound")                          \
	X(ENCAPSULATED, "forwarded", "bound_encapsulated")          \
	X(ICMP_FORWARDED, "forwarded", "icmp_error")                \
	X(TO_RELAY, "passed", "relay")                              \
	X(KNOWN_FIRST, "bound", "known_first_request")              \
	X(KNOWN_STAY, "forwarded", "known_request")                 \
	X(PUNTED_NEW, "punted", "first_request")                    \
	X(PUNTED_PENDING, "punted", "undecided")                    \
	X(PUNTED_BOUNDARY, "punted", "boundary")                    \
	X(PUNTED_UNCONFIRMED, "punted", "unconfirmed")              \
	X(PUNTED_UNKNOWN, "punted", "no_flow")                      \
	X(PASSED_ON, "forwarded", "to_owner")                       \
	X(PASSED_TO_RELAY, "forwarded", "to_relays_proxy")          \
	X(DROP_HOPS, "dropped", "passed_on_too_often")              \
	X(DROP_NOT_NOW, "dropped", "no_majority")                   \
	X(DROP_BARE_ACK, "dropped", "handshake_ack")                \
	X(DROP_NO_FLOW, "dropped", "no_flow")                       \
	X(DROP_BAD_COOKIE, "dropped", "bad_cookie")                 \
	X(DROP_MALFORMED, "dropped", "malformed")                   \
	X(DROP_FRAGMENT, "dropped", "fragment")                     \
	X(DROP_SYN_PAYLOAD, "dropped", "syn_with_payload")          \
	X(DROP_BAD_FLAGS, "dropped", "bad_flags")                   \
	X(DROP_BAD_ACK, "dropped", "bad_ack")                       \
	X(DROP_TABLE_FULL, "dropped", "flow_table_full")            \
	X(DROP_RING_FULL, "dropped", "ring_full")                   \
	X(DROP_NO_SERVER, "dropped", "no_server")                   \
	X(DROP_UNDECIDED, "dropped", "undecided")

#define BACKEND_COUNTERS(X)                                     \
	X(ADOPTED, "adopted", "bind")                               \
	X(HEADER_PASSED, "passed", "header")                        \
	X(PASSED, "passed", "held")                                 \
	X(DECAPSULATED, "passed", "held_encapsulated")              \
	X(ICMP_PASSED, "passed", "icmp_error")                      \
	X(CLEARED, "requeued", "old_socket_removed")                \
	X(WAITED, "requeued", "adoption_under_way")                 \
	X(RELEASED, "answered", "released")                         \
	X(BUSY, "answered", "busy")                                 \
	X(CLOSED, "answered", "closed")                             \
	X(RELEASE_UNKNOWN_FLOW, "answered", "unknown_flow")         \
	X(TOLD_HELD, "answered", "asked_held")                      \
	X(TOLD_OTHER, "answered", "asked_not_held")                 \
	X(FENCE_DROPPED, "dropped", "fenced")                       \
	X(NO_LEASE, "dropped", "no_lease")                           \
	X(REFUSE_BAD_TAG, "dropped", "bad_tag")                     \
	X(REFUSE_MALFORMED, "dropped", "malformed")                 \
	X(REFUSE_STALE, "dropped", "stale_bind")                    \
	X(REFUSE_REPEATED, "dropped", "repeated_bind")              \
	X(REFUSE_EARLY, "dropped", "not_the_first_segment")         \
	X(REFUSE_UNKNOWN, "dropped", "unknown_flow")                \
	X(REFUSE_SYN, "dropped", "syn")                             \
	X(REFUSE_NO_SERVICE, "dropped", "no_service")               \
	X(REFUSE_ADOPTION, "dropped", "adoption_refused")           \
	X(REFUSE_TABLE_FULL, "dropped", "flow_table_full")          \
	X(REFUSE_TAKEN, "dropped", "addresses_taken")               \
	X(NOTICE_LOST, "lost", "notice_ring_full")                  \
	X(ACCESS_LOST, "lost", "access_ring_full")

#define BALANCER_COUNTERS(X)                                    \
	X(SENT, "forwarded", "to_proxy")                            \
	X(ENCAPSULATED, "forwarded", "to_proxy_encapsulated")       \
	X(ICMP_SENT, "forwarded", "icmp_error")                     \
	X(DROP_MALFORMED, "dropped", "malformed")                   \
	X(DROP_FRAGMENT, "dropped", "fragment")                     \
	X(DROP_NO_PROXY, "dropped", "no_proxy")

struct counter_name {
	char verdict[16];
	char reason[32];
};

#endif
