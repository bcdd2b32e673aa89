/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The access log: tells user space which requests came and how each answer ended. Without a log nothing of it is in the program. */
#ifndef BATON_ACCESS_H
#define BATON_ACCESS_H

#include "served.h"

const volatile __u32 access_log; /* set before the program is loaded */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} accesses SEC(".maps");

/* For the skeleton. */
const volatile struct access_answer access_answer_layout;
const volatile struct access_request access_request_layout;

struct access_desk {
	struct access_request request;
	__u8 bytes[ACCESS_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct access_desk);
} access_desks SEC(".maps");

/* At the bind. */
static __always_inline void access_begins(struct served_flow *flow)
{
	if (!access_log)
		return;
	flow->access.flow = bpf_ktime_get_ns() << 8 | (bpf_get_smp_processor_id() & 255);
	flow->access.at = flow->ack;
}

/* Bytes sent since the bind up to a sequence number that is not far behind the newest. */
static __always_inline __u64 access_position(const struct access *a, __u32 seq)
{
	return a->position + (__s64)(__s32)(seq - a->at);
}

/* A segment left. */
static __always_inline void access_sent(struct served_flow *flow, __u32 end)
{
	if (!access_log || distance(flow->access.at, end) <= 0)
		return;
	flow->access.position = access_position(&flow->access, end);
	flow->access.at = end;
}

/* The head of a final answer has left, up to framing.next. */
static __always_inline void access_head(struct served_flow *flow)
{
	if (!access_log)
		return;
	flow->access.head_ns = bpf_ktime_get_ns();
	flow->access.body_at = access_position(&flow->access, flow->framing.next);
}

/* The answer number framing.answers has ended at `end`; or the connection, in the middle of the one after it. */
static __noinline int access_tell(struct served_flow *flow, __u8 what, __u32 end)
{
	struct access_answer *a;

	if (!flow || !access_log || !flow->access.flow)
		return 0;
	a = bpf_ringbuf_reserve(&accesses, sizeof(*a), 0);
	if (!a) {
		count(COUNT_ACCESS_LOST);
		return 0;
	}
	a->what = what;
	a->pad = 0;
	a->pad2 = 0;
	a->status = flow->access.head_ns ? flow->framing.status : 0;
	a->number = flow->framing.answers + (what == ACCESS_END);
	a->flow = flow->access.flow;
	a->bytes = flow->access.head_ns ? access_position(&flow->access, end) - flow->access.body_at : 0;
	a->head_ns = flow->access.head_ns;
	a->end_ns = bpf_ktime_get_ns();
	bpf_ringbuf_submit(a, BPF_RB_NO_WAKEUP);
	flow->access.head_ns = 0;
	return 0;
}

/* Nothing more will come. Not told if every answer was. */
static __always_inline void access_ends(struct served_flow *flow)
{
	if (access_log && flow->framing.answers != flow->requests)
		access_tell(flow, ACCESS_END, flow->access.at);
}

/* Where the requests of a packet begin, and how many were before. */
struct access_place {
	__u64 flow;
	__u32 number;
	__u32 begins;
};

/* A packet with a header came; its payload is at `offset` now. */
static __noinline int access_request(struct __sk_buff *skb, const struct desk *desk, const struct access_place *place, __u32 offset)
{
	struct access_desk *own;
	__u32 zero = 0, length;

	if (!skb || !desk || !place || !access_log || !place->flow)
		return 0;
	own = bpf_map_lookup_elem(&access_desks, &zero);
	length = desk->inner.payload_length;
	if (!own || !length)
		return 0;
	if (length > ACCESS_BYTES)
		length = ACCESS_BYTES;
	OPAQUE(length);
	if (length == 0 || length > ACCESS_BYTES || bpf_skb_load_bytes(skb, offset, own->bytes, length))
		return 0;
	own->request.what = ACCESS_REQUEST;
	own->request.seq = desk->inner.seq;
	own->request.flow = place->flow;
	own->request.at_ns = bpf_ktime_get_ns();
	own->request.key = desk->key;
	own->request.number = place->number;
	own->request.begins = place->begins;
	own->request.length = length;
	if (bpf_ringbuf_output(&accesses, own, sizeof(own->request) + length, BPF_RB_NO_WAKEUP))
		count(COUNT_ACCESS_LOST);
	return 0;
}

#endif
