/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* A bind arrives: the server's kernel makes an established socket out of the client's own packet (docs/wire.md, kind 1). */
#ifndef BATON_ADOPT_H
#define BATON_ADOPT_H

#include "framing.h"
#include "reshape.h"
#include "served.h"

/* include/net/tcp.h; its size is the kernel's, exactly. */
struct bpf_tcp_req_attrs {
	__u32 rcv_tsval, rcv_tsecr;
	__u16 mss;
	__u8 rcv_wscale, snd_wscale, ecn_ok, wscale_ok, sack_ok, tstamp_ok, usec_ts_ok, reserved[3];
};
extern int bpf_sk_assign_tcp_reqsk(struct __sk_buff *skb, struct sock *sk, struct bpf_tcp_req_attrs *attrs, int attrs__sz) __ksym;

#define MSS_MIN_IPV4 536
#define MSS_MIN_IPV6 1220
#define STALE_MS 30000
#define ENDS_APART (1 << 16) /* bytes of a next request that may have passed before its header was seen */

/* The newest cluster clock that each proxy's authentic headers showed, and when: a bind much older than that was recorded and sent again. */
struct proxy_clock {
	__u32 newest;
	__u32 zero;
	__u64 seen_ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __be32[4]);
	__type(value, struct proxy_clock);
} proxy_clocks SEC(".maps");

/* The tag covers the bind and, behind it, the key of the packet inside: 88 bytes, eleven words. */
static __noinline int is_genuine(struct desk *desk)
{
	__u64 tag, current, previous;

	if (!desk)
		return 0;
	tag = desk->bind.tag;
	desk->bind.tag = 0;
	desk->zero = 0;
	current = siphash((const __u64 *)&desk->bind, 11, settings.message_key[0]);
	previous = current == tag ? tag : siphash((const __u64 *)&desk->bind, 11, settings.message_key[1]);
	desk->bind.tag = tag;
	return tag == previous;
}

static __always_inline int is_stale(const __be32 proxy[4], __u32 clock)
{
	__u64 now = bpf_ktime_get_ns();
	struct proxy_clock *known = bpf_map_lookup_elem(&proxy_clocks, proxy);

	if (!known) {
		struct proxy_clock first = { .newest = clock, .seen_ns = now };
		bpf_map_update_elem(&proxy_clocks, proxy, &first, BPF_ANY);
		return 0;
	}
	if (distance(known->newest, clock) > 0) {
		known->newest = clock;
		known->seen_ns = now;
		return 0;
	}
	return distance(clock, known->newest + (__u32)((now - known->seen_ns) / 1000000)) > STALE_MS;
}

static __always_inline void take_state(struct served_flow *flow, const struct wire_bind *bind, const struct packet *outer)
{
	__u32 requests = bpf_ntohl(bind->requests);

	__builtin_memcpy(flow->proxy, outer->source, 16);
	if (distance(flow->requests, requests) <= 0)
		return;
	flow->requests = requests;
	flow->bodiless = bpf_ntohl(bind->bodiless);
	flow->boundary = bpf_ntohl(bind->boundary);
	if (bind->flags & BIND_PINNED)
		flow->flags |= SERVED_PINNED;
}

static __noinline int assign(struct __sk_buff *skb, const struct service *service, const struct flow_key *key,
			     struct bpf_tcp_req_attrs *attrs)
{
	struct bpf_sock_tuple t = {};
	struct bpf_sock *sk;
	int refusal = REFUSED_NO_LISTENER;

	if (!service || !key || !attrs)
		return refusal;
	if (socket_tuple(key->client, key->client_port, service->listener, service->port, &t) == sizeof(t.ipv4))
		sk = bpf_skc_lookup_tcp(skb, &t, sizeof(t.ipv4), CURRENT_NETNS, 0);
	else
		sk = bpf_skc_lookup_tcp(skb, &t, sizeof(t.ipv6), CURRENT_NETNS, 0);
	if (!sk)
		return refusal;
	if (sk->state == STATE_LISTEN) {
		struct tcp_sock *listener = bpf_skc_to_tcp_sock(sk);
		if (listener && !bpf_sk_assign_tcp_reqsk(skb, (struct sock *)listener, attrs, sizeof(*attrs)))
			refusal = 0;
		else if (listener)
			refusal = is_mptcp(listener) ? REFUSED_MPTCP : REFUSED_BY_KERNEL;
	}
	bpf_sk_release(sk);
	return refusal;
}

/* An old socket has the client's addresses (TIME_WAIT, or a client that came back): this packet becomes the reset that removes it, and a
 * copy of the bind waits behind it in the queue. */
static __always_inline int clear_the_way(struct __sk_buff *skb, const struct flow_key *key, const struct socket_view *socket)
{
	if (times_requeued(skb) >= REQUEUED_MOST || socket->state == STATE_NEW_SYN_RECV)
		return drop(COUNT_REFUSE_TAKEN); /* the client sends it again */
	skb->mark = REQUEUED | (times_requeued(skb) + 1);
	if (bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS) || become_reset(skb, key, socket->rcv_nxt))
		return drop(COUNT_REFUSE_TAKEN);
	skb->mark = 0;
	return pass(COUNT_CLEARED);
}

/* The entry that the bind would make. */
static __always_inline void fill(struct served_flow *flow, const struct wire_bind *bind, const struct packet *inner, const struct packet *outer,
				 const struct service *service)
{
	__builtin_memset(flow, 0, sizeof(*flow));
	flow->state = SERVED_ADOPTING;
	flow->service = service->index;
	flow->offers = bind->flags & (OFFER_TIMESTAMPS | OFFER_SACK | OFFER_WSCALE);
	flow->scales = bind->scales;
	flow->mss = bpf_ntohs(bind->mss);
	flow->epoch = bpf_ntohl(bind->epoch);
	flow->seq = bpf_ntohl(bind->seq);
	flow->ack = bpf_ntohl(bind->ack);
	flow->framing.next = flow->ack;
	flow->framing.names = NAME_ALL;
	flow->seen_ns = bpf_ktime_get_ns();
	if (inner->flags & TCP_FIN) {
		flow->flags |= SERVED_CLIENT_FIN;
		flow->client_fin = inner->seq + inner->payload_length + 1;
	}
	access_begins(flow);
	take_state(flow, bind, outer);
}

/* Whether a socket that nothing is known of was made by this very bind: it has taken bytes from there on, and sent from there on. */
static __always_inline int is_this_connection(const struct socket_view *socket, const struct served_flow *flow)
{
	__s32 taken = distance(flow->seq, socket->rcv_nxt), sent = distance(flow->ack, socket->write_seq);

	return socket->state && socket->state != STATE_TIME_WAIT && socket->state != STATE_NEW_SYN_RECV && taken > 0 &&
	       distance(socket->rcv_nxt, flow->boundary) >= -ENDS_APART && sent >= 0 && distance(socket->snd_una, flow->ack) <= 0;
}

static __always_inline int adopt(struct __sk_buff *skb, const struct packet *outer)
{
	struct desk *desk = own_desk();
	struct endpoint at = {};
	struct socket_view socket = {};
	struct served_flow *held;
	struct service *service;
	struct options own;
	__u8 version;

	if (!desk)
		return TC_ACT_SHOT;
	struct wire_bind *bind = &desk->bind;
	struct packet *inner = &desk->inner;
	struct flow_key *key = &desk->key;
	struct served_flow *flow = &desk->flow;

	if (bpf_skb_load_bytes(skb, outer->payload, bind, sizeof(*bind)) ||
	    bpf_skb_load_bytes(skb, outer->payload + sizeof(*bind), &version, 1) ||
	    parse_ip(skb, outer->payload + sizeof(*bind), version >> 4 == 6, inner) != PARSED_TCP ||
	    (inner->flags & (TCP_SYN | TCP_RST | TCP_ACK)) != TCP_ACK)
		return drop(COUNT_REFUSE_MALFORMED);
	key_from_client(inner, key);
	__builtin_memcpy(at.address, key->vip, 16);
	at.port = key->vip_port;
	service = bpf_map_lookup_elem(&services, &at);
	if (!service)
		return drop(COUNT_REFUSE_NO_SERVICE);
	if (!is_genuine(desk))
		return drop(COUNT_REFUSE_BAD_TAG);
	fill(flow, bind, inner, outer, service);
	if (is_stale(outer->source, bpf_ntohl(bind->clock))) {
		tell(NOTICE_REFUSED, REFUSED_STALE, key, flow); /* a proxy that was set back must not wait for ever */
		return drop(COUNT_REFUSE_STALE);
	}

	__u32 header = inner->l3 - ETH_HLEN;
	held = bpf_map_lookup_elem(&served, key);
	if (held) {
		__s32 newer = distance(held->epoch, flow->epoch);
		int same = held->seq == flow->seq && held->ack == flow->ack;

		if (newer < 0)
			return drop(COUNT_REFUSE_STALE);
		/* The same place in the same connection under a new epoch: the proxy has forgotten the flow and decided again. */
		if (newer > 0 && same && (held->state == SERVED_HELD || held->state == SERVED_ADOPTING)) {
			held->epoch = flow->epoch;
			newer = 0;
		}
		if (newer == 0 || (same && held->state != SERVED_REFUSED)) {
			if (!same || held->state == SERVED_FENCED || (newer > 0 && held->state == SERVED_ENDED))
				return drop(COUNT_REFUSE_REPEATED);
			if (held->state == SERVED_REFUSED) {
				tell(NOTICE_REFUSED, held->refusal, key, held); /* the first notice may have been lost */
				return drop(COUNT_REFUSE_REPEATED);
			}
			if (!is_adopted(skb, key, held)) {
				if (times_requeued(skb) < REQUEUED_MOST)
					return requeue(skb, COUNT_WAITED);
				goto adopt; /* the kernel had no room for it (accept queue), and nothing was executed */
			}
			int newer_state = distance(held->requests, bpf_ntohl(bind->requests)) > 0;
			struct access_place place = { .flow = held->access.flow, .number = newer_state ? held->requests : ACCESS_SAME,
						      .begins = held->boundary };
			access_request(skb, desk, &place, inner->payload);
			take_state(held, bind, outer);
			if (bind->flags & BIND_TELL) {
				look_at_socket(skb, key, &socket);
				if (socket.state)
					tell_at(NOTICE_TAKEN, 0, key, held, socket.rcv_nxt);
			}
			held->seen_ns = bpf_ktime_get_ns();
			note_acknowledgement(held, inner->ack);
			if (inner->flags & TCP_FIN) {
				held->flags |= SERVED_CLIENT_FIN;
				held->client_fin = inner->seq + inner->payload_length + 1;
			}
			return cut(skb, header, inner->ipv6) ? drop(COUNT_REFUSE_MALFORMED) : pass_unmarked(skb, COUNT_HEADER_PASSED);
		}
	}
adopt:
	look_at_socket(skb, key, &socket);
	if (!held && is_this_connection(&socket, flow)) {
		/* The agent was restarted: the socket lives, its answers so far are unknown. */
		flow->state = SERVED_HELD;
		flow->flags |= SERVED_OPAQUE;
		flow->access.flow = 0;
		if (bpf_map_update_elem(&served, key, flow, BPF_ANY))
			return drop(COUNT_REFUSE_TABLE_FULL);
		return cut(skb, header, inner->ipv6) ? drop(COUNT_REFUSE_MALFORMED) : pass_unmarked(skb, COUNT_HEADER_PASSED);
	}
	if (inner->seq != flow->seq) {
		tell(NOTICE_UNKNOWN, 0, key, flow);
		return drop(COUNT_REFUSE_EARLY);
	}
	if (socket.state)
		return clear_the_way(skb, key, &socket);

	parse_options(skb, inner, &own);
	struct bpf_tcp_req_attrs attrs = {
		.rcv_tsval = own.tsval,
		.rcv_tsecr = bpf_ntohl(bind->clock), /* the kernel's first RTT sample is this less the packet's TSecr */
		.mss = bpf_ntohs(bind->mss),
		.rcv_wscale = bind->scales & 15,
		.snd_wscale = bind->scales >> 4,
		.wscale_ok = !!(bind->flags & OFFER_WSCALE),
		.sack_ok = !!(bind->flags & OFFER_SACK),
		.tstamp_ok = bind->flags & OFFER_TIMESTAMPS && own.timestamps,
	};
	__u16 least = inner->ipv6 ? MSS_MIN_IPV6 : MSS_MIN_IPV4;
	if (attrs.mss < least)
		attrs.mss = least;
	/* Not told to the proxy: what cannot be remembered as refused might be adopted later, and be executed twice. */
	if (bpf_map_update_elem(&served, key, flow, BPF_ANY))
		return drop(COUNT_REFUSE_TABLE_FULL);
	int refusal = cut(skb, header, inner->ipv6) ? REFUSED_BY_KERNEL : assign(skb, service, key, &attrs);
	if (refusal) {
		held = bpf_map_lookup_elem(&served, key);
		if (held) {
			held->state = SERVED_REFUSED;
			held->refusal = refusal;
		}
		tell(NOTICE_REFUSED, refusal, key, flow);
		return drop(COUNT_REFUSE_ADOPTION);
	}
	struct access_place place = { .flow = flow->access.flow, .begins = flow->seq };
	access_request(skb, desk, &place, inner->payload - header);
	return pass_unmarked(skb, COUNT_ADOPTED);
}

#endif
