/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Connections on which nothing has been said yet (H13): the cookie is all there is of them, and what TCP asks of the other end is answered from
 * the packet alone. Nothing is kept. */
#ifndef BATON_SILENT_H
#define BATON_SILENT_H

#include "cookie.h"
#include "reply.h"

/* `flags`: ACK, or FIN and ACK. */
static __noinline int answer_silent(struct __sk_buff *skb, struct packet *p, const struct options *offered, __u8 flags)
{
	struct reply *r;
	struct options own;

	if (!p || !offered)
		return TC_ACT_SHOT;
	r = begin_reply(p, p->ack, p->seq + 1, flags,
			offered->wscale == WSCALE_NONE ? PROMISED_WINDOW : (PROMISED_WINDOW >> PROMISED_WSCALE) + 1);
	parse_options(skb, p, &own);
	if (r && own.timestamps) {
		r->tcp[5] = bpf_htonl(0x0101080a);
		r->tcp[6] = bpf_htonl((__u32)now_ms(&settings));
		r->tcp[7] = bpf_htonl(own.tsval);
		r->length += 12;
	}
	count(flags & TCP_FIN ? COUNT_FIN_ANSWERED : COUNT_PROBE_ANSWERED);
	return send_reply(skb, p, r);
}

/* A keepalive probe (RFC 9293 3.8.4): the byte before the first, or no byte at its place. -1: it is none. `old`: the entry of a former
 * connection on these addresses. */
static __always_inline int answer_probe(struct __sk_buff *skb, struct packet *p, const struct flow_key *key, const struct flow_entry *old)
{
	struct options offered = {};

	if (p->payload_length > 1 || p->flags & TCP_FIN || (old && old->first_seq == p->seq + 1 && old->first_ack == p->ack) ||
	    !open_cookie(key, p->seq, p->ack - 1, &offered))
		return -1;
	return answer_silent(skb, p, &offered, TCP_ACK);
}

/* The client closes a connection that it has not used: so does the VIP, with a FIN that is repeated as often as the client's. */
static __always_inline int answer_fin(struct __sk_buff *skb, struct packet *p, const struct options *offered)
{
	return answer_silent(skb, p, offered, TCP_FIN | TCP_ACK);
}

/* Whether a silent connection speaks for the first time after its cookie has expired: a request, a FIN or a probe. */
static __always_inline int is_expired(const struct packet *p, const struct flow_key *key)
{
	int begins = p->payload_length || p->flags & TCP_FIN;

	return (begins && is_expired_cookie(key, p->seq - 1, p->ack - 1)) || (p->payload_length <= 1 && is_expired_cookie(key, p->seq, p->ack - 1));
}

#endif
