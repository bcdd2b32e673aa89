/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* On the road to a back end: by neighbour, or in UDP (docs/wire.md, kind 2). */
#ifndef BATON_ENCAP_H
#define BATON_ENCAP_H

#include "packet.h"

#define FAMILY_IPV4 2
#define FAMILY_IPV6 10

static __always_inline int send_to_neighbour(struct __sk_buff *skb, __u32 ifindex, const __be32 address[4])
{
	struct bpf_redir_neigh next = {};

	if (is_ipv4(address)) {
		next.nh_family = FAMILY_IPV4;
		next.ipv4_nh = address[3];
	} else {
		next.nh_family = FAMILY_IPV6;
		__builtin_memcpy(next.ipv6_nh, address, 16);
	}
	return bpf_redirect_neigh(ifindex, &next, sizeof(next), 0);
}

struct outer_ipv4 {
	struct iphdr ip;
	struct udphdr udp;
	struct wire_forward forward;
};

struct outer_ipv6 {
	struct ipv6hdr ip;
	struct udphdr udp;
	struct wire_forward forward;
};

static __always_inline __u16 at_most_16_bits(__u32 length) { return length > 0xffff ? 0xffff : length; }

/* Puts the IP packet behind an outer header to the server. 0 or a negative error. */
static __noinline int encapsulate(struct __sk_buff *skb, const struct packet *p, const struct server *server, __be16 port)
{
	/* The source port spreads flows over receive queues; the same for all packets of a flow. */
	__be16 from = bpf_htons(49152 | (bpf_get_hash_recalc(skb) & 0x3fff));
	struct udphdr udp = { .source = from, .dest = port }; /* no checksum: the inner packet has its own */

	if (!p || !server)
		return -1;
	if (is_ipv4(server->address)) {
		struct outer_ipv4 outer = { .udp = udp, .forward.prefix = bpf_htonl(WIRE_PREFIX | WIRE_FORWARD) };

		outer.ip.version = 4;
		outer.ip.ihl = 5;
		outer.ip.ttl = 64;
		outer.ip.protocol = IPPROTO_UDP;
		outer.ip.frag_off = bpf_htons(0x4000);
		outer.ip.saddr = server->source[3];
		outer.ip.daddr = server->address[3];
		outer.ip.tot_len = bpf_htons(at_most_16_bits(p->length + sizeof(outer)));
		outer.udp.len = bpf_htons(at_most_16_bits(p->length + sizeof(outer) - sizeof(struct iphdr)));
		outer.ip.check = fold_checksum((__u32)bpf_csum_diff(0, 0, (__be32 *)&outer.ip, sizeof(outer.ip), 0));
		int error = bpf_skb_adjust_room(skb, sizeof(outer), BPF_ADJ_ROOM_MAC,
						BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_FIXED_GSO);
		return error ?: bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer), 0);
	}
	struct outer_ipv6 outer = { .udp = udp, .forward.prefix = bpf_htonl(WIRE_PREFIX | WIRE_FORWARD) };

	outer.ip.version = 6;
	outer.ip.hop_limit = 64;
	outer.ip.nexthdr = IPPROTO_UDP;
	__builtin_memcpy(&outer.ip.saddr, server->source, 16);
	__builtin_memcpy(&outer.ip.daddr, server->address, 16);
	outer.ip.payload_len = bpf_htons(at_most_16_bits(p->length + sizeof(outer) - sizeof(struct ipv6hdr)));
	outer.udp.len = outer.ip.payload_len;
	int error = bpf_skb_adjust_room(skb, sizeof(outer), BPF_ADJ_ROOM_MAC,
					BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_FIXED_GSO);
	return error ?: bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer), 0);
}

#endif
