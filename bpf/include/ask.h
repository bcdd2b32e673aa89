/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What is true of this flow? The one that serves it knows, whoever bound it (docs/wire.md, kinds 9 and 10; H4). */
#ifndef BATON_ASK_H
#define BATON_ASK_H

#include "return.h"
#include "served.h"

/* Of desk->truth, under one of the keys. */
static __noinline __u64 truth_tag(struct desk *desk, __u32 which)
{
	if (!desk)
		return 0;
	desk->truth.tag = 0;
	return siphash((const __u64 *)&desk->truth, sizeof(struct wire_truth) / 8, settings.message_key[which & 1]);
}

static __always_inline void say(struct wire_truth *m, __u8 state, __u32 boundary, __u32 next)
{
	m->state = state;
	m->boundary = bpf_htonl(boundary);
	m->next = bpf_htonl(next);
}

static __always_inline void tell_truth(struct wire_truth *m, const struct served_flow *flow, const struct socket_view *socket)
{
	int is_there = socket->state && socket->state != STATE_TIME_WAIT;

	m->flags = flow->offers | (flow->flags & SERVED_PINNED ? BIND_PINNED : 0);
	m->mss = bpf_htons(flow->mss);
	m->scales = bpf_htonl(flow->scales);
	m->epoch = bpf_htonl(flow->epoch);
	m->seq = bpf_htonl(flow->seq);
	m->ack = bpf_htonl(flow->ack);
	m->requests = bpf_htonl(flow->requests);
	m->bodiless = bpf_htonl(flow->bodiless);
	switch (flow->state) {
	case SERVED_FENCED:
		return say(m, flow->flags & SERVED_FORCED ? TRUTH_ENDED : TRUTH_RELEASED, flow->boundary, flow->released_at);
	case SERVED_REFUSED:
		return say(m, TRUTH_RELEASED, flow->seq, flow->ack);
	case SERVED_ADOPTING:
		return say(m, TRUTH_HELD, flow->boundary, is_there ? socket->snd_nxt : flow->ack);
	case SERVED_HELD:
		if (is_there)
			return say(m, TRUTH_HELD, flow->boundary, socket->snd_nxt);
	}
	say(m, TRUTH_ENDED, flow->boundary, 0);
}

static __always_inline int answer_ask(struct __sk_buff *skb, const struct packet *p)
{
	struct desk *desk = own_desk();
	struct socket_view socket = {};
	struct served_flow *flow;

	if (!desk)
		return TC_ACT_SHOT;
	struct wire_truth *was = &desk->question, *m = &desk->truth;
	struct flow_key *key = &desk->key;

	if (p->payload_length < sizeof(*m) || bpf_skb_load_bytes(skb, p->payload, was, sizeof(*was)))
		return drop(COUNT_REFUSE_MALFORMED);
	*m = *was;
	if (truth_tag(desk, 0) != was->tag && truth_tag(desk, 1) != was->tag)
		return drop(COUNT_REFUSE_BAD_TAG);
	*key = m->key;
	look_at_socket(skb, key, &socket);
	flow = bpf_map_lookup_elem(&served, key);
	m->state = TRUTH_UNKNOWN;
	if (flow) {
		tell_truth(m, flow, &socket);
	} else if (socket.state && socket.state != STATE_TIME_WAIT && socket.state != STATE_NEW_SYN_RECV) {
		say(m, TRUTH_SOCKET, socket.rcv_nxt, socket.snd_nxt);
	}
	if (flow && m->state == TRUTH_HELD)
		__builtin_memcpy(flow->proxy, p->source, 16); /* it decides from now on: notices go there */
	m->prefix = bpf_htonl(WIRE_PREFIX | WIRE_TRUTH);
	m->tag = truth_tag(desk, 0);
	if (become_answer(skb, p, was, m, sizeof(*m)))
		return drop(COUNT_REFUSE_MALFORMED);
	count(m->state == TRUTH_HELD ? COUNT_TOLD_HELD : COUNT_TOLD_OTHER);
	return bpf_redirect(skb->ifindex, 0);
}

#endif
