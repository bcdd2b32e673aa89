/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the proxy's program needs beside the 512 bytes of stack; one a CPU. */
#ifndef BATON_DESK_H
#define BATON_DESK_H

#include "packet.h"

#define KNOWN_WORDS (KNOWN_BYTES_MAX / 8)

struct desk {
	struct flow_entry entry; /* of a new flow */
	__u64 words[KNOWN_WORDS + 1];
	struct wire_bind bind;
	struct flow_key key;
	__u32 zero; /* a bind and its key are signed together, padded to whole words */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct desk);
} desks SEC(".maps");

static __always_inline struct desk *own_desk(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&desks, &zero);
}

#endif
