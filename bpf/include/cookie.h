/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The SYN cookie: our initial sequence number carries the client's options, so that nothing is kept before a request.
 *
 *   31                              10 9       7 6          3  2   1    0
 *  +----------------------------------+---------+------------+----+------+
 *  | hash (22)                        | MSS (3) | wscale (4) |SACK| slot |
 *  +----------------------------------+---------+------------+----+------+
 *
 * hash: SipHash-2-4 under the cookie key over the flow key, the client's initial sequence number, the slot's whole number and the low
 * ten bits. slot: cluster clock / 2^18 ms (262 s), low two bits: a cookie is valid for 13 to 17 minutes. wscale 15: none offered.
 * Timestamps need no bit: a client that agreed to them sends them with every segment. ECN is not offered.
 * A guess succeeds once in 4 million packets, and gains an entry in the proxy's table, as one completed handshake would.
 */
#ifndef BATON_COOKIE_H
#define BATON_COOKIE_H

#include "options.h"
#include "siphash.h"

#define COOKIE_SLOT_SHIFT 18
#define COOKIE_BITS 0x3ffu

struct cookie_input { /* 48 bytes: six words */
	struct flow_key key;
	__u32 client_isn;
	__u32 slot;
	__u32 bits;
};

static __always_inline __u16 mss_of(__u32 index)
{
	switch (index) { /* the largest of these that is not above the client's */
	case 0: return 536;
	case 1: return 1220;
	case 2: return 1300;
	case 3: return 1360;
	case 4: return 1400;
	case 5: return 1440;
	case 6: return 1460;
	default: return 8940;
	}
}

static __always_inline __u32 mss_index(__u16 mss)
{
	__u32 index = 0;

#pragma unroll
	for (int i = 1; i < 8; i++)
		if (mss >= mss_of(i))
			index = i;
	return index;
}

static __always_inline __u32 cookie_hash(const struct flow_key *key, __u32 client_isn, __u32 slot, __u32 bits, const __u64 secret[2])
{
	struct cookie_input in __attribute__((aligned(8))) = { .key = *key, .client_isn = client_isn, .slot = slot, .bits = bits };

	return (__u32)siphash((const __u64 *)&in, sizeof(in) / 8, secret) & ~COOKIE_BITS;
}

static __always_inline __u32 bake_cookie(const struct flow_key *key, __u32 client_isn, const struct options *o, __u64 clock_ms,
					 const struct settings *s)
{
	__u32 slot = clock_ms >> COOKIE_SLOT_SHIFT;
	__u32 bits = mss_index(o->mss) << 7 | (o->wscale & 15) << 3 | (o->sack & 1) << 2 | (slot & 3);

	return cookie_hash(key, client_isn, slot, bits, s->cookie_key[0]) | bits;
}

/* Returns 1 and what the client's SYN offered, or 0 when it is no cookie of ours. */
static __always_inline int open_cookie(const struct flow_key *key, __u32 client_isn, __u32 cookie, __u64 clock_ms,
				       const struct settings *s, struct options *o)
{
	__u32 now = clock_ms >> COOKIE_SLOT_SHIFT;
	__u32 bits = cookie & COOKIE_BITS;
	__u32 slot = now - ((now - bits) & 3); /* the newest slot with these low bits */
	__u32 hash = cookie & ~COOKIE_BITS;

	if (hash != cookie_hash(key, client_isn, slot, bits, s->cookie_key[0]) &&
	    hash != cookie_hash(key, client_isn, slot, bits, s->cookie_key[1]))
		return 0;
	o->mss = mss_of(bits >> 7);
	o->wscale = bits >> 3 & 15;
	o->sack = bits >> 2 & 1;
	return 1;
}

#endif
