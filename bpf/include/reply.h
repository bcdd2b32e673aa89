/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* A client's packet becomes the VIP's answer, and goes back the way it came, or as the routes say when other nodes may have sent it here. */
#ifndef BATON_REPLY_H
#define BATON_REPLY_H

#include "counters.h"
#include "options.h"

/* What the SYN-ACK promises for all servers: 64 KB before scaling (never scaled in a SYN), in units of 2^10 after. */
#define PROMISED_WINDOW 65535
#define PROMISED_WSCALE 10
#define REPLY_HOPS 64

/* Answers carry neither IPv4 options nor IPv6 extension headers, whatever came. The IP header is to be written anew. */
static __always_inline int strip_ip_options(struct __sk_buff *skb, struct packet *p)
{
	__u32 options = p->l4 - p->l3 - (p->ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));

	if (!options)
		return 0;
	p->l4 -= options;
	p->payload -= options;
	p->length -= options;
	return bpf_skb_adjust_room(skb, -(__s32)options, BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_FIXED_GSO);
}

/* The IP header of the answer to `p`, which is `tcp` bytes long. */
static __always_inline int write_reply_ip(struct __sk_buff *skb, const struct packet *p, __u32 tcp)
{
	if (p->ipv6) {
		struct ipv6hdr ip = { .version = 6, .nexthdr = IPPROTO_TCP, .hop_limit = REPLY_HOPS, .payload_len = bpf_htons(tcp) };

		__builtin_memcpy(&ip.saddr, p->destination, 16);
		__builtin_memcpy(&ip.daddr, p->source, 16);
		return bpf_skb_store_bytes(skb, p->l3, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM);
	}
	struct iphdr ip = { .version = 4, .ihl = 5, .ttl = REPLY_HOPS, .protocol = IPPROTO_TCP };

	ip.tot_len = bpf_htons(sizeof(ip) + tcp);
	ip.frag_off = bpf_htons(0x4000);
	ip.saddr = p->destination[3];
	ip.daddr = p->source[3];
	ip.check = fold_checksum((__u32)bpf_csum_diff(0, 0, (__be32 *)&ip, sizeof(ip), 0));
	return bpf_skb_store_bytes(skb, p->l3, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM);
}

/* Of a TCP packet of this length between these two, in either direction. IPv4 addresses are mapped: the ones before them add nothing. */
static __always_inline __u64 sum_pseudo_header(const struct packet *p, __u32 length)
{
	return (__u64)(__u32)bpf_csum_diff(0, 0, (__be32 *)p->source, 32, 0) + bpf_htonl(IPPROTO_TCP) + bpf_htonl(length);
}

/* A TCP header, and its length in bytes; what is behind the length is zero. Two on the stack would be too many. */
struct reply {
	__be32 tcp[15];
	__u32 length;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct reply);
} replies SEC(".maps");

/* An answer to `p` without options. */
static __always_inline struct reply *begin_reply(const struct packet *p, __u32 seq, __u32 ack, __u8 flags, __u16 window)
{
	__u32 zero = 0;
	struct reply *r = bpf_map_lookup_elem(&replies, &zero);

	if (!r)
		return 0;
	__builtin_memset(r, 0, sizeof(*r));
	((struct tcphdr *)r->tcp)->source = p->destination_port;
	((struct tcphdr *)r->tcp)->dest = p->source_port;
	r->tcp[1] = bpf_htonl(seq);
	r->tcp[2] = bpf_htonl(ack);
	r->tcp[3] = bpf_htonl((__u32)flags << 16 | window); /* reserved bits and ECN clear (H16) */
	r->length = sizeof(struct tcphdr);
	return r;
}

/* Sends it, instead of the packet. */
static __noinline int send_reply(struct __sk_buff *skb, struct packet *p, struct reply *r)
{
	__u32 length;
	__u16 check, partial;

	if (!p || !r || strip_ip_options(skb, p) || bpf_skb_load_bytes(skb, p->l4 + OFFSET_TCP_CHECK, &check, 2))
		return drop(COUNT_DROP_MALFORMED);
	length = r->length;
	r->tcp[3] |= bpf_htonl(length << 26);
	/* A packet that comes by veth, or was merged, may have only the pseudo header's sum, and a mark that it is to be completed. */
	partial = (__u16)~fold_checksum(sum_pseudo_header(p, p->l3 + p->length - p->l4));
	if (check == partial)
		check = ~fold_checksum(sum_pseudo_header(p, length));
	else
		check = fold_checksum(sum_pseudo_header(p, length) + (__u32)bpf_csum_diff(0, 0, r->tcp, sizeof(r->tcp), 0));
	((struct tcphdr *)r->tcp)->check = check;
	/* Of what came in UDP by a virtual cable the kernel cuts no tail (skb->encapsulation stays): behind the IP packet it is padding. */
	if (skb->len != p->l4 + length)
		bpf_skb_change_tail(skb, p->l4 + length, 0);
	if (write_reply_ip(skb, p, length))
		return drop(COUNT_DROP_MALFORMED);
	OPAQUE(length);
	if (length < sizeof(struct tcphdr) || length > sizeof(r->tcp) ||
	    bpf_skb_store_bytes(skb, p->l4, r->tcp, length, BPF_F_RECOMPUTE_CSUM))
		return drop(COUNT_DROP_MALFORMED);
	if (settings.answers_by_route)
		return bpf_redirect_neigh(skb->ifindex, 0, 0, 0);
	swap_link_addresses(skb);
	return bpf_redirect(skb->ifindex, 0);
}

/* At the number that the client acknowledges, which it believes (RFC 9293 3.10.7.1, RFC 5961 3.2). */
static __always_inline int reset(struct __sk_buff *skb, struct packet *p, enum counter why)
{
	count(why);
	return send_reply(skb, p, begin_reply(p, p->ack, 0, TCP_RST, 0));
}

#endif
