/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* A packet as the programs see it: parsed once, by offsets (packet-pointer loops cost the verifier a thousand times more). */
#ifndef BATON_PACKET_H
#define BATON_PACKET_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

#define TC_NEXT (-1) /* TCX_NEXT: linux-libc-dev 6.1 lacks it */

/* Makes the compiler forget what it knows of x: the verifier only believes a comparison of the very register that is used later. */
#define OPAQUE(x) asm volatile("" : "+r"(x))

enum tcp_flag { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_PSH = 8, TCP_ACK = 16, TCP_URG = 32, TCP_ECE = 64, TCP_CWR = 128 };

#define OFFSET_TCP_FLAGS 13
#define OFFSET_TCP_WINDOW 14
#define OFFSET_TCP_CHECK 16
#define OFFSET_TCP_URGENT 18

enum parsed {
	PARSED_TCP,
	PARSED_UDP,
	PARSED_ICMP,      /* of the packet's own family; `payload` is behind its 8 bytes of header */
	PARSED_OTHER,     /* another protocol: the host's business */
	PARSED_FRAGMENT,
	PARSED_MALFORMED,
};

struct packet {
	__u32 l3, l4, payload; /* offsets from the start of the frame */
	__u32 length;          /* of the IP packet */
	__u32 payload_length;
	__be32 source[4], destination[4];
	__be16 source_port, destination_port;
	__u32 seq, ack;
	__u16 window;
	__u8 flags;
	__u8 ipv6;
	__u8 tcp_header;
	__u8 passed; /* it came from a balancer or a proxy ... */
	__u8 hops;   /* ... by so many proxies */
};

/* Distance b - a of sequence numbers, as signed: > 0 when b is later (RFC 9293 3.4). */
static __always_inline __s32 distance(__u32 a, __u32 b) { return (__s32)(b - a); }

static __always_inline void map_ipv4(__be32 to[4], __be32 address)
{
	to[0] = 0;
	to[1] = 0;
	to[2] = bpf_htonl(0xffff);
	to[3] = address;
}

static __always_inline int is_ipv4(const __be32 a[4]) { return !a[0] && !a[1] && a[2] == bpf_htonl(0xffff); }

static __always_inline int same_address(const __be32 a[4], const __be32 b[4])
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

static __always_inline enum parsed parse_tcp(struct __sk_buff *skb, struct packet *p)
{
	struct tcphdr tcp;

	if (bpf_skb_load_bytes(skb, p->l4, &tcp, sizeof(tcp)))
		return PARSED_MALFORMED;
	p->tcp_header = tcp.doff * 4;
	p->payload = p->l4 + p->tcp_header;
	if (p->tcp_header < sizeof(tcp) || p->payload > p->l3 + p->length)
		return PARSED_MALFORMED;
	p->payload_length = p->l3 + p->length - p->payload;
	p->source_port = tcp.source;
	p->destination_port = tcp.dest;
	p->seq = bpf_ntohl(tcp.seq);
	p->ack = bpf_ntohl(tcp.ack_seq);
	p->window = bpf_ntohs(tcp.window);
	p->flags = ((__u8 *)&tcp)[OFFSET_TCP_FLAGS];
	return PARSED_TCP;
}

static __always_inline enum parsed parse_udp(struct __sk_buff *skb, struct packet *p)
{
	struct udphdr udp;

	if (bpf_skb_load_bytes(skb, p->l4, &udp, sizeof(udp)))
		return PARSED_MALFORMED;
	p->payload = p->l4 + sizeof(udp);
	p->source_port = udp.source;
	p->destination_port = udp.dest;
	/* Not the UDP length: an aggregate's is that of one segment. */
	p->payload_length = p->l3 + p->length - p->payload;
	return PARSED_UDP;
}

/* Walks over what may stand between an IPv6 header and TCP (RFC 8200 4.1): returns where the upper layer begins and, in the low byte, which it
 * is; negative if there are too many headers, they end too early, or a routing header says that the packet is not at its end. */
#define EXTENSIONS_MOST 4

static __noinline int skip_extensions(struct __sk_buff *skb, __u32 at, __u8 protocol)
{
	__u8 header[4];

	for (int i = 0; i <= EXTENSIONS_MOST; i++) {
		if (protocol != IPPROTO_HOPOPTS && protocol != IPPROTO_ROUTING && protocol != IPPROTO_DSTOPTS)
			return at << 8 | protocol;
		if (at > 0xffff || bpf_skb_load_bytes(skb, at, header, sizeof(header)) || (protocol == IPPROTO_ROUTING && header[3]))
			return -1;
		protocol = header[0];
		at += (header[1] + 1) * 8;
	}
	return -1;
}

/* Parses the IP packet at `l3`. Addresses are set whenever the IP header was whole. */
static __always_inline enum parsed parse_ip(struct __sk_buff *skb, __u32 l3, __u8 ipv6, struct packet *p)
{
	__u8 protocol;

	p->l3 = l3;
	p->ipv6 = ipv6;
	if (!ipv6) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, l3, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
			return PARSED_MALFORMED;
		map_ipv4(p->source, ip.saddr);
		map_ipv4(p->destination, ip.daddr);
		p->l4 = l3 + ip.ihl * 4;
		p->length = bpf_ntohs(ip.tot_len);
		protocol = ip.protocol;
		if (ip.frag_off & bpf_htons(0x3fff))
			return PARSED_FRAGMENT;
	} else {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, l3, &ip, sizeof(ip)) || ip.version != 6)
			return PARSED_MALFORMED;
		__builtin_memcpy(p->source, &ip.saddr, 16);
		__builtin_memcpy(p->destination, &ip.daddr, 16);
		if (is_ipv4(p->source) || is_ipv4(p->destination))
			return PARSED_OTHER; /* would be taken for an IPv4 flow */
		p->length = sizeof(ip) + bpf_ntohs(ip.payload_len);
		int upper = skip_extensions(skb, l3 + sizeof(ip), ip.nexthdr);
		if (upper < 0)
			return PARSED_MALFORMED;
		p->l4 = upper >> 8;
		protocol = upper;
		if (protocol == IPPROTO_FRAGMENT)
			return PARSED_FRAGMENT;
	}
	/* An aggregate of 64 KB and more says 0 (BIG TCP), an encapsulated one may say too little: then the frame counts. */
	if (l3 + p->length > skb->len || p->l4 > l3 + p->length) {
		if (p->length > (ipv6 ? sizeof(struct ipv6hdr) : 0))
			return PARSED_MALFORMED;
		p->length = skb->len - l3;
	}
	if (protocol == IPPROTO_TCP)
		return parse_tcp(skb, p);
	if (protocol == IPPROTO_UDP)
		return parse_udp(skb, p);
	if (protocol == (ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) {
		p->payload = p->l4 + 8;
		return PARSED_ICMP;
	}
	return PARSED_OTHER;
}

static __always_inline enum parsed parse_frame(struct __sk_buff *skb, struct packet *p)
{
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return parse_ip(skb, ETH_HLEN, 0, p);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return parse_ip(skb, ETH_HLEN, 1, p);
	return PARSED_OTHER;
}

/* A switch that does not know yet where a link-layer address is sends its frames everywhere. */
static __always_inline int is_for_another(const struct __sk_buff *skb) { return skb->pkt_type == PACKET_OTHERHOST; }

/* A frame of a VLAN is for the interface of that VLAN, where it comes again without its tag. Tag 0 says a priority only (IEEE 802.1Q 6.8) and
 * goes. */
static __always_inline int is_for_vlan(struct __sk_buff *skb)
{
	return skb->vlan_present && (skb->vlan_tci & 0xfff || bpf_skb_vlan_pop(skb));
}

static __always_inline void key_from_client(const struct packet *p, struct flow_key *key)
{
	__builtin_memcpy(key->client, p->source, 16);
	__builtin_memcpy(key->vip, p->destination, 16);
	key->client_port = p->source_port;
	key->vip_port = p->destination_port;
}

static __always_inline void key_from_server(const struct packet *p, struct flow_key *key)
{
	__builtin_memcpy(key->client, p->destination, 16);
	__builtin_memcpy(key->vip, p->source, 16);
	key->client_port = p->destination_port;
	key->vip_port = p->source_port;
}

static __always_inline void swap_link_addresses(struct __sk_buff *skb)
{
	__u8 from[12], to[12];

	if (bpf_skb_load_bytes(skb, 0, from, sizeof(from)))
		return;
	__builtin_memcpy(to, from + 6, 6);
	__builtin_memcpy(to + 6, from, 6);
	bpf_skb_store_bytes(skb, 0, to, sizeof(to), 0);
}

/* Exchanges source and destination: no checksum changes by it. */
static __always_inline void swap_ip_addresses(struct __sk_buff *skb, const struct packet *p)
{
	if (p->ipv6) {
		bpf_skb_store_bytes(skb, p->l3 + 8, p->destination, 16, BPF_F_RECOMPUTE_CSUM);
		bpf_skb_store_bytes(skb, p->l3 + 24, p->source, 16, BPF_F_RECOMPUTE_CSUM);
	} else {
		bpf_skb_store_bytes(skb, p->l3 + 12, &p->destination[3], 4, BPF_F_RECOMPUTE_CSUM);
		bpf_skb_store_bytes(skb, p->l3 + 16, &p->source[3], 4, BPF_F_RECOMPUTE_CSUM);
	}
}

/* Urgent data are read in their place, like all bytes that were routed: a server that takes them out of the stream would see another request. */
static __always_inline void clear_urgent(struct __sk_buff *skb, const struct packet *p)
{
	__be16 flags, urgent, none = 0;
	__u32 check = p->l4 + OFFSET_TCP_CHECK;

	if (!(p->flags & TCP_URG) || bpf_skb_load_bytes(skb, p->l4 + OFFSET_TCP_FLAGS - 1, &flags, 2) ||
	    bpf_skb_load_bytes(skb, p->l4 + OFFSET_TCP_URGENT, &urgent, 2))
		return;
	__be16 without = flags & bpf_htons(~TCP_URG);
	bpf_l4_csum_replace(skb, check, flags, without, 2);
	bpf_l4_csum_replace(skb, check, urgent, none, 2);
	bpf_skb_store_bytes(skb, p->l4 + OFFSET_TCP_FLAGS - 1, &without, 2, 0);
	bpf_skb_store_bytes(skb, p->l4 + OFFSET_TCP_URGENT, &none, 2, 0);
}

static __always_inline __u16 fold_checksum(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline __u64 now_ms(const struct settings *s) { return bpf_ktime_get_ns() / 1000000 + s->clock_offset_ms; }

#endif
