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
 * A guess succeeds once in 4 million packets, and gains an entry in the proxy's table, as one completed handshake would. Where many guess,
 * only cookies of this slot and the one before are good (H16).
 */
#ifndef BATON_COOKIE_H
#define BATON_COOKIE_H

#include "options.h"
#include "siphash.h"

#define COOKIE_SLOT_SHIFT 18
#define COOKIE_BITS 0x3ffu
#define COOKIE_SLOTS 4
#define EXPIRED_ROUNDS 8    /* of COOKIE_SLOTS: a cookie is known for what it was for 2.5 hours */
#define WRONG_COOKIES_MOST 1000 /* in about a second on one CPU; more are guesses */

struct wrong_cookies {
	__u64 second;
	__u32 now, before;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct wrong_cookies);
} wrong_cookies SEC(".maps");

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

static __noinline __u32 bake_cookie(const struct flow_key *key, __u32 client_isn, const struct options *o, __u64 clock_ms)
{
	__u32 slot = clock_ms >> COOKIE_SLOT_SHIFT;

	if (!key || !o)
		return 0;
	__u32 bits = mss_index(o->mss) << 7 | (o->wscale & 15) << 3 | (o->sack & 1) << 2 | (slot & 3);

	return cookie_hash(key, client_isn, slot, bits, settings.cookie_key[0]) | bits;
}

/* Counts `more` wrong cookies; whether so many come that somebody is guessing. */
static __noinline int are_guessed(__u32 more)
{
	__u64 second = bpf_ktime_get_ns() >> 30;
	__u32 zero = 0;
	struct wrong_cookies *wrong = bpf_map_lookup_elem(&wrong_cookies, &zero);

	if (!wrong)
		return 1;
	if (wrong->second != second) {
		wrong->before = wrong->second + 1 == second ? wrong->now : 0;
		wrong->now = 0;
		wrong->second = second;
	}
	wrong->now += more;
	return wrong->now > WRONG_COOKIES_MOST || wrong->before > WRONG_COOKIES_MOST;
}

static __always_inline int is_cookie_of(const struct flow_key *key, __u32 client_isn, __u32 cookie, __u32 slot)
{
	__u32 bits = cookie & COOKIE_BITS, hash = cookie & ~COOKIE_BITS;

	return hash == cookie_hash(key, client_isn, slot, bits, settings.cookie_key[0]) ||
	       hash == cookie_hash(key, client_isn, slot, bits, settings.cookie_key[1]);
}

/* Returns 1 and what the client's SYN offered, or 0 when it is no cookie of ours. */
static __noinline int open_cookie(const struct flow_key *key, __u32 client_isn, __u32 cookie, struct options *o)
{
	__u32 now = now_ms(&settings) >> COOKIE_SLOT_SHIFT;
	__u32 age = (now - cookie) & (COOKIE_SLOTS - 1); /* the newest slot with these low bits */

	if (!key || !o || (age > 1 && are_guessed(0)) || !is_cookie_of(key, client_isn, cookie, now - age))
		return 0;
	o->mss = mss_of(cookie >> 7 & 7);
	o->wscale = cookie >> 3 & 15;
	o->sack = cookie >> 2 & 1;
	return 1;
}

/* When the slot of a cookie that is good began (cluster clock, ms). */
static __always_inline __u32 cookie_since(__u32 cookie)
{
	__u32 now = now_ms(&settings) >> COOKIE_SLOT_SHIFT;

	return (now - ((now - cookie) & (COOKIE_SLOTS - 1))) << COOKIE_SLOT_SHIFT;
}

/* Whether it was a cookie of ours once. */
static __noinline int is_expired_cookie(const struct flow_key *key, __u32 client_isn, __u32 cookie)
{
	__u32 now = now_ms(&settings) >> COOKIE_SLOT_SHIFT;
	__u32 slot = now - ((now - cookie) & (COOKIE_SLOTS - 1));

	if (!key || are_guessed(0))
		return 0;
	for (int i = 0; i < EXPIRED_ROUNDS; i++) {
		slot -= COOKIE_SLOTS;
		if (is_cookie_of(key, client_isn, cookie, slot))
			return 1;
	}
	return 0;
}

#endif
