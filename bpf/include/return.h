/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* A message goes back as its own answer, the way it came. */
#ifndef BATON_RETURN_H
#define BATON_RETURN_H

#include "packet.h"

/* `was` becomes `answer`; `size`: of both, a constant. */
static __always_inline int become_answer(struct __sk_buff *skb, const struct packet *p, void *was, void *answer, const __u32 size)
{
	__s64 change = bpf_csum_diff(was, size, answer, size, 0);
	__be16 ports[2] = { p->destination_port, p->source_port };

	if (bpf_skb_store_bytes(skb, p->payload, answer, size, 0) || bpf_skb_store_bytes(skb, p->l4, ports, 4, 0))
		return -1;
	bpf_l4_csum_replace(skb, p->l4 + 6, 0, change, BPF_F_MARK_MANGLED_0);
	swap_ip_addresses(skb, p);
	swap_link_addresses(skb);
	return 0;
}

#endif
