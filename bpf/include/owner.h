/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Several proxies: who decides about a flow, and how the others hand it what needs a decision (docs/wire.md, kind 7). */
#ifndef BATON_OWNER_H
#define BATON_OWNER_H

#include "encap.h"
#include "reshape.h"
#include "slot.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct membership);
} membership SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PEERS_MAX);
	__type(key, __u32);
	__type(value, struct server);
} peers SEC(".maps");

/* Keys of flows whose entries the kernel has changed, for the other proxies; each once in a round. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} changes SEC(".maps");

/* User space begins another one each time before it looks. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} rounds SEC(".maps");

static __always_inline const struct membership *own_view(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&membership, &zero);
}

#define OWNED (-1)
#define NOBODYS (-2) /* this proxy may be its owner, and does not know whether others think so too */

/* OWNED if this proxy decides about the flow now, NOBODYS, or the owner's place in `peers`. A proxy that may not decide any more (its process has
 * ended, or it was cut off) may own nothing any more: another one knows who does. */
static __always_inline int find_owner(const struct flow_key *key)
{
	const struct membership *view = own_view();

	if (!view)
		return NOBODYS;
	if (view->count > 1) {
		__u8 owner = view->owners[flow_slot(key) & (SLOTS - 1)];

		if (owner != view->own)
			return owner;
	}
	if (bpf_ktime_get_ns() < view->decide_until_ns)
		return OWNED;
	return view->other != view->own ? view->other : NOBODYS;
}

static __always_inline __u32 own_term(void)
{
	const struct membership *view = own_view();

	return view ? view->term : 0;
}

static __always_inline int is_ready(void)
{
	const struct membership *view = own_view();

	return view && view->ready;
}

static __always_inline int has_peers(void)
{
	const struct membership *view = own_view();

	return view && view->count > 1;
}

/* To another proxy. */
static __noinline int pass_on(struct __sk_buff *skb, const struct packet *p, __u32 place, enum counter why)
{
	struct server *peer = bpf_map_lookup_elem(&peers, &place);

	if (!p || !peer || !peer->ifindex)
		return drop(COUNT_DROP_NOT_NOW);
	if (p->hops >= HOPS_MAX)
		return drop(COUNT_DROP_HOPS);
	if (encapsulate_short(skb, p, peer, settings.port, WIRE_PASS | (p->hops + 1) << 8))
		return drop(COUNT_DROP_MALFORMED);
	count(why);
	return send_to_node(skb, peer);
}

/* What needs a decision that is another's to take. */
static __always_inline int pass_to_owner(struct __sk_buff *skb, const struct packet *p, int owner)
{
	return owner == NOBODYS ? drop(COUNT_DROP_NOT_NOW) : pass_on(skb, p, owner, COUNT_PASSED_ON);
}

/* Whether a message of a balancer or another proxy was taken off a packet, which is to be parsed again. */
static __noinline int take_passed(struct __sk_buff *skb, struct packet *p)
{
	struct wire_pass message;
	__u32 inner;
	__u8 version;

	if (!p || p->destination_port != settings.port || !same_address(p->destination, settings.address) ||
	    bpf_skb_load_bytes(skb, p->payload, &message, sizeof(message)) || message.prefix != bpf_htonl(WIRE_PREFIX | WIRE_PASS))
		return 0;
	inner = p->payload + sizeof(message);
	if (message.hops > HOPS_MAX || bpf_skb_load_bytes(skb, inner, &version, 1) ||
	    cut(skb, inner - ETH_HLEN, version >> 4 == 6))
		return 0;
	__builtin_memset(p, 0, sizeof(*p));
	p->passed = 1;
	p->hops = message.hops;
	return 1;
}

/* The entry has changed in a way that others must know. */
static __always_inline void tell_change(const struct flow_key *key, struct flow_entry *entry)
{
	__u32 zero = 0;
	__u32 *round = bpf_map_lookup_elem(&rounds, &zero);

	if (!has_peers() || !round || entry->told == *round)
		return;
	entry->told = *round;
	bpf_ringbuf_output(&changes, (void *)key, sizeof(*key), 0); /* what finds no room is told with the flow's next change */
}

/* Packets that nothing is known of cost user space a question to every server: so many at most, in a bit more than a tenth of a second on one CPU. */
#define QUESTIONS_MOST 256
#define QUESTIONS_SHIFT 27

struct questions {
	__u64 period;
	__u64 asked;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct questions);
} questions SEC(".maps");

static __noinline int may_ask(void)
{
	__u64 period = bpf_ktime_get_ns() >> QUESTIONS_SHIFT;
	__u32 zero = 0;
	struct questions *q = bpf_map_lookup_elem(&questions, &zero);

	if (!q)
		return 0;
	if (q->period != period) {
		q->period = period;
		q->asked = 0;
	}
	return q->asked++ < QUESTIONS_MOST;
}

#endif
