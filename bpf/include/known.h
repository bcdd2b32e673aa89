/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Requests that user space has decided before. The same bytes, from a boundary to the end of a segment, mean the same again: they are one whole
 * request, they route to the same pool, and the next request begins behind them. So the kernel decides by itself:
 *
 *   a new flow                            bound to the next card of the pool's deck; the policy in user space has dealt it
 *   a flow whose server is in the pool    stays (stay if you may)
 *   else                                  user space
 *
 * Exactly what user space would do (crates/flow, binding.rs): same entry, same header. Only the flow's owner does it, and not before a server has
 * confirmed what another term left.
 */
#ifndef BATON_KNOWN_H
#define BATON_KNOWN_H

#include "desk.h"
#include "owner.h"
#include "reply.h"
#include "siphash.h"

#define HEADER_AGAIN (1 << 20) /* behind the newest request: earlier bytes get no header any more (MAX_HELD in crates/flow) */
#define ACK_NEVER 0x7fffffff
#define UNKNOWN_RTT_MS 333     /* crates/flow, binding.rs */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct known_rules);
} known_rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 16);
	__type(key, struct known_key);
	__type(value, struct known_request);
} known_requests SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct pool_key);
	__type(value, struct pool_cards);
} pools SEC(".maps");

struct known {
	__u64 hash;
	__u32 bodiless;
};

/* The hash of so many words of the desk. Global, so that the verifier goes through its loop once. */
__noinline __u64 hash_of_words(__u32 words)
{
	__u32 zero = 0;
	struct known_rules *rules = bpf_map_lookup_elem(&known_rules, &zero);
	struct desk *desk = own_desk();

	if (!rules || !desk)
		return 0;
	struct siphash h = siphash_begin(rules->key);
	for (__u32 i = 0; i < KNOWN_WORDS && i < words; i++)
		siphash_word(&h, desk->words[i]);
	return siphash_end(&h, words);
}

/* Looks the payload up; the pool, or none. */
static __noinline struct pool_cards *find_known(struct __sk_buff *skb, const struct packet *p, __u16 vip, struct known *found)
{
	__u32 zero = 0, length;
	struct known_rules *rules = bpf_map_lookup_elem(&known_rules, &zero);
	struct desk *desk = own_desk();

	if (!p || !found || !rules || !rules->number || !desk || p->flags & (TCP_FIN | TCP_URG))
		return 0;
	length = p->payload_length;
	OPAQUE(length);
	if (length == 0 || length > KNOWN_BYTES_MAX)
		return 0;
	desk->words[length / 8] = 0;
	if (bpf_skb_load_bytes(skb, p->payload, desk->words, length))
		return 0;
	struct known_key key = { .hash = hash_of_words((length + 7) / 8), .rules = rules->number, .vip = vip, .length = length };
	struct known_request *request = bpf_map_lookup_elem(&known_requests, &key);
	if (!request)
		return 0;
	struct pool_key at = { .rules = key.rules, .pool = request->pool };
	found->hash = key.hash;
	found->bodiless = request->bodiless & 1;
	return bpf_map_lookup_elem(&pools, &at);
}

/* Sends the packet behind the header that tells the server the flow's state. */
static __noinline int send_bind(struct __sk_buff *skb, const struct packet *p, const struct flow_key *key, const struct flow_entry *entry,
				__u32 clock)
{
	__u32 index;
	struct desk *desk = own_desk();
	struct server *server;

	if (!p || !key || !entry || !desk)
		return TC_ACT_SHOT;
	index = entry->server;
	server = bpf_map_lookup_elem(&servers, &index);
	if (!server || !server->ifindex)
		return drop(COUNT_DROP_NO_SERVER);
	desk->key = *key;
	desk->zero = 0;
	desk->bind = (struct wire_bind){
		.prefix = bpf_htonl(WIRE_PREFIX | WIRE_BIND),
		.flags = entry->offers,
		.scales = entry->offers & OFFER_WSCALE ? entry->client_wscale << 4 | PROMISED_WSCALE : 0,
		.mss = bpf_htons(entry->mss),
		.epoch = bpf_htonl(entry->epoch),
		.seq = bpf_htonl(entry->bind_seq),
		.ack = bpf_htonl(entry->bind_ack),
		.boundary = bpf_htonl(entry->boundary),
		.requests = bpf_htonl(entry->requests),
		.bodiless = bpf_htonl(entry->bodiless),
		.clock = bpf_htonl(clock),
	};
	desk->bind.tag = siphash((const __u64 *)&desk->bind, 11, settings.message_key[0]);
	if (encapsulate(skb, p, server, settings.port, &desk->bind, sizeof(desk->bind)))
		return drop(COUNT_DROP_MALFORMED);
	return send_to_node(skb, server);
}

/* A later request, right at the boundary, stays at the server that has the flow. -1: for user space to decide. */
static __always_inline int stay_known(struct __sk_buff *skb, const struct packet *p, const struct flow_key *key, struct flow_entry *entry)
{
	__u32 end = p->seq + p->payload_length, oldest = p->seq - HEADER_AGAIN;
	__u16 server = entry->server;
	struct known known = {};
	struct pool_cards *pool;

	/* What user space holds there it may have acknowledged, or have asked a release for. */
	if (p->seq != entry->boundary || entry->claimed == p->seq || entry->term != own_term() || server >= POOL_SERVERS_MAX)
		return -1;
	pool = find_known(skb, p, entry->vip, &known);
	if (!pool || !(pool->members[server / 64] >> (server & 63) & 1))
		return -1;
	/* Once, even when a copy comes by another CPU. */
	if (__sync_val_compare_and_swap(&entry->boundary, p->seq, end) != p->seq)
		return -1;
	if (entry->flags & FLOW_CONFIRMED)
		entry->unconfirmed = p->seq;
	else if (distance(entry->unconfirmed, oldest) > 0)
		entry->unconfirmed = oldest;
	entry->flags &= ~FLOW_CONFIRMED;
	entry->header_end = end;
	entry->header_ack = entry->newest_ack + ACK_NEVER;
	entry->requests++;
	entry->bodiless = entry->bodiless << 1 | known.bodiless;
	entry->known = known.hash;
	tell_change(key, entry);
	count(COUNT_KNOWN_STAY);
	return send_bind(skb, p, key, entry, now_ms(&settings));
}

/* The number of the bind that follows what had these addresses before. */
static __always_inline __u32 next_epoch(const struct flow_entry *old, __u32 clock)
{
	if (old && old->epoch && distance(old->epoch, clock) <= 0)
		clock = old->epoch + 1;
	return clock ?: 1;
}

/* Whether the connection that had these addresses has ended: its client has closed it, and user space holds nothing of it. */
static __always_inline int is_over(const struct flow_entry *old)
{
	return old->state == FLOW_BOUND && old->flags & FLOW_CLOSING && !(old->flags & (FLOW_LOCAL | FLOW_ELSEWHERE)) && old->claimed != old->boundary;
}

/* A new flow's first request. The entry is complete but for the bind. `old`: of the connection that had its addresses before, and is over. -1:
 * for user space to decide. */
static __always_inline int bind_known(struct __sk_buff *skb, const struct packet *p, const struct flow_key *key, const struct options *own,
				      struct flow_entry *entry, struct flow_entry *old)
{
	__u32 clock = now_ms(&settings), card, before;
	struct known known = {};
	struct pool_cards *pool;

	/* The server takes the header's clock less TSecr for its first round trip: never 0, and not the time that the client thought. A TSecr that
	 * is ahead is a lie: it must not move the clock by which agents tell recorded binds. */
	if (own->timestamps) {
		__s32 trip = distance(own->tsecr, clock);

		if (trip < 0 || trip > UNKNOWN_RTT_MS)
			return -1;
		if (trip == 0)
			clock = own->tsecr + 1;
	}
	pool = find_known(skb, p, entry->vip, &known);
	if (!pool || pool->dealt >= pool->cards)
		return -1;
	entry->epoch = next_epoch(old, clock);
	if (old) {
		/* Once, even when a copy comes by another CPU. */
		before = old->epoch;
		if (distance(before, entry->epoch) <= 0 || __sync_val_compare_and_swap(&old->epoch, before, entry->epoch) != before)
			return -1;
	}
	card = __sync_fetch_and_add(&pool->dealt, 1);
	if (card >= pool->cards || card >= POOL_CARDS_MAX)
		return -1;
	entry->server = pool->deck[card & (POOL_CARDS_MAX - 1)];
	entry->state = FLOW_BOUND;
	entry->boundary = entry->header_end = p->seq + p->payload_length;
	entry->unconfirmed = p->seq;
	entry->header_ack = p->ack;
	entry->requests = 1;
	entry->bodiless = known.bodiless;
	entry->newest_tsval = own->tsval;
	entry->known = known.hash;
	tell_change(key, entry);
	if (bpf_map_update_elem(&flows, key, entry, old ? BPF_ANY : BPF_NOEXIST))
		return drop(COUNT_DROP_TABLE_FULL);
	count(COUNT_KNOWN_FIRST);
	return send_bind(skb, p, key, entry, clock);
}

#endif
