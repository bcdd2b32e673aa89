/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* ICMP errors (RFC 792, RFC 4443): which flow they are about. They carry the beginning of a packet from the VIP to the client. */
#ifndef BATON_ICMP_H
#define BATON_ICMP_H

#include "packet.h"

static __always_inline int is_icmp_error(__u8 type, __u8 ipv6)
{
	/* destination unreachable (with "fragmentation needed"), time exceeded, parameter problem; v6: also packet too big */
	return ipv6 ? type >= 1 && type <= 4 : type == 3 || type == 11 || type == 12;
}

/* 1 and the key of the flow that the error is about; 0 if it is none, or about something else than TCP from its destination. */
static __noinline int find_embedded(struct __sk_buff *skb, const struct packet *p, struct flow_key *key)
{
	__be16 ports[2];
	__u8 type;
	__u32 at;

	if (!p || !key || bpf_skb_load_bytes(skb, p->l4, &type, 1) || !is_icmp_error(type, p->ipv6))
		return 0;
	if (p->ipv6) {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, p->payload, &ip, sizeof(ip)) || ip.version != 6)
			return 0;
		int upper = skip_extensions(skb, p->payload + sizeof(ip), ip.nexthdr);
		if (upper < 0 || (upper & 0xff) != IPPROTO_TCP)
			return 0;
		at = upper >> 8;
		__builtin_memcpy(key->vip, &ip.saddr, 16);
		__builtin_memcpy(key->client, &ip.daddr, 16);
		if (is_ipv4(key->client))
			return 0;
	} else {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, p->payload, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5 || ip.protocol != IPPROTO_TCP ||
		    ip.frag_off & bpf_htons(0x1fff))
			return 0;
		at = p->payload + ip.ihl * 4;
		map_ipv4(key->vip, ip.saddr);
		map_ipv4(key->client, ip.daddr);
	}
	if (!same_address(key->vip, p->destination) || bpf_skb_load_bytes(skb, at, ports, sizeof(ports)))
		return 0;
	key->vip_port = ports[0];
	key->client_port = ports[1];
	return 1;
}

#endif
