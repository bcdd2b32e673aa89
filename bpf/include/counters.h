/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Counters by verdict and reason. A program defines COUNTERS (abi.h) before it includes this. */
#ifndef BATON_COUNTERS_H
#define BATON_COUNTERS_H

#include "packet.h"

#define COUNTER_ENUM(name, verdict, reason) COUNT_##name,
#define COUNTER_TEXT(name, verdict, reason) { verdict, reason },

enum counter { COUNTERS(COUNTER_ENUM) COUNT_MAX };

/* What user space calls them. */
const struct counter_name counter_names[COUNT_MAX] = { COUNTERS(COUNTER_TEXT) };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNT_MAX);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(enum counter which)
{
	__u32 key = which;
	__u64 *value = bpf_map_lookup_elem(&counters, &key);

	if (value)
		(*value)++;
}

static __always_inline int drop(enum counter why)
{
	count(why);
	return TC_ACT_SHOT;
}

static __always_inline int pass(enum counter why)
{
	count(why);
	return TC_NEXT;
}

#endif
