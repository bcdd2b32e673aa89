/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* May this flow leave? Checked, fenced, answered and done in one place, in one round trip (docs/wire.md, kinds 3 and 4; H1, H2). */
#ifndef BATON_RELEASE_H
#define BATON_RELEASE_H

#include "framing.h"
#include "reshape.h"
#include "return.h"
#include "served.h"

/* Of desk->answer, under one of the keys. */
static __noinline __u64 release_tag(struct desk *desk, __u32 which)
{
	if (!desk)
		return 0;
	desk->answer.tag = 0;
	return siphash((const __u64 *)&desk->answer, sizeof(struct wire_release) / 8, settings.message_key[which & 1]);
}

/* Decides. Fences first and looks then, so that nothing slips out between; a busy flow is opened again. */
static __always_inline __u8 decide(struct served_flow *flow, const struct wire_release *m, const struct socket_view *socket)
{
	__u32 boundary = bpf_ntohl(m->boundary), requests = bpf_ntohl(m->requests);

	if (flow->state == SERVED_FENCED) /* said before; the answer was lost. Not for a request behind the one that it was said for */
		return m->flags & RELEASE_FORCE || flow->boundary == boundary ? RELEASE_RELEASED : RELEASE_UNKNOWN;
	if (m->flags & RELEASE_FORCE) {
		flow->state = SERVED_FENCED;
		flow->flags |= SERVED_FORCED;
		flow->released_at = socket->write_seq;
		return RELEASE_RELEASED;
	}
	if (flow->state == SERVED_REFUSED)
		return RELEASE_UNKNOWN;
	if (flow->state == SERVED_ADOPTING && !socket->state) {
		flow->flags |= SERVED_WAITED_FOR;
		return RELEASE_BUSY;
	}
	if (flow->state == SERVED_ENDED || socket->state != STATE_ESTABLISHED || flow->flags & SERVED_SERVER_FIN)
		return RELEASE_CLOSED;
	if (distance(flow->requests, requests) > 0) {
		flow->requests = requests;
		flow->bodiless = bpf_ntohl(m->bodiless);
		flow->boundary = boundary;
	}
	flow->state = SERVED_FENCED;
	/* The newest acknowledgement may be in the very request that waits at the proxy. */
	int acknowledged = socket->snd_una == socket->write_seq || bpf_ntohl(m->ack) == socket->write_seq;
	if (flow->boundary == boundary && socket->rcv_nxt == boundary && acknowledged && socket->snd_nxt == socket->write_seq &&
	    complete(flow, socket->write_seq)) {
		flow->released_at = socket->write_seq;
		return RELEASE_RELEASED;
	}
	flow->state = SERVED_HELD;
	flow->flags |= SERVED_WAITED_FOR;
	return RELEASE_BUSY;
}

static __always_inline int release(struct __sk_buff *skb, const struct packet *p)
{
	struct desk *desk = own_desk();
	struct socket_view socket = {};
	struct served_flow *flow;

	if (!desk)
		return TC_ACT_SHOT;
	struct wire_release *was = &desk->was, *m = &desk->answer;
	struct flow_key *key = &desk->key;

	if (p->payload_length < sizeof(*m) || bpf_skb_load_bytes(skb, p->payload, was, sizeof(*was)))
		return drop(COUNT_REFUSE_MALFORMED);
	*m = *was;
	if (release_tag(desk, 0) != was->tag && release_tag(desk, 1) != was->tag)
		return drop(COUNT_REFUSE_BAD_TAG);
	*key = m->key;
	look_at_socket(skb, key, &socket);
	flow = bpf_map_lookup_elem(&served, key);
	m->outcome = RELEASE_UNKNOWN;
	if (flow && flow->epoch == bpf_ntohl(m->epoch) && flow->seq == bpf_ntohl(m->seq)) {
		int before = flow->state;

		__builtin_memcpy(flow->proxy, p->source, 16);
		m->outcome = decide(flow, m, &socket);
		m->ack = bpf_htonl(flow->released_at);
		if (before == SERVED_FENCED)
			socket.state = 0; /* its socket went with the first answer */
	}
	m->prefix = bpf_htonl(WIRE_PREFIX | WIRE_RELEASE_ANSWER);
	m->tag = release_tag(desk, 0);

	/* The request goes back as its own answer ... */
	if (become_answer(skb, p, was, m, sizeof(*m)))
		return drop(COUNT_REFUSE_MALFORMED);
	switch (m->outcome) {
	case RELEASE_RELEASED:
		count(COUNT_RELEASED);
		break;
	case RELEASE_BUSY:
		count(COUNT_BUSY);
		break;
	case RELEASE_CLOSED:
		count(COUNT_CLOSED);
		break;
	default:
		count(COUNT_RELEASE_UNKNOWN_FLOW);
	}
	if (m->outcome != RELEASE_RELEASED || !socket.state)
		return bpf_redirect(skb->ifindex, 0);
	/* ... and then, as the client's reset, up to the socket. */
	if (bpf_clone_redirect(skb, skb->ifindex, 0) || become_reset(skb, key, socket.rcv_nxt))
		return TC_ACT_SHOT;
	return TC_NEXT;
}

#endif
