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
};

enum flow_flags {
	FLOW_PINNED = 1 << 0,    /* boundary at infinity: nothing is parsed any more */
	FLOW_CONFIRMED = 1 << 1, /* the server has the newest bind header */
	FLOW_LOCAL = 1 << 2,     /* bound to this node's relay */
	FLOW_REUSED = 1 << 3,    /* a SYN came for it: check first segments for a new flow (port reuse) */
	FLOW_CLOSING = 1 << 4,   /* a FIN or RST passed: forget it sooner */
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
	__u16 server;        /* index into `servers` */
	__u32 epoch;         /* +1 with each bind */
	__u32 boundary;      /* client sequence number at which its next request begins */
	__u32 bind_seq;      /* where the present bind was made */
	__u32 bind_ack;
	__u32 unconfirmed;   /* first client byte that needs the header, until confirmed */
	__u32 header_ack;    /* confirmed once the client acknowledges more than this */
	__u32 requests;      /* since the bind */
	__u32 bodiless;      /* see docs/wire.md */
	__u32 newest_ack;    /* of the client's packets */
	__u32 newest_tsval;
	__u32 min_rtt_ms;    /* smallest cluster clock - TSecr on acknowledgements of new data; 0xffffffff unknown */
	__u16 window;        /* newest, unscaled */
	__u16 mss;           /* the client's */
	__u8 offers;         /* enum tcp_offer */
	__u8 client_wscale;
	__u16 vip;           /* index into `vips` */
	__u64 seen_ns;       /* CLOCK_MONOTONIC of the newest packet */
};
