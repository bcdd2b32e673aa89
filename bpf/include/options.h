/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* TCP options (RFC 9293 3.1, RFC 7323, RFC 2018). */
#ifndef BATON_OPTIONS_H
#define BATON_OPTIONS_H

#include "packet.h"

#define OPTIONS_MAX 40
#define WSCALE_NONE 15

struct options {
	__u32 tsval, tsecr;
	__u16 mss;     /* 0 when not given: then 536 holds (RFC 9293 3.7.1) */
	__u8 wscale;   /* WSCALE_NONE when not given */
	__u8 sack;
	__u8 timestamps;
};

struct option_walk {
	struct __sk_buff *skb;
	__u32 at, end;
	struct options *found;
};

static long option_step(__u64 i, struct option_walk *walk)
{
	struct options *o = walk->found;
	__u8 b[2] = {};

	if (walk->at >= walk->end || bpf_skb_load_bytes(walk->skb, walk->at, b, 1) || b[0] == 0)
		return 1;
	if (b[0] == 1) {
		walk->at++;
		return 0;
	}
	if (bpf_skb_load_bytes(walk->skb, walk->at, b, 2) || b[1] < 2 || walk->at + b[1] > walk->end)
		return 1; /* a lie about its length ends the list */
	if (b[0] == 2 && b[1] == 4) {
		__be16 mss;
		if (!bpf_skb_load_bytes(walk->skb, walk->at + 2, &mss, 2))
			o->mss = bpf_ntohs(mss);
	} else if (b[0] == 3 && b[1] == 3) {
		__u8 scale;
		if (!bpf_skb_load_bytes(walk->skb, walk->at + 2, &scale, 1))
			o->wscale = scale > 14 ? 14 : scale; /* RFC 7323 2.3 */
	} else if (b[0] == 4 && b[1] == 2) {
		o->sack = 1;
	} else if (b[0] == 8 && b[1] == 10) {
		__be32 ts[2];
		if (!bpf_skb_load_bytes(walk->skb, walk->at + 2, ts, 8)) {
			o->tsval = bpf_ntohl(ts[0]);
			o->tsecr = bpf_ntohl(ts[1]);
			o->timestamps = 1;
		}
	}
	walk->at += b[1];
	return 0;
}

static __always_inline void parse_options(struct __sk_buff *skb, const struct packet *p, struct options *o)
{
	struct option_walk walk = { .skb = skb, .at = p->l4 + sizeof(struct tcphdr), .end = p->payload, .found = o };
	__be32 aligned[3];

	__builtin_memset(o, 0, sizeof(*o));
	o->wscale = WSCALE_NONE;
	/* What nearly every data segment carries: NOP NOP timestamps, or nothing. */
	if (p->tcp_header == sizeof(struct tcphdr))
		return;
	if (p->tcp_header == 32 && !bpf_skb_load_bytes(skb, walk.at, aligned, 12) && aligned[0] == bpf_htonl(0x0101080a)) {
		o->timestamps = 1;
		o->tsval = bpf_ntohl(aligned[1]);
		o->tsecr = bpf_ntohl(aligned[2]);
		return;
	}
	bpf_loop(OPTIONS_MAX, option_step, &walk, 0);
}

#endif
