// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Role back end. TC ingress: adopts flows, releases them, passes their packets, drops the rest. TC egress: follows the answers and holds back
 * what a fenced flow would still say.
 *
 *   packet                                  verdict (ingress)
 *   bind                                    adopt.h
 *   release                                 release.h
 *   ask                                     ask.h
 *   forward                                 decapsulated, then as below; an ICMP error about a flow of a service: decapsulated, pass
 *   TCP to a service, flow held             pass; back in the queue while its socket is being made
 *   TCP to a service, flow fenced           drop
 *   TCP to a service, flow unknown          pass if a socket has it (the agent was restarted), else drop and report
 */
#include "abi.h"
#define COUNTERS(X) BACKEND_COUNTERS(X)
#include "counters.h"
#include "framing.h"
#include "icmp.h"
#include "served.h"
#include "adopt.h"
#include "ask.h"
#include "release.h"

static __always_inline struct service *find_service(const __be32 address[4], __be16 port)
{
	struct endpoint at = { .port = port };

	__builtin_memcpy(at.address, address, 16);
	return bpf_map_lookup_elem(&services, &at);
}

static __always_inline int from_client(struct __sk_buff *skb, const struct packet *p, enum counter passed)
{
	struct socket_view socket = {};
	struct served_flow *flow;
	struct flow_key key;

	if (p->flags & TCP_SYN)
		return drop(COUNT_REFUSE_SYN); /* only proxies shake hands */
	key_from_client(p, &key);
	flow = bpf_map_lookup_elem(&served, &key);
	if (!flow) {
		look_at_socket(skb, &key, &socket);
		return socket.state ? pass(passed) : drop(COUNT_REFUSE_UNKNOWN);
	}
	flow->seen_ns = bpf_ktime_get_ns();
	note_acknowledgement(flow, p->ack);
	if (flow->state == SERVED_FENCED || flow->state == SERVED_REFUSED)
		return drop(COUNT_FENCE_DROPPED);
	if (!is_adopted(skb, &key, flow))
		return times_requeued(skb) < REQUEUED_MOST ? requeue(skb, COUNT_WAITED) : drop(COUNT_REFUSE_UNKNOWN);
	if (p->flags & TCP_FIN) {
		flow->flags |= SERVED_CLIENT_FIN;
		flow->client_fin = p->seq + p->payload_length + 1;
	}
	if (flow->flags & SERVED_WAITED_FOR && complete(flow, p->ack)) {
		flow->flags &= ~SERVED_WAITED_FOR;
		tell(NOTICE_READY, 0, &key, flow);
	}
	return pass_unmarked(skb, passed);
}

/* All zero: any (the relay's agent, on lo). */
static __always_inline int is_own_address(const __be32 a[4])
{
	const __be32 *own = settings.address;

	return same_address(a, own) || !(own[0] | own[1] | own[2] | own[3]);
}

static __always_inline int from_proxy(struct __sk_buff *skb, const struct packet *p, struct packet *inner)
{
	struct flow_key key = {};
	enum parsed what;
	__u32 at = p->payload + sizeof(struct wire_forward);
	__u8 version;

	if (bpf_skb_load_bytes(skb, at, &version, 1))
		return drop(COUNT_REFUSE_MALFORMED);
	what = parse_ip(skb, at, version >> 4 == 6, inner);
	if (what == PARSED_TCP)
		key_from_client(inner, &key);
	else if (what != PARSED_ICMP || !find_embedded(skb, inner, &key))
		return drop(COUNT_REFUSE_MALFORMED);
	if (!find_service(key.vip, key.vip_port))
		return drop(COUNT_REFUSE_NO_SERVICE);
	if (cut(skb, inner->l3 - ETH_HLEN, inner->ipv6))
		return drop(COUNT_REFUSE_MALFORMED);
	return what == PARSED_ICMP ? pass(COUNT_ICMP_PASSED) : from_client(skb, inner, COUNT_DECAPSULATED);
}

SEC("tc") int backend_ingress(struct __sk_buff *skb)
{
	struct packet p = {}, inner = {};
	__be32 prefix;

	if (is_for_vlan(skb))
		return TC_NEXT;
	switch (parse_frame(skb, &p)) {
	case PARSED_TCP:
		return find_service(p.destination, p.destination_port) ? from_client(skb, &p, COUNT_PASSED) : TC_NEXT;
	case PARSED_UDP:
		break;
	case PARSED_FRAGMENT:
	case PARSED_MALFORMED:
		return find_service(p.destination, 0) ? drop(COUNT_REFUSE_MALFORMED) : TC_NEXT;
	default:
		return TC_NEXT;
	}
	if (p.destination_port != settings.port || !is_own_address(p.destination) || bpf_skb_load_bytes(skb, p.payload, &prefix, sizeof(prefix)))
		return TC_NEXT;
	switch (bpf_ntohl(prefix)) {
	case WIRE_PREFIX | WIRE_BIND:
		return adopt(skb, &p);
	case WIRE_PREFIX | WIRE_RELEASE:
		return release(skb, &p);
	case WIRE_PREFIX | WIRE_ASK:
		return answer_ask(skb, &p);
	case WIRE_PREFIX | WIRE_FORWARD:
		return from_proxy(skb, &p, &inner);
	default:
		return TC_NEXT; /* notices and answers: for the socket */
	}
}

/* Run by user space on a frame of its own, which the interface then receives like any other (the test of the path). */
SEC("tc") int backend_inject(struct __sk_buff *skb)
{
	return bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);
}

/* Whether a connected socket sends the packet. A reset of the kernel's own has none, or the one that all such resets share. */
static __always_inline int is_of_connection(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	return sk && sk->dst_port;
}

SEC("tc") int backend_egress(struct __sk_buff *skb)
{
	struct served_flow *flow;
	struct packet p = {};
	struct flow_key key;

	if (parse_frame(skb, &p) != PARSED_TCP)
		return TC_NEXT;
	key_from_server(&p, &key);
	flow = bpf_map_lookup_elem(&served, &key);
	if (!flow)
		return TC_NEXT;
	if (flow->state == SERVED_FENCED)
		return drop(COUNT_FENCE_DROPPED);
	if (flow->state == SERVED_ENDED)
		return TC_NEXT;
	if (may_be_elsewhere(flow))
		return drop(COUNT_NO_LEASE);
	if (flow->state == SERVED_ADOPTING) {
		if (p.flags & TCP_RST && !is_of_connection(skb)) {
			/* The kernel's own answer to a bind that it made no socket of (no syncookies): the client must not hear it, the request
			 * goes elsewhere. */
			flow->state = SERVED_REFUSED;
			flow->refusal = REFUSED_BY_KERNEL;
			tell(NOTICE_REFUSED, REFUSED_BY_KERNEL, &key, flow);
			return drop(COUNT_REFUSE_ADOPTION);
		}
		flow->state = SERVED_HELD;
	}
	if (p.payload_length)
		follow(skb, &p, flow);
	if (p.flags & TCP_FIN)
		flow->flags |= SERVED_SERVER_FIN;
	if (p.flags & TCP_RST) {
		flow->state = SERVED_ENDED;
		access_ends(flow);
		tell(NOTICE_GONE, 0, &key, flow);
	} else if (flow->flags & SERVED_SERVER_FIN && flow->flags & SERVED_CLIENT_FIN && p.ack == flow->client_fin) {
		access_ends(flow);
		flow->state = SERVED_ENDED; /* both sides have closed; the proxy saw the client's FIN itself */
	}
	return TC_NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
