/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* One packet becomes another: decapsulation, and the reset that removes a socket. */
#ifndef BATON_RESHAPE_H
#define BATON_RESHAPE_H

#include "packet.h"

#define ADJ_ROOM_DECAP_L3_IPV4 (1 << 7) /* linux-libc-dev 6.1 lacks them */
#define ADJ_ROOM_DECAP_L3_IPV6 (1 << 8)

/* Takes `bytes` away behind the link header; what follows is an IP packet of the given family. */
static __always_inline int cut(struct __sk_buff *skb, __u32 bytes, __u8 ipv6)
{
	__be16 type = ipv6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	__u64 flags = (ipv6 ? ADJ_ROOM_DECAP_L3_IPV6 : ADJ_ROOM_DECAP_L3_IPV4) | BPF_F_ADJ_ROOM_FIXED_GSO;
	int error = bpf_skb_adjust_room(skb, -(__s32)bytes, BPF_ADJ_ROOM_MAC, flags);

	return error ?: bpf_skb_store_bytes(skb, ETH_HLEN - 2, &type, 2, 0);
}

struct reset_ipv4 {
	struct iphdr ip;
	struct tcphdr tcp;
};
struct reset_ipv6 {
	struct ipv6hdr ip;
	struct tcphdr tcp;
};

/* Turns the packet, whatever it was, into the client's RST at exactly `seq`: if that is the socket's rcv_nxt it goes without a word
 * (RFC 5961 3.2). */
static __always_inline int become_reset(struct __sk_buff *skb, const struct flow_key *key, __u32 seq)
{
	struct tcphdr tcp = { .source = key->client_port, .dest = key->vip_port, .seq = bpf_htonl(seq), .doff = 5, .rst = 1 };
	__u32 length = skb->len - ETH_HLEN;
	__be32 protocol = bpf_htonl(IPPROTO_TCP), size = bpf_htonl(sizeof(tcp));
	__u64 sum;

	sum = (__u32)bpf_csum_diff(0, 0, (__be32 *)&tcp, sizeof(tcp), 0);
	sum += (__u32)bpf_csum_diff(0, 0, &protocol, 4, 0);
	sum += (__u32)bpf_csum_diff(0, 0, &size, 4, 0);
	if (is_ipv4(key->vip)) {
		struct reset_ipv4 reset = { .ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP } };

		if (length < sizeof(reset) || cut(skb, length - sizeof(reset), 0))
			return -1;
		reset.ip.tot_len = bpf_htons(sizeof(reset));
		reset.ip.saddr = key->client[3];
		reset.ip.daddr = key->vip[3];
		reset.ip.check = fold_checksum((__u32)bpf_csum_diff(0, 0, (__be32 *)&reset.ip, sizeof(reset.ip), 0));
		sum += (__u32)bpf_csum_diff(0, 0, (__be32 *)&reset.ip.saddr, 8, 0);
		tcp.check = fold_checksum(sum);
		reset.tcp = tcp;
		return bpf_skb_store_bytes(skb, ETH_HLEN, &reset, sizeof(reset), BPF_F_RECOMPUTE_CSUM);
	}
	struct reset_ipv6 reset = { .ip = { .version = 6, .hop_limit = 64, .nexthdr = IPPROTO_TCP } };

	if (length < sizeof(reset) || cut(skb, length - sizeof(reset), 1))
		return -1;
	reset.ip.payload_len = bpf_htons(sizeof(tcp));
	__builtin_memcpy(&reset.ip.saddr, key->client, 16);
	__builtin_memcpy(&reset.ip.daddr, key->vip, 16);
	sum += (__u32)bpf_csum_diff(0, 0, (__be32 *)&reset.ip.saddr, 32, 0);
	tcp.check = fold_checksum(sum);
	reset.tcp = tcp;
	return bpf_skb_store_bytes(skb, ETH_HLEN, &reset, sizeof(reset), BPF_F_RECOMPUTE_CSUM);
}

#endif
