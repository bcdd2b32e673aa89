/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What an agent knows: its services, the flows it serves, the events it tells user space; and the kernel's own view of a flow's socket. */
#ifndef BATON_SERVED_H
#define BATON_SERVED_H

#include <bpf/bpf_core_read.h>

#include "counters.h"
#include "options.h"
#include "siphash.h"

#define CURRENT_NETNS (-1)
#define STATE_ESTABLISHED 1
#define STATE_TIME_WAIT 6
#define STATE_LISTEN 10
#define STATE_NEW_SYN_RECV 12

struct settings settings SEC(".data.settings"); /* a table of their own: the next process reads the clock there */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct endpoint);
	__type(value, struct service);
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct flow_key);
	__type(value, struct served_flow);
} served SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} notices SEC(".maps");

/* By proxy: user space writes them as heartbeats come. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __be32[4]);
	__type(value, struct lease);
} leases SEC(".maps");

/* Whether another server may have the flow's request by now (H8): nothing of an answer arrived, and the proxy may take this node for dead. What
 * is not sent now the kernel sends again, when the proxy is heard; unless it says first that the flow is released. */
static __always_inline int may_be_elsewhere(const struct served_flow *flow)
{
	struct lease *lease;

	if (flow->flags & SERVED_ACKNOWLEDGED)
		return 0;
	lease = bpf_map_lookup_elem(&leases, flow->proxy);
	return lease && bpf_ktime_get_ns() > lease->until_ns;
}

static __always_inline void note_acknowledgement(struct served_flow *flow, __u32 ack)
{
	if (distance(flow->ack, ack) > 0)
		flow->flags |= SERVED_ACKNOWLEDGED;
}

/* For the skeleton: a type that no map names would not reach Rust. */
const volatile struct notice notice_layout;

/* What a message needs beside the 512 bytes of stack; one a CPU. Ingress only: an answer that leaves runs the egress program in between. */
struct desk {
	struct wire_bind bind;
	struct flow_key key;
	__u32 zero; /* a bind and its key are signed together, padded to whole words */
	struct wire_release was, answer;
	struct wire_truth question, truth;
	struct served_flow flow;
	struct packet inner;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct desk);
} desks SEC(".maps");

static __always_inline struct desk *own_desk(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&desks, &zero);
}

/* Just the fields that are read; the kernel's BTF says where they are. */
struct sock {
};
struct tcp_sock {
	__u32 rcv_nxt;
	__u32 snd_nxt;
	__u32 snd_una;
	__u32 write_seq;
	_Bool is_mptcp; /* with CONFIG_MPTCP only */
} __attribute__((preserve_access_index));
struct sock_common {
	__u32 skc_tw_rcv_nxt;
} __attribute__((preserve_access_index));
struct inet_timewait_sock {
	struct sock_common __tw_common;
} __attribute__((preserve_access_index));
struct tcp_timewait_sock {
	struct inet_timewait_sock tw_sk;
} __attribute__((preserve_access_index));

/* Go listens with MPTCP by default (1.24), other programs under mptcpize. */
static __always_inline int is_mptcp(struct tcp_sock *tcp)
{
	return bpf_core_field_exists(tcp->is_mptcp) && tcp->is_mptcp;
}

/* A flow's socket at one moment. */
struct socket_view {
	__u32 state; /* 0: none */
	__u32 rcv_nxt, snd_nxt, snd_una, write_seq;
};

static __always_inline __u32 socket_tuple(const __be32 client[4], __be16 client_port, const __be32 local[4], __be16 local_port,
					  struct bpf_sock_tuple *t)
{
	if (is_ipv4(local)) {
		t->ipv4.saddr = client[3];
		t->ipv4.daddr = local[3];
		t->ipv4.sport = client_port;
		t->ipv4.dport = local_port;
		return sizeof(t->ipv4);
	}
	__builtin_memcpy(t->ipv6.saddr, client, 16);
	__builtin_memcpy(t->ipv6.daddr, local, 16);
	t->ipv6.sport = client_port;
	t->ipv6.dport = local_port;
	return sizeof(t->ipv6);
}

/* The socket that has the flow's addresses; a listener does not count. A function of its own: next to another lookup clang merges the two
 * pointers, and the verifier refuses arithmetic on them. */
static __noinline int look_at_socket(struct __sk_buff *skb, const struct flow_key *key, struct socket_view *view)
{
	struct bpf_sock_tuple t = {};
	__u32 size;
	struct bpf_sock *sk;
	struct tcp_sock *tcp;
	struct tcp_timewait_sock *waiting;

	if (!key || !view)
		return 0;
	size = socket_tuple(key->client, key->client_port, key->vip, key->vip_port, &t);
	view->state = 0;
	if (size == sizeof(t.ipv4))
		sk = bpf_skc_lookup_tcp(skb, &t, sizeof(t.ipv4), CURRENT_NETNS, 0);
	else
		sk = bpf_skc_lookup_tcp(skb, &t, sizeof(t.ipv6), CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	if (sk->state != STATE_LISTEN) {
		view->state = sk->state;
		if ((waiting = bpf_skc_to_tcp_timewait_sock(sk))) {
			view->rcv_nxt = waiting->tw_sk.__tw_common.skc_tw_rcv_nxt;
		} else if ((tcp = bpf_skc_to_tcp_sock(sk))) {
			view->rcv_nxt = tcp->rcv_nxt;
			view->snd_nxt = tcp->snd_nxt;
			view->snd_una = tcp->snd_una;
			view->write_seq = tcp->write_seq;
		}
	}
	bpf_sk_release(sk);
	return 0;
}

/* A packet that another CPU's work must precede (a socket being made or removed) goes to the end of this CPU's queue, a bounded number of
 * times, counted in its mark. */
#define REQUEUED 0x42540000
#define REQUEUED_MOST 32

static __always_inline __u32 times_requeued(const struct __sk_buff *skb)
{
	return (skb->mark & 0xffff0000) == REQUEUED ? skb->mark & 0xffff : 0;
}

static __always_inline int requeue(struct __sk_buff *skb, enum counter why)
{
	skb->mark = REQUEUED | (times_requeued(skb) + 1);
	count(why);
	return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

static __always_inline int pass_unmarked(struct __sk_buff *skb, enum counter why)
{
	if (times_requeued(skb))
		skb->mark = 0;
	return pass(why);
}

/* Whether the flow's socket is there. While its adoption is under way on another CPU, packets that overtake it must wait: without a socket
 * the kernel would answer them with a reset. */
static __always_inline int is_adopted(struct __sk_buff *skb, const struct flow_key *key, struct served_flow *flow)
{
	struct socket_view socket = {};

	if (flow->state != SERVED_ADOPTING)
		return 1;
	look_at_socket(skb, key, &socket);
	if (socket.state && flow->state == SERVED_ADOPTING)
		flow->state = SERVED_HELD;
	return socket.state != 0;
}

static __always_inline void tell_at(__u8 what, __u8 reason, const struct flow_key *key, const struct served_flow *flow, __u32 ack)
{
	struct notice *n = bpf_ringbuf_reserve(&notices, sizeof(*n), 0);

	if (!n) {
		count(COUNT_NOTICE_LOST);
		return;
	}
	n->what = what;
	n->reason = reason;
	n->pad = 0;
	n->key = *key;
	n->epoch = flow->epoch;
	n->seq = flow->seq;
	n->ack = ack;
	__builtin_memcpy(n->proxy, flow->proxy, 16);
	bpf_ringbuf_submit(n, 0);
}

static __always_inline void tell(__u8 what, __u8 reason, const struct flow_key *key, const struct served_flow *flow)
{
	tell_at(what, reason, key, flow, flow->ack);
}

#endif
