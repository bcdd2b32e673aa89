/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* On the road to a back end: by neighbour, or in UDP (docs/wire.md, kind 2). */
#ifndef BATON_ENCAP_H
#define BATON_ENCAP_H

#include <linux/errno.h>

#include "reshape.h"

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
};

struct outer_ipv6 {
	struct ipv6hdr ip;
	struct udphdr udp;
};

static __always_inline __u16 at_most_16_bits(__u32 length) { return length > 0xffff ? 0xffff : length; }

#define ENCAP (BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_FIXED_GSO)
#define DETOUR 40 /* any header */

/* Room for an outer packet of that family. A packet that came encapsulated over a virtual cable still has the mark of it, and then the kernel
 * refuses to mark it again. All that the mark stands for holds: what is inside has not moved. So the room is made plainly; to give some of it
 * back is the one way to say the family. */
static __noinline int make_room(struct __sk_buff *skb, __u32 bytes, __u8 ipv6)
{
	__u64 outer = ipv6 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV4;
	int error = bpf_skb_adjust_room(skb, bytes, BPF_ADJ_ROOM_MAC, ENCAP | outer);

	if (error != -EALREADY)
		return error;
	outer = ipv6 ? ADJ_ROOM_DECAP_L3_IPV6 : ADJ_ROOM_DECAP_L3_IPV4;
	return bpf_skb_adjust_room(skb, bytes + DETOUR, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO) ?:
	       bpf_skb_adjust_room(skb, -DETOUR, BPF_ADJ_ROOM_MAC, outer | BPF_F_ADJ_ROOM_FIXED_GSO);
}

/* Puts the IP packet behind a message to the server (docs/wire.md). `size`: of the message, a constant. 0 or a negative error. */
static __always_inline int encapsulate(struct __sk_buff *skb, const struct packet *p, const struct server *server, __be16 port,
				       const void *message, const __u32 size)
{
	/* The source port spreads flows over receive queues; the same for all packets of a flow. */
	__be16 from = bpf_htons(49152 | (bpf_get_hash_recalc(skb) & 0x3fff));
	__u32 length = p->length + size + sizeof(struct udphdr);
	/* No checksum: the inner packet has its own. */
	struct udphdr udp = { .source = from, .dest = port, .len = bpf_htons(at_most_16_bits(length)) };
	int error;

	if (is_ipv4(server->address)) {
		struct outer_ipv4 outer = { .udp = udp };

		outer.ip.version = 4;
		outer.ip.ihl = 5;
		outer.ip.ttl = 64;
		outer.ip.protocol = IPPROTO_UDP;
		outer.ip.frag_off = bpf_htons(0x4000);
		outer.ip.saddr = server->source[3];
		outer.ip.daddr = server->address[3];
		outer.ip.tot_len = bpf_htons(at_most_16_bits(length + sizeof(struct iphdr)));
		outer.ip.check = fold_checksum((__u32)bpf_csum_diff(0, 0, (__be32 *)&outer.ip, sizeof(outer.ip), 0));
		error = make_room(skb, sizeof(outer) + size, 0) ?:
			bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer), 0);
		return error ?: bpf_skb_store_bytes(skb, ETH_HLEN + sizeof(outer), message, size, 0);
	}
	struct outer_ipv6 outer = { .udp = udp };

	outer.ip.version = 6;
	outer.ip.hop_limit = 64;
	outer.ip.nexthdr = IPPROTO_UDP;
	__builtin_memcpy(&outer.ip.saddr, server->source, 16);
	__builtin_memcpy(&outer.ip.daddr, server->address, 16);
	outer.ip.payload_len = udp.len;
	error = make_room(skb, sizeof(outer) + size, 1) ?:
		bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer), 0);
	return error ?: bpf_skb_store_bytes(skb, ETH_HLEN + sizeof(outer), message, size, 0);
}

/* Behind a `forward`, or a `pass` with its hops in the second byte of `what`. A function of its own for the stack's sake. */
static __noinline __attribute__((unused)) int encapsulate_short(struct __sk_buff *skb, const struct packet *p, const struct server *server, __be16 port, __u32 what)
{
	struct wire_pass message = { .prefix = bpf_htonl(WIRE_PREFIX | (what & 0xff)), .hops = what >> 8 };

	return p && server ? encapsulate(skb, p, server, port, &message, sizeof(message)) : -1;
}

/* To the server as its node: through UDP. */
static __always_inline int send_to_node(struct __sk_buff *skb, const struct server *server)
{
	if (server->via == VIA_NEIGHBOUR)
		return send_to_neighbour(skb, server->ifindex, server->address);
	return bpf_redirect_neigh(server->ifindex, 0, 0, 0); /* the routes say which neighbour */
}

#endif
